"""`runbook inventory`: lists, shows and limits what an inventory came to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from runbook.cli.main import cli

INVENTORY = """\
version: 1
defaults: {vars: {region: eu-1}}
hosts:
  web-1: {groups: [web, blue], address: 10.0.0.1}
  web-2: {groups: [web], address: 10.0.0.2}
  db-1: {groups: [db]}
databases:
  shop-db: {connect: {host: db-1, user: oncall}}
services:
  shop:
    hosts: web
    database: shop-db
    application_name: shop-${host.name}
    pool: {processes: 2, size: 5, overflow: 1}
    gates: [{http: {url: "http://${host.address}/healthz"}}]
  reports: {hosts: db-1, database: shop-db}
pgbouncers:
  bouncer: {host: db-1, database: shop-db, admin: {user: stats}}
"""


@pytest.fixture
def inventory(tmp_path: Path) -> str:
    path = tmp_path / "inventory.yaml"
    path.write_text(INVENTORY, encoding="utf-8")
    return str(path)


def _run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["inventory", *words])


def _json(*words: str) -> Any:
    done = _run(*words)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_service_is_shown_with_what_it_came_to(inventory: str) -> None:
    shop = _json("show", "shop", "-i", inventory)["services"]["shop"]
    assert shop["hosts"] == "web"
    assert shop["selected_hosts"]["web-2"] == {
        "address": "10.0.0.2",
        "application_name": "shop-web-2",
        "http_gates": ["http://10.0.0.2/healthz"],
    }
    assert (shop["connections_per_host"], shop["connections"]) == (12, 24)


def test_a_database_is_shown_with_who_uses_it(inventory: str) -> None:
    database = _json("show", "shop-db", "-i", inventory)["databases"]["shop-db"]
    assert database["used_by"] == ["shop", "reports"]
    assert database["pgbouncers"] == ["bouncer"]
    assert database["declared_connections"] == 24
    assert database["undeclared_services"] == ["reports"]


def test_a_host_and_a_group_are_shown(inventory: str) -> None:
    assert _json("show", "db-1", "-i", inventory)["hosts"]["db-1"]["vars"] == {"region": "eu-1"}
    assert _json("show", "web", "-i", inventory)["groups"]["web"]["hosts"] == ["web-1", "web-2"]


def test_a_limit_lists_the_hosts_that_it_selects(inventory: str) -> None:
    done = _run("list", "-i", inventory, "--limit", "web & !blue")
    assert done.stdout.split() == ["groups:", "web", "web-2", "hosts:", "web-2", "10.0.0.2"]
    assert set(_json("show", "-i", inventory, "--limit", "db")["hosts"]) == {"db-1"}


def test_a_wrong_limit_is_told_with_its_place(inventory: str) -> None:
    done = _run("list", "-i", inventory, "--limit", "web & bleu")
    assert done.exception is not None
    assert "character 7: 'bleu' is neither a host nor a group" in str(done.exception)


def test_a_large_group_is_counted_and_in_json_listed(tmp_path: Path) -> None:
    path = tmp_path / "inventory.yaml"
    hosts = "".join(f"  web-{number}: {{groups: [web]}}\n" for number in range(1, 21))
    path.write_text(f"version: 1\nhosts:\n{hosts}", encoding="utf-8")
    assert "web-5, web-6 and 14 more" in _run("list", "-i", str(path)).stdout
    groups = _json("list", "-i", str(path), "--format", "json")["groups"]
    assert len(groups["web"].split(", ")) == 20
