"""A check that alerts by itself: on a change, now and then while it lasts, never for nothing."""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from runbook.telling.alarm import Alarm, Status, alarm_from, decide


def play(*looks: Status, minutes: float = 1.0, warnings: bool = False) -> list[str]:
    """Return what is sent of looks, one after the other."""
    alarm, sent = Alarm(), []
    for number, look in enumerate(looks):
        found = decide(alarm, look, 1e9 + number * minutes * 60, warnings=warnings)
        sent.append(f"{found.action or '-'} {found.severity or ''}".strip())
        alarm = alarm_from(found.kept.as_data())
    return sent


def test_on_a_change_alone() -> None:
    assert play("ok", "ok", "critical", "critical", "ok", "ok") == [
        *("resolve", "-", "trigger critical", "-", "resolve", "-"),
    ]


def test_a_warning_between_leaves_it_as_it_is() -> None:
    assert play("critical", "warning", "warning", "ok") == ["trigger critical", "-", "-", "resolve"]
    assert play("ok", "warning") == ["resolve", "-"]


def test_warnings_where_they_are_wanted() -> None:
    assert play("warning", "critical", "warning", "ok", warnings=True) == [
        *("trigger warning", "trigger critical", "trigger warning", "resolve"),
    ]


def test_one_that_lasts_is_sent_again_now_and_then() -> None:
    lasting: list[Status] = ["critical"] * 13
    sent = play(*lasting, minutes=10)
    assert [number for number, what in enumerate(sent) if what != "-"] == [0, 6, 12]


def test_nobody_can_look() -> None:
    assert play("unknown", "unknown", "ok") == ["-", "-", "resolve"]
    assert play("unknown", "unknown", "unknown", "unknown", "ok") == [
        *("-", "-", "trigger error", "-", "resolve"),
    ]
    assert play("critical", "unknown", "unknown", "unknown", "unknown") == [
        *("trigger critical", "-", "-", "-", "-"),
    ]


def test_what_could_not_be_sent_is_sent_by_the_next_look() -> None:
    first = decide(Alarm(), "critical", 1e9)
    again = decide(first.if_not_sent, "critical", 1e9 + 60)
    assert (first.action, again.action) == ("trigger", "trigger")
    silent = decide(Alarm(unknown=2), "unknown", 1e9)
    assert decide(silent.if_not_sent, "unknown", 1e9).action == "trigger"


def test_a_clock_that_was_set_back_silences_nothing() -> None:
    alarm = Alarm(open=True, severity="critical", sent_at=2e9)
    assert decide(alarm, "critical", 1e9).action == "trigger"


def test_a_state_that_cannot_be_read_is_none() -> None:
    assert alarm_from(None) == alarm_from({"later": 1}) == Alarm()


@given(st.lists(st.sampled_from(get_args(Status)), min_size=1))
def test_what_is_open_in_the_end_is_what_the_last_clear_word_was(looks: list[Status]) -> None:
    sent = play(*looks)
    acts = [what.split()[0] for what in sent if what != "-"]
    assert all(one != two or one == "trigger" for one, two in pairwise(acts))
    clear = [look for look in looks if look in {"ok", "critical"}]
    if clear and looks[-1] in {"ok", "critical"}:
        assert acts[-1] == {"ok": "resolve", "critical": "trigger"}[clear[-1]]
