"""`runbook serve` as a process: killed, stopped, started twice; real runs by real workers."""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from pagerduty.stand_in import SENDER, TOKEN, PagerDutyStandIn
from unit.serve.desk import SECRET, Desk, desk
from unit.serve.house import eventually


def _done(made: Desk, count: int) -> bool:
    return sum(run.record.status == "done" for run in made.runs()) == count


@pytest.mark.parametrize("after_s", [0.0, 0.3, 1.0])
def test_killed_right_after_202_nothing_is_lost_and_nothing_runs_twice(
    tmp_path: Path, after_s: float
) -> None:
    """Every event that was answered 202 has one run, and its program ran once."""
    incidents = [f"QKILLED{number}" for number in range(6)]
    with desk(tmp_path, ("look-here",)) as made:
        with ThreadPoolExecutor(6) as pool:
            codes = list(pool.map(lambda each: made.post(each).status_code, incidents))
        threading.Event().wait(after_s)
        made.stop(signal.SIGKILL)
        assert codes == [202] * 6
        made.start()
        eventually(lambda: _done(made, 6), 90)
        with made.store() as (inbox, _):
            assert [entry.state for entry in inbox.recent()] == ["ran"] * 6
        assert sorted(str(run.record.incident) for run in made.runs()) == incidents
    # A worker that had begun goes on when `serve` is killed; one that had not is begun once.
    assert collections.Counter(made.shop.said()) == {"begin look-here": 6, "end look-here": 6}


def test_a_second_serve_on_one_store_is_refused(tmp_path: Path) -> None:
    """It names the first; and a killed one holds nothing."""
    with desk(tmp_path, ("look-here",)) as made:
        assert made.process is not None
        refused = made.runbook("serve", "--config", str(tmp_path / "serve.yaml"))
        assert refused.returncode == 5
        assert f"process {made.process.pid}, since 20" in refused.stderr
        made.stop(signal.SIGKILL)
        made.start()


def test_a_graceful_stop(tmp_path: Path) -> None:
    """A request in flight is answered; what is queued stays; runs go on by themselves."""
    with desk(tmp_path, ("look-here",), limits={"at_once": 1}) as made:
        made.shop.hold("look-here")
        made.post("QFIRST01")
        eventually(lambda: "begin look-here" in made.shop.said())
        made.post("QSECOND1")
        flying = _connected(made)
        body = b'{"incident_id": "QTHIRD01"}'
        flying.sendall(_HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body[:5])
        eventually(lambda: _queued(made) == 1)
        assert made.process is not None
        made.process.send_signal(signal.SIGTERM)
        eventually(lambda: _refuses(made))
        flying.sendall(body[5:])
        assert flying.recv(100).startswith(b"HTTP/1.1 202 ")
        assert made.process.wait(60) == 0
        made.process = None
        assert _queued(made) == 2
        made.shop.let_go("look-here")
        eventually(lambda: made.standing("done"))
        made.start()
        eventually(lambda: _done(made, 3), 60)


def _queued(made: Desk) -> int:
    with made.store() as (inbox, _):
        return inbox.waiting()


def _connected(made: Desk) -> socket.socket:
    where = urlsplit(made.url)
    return socket.create_connection((str(where.hostname), where.port or 0), timeout=30)


_HEAD = (
    f"POST /hooks/flow HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Secret: {SECRET}\r\n"
    "Content-Type: application/json\r\n"
).encode()


def _refuses(made: Desk) -> bool:
    try:
        _connected(made).close()
    except OSError:
        return True
    return False


def test_a_body_of_1_gb_is_cut_off(tmp_path: Path) -> None:
    """Told or not, it is refused before it is read, and no memory is spent on it."""
    with desk(tmp_path, ("look-here",)) as made:
        made.post("QWARMUP1")
        before = _peak_kb(made)
        with _connected(made) as line:
            line.sendall(_HEAD + b"Content-Length: 1073741824\r\n\r\n")
            assert line.recv(100).startswith(b"HTTP/1.1 413 ")
        sent = _stream(made, 2**30)
        assert sent < 32 * 2**20
        assert _peak_kb(made) - before < 32 * 1024
        assert made.post("QAFTER01").status_code == 202


def _peak_kb(made: Desk) -> int:
    assert made.process is not None
    status = Path(f"/proc/{made.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def _stream(made: Desk, size: int) -> int:
    """Send a body in chunks of 64 KiB until somebody stops us; return how much went out."""
    sent, chunk = 0, b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with _connected(made) as line:
        line.sendall(_HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while sent < size:
                line.sendall(chunk)
                sent += 0x10000
    return sent


def test_a_run_whose_worker_dies_before_any_change_is_begun_again(tmp_path: Path) -> None:
    """It only looked: nothing was done."""
    with desk(tmp_path, ("look-here",)) as made:
        made.shop.hold("look-here")
        made.post("QDIES001")
        eventually(lambda: "begin look-here" in made.shop.said())
        made.kill_worker()
        eventually(lambda: made.shop.said().count("begin look-here") == 2)
        made.shop.let_go("look-here")
        eventually(lambda: made.standing("done"))
        assert "has changed nothing" in str(made.logged("taken up"))


def test_a_rule_for_real_that_asks_nobody_and_a_rehearsal(tmp_path: Path) -> None:
    """One changes the world at once, the other one never."""
    with desk(tmp_path) as made:
        made.stop()
        made.config["rules"] = [made.rule("change"), made.rule("other", mode="rehearse")]
        made.config["rules"][1]["when"] = {"labels": {"kind": "other"}}
        made.config["rules"].reverse()
        made.start()
        made.post("QCHANGE1")
        made.post("QOTHER01", kind="other")
        eventually(lambda: {run.record.status for run in made.runs()} == {"done", "rehearsed"})
    assert made.shop.said() == ["begin change", "end change"]


def test_a_run_that_waits_goes_on_when_it_is_approved_elsewhere(tmp_path: Path) -> None:
    """From a command line: `serve` sees the answer, and begins the process."""
    with desk(tmp_path) as made:
        made.stop()
        made.config["rules"] = [made.rule("change", approval={"within": "1h"})]
        made.start()
        made.post("QWAITS01")
        eventually(lambda: made.standing("waiting"))
        run_id = made.runs()[0].record.run_id
        assert made.runbook("runs", "approve", run_id, "--yes").returncode == 0
        eventually(lambda: made.standing("done"))
    assert made.shop.said() == ["begin change", "end change"]


def test_a_question_that_nobody_answers_is_given_up(tmp_path: Path) -> None:
    """After the time that its rule gives."""
    with desk(tmp_path) as made:
        made.stop()
        made.config["rules"] = [made.rule("change", approval={"within": "1s"})]
        made.start()
        made.post("QEXPIRE1")
        eventually(lambda: made.standing("interrupted"))
        assert "nobody answered within" in str(made.logged("expired"))
    assert made.shop.said() == []


def test_a_run_that_dies_in_a_change_is_left_to_a_person(tmp_path: Path) -> None:
    """And it is seen: in the log, in the figures, at /healthz; the service itself is well."""
    with desk(tmp_path) as made:
        made.stop()
        made.config["rules"] = [made.rule("change", approval={"within": "1h"})]
        made.start()
        made.shop.hold("change")
        made.post("QLEFT001")
        eventually(lambda: made.standing("waiting"))
        run_id = made.runs()[0].record.run_id
        made.runbook("runs", "approve", run_id, "--yes")
        eventually(lambda: "begin change" in made.shop.said())
        made.kill_worker()
        eventually(lambda: made.health()["runs_left"] == [run_id])
        assert "runbook_runs_left 1.0" in httpx.get(made.url + "/metrics").text
        assert [line["run"] for line in made.logged("left")] == [run_id]
        # It takes no part in what may run at once.
        made.shop.let_go("change")
    assert made.shop.said().count("begin change") == 1


def test_the_incident_of_a_run_that_dies_in_a_change_is_told(tmp_path: Path) -> None:
    """Once, also by a `serve` that was killed and comes back; and never while it goes on."""
    token = tmp_path / "token"
    token.write_text(TOKEN)
    with PagerDutyStandIn() as pagerduty, desk(tmp_path) as made:
        pagerduty.add_incident("QLOST001")
        made.stop()
        where = {"api": pagerduty.url, "events": pagerduty.url}
        made.config["pagerduty"] = {"token": {"file": str(token)}, "from": SENDER, **where}
        made.config["rules"] = [made.rule("change", tell={"pagerduty": {}})]
        made.start()
        made.shop.hold("change")
        made.post("QLOST001")
        eventually(lambda: "begin change" in made.shop.said())
        made.stop(signal.SIGKILL)
        made.start()
        eventually(lambda: "is at work" in "".join(pagerduty.notes("QLOST001")))
        assert not _lost(pagerduty)
        made.kill_worker()
        eventually(lambda: _lost(pagerduty))
        made.stop(signal.SIGKILL)
        made.start()
        eventually(lambda: made.health()["runs_left"])
        [note] = _lost(pagerduty)
        assert f"runbook runs resume {made.runs()[0].record.run_id} --show" in note
        assert pagerduty.complaints == []
        made.shop.let_go("change")


def _lost(pagerduty: PagerDutyStandIn) -> list[str]:
    return [note for note in pagerduty.notes("QLOST001") if note.startswith("LOST ITS PROCESS")]


def test_the_worker_outlives_serve_and_its_group(tmp_path: Path) -> None:
    """A terminal's Ctrl-C goes to the group: a run is none of it."""
    with desk(tmp_path, ("look-here",)) as made:
        made.shop.hold("look-here")
        made.post("QGROUP01")
        eventually(lambda: "begin look-here" in made.shop.said())
        run_id = made.runs()[0].record.run_id
        groups = [
            os.getpgid(int(entry.name))
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and run_id.encode() in _words(entry)
        ]
        assert made.process is not None
        assert groups
        assert os.getpgid(made.process.pid) not in groups


def _words(entry: Path) -> list[bytes]:
    try:
        return (entry / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []
