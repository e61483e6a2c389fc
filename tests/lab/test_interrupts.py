"""Ctrl-C, SIGTERM and a closed terminal, at every stage of a rolling restart, once and twice.

One handler serves all three signals: every stage is tried with one of them, the question with each.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from .command import INSTALLED, Command, Ran, Running, invocations, starts
from .lab import UNIT, Host, Lab, in_parallel, until
from .test_rolling_restart import RESTART, changed, healthy, restarting, slow_start

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
#: While it is there, the host is in rotation.
ROTATION = "/tmp/lab-in-rotation"
#: How many connections a drained host is said to have left.
LEFT = "/tmp/lab-left"
#: While it is there, putting a host back into rotation takes long.
SLOW = "/tmp/lab-slow"


@pytest.fixture
def drained(lab: Lab, runbook: Command) -> Lab:
    """The lab with the shop behind commands that take a host out of rotation."""

    def prepare(host: Host) -> None:
        script = f"rm -f {SLOW}; touch {ROTATION}; echo 0 >{LEFT}"
        lab.exec(host, ["sh", "-c", script], user="oncall")

    in_parallel(prepare, lab.apps)
    undrain = f"if [ -e {SLOW} ]; then sleep 20; fi; touch {ROTATION}"
    commands = {
        "drain": ["rm", "-f", ROTATION],
        "undrain": ["sh", "-c", undrain],
        "status": ["test", "-e", ROTATION],
        "timeout": "40s",
    }
    drain = {"command": commands, "connections": ["cat", LEFT], "deadline": "30s"}
    runbook.declare_shop(drain=drain)
    return lab


def tell(running: Running, number: signal.Signals) -> None:
    """Send a signal, as a terminal or a supervisor does."""
    running.process.send_signal(number)


def out_of_rotation(lab: Lab) -> list[str]:
    """The hosts that are drained."""
    return [host.name for host in lab.apps if lab.exec(host, ["test", "-e", ROTATION]).rc != 0]


def by_hand(ran: Ran) -> list[str]:
    """The commands that it printed for a person."""
    return [line.strip() for line in ran.stdout.splitlines() if line.startswith("  ssh ")]


def status(runbook: Command) -> str:
    """What the journal says of the last run."""
    told: str = runbook("runs", "show", "last", "--format", "json").json()["run"]["status"]
    return told


def begun(runbook: Command) -> bool:
    """Whether the journal has a run."""
    file = Path(runbook.env["RUNBOOK_STATE"]) / "journal.db"
    if not file.exists():
        return False
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as journal:
        tables = journal.execute("SELECT count(*) FROM sqlite_master WHERE name = 'runs'")
        if tables.fetchone()[0] == 0:
            return False
        return bool(journal.execute("SELECT count(*) FROM runs").fetchone()[0])


def go_on(lab: Lab, runbook: Command, before: list[int]) -> None:
    """Resume the run; each host has then been restarted once, and none is left out."""
    run_id = runbook("runs", "show", "last", "--format", "json").json()["run"]["run_id"]
    runbook("runs", "resume", run_id, "--yes")
    assert [starts(lab, host) - count for host, count in zip(lab.apps, before, strict=True)] == [
        1,
        1,
        1,
    ]
    assert out_of_rotation(lab) == []
    assert status(runbook) == "done"


# ---- before anything was changed


def test_while_it_looks_nothing_is_changed(lab: Lab, runbook: Command) -> None:
    lab.cut_network(lab.apps[2])
    before = invocations(lab)
    running = runbook.start(*RESTART, "--yes")
    until(lambda: begun(runbook), "the run")
    time.sleep(1)  # it looks at app-3 for as long as a connection may take
    tell(running, signal.SIGINT)
    ran = running.finish(130)
    lab.restore_network(lab.apps[2])
    assert invocations(lab) == before
    assert status(runbook) == "interrupted", ran


@pytest.mark.parametrize("number", SIGNALS, ids=lambda each: each.name)
def test_at_the_question_it_is_the_answer_no(
    lab: Lab, runbook: Command, number: signal.Signals
) -> None:
    before = invocations(lab)
    running = runbook.start(*RESTART, columns=120)
    running.wait_for("Go ahead?")
    tell(running, number)
    running.finish(130)
    assert invocations(lab) == before
    assert status(runbook) == "interrupted"


# ---- draining


def test_while_it_drains_the_host_is_put_back_and_not_restarted(
    drained: Lab, runbook: Command
) -> None:
    host = drained.apps[0]
    drained.exec(host, ["sh", "-c", f"echo 5 >{LEFT}"], user="oncall")
    before, count = invocations(drained), [starts(drained, each) for each in drained.apps]
    running = runbook.start(*RESTART, "--yes")
    until(lambda: out_of_rotation(drained) == [host.name], "the drain")
    tell(running, signal.SIGHUP)
    ran = running.finish(130)
    assert "SIGHUP: finishing app-1 (draining), then stopping" in ran.stderr
    assert invocations(drained) == before
    assert out_of_rotation(drained) == []
    assert "INTERRUPTED" in ran.stdout
    assert status(runbook) == "interrupted"
    drained.exec(host, ["sh", "-c", f"echo 0 >{LEFT}"], user="oncall")
    go_on(drained, runbook, count)


def test_told_twice_while_it_drains_it_leaves_and_says_how_to_undo(
    drained: Lab, runbook: Command
) -> None:
    host = drained.apps[0]
    drained.exec(host, ["sh", "-c", f"echo 5 >{LEFT}; touch {SLOW}"], user="oncall")
    before, count = invocations(drained), [starts(drained, each) for each in drained.apps]
    running = runbook.start(*RESTART, "--yes")
    until(lambda: out_of_rotation(drained) == [host.name], "the drain")
    tell(running, signal.SIGINT)
    running.wait_for("Once more")
    running.wait_for("undraining")
    tell(running, signal.SIGINT)
    ran = running.finish(130)
    assert invocations(drained) == before
    assert out_of_rotation(drained) == [host.name]
    assert "Owed: app-1 was taken out of rotation" in ran.stdout, ran
    assert any(f"touch {ROTATION}" in line for line in by_hand(ran)), ran
    drained.exec(host, ["sh", "-c", f"rm {SLOW}; echo 0 >{LEFT}"], user="oncall")
    go_on(drained, runbook, count)


# ---- restarting


def test_while_it_restarts_the_host_is_finished_and_no_other_begun(
    drained: Lab, runbook: Command
) -> None:
    host = drained.apps[0]
    slow_start(drained, host, 2)
    before, count = invocations(drained), [starts(drained, each) for each in drained.apps]
    running = runbook.start(*RESTART, "--yes")
    restarting(drained, host, before[host.name])
    tell(running, signal.SIGTERM)
    ran = running.finish(130)
    assert changed(before, invocations(drained)) == [host.name]
    assert healthy(drained, host)
    assert out_of_rotation(drained) == []
    assert "SIGTERM: finishing app-1 (restarting), then stopping" in ran.stderr
    assert "Not touched: app-2, app-3" in ran.stdout
    go_on(drained, runbook, count)


def test_told_twice_while_it_restarts_the_job_goes_on_and_is_named(
    drained: Lab, runbook: Command
) -> None:
    host = drained.apps[0]
    slow_start(drained, host, 5)
    before, count = invocations(drained), [starts(drained, each) for each in drained.apps]
    running = runbook.start(*RESTART, "--yes")
    restarting(drained, host, before[host.name])
    tell(running, signal.SIGTERM)
    running.wait_for("Once more")
    tell(running, signal.SIGTERM)
    ran = running.finish(130)
    assert drained.show(host)["ActiveState"] == "activating", "it did not stop waiting"
    assert f"systemctl restart {UNIT}: asked for, and goes on there" in ran.said
    assert any(f"systemctl status --no-pager {UNIT}" in line for line in by_hand(ran)), ran
    assert any(f"touch {ROTATION}" in line for line in by_hand(ran)), ran
    go_on(drained, runbook, count)


# ---- stabilising, gating, undraining


def test_while_it_watches_the_host_is_finished_and_put_back(drained: Lab, runbook: Command) -> None:
    before = invocations(drained)
    running = runbook.start(*RESTART, "--yes", "-p", "settle=3s")
    running.wait_for("app-1: stabilising")
    tell(running, signal.SIGINT)
    ran = running.finish(130)
    assert "SIGINT: finishing app-1 (stabilising), then stopping" in ran.stderr
    assert changed(before, invocations(drained)) == ["app-1"]
    assert out_of_rotation(drained) == []
    assert "Not touched: app-2, app-3" in ran.stdout


def test_told_twice_while_it_watches_the_host_stays_drained_and_it_says_how_to_undo(
    drained: Lab, runbook: Command
) -> None:
    count = [starts(drained, each) for each in drained.apps]
    running = runbook.start(*RESTART, "--yes", "-p", "settle=4s")
    running.wait_for("app-1: stabilising")
    tell(running, signal.SIGINT)
    running.wait_for("Once more")
    tell(running, signal.SIGINT)
    ran = running.finish(130)
    assert out_of_rotation(drained) == ["app-1"]
    assert "nobody waited to see whether it is well" in ran.said
    assert any(f"touch {ROTATION}" in line for line in by_hand(ran)), ran
    go_on(drained, runbook, count)


# ---- between batches


def test_between_batches_it_halts(lab: Lab, runbook: Command) -> None:
    """While batch 2 waits for enough healthy hosts; its deadline is far away."""
    before = invocations(lab)
    running = runbook.start(
        *RESTART, "--yes", "-p", "min_available=2", "-p", "admit_deadline=1h", "-p", "settle=1s"
    )
    running.wait_for("app-1: stabilising")
    lab.break_health(lab.apps[2])
    running.wait_for("batch 2: admitting")
    tell(running, signal.SIGTERM)
    ran = running.finish(130)
    assert changed(before, invocations(lab)) == ["app-1"]
    assert "SIGTERM: stopping; nothing is being changed" in ran.stderr
    assert "INTERRUPTED: stopped while it waited for enough healthy hosts" in ran.said
    assert "Not touched: app-2, app-3" in ran.stdout
    assert status(runbook) == "interrupted"


# ---- streams that go away


def test_a_terminal_that_is_closed_does_not_cost_a_host_its_care(
    drained: Lab, runbook: Command
) -> None:
    """Its SIGHUP is the first word; what it would print goes nowhere."""
    host, before = drained.apps[0], invocations(drained)
    slow_start(drained, host, 3)
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [str(INSTALLED), *RESTART, "--yes"],
        env=runbook.env,
        cwd=runbook.env["HOME"],
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=writer,
    )
    os.close(writer)
    restarting(drained, host, before[host.name])
    os.close(reader)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 130
    assert changed(before, invocations(drained)) == [host.name]
    assert out_of_rotation(drained) == []
    assert status(runbook) == "interrupted"


def test_a_full_disk_under_stdout_is_told_and_costs_nothing(lab: Lab, runbook: Command) -> None:
    before = invocations(lab)
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [str(INSTALLED), *RESTART, "--yes", "-p", "hosts=app-2"],
            env=runbook.env,
            cwd=runbook.env["HOME"],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=90,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "the result could not be written to stdout" in done.stderr
    assert changed(before, invocations(lab)) == ["app-2"]
    assert status(runbook) == "done"
