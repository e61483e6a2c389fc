"""Slack's slash commands and buttons: signed for five minutes, read strictly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runbook.alerts import SOURCES
from runbook.model.alert import Alert, Answer, Reading, Rejected
from unit.alerts import calls
from unit.alerts.calls import NOW, SECRET, Call
from unit.alerts.world import config

HOOK = config().hooks["chat"]
SLACK = SOURCES["slack"]


def reading(call: Call, *secrets: str) -> Reading:
    received = call.received()
    SLACK.authenticate(received, HOOK, secrets or (SECRET,))
    return SLACK.read(received, HOOK)


def refused(call: Call, *secrets: str) -> int:
    with pytest.raises(Rejected) as caught:
        reading(call, *secrets)
    return caught.value.status


def public(**headers: str) -> Call:
    given = {
        "x-slack-request-timestamp": str(calls.SLACK_AT),
        "x-slack-signature": calls.SLACK_SIGNATURE,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return Call("chat", calls.SLACK_BODY, given, calls.SLACK_AT + 60)


def test_the_public_example_is_let_in_and_read() -> None:
    (alert,) = reading(public(), calls.SLACK_SECRET).alerts
    assert (alert.event, alert.by, alert.at) == ("/webhook-collect", "U2CERLKJA", 1531420618.0)
    assert alert.labels == {"channel": "G8PSS9T3V"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x_slack_request_timestamp": "1531420619"}, 403),
        ({"x_slack_request_timestamp": "-1"}, 400),
        ({"x_slack_request_timestamp": "1531420618.0"}, 400),
        ({"x_slack_request_timestamp": "٣"}, 400),
        ({"x_slack_signature": calls.SLACK_SIGNATURE.replace("v0", "v1")}, 403),
        ({"x_slack_signature": "v0=" + "0" * 64}, 403),
        ({"x_slack_signature": ""}, 400),
    ],
)
def test_a_signature_that_is_none_is_refused(headers: dict[str, str], status: int) -> None:
    assert refused(public(**headers), calls.SLACK_SECRET) == status


@pytest.mark.parametrize("missing", ["x-slack-signature", "x-slack-request-timestamp"])
def test_without_a_signature_nobody_is_let_in(missing: str) -> None:
    call = public()
    headers = {name: value for name, value in call.headers.items() if name != missing}
    assert refused(replace(call, headers=headers), calls.SLACK_SECRET) == 401


@pytest.mark.parametrize(
    ("apart", "late"), [(300, False), (301, True), (-300, False), (-301, True)]
)
def test_a_signature_holds_for_five_minutes(apart: int, late: bool) -> None:
    call = calls.slack_raw(calls.slash().body, signed_at=int(NOW) - apart)
    assert (refused(call) == 403) if late else reading(call).alerts


def test_while_a_secret_is_rotated_both_hold() -> None:
    assert reading(calls.slash(), "new", SECRET).alerts


def test_a_commands_words_are_labels() -> None:
    (alert,) = reading(calls.slash("diagnose  shop-db now")).alerts
    assert alert == Alert(
        source="slack",
        hook="chat",
        key=alert.key,
        event="/runbook",
        at=NOW,
        labels={"word1": "diagnose", "word2": "shop-db", "word3": "now", "channel": "C061EG9SL"},
        by="U2CERLKJA",
        title="/runbook diagnose shop-db now",
    )


def test_a_replay_has_the_same_key_and_the_next_command_another() -> None:
    def key(call: Call) -> str:
        return reading(call).alerts[0].key

    assert key(calls.slash()) == key(calls.slash())
    assert key(calls.slash()) != key(calls.slash(trigger_id="398738663015.47445629121.fff"))


def test_many_words_are_cut_to_twenty() -> None:
    (alert,) = reading(calls.slash("x " * 100)).alerts
    assert len([name for name in alert.labels if name.startswith("word")]) == 20


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"command=%2Frunbook",
        b"user_id=U2CERLKJA",
        b"command=runbook&user_id=U2CERLKJA",
        b"command=%2Frun%20book&user_id=U2CERLKJA",
        b"command=%2Frunbook&user_id=U2CERLKJA&user_id=U2CERLKJB",
        b"command=%2Frunbook&user_id=..%2Fx",
        b"command=%2Frunbook&user_id=U2CERLKJA&text=%ff",
        b"command=\xff",
        b"payload=",
        b"payload=%5B%5D",
        b"payload=%00",
        b"&".join(b"f%d=1" % number for number in range(101)),
    ],
)
def test_a_form_of_another_shape_is_malformed(body: bytes) -> None:
    assert refused(calls.slack_raw(body)) == 400


def test_a_check_of_the_certificate_is_a_sign_of_life() -> None:
    assert reading(calls.slack_raw(b"ssl_check=1&token=x")) == Reading()


# ---- buttons ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("action", "yes"), [("runbook-approve", True), ("runbook-deny", False)])
def test_a_button_is_an_answer_bound_to_its_question(action: str, yes: bool) -> None:
    assert reading(calls.press(action)).answer == Answer(
        run_id="20261124-021700-ab12", key="plan", digest="0a1b2c3d", yes=yes, by="U2CERLKJA"
    )


def test_a_key_may_have_spaces_in_it() -> None:
    pressed = calls.press(
        actions=[{"action_id": "runbook-deny", "value": "r a key/web 1 0a1b2c3d"}]
    )
    answer = reading(pressed).answer
    assert answer is not None
    assert (answer.run_id, answer.key, answer.digest) == ("r", "a key/web 1", "0a1b2c3d")


@pytest.mark.parametrize(
    "changed",
    [{"type": "view_submission"}, {"actions": []}, {"actions": [{"action_id": "open-the-page"}]}],
)
def test_what_else_may_be_pressed_is_not_for_us(changed: dict[str, Any]) -> None:
    assert reading(calls.press(**changed)) == Reading()


@pytest.mark.parametrize(
    "changed",
    [
        {"user": None},
        {"user": {"id": "kim"}},
        {"actions": None},
        {"actions": [{"action_id": "runbook-approve"}]},
        {"actions": [{"action_id": "runbook-approve", "value": "run plan"}]},
        {"actions": [{"action_id": "runbook-approve", "value": "../run plan 0a1b2c3d"}]},
        {"actions": [{"action_id": "runbook-approve", "value": "r p 0a1b2c3d\n"}]},
        {"actions": [{"action_id": "runbook-approve", "value": "r plan 0a1b2c3d"}] * 2},
    ],
)
def test_an_answer_to_no_question_is_malformed(changed: dict[str, Any]) -> None:
    assert refused(calls.press(**changed)) == 400
