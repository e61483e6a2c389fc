"""Slack's slash commands and buttons: signed together with the time, for five minutes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from runbook.alerts import contents, letting_in
from runbook.model.alert import Alert, Answer, Reading, Received, Rejected
from runbook.model.serve_config import Hook
from runbook.model.source import Source

_NAME = "slack"
#: How far Slack's clock and ours may be apart; what is older is a replay.
WINDOW_S = 300.0
#: Action id of a button -> what pressing it answers.
ANSWERS = {"runbook-approve": True, "runbook-deny": False}

_MOST_FIELDS = 100
_MOST_WORDS = 20
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_COMMAND = re.compile(r"/[a-z0-9][a-z0-9_-]{0,31}")
_USER = re.compile(r"[UW][A-Z0-9]{5,20}")
_CHANNEL = re.compile(r"[CDG][A-Z0-9]{5,20}")
#: RUN_ID KEY DIGEST, with a single space between two of them.
_QUESTION = re.compile(r"([A-Za-z0-9-]{1,64}) ([!-~](?:[ -~]{0,398}[!-~])?) ([0-9a-f]{8,64})")


def _authenticate(received: Received, _hook: Hook, secrets: Sequence[str]) -> None:
    given = letting_in.signatures(letting_in.header(received, "X-Slack-Signature"), "v0")
    timestamp = letting_in.header(received, "X-Slack-Request-Timestamp")
    if not _TIMESTAMP.fullmatch(timestamp):
        raise Rejected(400, "the timestamp is malformed")
    signed = b":".join((b"v0", timestamp.encode("ascii"), received.body))
    letting_in.check_signature(signed, given, secrets)
    if abs(received.at - int(timestamp)) > WINDOW_S:
        raise Rejected(403, "the signature is from another time: a replay, or a wrong clock")


def _read(received: Received, _hook: Hook) -> Reading:
    fields = _fields(received.body)
    if fields.get("ssl_check") == "1":
        return Reading()
    if "payload" in fields:
        return _interaction(contents.json_object(fields["payload"].encode("utf-8")))
    return Reading(alerts=(_command(received, fields),))


def _fields(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError:
        raise Rejected(400, "the body is no form") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Rejected(400, "a field comes twice")
    return fields


# ---- slash commands --------------------------------------------------------------------------


def _command(received: Received, fields: Mapping[str, str]) -> Alert:
    command, user = fields.get("command", ""), fields.get("user_id", "")
    if not _COMMAND.fullmatch(command):
        raise Rejected(400, "there is no command")
    if not _USER.fullmatch(user):
        raise Rejected(400, "there is no user_id")
    timestamp = received.headers["x-slack-request-timestamp"]
    return Alert(
        source=_NAME,
        hook=received.hook,
        # Slack does not resend a command; the same bytes of the same second are a replay.
        key=f"{_NAME}:{contents.digest(timestamp, received.body)}",
        event=command,
        at=float(int(timestamp)),
        labels=_labels(fields),
        by=user,
        title=contents.title(f"{command} {fields.get('text', '')}"),
    )


def _labels(fields: Mapping[str, str]) -> dict[str, str]:
    words = fields.get("text", "").split()[:_MOST_WORDS]
    named = {f"word{number}": word for number, word in enumerate(words, start=1)}
    channel = fields.get("channel_id", "")
    if _CHANNEL.fullmatch(channel):
        named["channel"] = channel
    return contents.labels(named.items())


# ---- buttons ---------------------------------------------------------------------------------


def _interaction(payload: Mapping[str, Any]) -> Reading:
    """A button of ours is an answer; what else may be pressed in a channel is not for us."""
    if payload.get("type") != "block_actions":
        return Reading()
    actions = contents.objects(payload.get("actions"), _MOST_FIELDS, "actions")
    ours = [one for one in actions if one.get("action_id") in tuple(ANSWERS)]
    if len(ours) > 1:
        raise Rejected(400, "two answers at once")
    return Reading(answer=_answer(payload, ours[0])) if ours else Reading()


def _answer(payload: Mapping[str, Any], action: Mapping[str, Any]) -> Answer:
    user, value = contents.mapping(payload.get("user")).get("id"), action.get("value")
    if not isinstance(user, str) or not _USER.fullmatch(user):
        raise Rejected(400, "nobody has pressed the button")
    question = _QUESTION.fullmatch(value) if isinstance(value, str) else None
    if question is None:
        raise Rejected(400, "the button names no question")
    return Answer(
        run_id=question[1],
        key=question[2],
        digest=question[3],
        yes=ANSWERS[str(action["action_id"])],
        by=user,
    )


SLACK = Source(
    name=_NAME,
    summary="Slack's slash commands and approve buttons, signed",
    content_types=("application/x-www-form-urlencoded",),
    authenticate=_authenticate,
    read=_read,
)
