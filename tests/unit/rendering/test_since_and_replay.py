"""What changed since the last look, and that a replay is none: said in every format, once."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from runbook.findings.comparison import compare
from runbook.rendering import diagnosis_markdown, diagnosis_text, monitoring
from unit.findings.world import JUDGE, fleet, many, snapshot

if TYPE_CHECKING:
    from runbook.model.diagnosis import Diagnosis

EVIL = "\x1b[31mred\u202e|`@all`"


def seen(leaked: int, *, limits: Any = None, **more: Any) -> Diagnosis:
    sessions = [
        *many(leaked, application_name="shop-web-03", client_addr="10.0.1.3", state_age_s=400),
        *many(8),
    ]
    return JUDGE.diagnose(snapshot(sessions, limits=limits or {}, **more), fleet())


def after(before: Diagnosis, now: Diagnosis) -> Diagnosis:
    return now.model_copy(update={"since": compare(before, now)})


def text(diagnosis: Diagnosis, width: int = 80) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, emoji=False, highlight=False, markup=False)
    diagnosis_text.render(diagnosis, console)
    return stream.getvalue()


def line_of(shown: str, start: str) -> str:
    """Return the paragraph that begins so, on one line."""
    return " ".join(shown[shown.index(start) :].partition("\n\n")[0].split())


EARLIER = {"server_time": "2026-01-01T02:11:00Z"}


def test_since_says_slots_cause_and_owners_of_then_and_now() -> None:
    shown = text(after(seen(5, limits=EARLIER), seen(41)))
    assert line_of(shown, "Since") == (
        "Since 02:11Z (6m 00s ago): slots 13 -> 49; healthy then, leaked-sessions now;"
        " shop on web-03 +36"
    )
    assert shown.index("slots in use") < shown.index("Since") < shown.index("Whose")


def test_nothing_new_is_said_as_such() -> None:
    shown = text(after(seen(41), seen(41)))
    assert line_of(shown, "Since").endswith(
        "(0.0s ago): still 49 slots in use; leaked-sessions then as well"
    )


def test_another_day_is_named_with_its_date() -> None:
    shown = text(after(seen(5, limits={"server_time": "2025-12-24T02:11:00Z"}), seen(5)))
    assert "Since 2025-12-24T02:11:00Z (8d 0h ago):" in line_of(shown, "Since")


def test_a_restart_since_then_is_said() -> None:
    limits = {"started_at": "2026-01-01T02:15:00Z"}
    before = seen(5, limits={**EARLIER, "started_at": "2025-01-01T02:15:00Z"})
    shown = text(after(before, seen(5, limits=limits)))
    assert "since then: the server was started at 2026-01-01T02:15:00Z" in " ".join(shown.split())


def test_without_an_earlier_look_there_is_no_word_of_it() -> None:
    assert "ince" not in text(seen(5))
    assert "Since" not in diagnosis_markdown.render(seen(5))


def test_a_replay_says_that_it_is_none_in_every_format() -> None:
    replayed = seen(41).model_copy(update={"replayed_from": EVIL})
    shown = text(replayed)
    assert shown.splitlines()[0].startswith("31 leaked sessions")
    assert "seen at 2026-01-01T02:17:00Z: nothing was asked now" in " ".join(shown.split())
    assert "Replayed from" in diagnosis_markdown.render(replayed)
    line, _ = monitoring.check(replayed, warning=80, critical=90)
    assert "(replayed from " in line
    assert line.count("|") == 1
    for output in (shown, diagnosis_markdown.render(replayed), line):
        assert not {"\x1b", "\u202e"} & set(output)


@pytest.mark.parametrize("width", [30, 60, 80])
@pytest.mark.parametrize("rung", ["connect", "admin", "local", "rescue", "os"])
def test_every_door_is_explained_and_fits(width: int, rung: str) -> None:
    refusals = (("connect", "sorry, too many clients already"), ("admin", "x" * 90))
    diagnosis = seen(41, rung=rung, refusals=refusals)
    full = after(seen(5, limits=EARLIER), diagnosis)
    shown = text(full, width)
    *lines, _command = shown.splitlines()
    assert all(cell_len(line) <= width for line in lines)
    words = " ".join(shown.split())
    assert "- connect door, tried before: sorry, too many clients already" in words
    assert (f"through the {rung} door:" in words) == (rung != "connect")


def test_a_server_that_does_not_tell_its_version() -> None:
    assert "PostgreSQL of unknown version, seen at" in text(seen(5, limits={"version": ""}))
