"""The live view: fits any screen, tells what is new, and keeps no more than it draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from runbook.rendering.sparkline import NOTHING, chart, over_time
from runbook.rendering.watch import draw, log_line
from runbook.rendering.watching import SPAN_S, Watched
from unit.findings.world import JUDGE, fleet, many, snapshot

if TYPE_CHECKING:
    from runbook.model.diagnosis import Diagnosis

START = 1_767_233_820.0
EVIL = "\x1b[31mred\x07\u202e\r\nDROP"


def seen(leaked: int, **limits: Any) -> Diagnosis:
    sessions = [
        *many(leaked, application_name="shop-web-03", client_addr="10.0.1.3", state_age_s=400),
        *many(4),
        *many(6, application_name=EVIL, role=EVIL, client_addr="10.9.9.9"),
    ]
    return JUDGE.diagnose(snapshot(sessions, limits=limits), fleet())


def watched(*looks: Diagnosis | str, interval_s: float = 2.0) -> Watched:
    state = Watched("db", interval_s, started=START)
    for number, look in enumerate(looks):
        began, at = number * interval_s, START + number * interval_s
        if isinstance(look, str):
            state.missed(look, began=began, at=at)
        else:
            state.saw(look, began=began, at=at)
    return state


def screen(
    state: Watched, width: int = 80, height: int = 24, *, unicode: bool = True, **more: Any
) -> list[str]:
    clock = state.points[-1].at if state.points else 0.0
    given = {"now": START + clock, "clock": clock, **more}
    return [
        line.plain for line in draw(state, width=width, height=height, unicode=unicode, **given)
    ]


SATURATED = (seen(5), seen(30), seen(87))


# ---- the screen --------------------------------------------------------------------------------


def test_the_answer_is_first_and_the_command_near_the_end() -> None:
    lines = screen(watched(*SATURATED))
    assert lines[0] == "77 leaked sessions: shop on web-03 holds 87, its pool is 10"
    assert lines[-2] == "Next  runbook remediate db --terminate-idle"
    assert "97 of 97 slots in use (100%)  +82 since" in "\n".join(lines)


@pytest.mark.parametrize("unicode", [True, False])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 50), (40, 12), (80, 5), (24, 1)])
@pytest.mark.parametrize("end", [(), (EVIL * 20,)])
def test_it_fits_whatever_the_screen(
    width: int, height: int, unicode: bool, end: tuple[str, ...]
) -> None:
    lines = screen(watched(*SATURATED, *end), width, height, unicode=unicode)
    assert 0 < len(lines) <= height
    assert all(len(line) <= width for line in lines)
    shown = "\n".join(lines)
    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(shown)
    assert unicode or shown.isascii()


def test_at_80_by_24_everything_has_its_place() -> None:
    shown = "\n".join(screen(watched(*SATURATED)))
    for part in ("shop on web-03        87    10", "everyone else", "97 ┤", " 0 ┤", "now"):
        assert part in shown, part


def test_owners_that_changed_most_stand_first_with_their_change() -> None:
    lines = screen(watched(*SATURATED))
    head = next(number for number, line in enumerate(lines) if line.startswith("Whose"))
    assert lines[head + 1].split() == ["shop", "on", "web-03", "87", "10", "+82"]
    assert lines[head + 2].split() == ["everyone", "else", "6"]


def test_a_database_that_does_not_answer_is_the_answer() -> None:
    lines = screen(watched(seen(5), "connection refused", "connection refused"))
    assert lines[0].startswith("No answer from db since")
    assert "(2.0s); trying on" in lines[0]
    assert lines[1] == "connection refused"
    assert not any(line.startswith("Next") for line in lines)


def test_a_look_that_hangs_makes_what_is_shown_old() -> None:
    state = watched(*SATURATED)
    state.looking_since = START + 4
    assert screen(state, now=START + 6)[2] == ""
    assert screen(state, now=START + 12)[2] == "No answer yet after 8.0s; this is as of before"


def test_before_the_first_answer_it_says_why_there_is_none() -> None:
    lines = screen(watched("connection refused"))
    assert lines[1] == "connection refused"


def test_the_end_says_how_long_it_was() -> None:
    assert screen(watched(*SATURATED), ended=True)[-1].endswith(": 3 looks")


# ---- events ------------------------------------------------------------------------------------


def events(state: Watched) -> list[str]:
    return [event.text for event in state.events]


def test_a_new_cause_is_told_once() -> None:
    told = events(watched(seen(5), seen(87), seen(87)))
    assert [text.split(":")[0] for text in told] == ["healthy -> leaked-sessions"]


def test_going_and_coming_back_are_told_once_each() -> None:
    state = watched(seen(5), "refused", "refused", "refused", seen(5), seen(5))
    assert events(state) == ["no answer: refused", "answers again, after 6.0s"]
    assert screen(state)[0].startswith("Healthy")


def test_a_restart_and_a_failover_are_told() -> None:
    before = seen(5, started_at="2026-01-01T00:00:00Z")
    after = seen(5, started_at="2026-01-01T02:17:00Z", in_recovery=True)
    told = events(watched(before, before, "refused", after))
    assert "the server was started at 2026-01-01T02:17:00Z" in told[2]
    assert told[3] == "a primary answered then, a standby now"


def test_another_door_is_told() -> None:
    server = seen(5).server.model_copy(update={"rung": "rescue"})
    told = events(watched(seen(5), seen(5).model_copy(update={"server": server})))
    assert told == ["through the rescue door, no longer connect"]


def test_it_does_not_grow_with_time() -> None:
    looks: list[Diagnosis | str] = ["gone", seen(5)]
    state = watched(*looks * 4000, interval_s=0.5)
    assert len(state.points) == SPAN_S / 0.5
    assert len(state.events) <= 50
    assert state.looks == 8000


# ---- one line a look ---------------------------------------------------------------------------


def test_a_look_is_one_line_for_a_log() -> None:
    state = watched(seen(5))
    news = state.saw(seen(87), began=2.0, at=START + 2)
    line = log_line(state, news, START + 2)
    assert line.startswith("2026-01-01T02:17:02Z 97/97 100% leaked-sessions: 77 leaked sessions")
    assert line.endswith("its pool is 10]")
    assert "[healthy -> leaked-sessions" in line


def test_a_missed_look_is_one_line_too() -> None:
    line = log_line(watched(seen(5), EVIL, EVIL), (), START + 4)
    assert line.startswith("2026-01-01T02:17:04Z no answer for 2.0s: ")
    assert "\n" not in line
    assert "\x1b" not in line


# ---- the line over time ------------------------------------------------------------------------


def test_a_full_pool_fills_the_chart_and_one_session_is_seen() -> None:
    assert chart([0, 1, 50, 100, 200], 100, 2, unicode=True) == ["   ██", " ▁███"]
    assert chart([0, 1, 25, 50, 100], 100, 2, unicode=False) == ["    #", " ..##"]


def test_a_time_without_an_answer_is_no_zero() -> None:
    assert chart([NOTHING, 0, None], 100, 2, unicode=True) == ["   ", "  x"]


def test_a_peak_between_two_columns_is_not_lost() -> None:
    points = [(0.0, 90), (1.0, 1), (2.0, 2), (3.0, 3)]
    assert over_time(points, now=3.0, width=3, step_s=2.0) == [NOTHING, 90, 3]


def test_between_two_looks_it_is_as_before_and_a_gap_goes_on() -> None:
    points = [(0.0, 7), (4.0, None)]
    assert over_time(points, now=6.0, width=4, step_s=2.0) == [7, 7, None, None]


def test_an_answer_and_none_in_one_column_shows_the_answer() -> None:
    assert over_time([(0.0, None), (1.0, 5)], now=1.0, width=1, step_s=2.0) == [5]


def test_what_is_older_than_the_first_column_carries_on() -> None:
    assert over_time([(0.0, 4)], now=100.0, width=2, step_s=2.0) == [4, 4]
