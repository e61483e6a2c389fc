"""Commands that tell the outside, as real processes, against a stand-in for PagerDuty."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagerduty.stand_in import ROUTING_KEY, SENDER, TOKEN, PagerDutyStandIn

CONFIG = """\
version: 1
pagerduty:
  token: {env: PD_TOKEN}
  from: SENDER
  routing_key: {env: PD_KEY}
  api: URL
  events: URL
"""
INVENTORY = "version: 1\nhosts: {here: {connection: local}}\n"
PLAYBOOK = """\
version: 1
name: touch
steps:
  - name: touch a file
    command: {hosts: here, argv: [touch, done]}
"""


class Bench:
    """A folder with a configuration, an inventory and a playbook."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        (folder / "inventory.yaml").write_text(INVENTORY)
        (folder / "touch.yaml").write_text(PLAYBOOK)
        self.point_at(url)

    def point_at(self, url: str) -> None:
        text = CONFIG.replace("SENDER", SENDER).replace("URL", url)
        (self.folder / "serve.yaml").write_text(text)

    def runbook(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "RUNBOOK_STATE": str(self.folder / "state"),
            "PD_TOKEN": TOKEN,
            "PD_KEY": ROUTING_KEY,
        }
        return subprocess.run(
            [sys.executable, "-m", "runbook", *words],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture
def pagerduty() -> Iterator[PagerDutyStandIn]:
    with PagerDutyStandIn() as stand_in:
        stand_in.add_incident("PINCIDENT1")
        yield stand_in
        assert stand_in.complaints == []


@pytest.fixture
def bench(tmp_path: Path, pagerduty: PagerDutyStandIn) -> Bench:
    return Bench(tmp_path, pagerduty.url)


RUN = ("run", "touch.yaml", "--yes", "--pd-incident", "PINCIDENT1")


def test_a_run_at_a_terminal_tells_its_incident(bench: Bench, pagerduty: PagerDutyStandIn) -> None:
    ran = bench.runbook(*RUN)
    assert (ran.returncode, "warning" in ran.stderr) == (0, False), ran.stderr
    (result,) = [note for note in pagerduty.notes() if note.endswith("/result")]
    assert result.splitlines()[0].startswith("Done: touch")
    started, ended = pagerduty.changes
    assert started["payload"]["summary"] == "runbook changes: touch"
    assert ended["payload"]["custom_details"]["status"] == "done"
    assert TOKEN not in ran.stdout + ran.stderr
    for kept in (bench.folder / "state").rglob("*"):
        assert not kept.is_file() or TOKEN.encode() not in kept.read_bytes()


def test_a_run_is_not_kept_by_a_pagerduty_that_is_down(
    bench: Bench, pagerduty: PagerDutyStandIn
) -> None:
    bench.point_at("http://127.0.0.1:9")
    ran = bench.runbook(*RUN)
    assert ran.returncode == 0
    assert "no connection" in ran.stderr
    assert "`runbook notify --pending` tells it" in ran.stderr
    assert (bench.folder / "done").exists()
    assert bench.runbook("notify", "--pending").returncode == 1
    bench.point_at(pagerduty.url)
    sent = bench.runbook("notify", "--pending")
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert [note.splitlines()[-1].rpartition("/")[2] for note in pagerduty.notes()].count(
        "result"
    ) == 1
    assert bench.runbook("notify", "--pending").stderr == "0 waited, 0 left\n"


def test_what_was_given_up_stays_visible(bench: Bench, pagerduty: PagerDutyStandIn) -> None:
    pagerduty.incidents.clear()
    assert bench.runbook(*RUN).returncode == 0
    pending = bench.runbook("notify", "--pending")
    assert (pending.returncode, pending.stdout) == (0, "")
    assert "pagerduty result: was given up: PagerDuty does not know it" in pending.stderr


@pytest.mark.parametrize("incident", ["../notes", "p1", "PT4KHLK/notes", "PT4\nKHLK", "P" * 20])
def test_what_is_no_incident_is_told_before_anything_is_done(bench: Bench, incident: str) -> None:
    ran = bench.runbook("run", "touch.yaml", "--yes", "--pd-incident", incident)
    assert ran.returncode == 2
    assert "is no id of a PagerDuty incident" in ran.stderr
    assert not (bench.folder / "done").exists()


def test_a_configuration_that_is_missing_is_told_before_anything_is_done(bench: Bench) -> None:
    (bench.folder / "serve.yaml").unlink()
    ran = bench.runbook(*RUN)
    assert (ran.returncode, (bench.folder / "done").exists()) == (2, False)
    assert "name one with --config FILE" in ran.stderr


def test_notify_triggers_and_resolves(bench: Bench, pagerduty: PagerDutyStandIn) -> None:
    words = ("notify", "--summary", "disk\x1b[31m full", "--severity", "warning", "--source", "x")
    key = bench.runbook(*words).stdout.strip()
    event = pagerduty.alerts[key][-1]
    assert event["payload"] == {"summary": "disk[31m full", "severity": "warning", "source": "x"}
    assert bench.runbook("notify", "--resolve", "--dedup-key", key).returncode == 0
    assert pagerduty.alerts[key][-1]["event_action"] == "resolve"
    assert bench.runbook("notify", "--change", "--summary", "a new release").returncode == 0
    assert pagerduty.changes[0]["payload"]["summary"] == "a new release"


def test_notify_says_what_came_of_it(bench: Bench, pagerduty: PagerDutyStandIn) -> None:
    pagerduty.fail(status=500, on="POST /v2/enqueue")
    ran = bench.runbook("notify", "--summary", "x")
    assert (ran.returncode, "HTTP 500" in ran.stderr) == (1, True)
    assert bench.runbook("notify", "--resolve").returncode == 2
    unknown = bench.runbook("notify", "--to", "chat", "--summary", "x")
    assert (unknown.returncode, "`notify` has no 'chat'" in unknown.stderr) == (2, True)


def test_a_check_alerts_by_itself(bench: Bench, pagerduty: PagerDutyStandIn) -> None:
    """A database that nobody can ask: three looks in a row, then one alert, and no more."""
    (bench.folder / "inventory.yaml").write_text(
        "version: 1\nenvironment: prod\nhosts: {}\ndatabases:\n"
        "  db: {connect: {host: 127.0.0.1, port: 9, dbname: x, user: x}}\n"
    )
    look = ("diagnose", "db", "--check", "--alert")
    for _ in range(2):
        assert bench.runbook(*look).returncode == 3
    assert pagerduty.alerts == {}
    pagerduty.fail(status=503, on="POST /v2/enqueue")
    third = bench.runbook(*look)
    assert (third.returncode, "ALERT NOT SENT" in third.stdout) == (3, True)
    for _ in range(2):
        assert "ALERT NOT SENT" not in bench.runbook(*look).stdout
    (event,) = pagerduty.alerts["runbook/prod/db"]
    assert event["payload"]["severity"] == "error"
    assert event["payload"]["custom_details"] == {"database": "db"}
    (bench.folder / "serve.yaml").unlink()
    without = bench.runbook(*look)
    assert without.returncode == 3
    assert re.search(r"ALERT NOT SENT: no configuration of alerts found", without.stdout)
