"""What is in flight, in words, and how a target was left when nobody waits any more."""

from __future__ import annotations

from typing import Any

import pytest

from runbook.engine.flights import Flights, left_behind
from runbook.model.plan import Obligation, Task

KEY = "roll/restart/web-1"
ASKED = ("intended", {"sentence": "on web-1: systemctl restart shop.service"})
DONE = ("changed", {"sentence": "on web-1: systemctl restart shop.service"})
DEBT = Obligation(key="undrain web-1", task=KEY, what="web-1 is out", by_hand=("put it back",))
OTHER = Obligation(key="undrain web-2", task="roll/restart/web-2", what="", by_hand=("not mine",))


def flights(*events: tuple[str, dict[str, Any]]) -> Flights:
    """Return a host in flight, after these events."""
    followed = Flights()
    followed.begin(
        Task(
            key=KEY, node="roll", verb="rolling", phase="restart", target="web-1", args={},
            timeout_s=1.0, changes=True,
        )
    )  # fmt: skip
    for kind, data in events:
        followed.follow(kind, KEY, data)
    return followed


def said(stage: str) -> tuple[str, dict[str, Any]]:
    """A step says how far it is."""
    return "said", {"stage": stage, "text": ""}


@pytest.mark.parametrize(
    ("events", "words", "status", "why"),
    [
        ([], "web-1 (restart)", "failed", "nothing was changed by it"),
        ([said("draining")], "web-1 (draining)", "failed", "left while draining"),
        ([said("restarting"), ASKED], "web-1 (restarting)", "unknown", "goes on there"),
        (
            [said("restarting"), ASKED, DONE, said("gating")],
            "web-1 (gating)",
            "unknown",
            "left while gating: what was asked for is done",
        ),
    ],
)
def test_each_state_is_told_as_what_it_is(
    events: list[tuple[str, dict[str, Any]]], words: str, status: str, why: str
) -> None:
    [flight] = flights(*events).now()
    assert flight.words() == words
    result = left_behind(flight, (DEBT, OTHER))
    assert (result.status, why in result.summary) == (status, True), result.summary


def test_what_is_left_is_told_with_the_commands_that_finish_or_undo_it() -> None:
    noted = ("noted", {"by_hand": ["systemctl status shop.service"], "stage": "restarting"})
    [flight] = flights(noted, ASKED).now()
    lines = left_behind(flight, (DEBT, OTHER)).by_hand
    assert lines == ("systemctl status shop.service", "put it back")


def test_what_has_ended_is_not_in_flight() -> None:
    followed = flights(ASKED)
    followed.end(KEY)
    followed.follow(*ASKED[:1], KEY, ASKED[1])
    assert followed.now() == ()
