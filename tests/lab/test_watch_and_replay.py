"""`diagnose --watch`, `--save`, `--replay`, and what changed since, on real hosts."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import TYPE_CHECKING

from .command import INSTALLED, Command, Running, wait_settled
from .lab import DB, Lab, until

if TYPE_CHECKING:
    from pathlib import Path

#: Looks one after the other, as fast as a watch may.
FAST = ("diagnose", DB, "--watch", "--interval", "500ms")


def fill(lab: Lab) -> None:
    """Take every slot that an ordinary role can have, by leaked sessions of one host."""
    lab.leak(lab.apps[1], 37)
    wait_settled(lab, "shop-app-2", 37)


def lines(looking: Running) -> list[str]:
    """What a watch on a pipe has written so far."""
    return looking._out.text.splitlines()


def until_said(looking: Running, what: str, times: int = 1) -> None:
    """Return once so many lines of a watch have a text in them."""

    def said() -> bool:
        assert looking.process.poll() is None, looking._ran()
        return sum(what in line for line in lines(looking)) >= times

    until(said, f"{times} lines with {what!r}")


def walsenders(lab: Lab) -> int:
    """How many walsenders there are: the last door's slots."""
    return int(lab.psql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'"))


def test_a_capture_of_a_full_database_is_judged_where_nothing_is_known_of_it(
    lab: Lab, runbook: Command, tmp_path: Path
) -> None:
    fill(lab)
    file = tmp_path / "incident.json"
    live = runbook.diagnose("--save", str(file))
    assert live["server"]["rung"] != "connect"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    ran = subprocess.run(
        [str(INSTALLED), "diagnose", "--replay", str(file), "--format", "json"],
        env={"PATH": os.environ["PATH"], "HOME": str(elsewhere)},
        cwd=elsewhere, capture_output=True, text=True, check=True,
    )  # fmt: skip
    replayed = json.loads(ran.stdout)
    assert replayed == {**live, "since": None, "replayed_from": str(file)}
    assert replayed["finding"]["cause"] == "leaked-sessions"
    assert not list(elsewhere.iterdir())
    text = file.read_text()
    for private in ("lab-only", "id_ed25519", "known_hosts", str(lab.folder), "identity"):
        assert private not in text, private
    assert file.stat().st_mode & 0o077 == 0


def test_the_second_diagnosis_says_what_changed_since_the_first(lab: Lab, runbook: Command) -> None:
    lab.http(lab.apps[0], "/warm?n=5", "POST")
    assert runbook.diagnose()["since"] is None
    fill_some = 22
    lab.leak(lab.apps[1], fill_some)
    wait_settled(lab, "shop-app-2", fill_some)
    since = runbook.diagnose()["since"]
    assert (since["used"], since["cause"]) == (5, "healthy")
    assert since["owners"][0]["owner"] == "shop on app-2"
    assert since["owners"][0]["sessions"] == fill_some
    assert since["notes"] == []
    told = runbook("runs", "show", since["run_id"]).said
    assert "diagnose-saturation" in told


def test_a_watch_of_a_full_database_gives_the_last_door_back_and_sees_it_heal(
    lab: Lab, runbook: Command
) -> None:
    fill(lab)
    looking = runbook.start("diagnose", DB, "--watch", "--interval", "2s")
    until_said(looking, "37/37 100% leaked-sessions", 2)
    # A walsender's slot is a standby's to reconnect with: between two looks nobody holds it.
    until(lambda: walsenders(lab) == 0, "no walsender")
    lab.exec(lab.apps[1], ["systemctl", "restart", "shop.service"])
    until_said(looking, "leaked-sessions -> healthy")
    until_said(looking, "through the connect door, no longer")
    looking.interrupt()
    assert looking.finish(0).stderr == ""
    assert runbook("runs", "list", "--format", "json").json() == []


def test_a_watch_survives_a_restart_and_a_cut_network(lab: Lab, runbook: Command) -> None:
    looking = runbook.start(*FAST)
    until_said(looking, "healthy", 2)
    lab.configure_db(max_connections=50)
    until_said(looking, "the server was started at")
    until_said(looking, "max_connections 40 -> 50")
    lab.cut_network(lab.db)
    try:
        until_said(looking, "no answer for", 2)
    finally:
        lab.restore_network(lab.db)
    until_said(looking, "answers again, after")
    looking.interrupt()
    ran = looking.finish(0)
    stamp = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (\d+/\d+ \d+% \S+: |no answer for )")
    assert all(stamp.match(line) for line in ran.stdout.splitlines()), ran
