"""`POST /hooks/NAME` over a real server: what is answered, and what is on disk by then."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import httpx
import pytest

from runbook.model.alert import Answer
from runbook.model.errors import UsageError
from unit.serve.house import House


def test_an_accepted_event_is_on_disk_when_it_is_answered(tmp_path: Path) -> None:
    """Read by another connection, as after a crash."""
    with House(tmp_path).open() as house:
        answer = house.post("a", "b")
        rows = sqlite3.connect(house.path).execute("SELECT key, state FROM entries").fetchall()
    assert (answer.status_code, answer.content) == (202, b"")
    assert sorted(rows) == [("a", "queued"), ("b", "queued")]


def test_an_event_that_comes_again_is_taken_once(tmp_path: Path) -> None:
    """Redelivered, after a restart too."""
    with House(tmp_path).open() as house:
        assert [house.post("a").status_code for _ in range(3)] == [202] * 3
    with House(tmp_path).open() as house:
        assert house.post("a", "b").status_code == 202
        assert [entry.alert.key for entry in house.inbox.queued()] == ["a", "b"]
        figures = httpx.get(house.url + "/metrics").text
    assert 'runbook_events_duplicate_total{hook="small"} 1.0' in figures


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"secret": "wrong"}, 403),
        ({"headers": {"x-small-signature": "é"}}, 403),
        ({"body": b"{"}, 400),
        ({"headers": {"content-type": "text/plain"}}, 415),
        ({"headers": {"content-type": ""}}, 415),
        ({"headers": {"host": "evil.example"}}, 421),
        ({"headers": {"host": "127.0.0.1.evil.example:80"}}, 421),
        ({"hook": "other"}, 404),
        ({"hook": "small/"}, 404),
        ({"body": b" " * (256 * 1024 + 1)}, 413),
    ],
)
def test_what_is_refused(tmp_path: Path, change: dict[str, object], status: int) -> None:
    """The sender learns the status; nothing of its request is repeated, and nothing kept."""
    if isinstance(change.get("headers"), dict):
        change["headers"] = {k: str(v).encode() for k, v in change["headers"].items()}  # type: ignore[attr-defined]
    with House(tmp_path).open() as house:
        answer = house.post("a", **change)  # type: ignore[arg-type]
        assert house.inbox.recent() == []
    assert answer.status_code == status
    assert answer.content in {b"", b"Not Found"}


def test_other_methods_are_refused(tmp_path: Path) -> None:
    """A hook takes POST alone."""
    with House(tmp_path).open() as house:
        url = house.url + "/hooks/small"
        codes = [httpx.request(m, url).status_code for m in ("GET", "PUT", "DELETE", "OPTIONS")]
    assert codes == [405] * 4


def test_headers_that_browsers_obey(tmp_path: Path) -> None:
    """On everything, and no word of what serves it."""
    with House(tmp_path).open() as house:
        headers = httpx.get(house.url + "/healthz").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "server" not in headers


def test_a_ping_is_well(tmp_path: Path) -> None:
    """Neither events nor an answer."""
    with House(tmp_path).open() as house:
        assert house.post().status_code == 200


def test_a_full_queue_asks_to_come_again(tmp_path: Path) -> None:
    """All or nothing of a request; what was there already needs no room."""
    with House(tmp_path, limit=2).open() as house:
        assert house.post("a").status_code == 202
        answer = house.post("b", "c")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
        assert house.post("a").status_code == 202
        assert house.post("b").status_code == 202
        assert [entry.alert.key for entry in house.inbox.queued()] == ["a", "b"]


def test_a_store_that_cannot_be_written_is_503(tmp_path: Path) -> None:
    """And it is written again once it can be."""
    with House(tmp_path).open() as house:
        other = sqlite3.connect(house.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        answer = house.post("a")
        other.execute("ROLLBACK")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "30"
        # What /healthz goes by: it can be read all the while.
        assert "locked" in house.inbox.trouble()
        assert house.post("a").status_code == 202
        assert not house.inbox.trouble()
    assert "locked" in next(line["why"] for line in house.logged() if line["status"] == 503)


def test_a_missing_secret_is_503_and_a_line(tmp_path: Path) -> None:
    """A 4xx would be for good: after three of them PagerDuty stops calling."""
    with House(tmp_path).open() as house:
        house.secret_file.unlink()
        assert house.post("a").status_code == 503
        house.secret_file.write_text("new")
        assert house.post("a", secret="new").status_code == 202
    assert "cannot be read" in house.logged()[0]["why"]


def test_one_secret_of_two_is_missing(tmp_path: Path) -> None:
    """The one that is there lets in; for another caller it may be the one that is not."""
    folder = tmp_path
    (folder / "secret").write_text("here")
    secrets = [{"file": str(folder / "secret")}, {"file": str(folder / "gone")}]
    hooks = {"small": {"source": "pagerduty", "secrets": secrets}}
    with House(folder, hooks=hooks).open() as house:
        assert house.post("a", secret="here").status_code == 202
        assert house.post("b", secret="other").status_code == 503


def test_a_secret_that_a_command_prints_is_rotated(tmp_path: Path) -> None:
    """What it printed is kept, and asked for anew when a caller signs with another one."""
    command = {"command": ["cat", str(tmp_path / "secret")]}
    hooks = {"small": {"source": "pagerduty", "secrets": [command]}}
    with House(tmp_path, hooks=hooks).open() as house:
        assert house.post("a").status_code == 202
        assert house.post("b", secret="other").status_code == 403


def test_nothing_secret_and_no_payload_is_logged(tmp_path: Path) -> None:
    """One line a request."""
    with House(tmp_path).open() as house:
        house.post(body=b'{"alerts": "swordfish-payload"')
        house.post("a")
    text = house.log.getvalue()
    assert len(text.splitlines()) == 2
    assert "swordfish" not in text
    assert "correct-horse" not in text


def _press(house: House) -> httpx.Response:
    pressed = {"run_id": "r", "key": "k", "digest": "d", "yes": True, "by": "U1"}
    return house.post(body=json.dumps({"answer": pressed}).encode())


def test_a_button_reaches_whoever_takes_answers(tmp_path: Path) -> None:
    """And what goes wrong is no failure of the request."""
    taken: list[Answer] = []

    def take(_context: object, answer: Answer) -> str:
        taken.append(answer)
        raise UsageError("somebody was first")

    with House(tmp_path).open(take_answer=take) as house:
        assert _press(house).status_code == 200
    assert [answer.by for answer in taken] == ["U1"]


def test_a_defect_is_503_and_has_its_place(tmp_path: Path) -> None:
    """Its words may be the request's: they are not logged."""

    def take(_context: object, answer: Answer) -> str:
        raise ZeroDivisionError(answer.run_id * 3 + "-words")

    with House(tmp_path).open(take_answer=take) as house:
        assert _press(house).status_code == 503
    line = house.logged()[0]["why"]
    assert "ZeroDivisionError at" in line
    assert "-words" not in line
