"""`diagnose` beyond one look, on a real server: saved, replayed, compared, without hosts."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runbook import wiring, wiring_looks
from runbook.cli.main import run
from runbook.model.errors import Unreachable
from runbook.model.leaks import LeakPolicy
from unit.postgres_server import HOST, PASSWORD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unit.postgres_server import Server

#: A value in a statement that must never leave the server's memory through us.
CARD = "4929-1111-2222-3333"


def inventory(server: Server, **database: Any) -> str:
    """Return an inventory as text: this server as `db`, and a service on a host without SSH."""
    connect = {"host": HOST, "port": server.port, "dbname": "shop", "user": "oncall"}
    secret = {"env": "LOOKS_PG_PASSWORD"}
    return json.dumps(
        {
            "version": 1,
            "hosts": {"web-1": {"address": HOST, "ssh": {"port": 1, "identity_file": "id_of_ana"}}},
            "databases": {"db": {"connect": {**connect, "password": secret}, **database}},
            "services": {
                "shop": {
                    "hosts": "web-1",
                    "database": "db",
                    "application_name": "shop-${host.name}",
                    "pool": {"size": 3},
                }
            },
        }
    )


class Said:
    """What a command said, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def call(
    server: Server,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """Run `runbook diagnose` against the server."""
    monkeypatch.setenv("RUNBOOK_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("LOOKS_PG_PASSWORD", PASSWORD)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inventory.yaml").write_text(inventory(server))

    def _call(*words: str, code: int = 0) -> Said:
        capfd.readouterr()
        got = run(["diagnose", *words])
        captured = capfd.readouterr()
        said = Said(got, captured.out, captured.err)
        assert "Traceback" not in said.err
        assert said.code == code, said.out + said.err
        return said

    return _call


@pytest.fixture
def leak(server: Server) -> Iterator[None]:
    """Seven sessions of shop, whose pool is three; each has said something in confidence."""
    with server.crowd(7, application_name="shop-web-1") as connections:
        for connection in connections:
            connection.execute(f"SELECT '{CARD}'")
        yield


# ---- save and replay ---------------------------------------------------------------------------


@pytest.mark.usefixtures("leak")
def test_a_replay_says_what_the_look_said(call: Any) -> None:
    looked = call("db", "--no-hosts", "--format", "json", "--save", "c.json")
    assert "saved to c.json" in looked.err
    replayed = call("--replay", "c.json", "--format", "json").json()
    assert replayed.pop("replayed_from") == "c.json"
    live = looked.json()
    assert live.pop("replayed_from") is None
    assert replayed == live


@pytest.mark.usefixtures("leak")
def test_a_capture_may_be_shared(call: Any) -> None:
    call("db", "--no-hosts", "--save", "c.json")
    text = Path("c.json").read_text()
    for private in (CARD, PASSWORD, "LOOKS_PG_PASSWORD", "id_of_ana"):
        assert private not in text
    assert "SELECT '…'" in text
    assert Path("c.json").stat().st_mode & 0o077 == 0


@pytest.mark.usefixtures("leak")
def test_a_replay_asks_nobody(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    call("db", "--no-hosts", "--save", "c.json")
    Path("inventory.yaml").unlink()
    monkeypatch.delenv("LOOKS_PG_PASSWORD")
    monkeypatch.setattr("runbook.wiring.load_fleet", None)
    monkeypatch.setattr("runbook.doors.open_doors", None)
    for output in ("text", "json", "markdown"):
        assert "4 leaked sessions" in call("--replay", "c.json", "--format", output).out
    line = call("db", "--replay", "c.json", "--check", code=1).out
    assert line.startswith("RUNBOOK WARNING - db: 7 of 10 slots")
    assert "(replayed from c.json, seen at " in line


@pytest.mark.usefixtures("leak")
def test_a_dash_is_stdout_and_stdin(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said = call("db", "--no-hosts", "--save", "-")
    assert said.json()["format"] == "runbook-capture"
    assert "4 leaked sessions" in said.err
    with Path("c.json").open("w+") as piped:
        piped.write(said.out)
        piped.seek(0)
        monkeypatch.setattr("sys.stdin", piped)
        assert "Replayed from stdin" in call("--replay", "-").out


def test_the_journal_does_not_keep_what_a_capture_does(call: Any, leak: None) -> None:
    call("db", "--no-hosts", "--save", "c.json")
    with sqlite3.connect("state/journal.db") as journal:
        kept = "".join(data for (data,) in journal.execute("SELECT data FROM events"))
    assert '"diagnosis"' in kept
    assert '"backend_start"' not in kept
    assert "snapshot" not in kept


def test_another_target_than_the_captures_is_refused(call: Any) -> None:
    call("db", "--no-hosts", "--save", "c.json")
    assert "was seen at 'db', not at 'other'" in call("other", "--replay", "c.json", code=2).err


def test_a_file_that_is_no_capture_is_not_replaced_and_nothing_is_asked(call: Any) -> None:
    Path("notes").write_text("mine")
    said = call("db", "--save", "notes", code=2)
    assert "--force" in said.err
    assert said.out == ""
    assert Path("notes").read_text() == "mine"
    assert not Path("state").exists()
    call("db", "--no-hosts", "--save", "notes", "--force")
    call("--replay", "notes")


@pytest.mark.parametrize("words", [("--replay", "none.json"), ("--replay", "inventory.yaml")])
def test_what_cannot_be_replayed_is_bad_usage_and_unknown_to_a_check(
    call: Any, words: tuple[str, ...]
) -> None:
    assert call(*words, code=2).err.startswith("error: ")
    assert call(*words, "--check", code=3).out.startswith("RUNBOOK UNKNOWN - ")


def test_a_reader_that_has_gone_costs_no_capture(call: Any) -> None:
    line = f"{sys.executable} -m runbook diagnose db --no-hosts --save c.json | true"
    subprocess.run(["bash", "-c", line], check=True, timeout=60)
    call("--replay", "c.json")


# ---- since -------------------------------------------------------------------------------------


def test_the_second_look_says_what_changed_since_the_first(call: Any, server: Server) -> None:
    first = call("db", "--no-hosts", "--format", "json").json()
    assert first["since"] is None
    with server.crowd(6, application_name="shop-web-1"):
        second = call("db", "--no-hosts", "--format", "json").json()["since"]
        assert second["used"] == first["slots"]["used"]
        assert second["cause"] == "healthy"
        assert second["owners"][0]["owner"] == "shop on web-1"
        assert second["owners"][0]["sessions"] == 6
        assert "Since " in call("db", "--no-hosts").out
    third = call("db", "--no-hosts", "--format", "json").json()["since"]
    assert third["owners"][0]["sessions_then"] == 6
    assert third["run_id"] != second["run_id"]


def test_a_check_neither_keeps_nor_compares(call: Any) -> None:
    call("db", "--check")
    assert not Path("state/journal.db").exists()
    assert call("db", "--no-hosts", "--format", "json").json()["since"] is None


def test_a_broken_journal_costs_the_comparison_and_nothing_else(call: Any) -> None:
    call("db", "--no-hosts")
    for file in Path("state").glob("journal.db*"):
        file.write_bytes(b"garbage" * 500)
    said = call("db", "--no-hosts", "--format", "json")
    assert said.json()["since"] is None
    assert "warning: the journal" in said.err


# ---- hosts, and what counts as leaked ----------------------------------------------------------


@pytest.mark.usefixtures("leak")
def test_without_hosts_nobody_is_asked_over_ssh(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def note(_router: Any, effect: Any) -> None:
        asked.append(effect.host)
        raise Unreachable(f"{effect.host} is not there")

    monkeypatch.setattr("runbook.doors.HostRouter.perform", note)
    call("db", "--no-hosts")
    call("db", "--check", code=1)
    looks = wiring_looks.open_looks(wiring.load_fleet(None), "db", LeakPolicy())  # as a watch does
    assert looks.look().good
    looks.give_back()
    assert asked == []
    call("db")
    assert set(asked) == {"web-1"}


def test_what_cannot_be_saved_after_all_costs_no_answer(
    call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    said = call("db", "--no-hosts", "--save", "c.json", code=1)
    assert said.out.startswith("Healthy")
    assert "No space left" in said.err


def test_silence_in_a_transaction_is_judged_by_the_bound_that_was_given(
    call: Any, server: Server
) -> None:
    with server.crowd(4, application_name="job") as jobs:
        for job in jobs:
            job.execute("BEGIN")
            job.execute("SELECT 1")
        jobs[0].execute("SELECT pg_sleep(0)")
        _wait_silent(server, 5.1)
        words = ("db", "--no-hosts", "--format", "json")
        usual = call(*words).json()["finding"]
        short = call(*words, "--idle-in-transaction", "5s").json()["finding"]
    assert usual["cause"] == short["cause"] == "idle-in-transaction"
    assert usual["confidence"] == "likely"
    assert short["confidence"] == "strong"
    assert short["command"].endswith("--terminate-idle -p idle_in_transaction_over=5s")


def _wait_silent(server: Server, seconds: float) -> None:
    server.admin(
        f"SELECT pg_sleep({seconds}) FROM pg_stat_activity WHERE application_name = 'job' LIMIT 1"
    )


# ---- what does not go together -----------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--watch",),
        ("db", "--replay", "x", "--save", "y"),
        ("db", "--replay", "x", "--watch"),
        ("--replay", "x", "-i", "inventory.yaml"),
        ("db", "--watch", "--check"),
        ("db", "--save", "x", "--check"),
        ("db", "--watch", "--format", "json"),
        ("db", "--watch", "--save", "x"),
        ("db", "--interval", "2s"),
        ("db", "--force"),
        ("db", "--watch", "--interval", "1ms"),
        ("db", "--watch", "--interval", "2"),
        ("db", "--idle-in-transaction", "soon"),
    ],
)
def test_options_that_do_not_fit_are_bad_usage(call: Any, words: tuple[str, ...]) -> None:
    check = "--check" in words
    said = call(*words, code=3 if check else 2)
    assert said.err.splitlines()[-1].startswith("Error: ")
    assert not Path("state").exists()
