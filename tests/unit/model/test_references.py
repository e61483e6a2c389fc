"""References inside an inventory: each that leads nowhere is told, with its place."""

from __future__ import annotations

import pytest

from runbook.model.errors import InvalidDocument
from runbook.wiring import check_inventory

HEAD = """\
version: 1
hosts:
  web-1: {groups: [web], vars: {lb: lb-1}}
  web-2: {groups: [web], vars: {lb: lb-2}}
  lb-1: {}
databases:
  shop-db: {connect: {host: db, user: oncall}}
services:
  shop:
    hosts: web
"""


def _said(service: str, head: str = HEAD) -> list[str]:
    text = head + "".join(f"    {line}\n" for line in service.splitlines())
    with pytest.raises(InvalidDocument) as caught:
        check_inventory(text, "i.yaml")
    return [f"{p.place}: {p.message} ({p.hint})" for p in caught.value.problems]


@pytest.mark.parametrize(
    ("service", "complaint"),
    [
        (
            "drain: {haproxy: {on: lb1, backend: shop}}",
            "i.yaml:11:27: there is no host named 'lb1' (did you mean 'lb-1'?)",
        ),
        (
            "drain: {haproxy: {on: [lb-1, lb-9], backend: shop}}",
            "i.yaml:11:34: there is no host named 'lb-9' (did you mean 'lb-1'?)",
        ),
        (
            "drain: {command: {on: nowhere, drain: [d], undrain: [u]}}",
            "i.yaml:11:27: there is no host named 'nowhere' (there are: web-1, web-2, lb-1)",
        ),
        (
            'drain: {command: {on: "${host.vars.lb}", drain: [d], undrain: [u]}}',
            "i.yaml:11:27: there is no host named 'lb-2' (did you mean 'lb-1'?)",
        ),
        (
            'drain: {command: {drain: [d], undrain: [u, "${host.vars.pool}"]}}',
            "i.yaml:11:48: ${host.vars.pool} is not known (for host web-1) (host.vars has: lb)",
        ),
        (
            'drain: {haproxy: {on: lb-1, backend: b, server: "${host.nam}"}}',
            (
                "i.yaml:11:53: ${host.nam} is not known (for host web-1)"
                " (host has: address, name, vars)"
            ),
        ),
        (
            "gates: [{sql: {sql: select 1, database: shopdb}}]",
            "i.yaml:11:45: there is no database named 'shopdb' (did you mean 'shop-db'?)",
        ),
        (
            "gates: [{pg_released: {}}]",
            (
                "i.yaml:11:27: pg_released asks no database: neither the gate nor the service names"
                " one (write database: NAME in the gate or in the service)"
            ),
        ),
        (
            'gates: [{tcp: {port: "${host.vars.port}"}}]',
            "i.yaml:11:26: ${host.vars.port} is not known (for host web-1) (host.vars has: lb)",
        ),
        (
            "hosts: x",
            (
                "i.yaml:11:5: the key 'hosts' is here for the second time"
                " (the first is at i.yaml:10:5: remove or rename one)"
            ),
        ),
    ],
)
def test_what_leads_nowhere(service: str, complaint: str) -> None:
    assert _said(service) == [complaint]


def test_all_of_them_are_told_at_once() -> None:
    said = _said(
        "database: shpo\nunit: shop.service\ngates: [{sql: {sql: s, database: a}}]\n"
        "drain: {haproxy: {on: b, backend: shop}}"
    )
    assert len(said) == 3


def test_what_leads_somewhere_is_taken() -> None:
    text = HEAD + '    database: shop-db\n    gates: [{pg_released: {free: "10%"}}]\n'
    text += '    drain: {command: {on: lb-1, drain: [d, "${host.name}"], undrain: [u]}}\n'
    fleet = check_inventory(text, "i.yaml")
    assert [host.name for host in fleet.service_hosts("shop")] == ["web-1", "web-2"]


def test_a_var_that_one_host_lacks_is_told_for_that_host() -> None:
    head = HEAD.replace(", vars: {lb: lb-2}", "")
    assert _said('application_name: "${host.vars.lb}"', head) == [
        "i.yaml:11:23: ${host.vars.lb} is not known (for host web-2) (host.vars has: )"
    ]


def test_vars_of_the_defaults_reach_every_host_and_lose_to_all_others() -> None:
    text = (
        "version: 1\ndefaults: {vars: {a: 1, b: 1, c: 1}}\n"
        "groups: {g: {vars: {b: 2, c: 2}}}\nhosts: {h: {groups: [g], vars: {c: 3}}, i: {}}\n"
    )
    fleet = check_inventory(text, "i.yaml")
    assert dict(fleet.host("h").vars) == {"a": 1, "b": 2, "c": 3}
    assert dict(fleet.host("i").vars) == {"a": 1, "b": 1, "c": 1}
