"""docs/telling.md holds: its settings are valid, its keys are what is sent, its code verifies."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runbook.adapters.recipients import KINDS
from runbook.adapters.signed_webhook import signature
from runbook.adapters.yaml_reader import parse_document
from runbook.engine.history import history_of
from runbook.model.serve_config import Notify, ServeConfig, Tell, TellPagerDuty, tell_as_data
from runbook.model.validation import validate
from runbook.telling.case import Links
from runbook.telling.due import due
from unit.engine.test_history import Tape, node

PAGE = (Path(__file__).parents[3] / "docs" / "telling.md").read_text("utf-8")


def _block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_settings_are_valid() -> None:
    config = validate(ServeConfig, parse_document(f"version: 1\n{_block('yaml')}", "telling.md"))
    assert set(config.notify) == {"oncall-chat", "audit"}


def test_the_snippet_verifies_what_is_signed() -> None:
    names: dict[str, Any] = {}
    exec(_block("python"), names)
    now, body = int(time.time()), b'{"id": 1}'
    header = signature("key", body, now)
    assert names["is_ours"]("key", header, body)
    assert not names["is_ours"]("key", header, body + b" ")
    assert not names["is_ours"]("another", header, body)
    assert not names["is_ours"]("key", signature("key", body, now - 3600), body)


def _keys(message: dict[str, Any], before: str = "") -> Iterator[str]:
    for key, value in message.items():
        yield f"{before}{key}"
        if isinstance(value, dict):
            yield from _keys(value, f"{key}.")


def test_every_key_of_a_message_is_documented_and_no_other() -> None:
    tape = Tape().add("asked", key="confirm", touches=["x"], hash="abc", prompt="")
    history = history_of(tape.kept("waiting", node(), ended_at=None))
    data = tell_as_data(Tell(to=("chat",)), None)
    told = due(history, data, (), Links(), 1000.0, recipient="chat")
    message = next(each.content for each in told if each.key == "waiting/abc")
    section = PAGE.partition("## A signed webhook")[2]
    assert set(re.findall(r"^\| `([a-z_.]+)` \|", section, re.MULTILINE)) == set(_keys({**message}))


def test_everything_that_may_be_told_is_documented() -> None:
    rows = set(re.findall(r"^\| `([a-z_.]+)` \|", PAGE, re.MULTILINE))
    wanted = {f"pagerduty.{name}" for name in TellPagerDuty.model_fields}
    assert wanted | (set(Tell.model_fields) - {"pagerduty"}) <= rows


def test_every_kind_of_recipient_is_a_key_of_the_configuration() -> None:
    assert set(KINDS) == set(Notify.model_fields) - {"sign_with"}
