"""The verbs that work on no host: notify, pause, approve, set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from runbook.model.effects import HttpPost, HttpReply
from runbook.model.errors import SecretMissing
from runbook.model.plan import Result
from runbook.steps.approve import APPROVE
from runbook.steps.notify import NOTIFY
from runbook.steps.nowhere import HERE
from runbook.steps.pause import PAUSE
from runbook.steps.set import SET
from unit.steps.here import FLEET, Here, context


class Hook:
    """A webhook that answers from a list, and keeps what it was sent."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.sent: list[HttpPost] = []

    def perform(self, effect: HttpPost) -> HttpReply:
        self.sent.append(effect)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, HttpReply) else reply(answer)


def reply(status: int, body: str = "", error: str = "", *, asked: bool = True) -> HttpReply:
    return HttpReply(status=status, body=body, error=error, seconds=0.1, asked=asked)


def notify(*answers: Any, **given: Any) -> tuple[Result, Hook, Here]:
    here, hook = Here(), Hook(*answers)
    here.doors[HttpPost] = hook
    arguments = {"message": "hello", "webhook": {"env": "HOOK"}, **given}
    return here.run(NOTIFY, HERE, **arguments), hook, here


def test_a_webhook_is_told_once() -> None:
    result, hook, here = notify(200)
    assert (result.status, result.data, len(hook.sent)) == ("ok", {"delivered": True}, 1)
    assert hook.sent[0].body == "hello"
    assert here.said == ["told: hello"]


@pytest.mark.parametrize(
    ("form", "body"),
    [
        ("slack", {"text": 'a "b"'}),
        ("json", {"schema_version": 1, "message": 'a "b"', "run": "R1"}),
    ],
)
def test_formats(form: str, body: dict[str, Any]) -> None:
    _, hook, _ = notify(200, message='a "b"', format=form)
    assert json.loads(hook.sent[0].body) == body
    assert hook.sent[0].content_type == "application/json"


def test_a_chat_that_is_down_is_tried_again_and_is_no_failure() -> None:
    result, hook, here = notify(503, reply(0, error="no answer"), reply(502, "bad\ngateway"))
    assert (result.status, result.data["delivered"]) == ("ok", False)
    assert len(hook.sent) == 3
    assert here.slept == [1.0, 3.0]
    assert "NOT delivered" in result.summary
    assert "HTTP 502: bad gateway" in result.summary
    assert "hello" in result.hint


def test_unless_it_is_required() -> None:
    assert notify(400, required=True)[0].status == "failed"


def test_a_second_attempt_may_succeed() -> None:
    result, hook, _ = notify(429, 200)
    assert (result.data, len(hook.sent)) == ({"delivered": True}, 2)


@pytest.mark.parametrize(
    "answer", [404, reply(0, error="no proper URL", asked=False), SecretMissing("HOOK is not set")]
)
def test_what_would_be_answered_so_again_is_not_asked_again(answer: Any) -> None:
    result, hook, here = notify(answer)
    assert (result.status, len(hook.sent), here.slept) == ("ok", 1, [])
    assert result.data["delivered"] is False


def test_no_attempt_is_begun_that_would_end_after_the_deadline() -> None:
    result, hook, _ = notify(503, 503, 503, timeout="10s")
    assert len(hook.sent) == 1
    assert "no time left" in result.summary


def test_the_address_of_a_webhook_is_its_password() -> None:
    for url in (
        "https://user:pw@hooks.example/",
        "https://hooks.example/services/T0/B0/secret",
        "https://hooks.example/hook?key=secret",
        "https://hooks.example/hook#secret",
        "https://hooks.example/averylongwordthatmaybeatoken",
        "https://hooks.example/${params.token}",
    ):
        with pytest.raises(ValidationError, match=r"as in webhook: \{env:"):
            NOTIFY.args.model_validate({"message": "hello", "webhook": url})
    for url in ("http://10.0.0.1:8080", "https://chat.example/hooks/on-call/", "${params.hook}"):
        NOTIFY.args.model_validate({"message": "hello", "webhook": url})


def test_people_are_shown_the_host_of_a_webhook_alone() -> None:
    url = "https://hooks.example/hooks/oncall"
    result, hook, here = notify(200, webhook=url)
    prepared = here.prepare(NOTIFY, HERE, message="hello", webhook=url)
    assert prepared.touches == ("POST to https://hooks.example/…",)
    assert hook.sent[0].url == url
    for said in (result, prepared):
        assert "oncall" not in repr(said)


def test_what_a_command_is_fed_is_part_of_what_is_confirmed() -> None:
    command = {"host": "me", "argv": ["mail", "oncall"]}
    touches = {
        Here().prepare(NOTIFY, HERE, message=message, command=command).touches
        for message in ("hello", "good bye")
    }
    assert ("me: mail oncall < (sha256 5891b5b522d5)",) in touches
    assert len(touches) == 2


def test_a_command_is_fed_the_message(tmp_path: Path) -> None:
    out = tmp_path / "mail"
    command = {"host": "me", "argv": ["tee", str(out)]}
    result = Here().run(NOTIFY, HERE, message="it's $HOME", command=command)
    assert (result.status, out.read_text()) == ("ok", "it's $HOME\n")
    failing = {"host": "me", "argv": ["sh", "-c", "echo no such list >&2; exit 3"]}
    result = Here().run(NOTIFY, HERE, message="x", command=failing)
    assert (result.status, result.data) == ("ok", {"delivered": False})
    assert "exit code 3: no such list" in result.summary


def test_without_either_it_is_told_here_and_is_no_change() -> None:
    here = Here()
    args = NOTIFY.args.model_validate({"message": "half-way"})
    assert not NOTIFY.changes(args)
    assert here.act(NOTIFY, args, context(HERE), ()).status == "ok"
    assert (here.said, here.changes) == (["told: half-way"], [])


def test_telling_others_is_a_change() -> None:
    assert NOTIFY.changes(NOTIFY.args.model_validate({"message": "x", "webhook": {"env": "H"}}))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"webhook": {"env": "A", "file": "b"}}, "exactly one"),
        ({"webhook": "hooks.example/x"}, "http://"),
        (
            {"webhook": {"env": "A"}, "command": {"host": "me", "argv": ["x"]}},
            "not both",
        ),
        ({"message": ""}, "message"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        NOTIFY.args.model_validate({"message": "x", **given})


# ---- pause, approve, set -------------------------------------------------------------------


def test_a_pause_waits() -> None:
    here = Here()
    args = PAUSE.args.model_validate({"for": "1m30s", "reason": "the cache warms up"})
    again = PAUSE.args.model_validate(args.model_dump(mode="json"))
    assert here.act(PAUSE, again, context(HERE), ()).status == "ok"
    assert (here.slept, here.said) == ([90.0], ["pausing: for 1m 30s: the cache warms up"])
    assert PAUSE.default_timeout_s > 86_400


def test_an_interrupted_pause_ends_the_run_between_two_steps() -> None:
    drive = PAUSE.phases["act"](PAUSE.args.model_validate({"for": "1h"}), context(HERE))
    next(drive)
    sleep = drive.send(None)
    assert sleep.cut_short  # type: ignore[attr-defined]
    with pytest.raises(StopIteration) as stop:
        drive.send(False)
    assert stop.value.value.data == {"interrupted": True}


@pytest.mark.parametrize("length", ["0s", "25h", "soon", 5])
def test_no_pause_of_no_time_or_of_days(length: Any) -> None:
    with pytest.raises(ValidationError):
        PAUSE.args.model_validate({"for": length})


@pytest.mark.parametrize(
    "answer", [None, {}, {"yes": False, "by": "eve"}, {"yes": "no"}, {"by": "eve"}]
)
def test_nothing_is_approved_without_a_yes(answer: Any) -> None:
    given = {} if answer is None else {"answer": answer}
    args = APPROVE.args.model_validate({"prompt": "Restart all?"})
    assert Here().act(APPROVE, args, context(HERE, **given), ()).status == "refused"


def test_who_approved_is_recorded() -> None:
    args = APPROVE.args.model_validate({"prompt": "Restart all?", "by": ["ann@bastion"]})
    answered = context(HERE, answer={"yes": True, "by": "ann@bastion"})
    result = Here().act(APPROVE, args, answered, ())
    assert (result.status, result.data) == ("ok", {"by": "ann@bastion"})


def test_set_gives_values_as_they_are() -> None:
    values = {"size": 3, "name": "x", "list": [1, "a"], "flag": True}
    args = SET.args.model_validate({"values": values})
    assert Here().act(SET, args, context(HERE), ()).data == values


@pytest.mark.parametrize("name", ["status", "summary", "targets", "Size", "a-b", ""])
def test_set_takes_no_name_that_results_have_already(name: str) -> None:
    with pytest.raises(ValidationError):
        SET.args.model_validate({"values": {name: 1}})


def test_their_one_target_is_here() -> None:
    for step in (PAUSE, APPROVE, SET, NOTIFY):
        args: Any = NOTIFY.args.model_validate({"message": "x"})
        assert step.targets(args, FLEET) == ("here",)
