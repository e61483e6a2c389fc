"""Callers that do not sign: a secret in a header of its own, a bearer token, a password."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from runbook.alerts import SOURCES
from runbook.model.alert import Rejected
from runbook.model.serve_config import Hook
from unit.alerts import calls
from unit.alerts.calls import SECRET, Call
from unit.alerts.world import config

HOOKS = config().hooks


def let_in(call: Call, *secrets: str, hook: Hook | None = None) -> int:
    """Return 200, or the status of the refusal."""
    own = hook or HOOKS[call.hook]
    try:
        SOURCES[own.source].authenticate(call.received(), own, secrets or (SECRET,))
    except Rejected as error:
        return error.status
    return 200


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@pytest.mark.parametrize("call", [calls.action(), calls.workflow(), calls.alertmanager()])
def test_while_a_secret_is_rotated_both_hold(call: Call) -> None:
    assert let_in(call) == 200
    assert let_in(call, "new", SECRET) == let_in(call, SECRET, "old") == 200
    assert let_in(call, "new") == 403
    assert let_in(call, "") == 403
    assert let_in(replace(call, headers={})) == 401


@pytest.mark.parametrize(
    ("shown", "status"),
    [
        (f"Bearer {SECRET}", 200),
        (f"bearer  {SECRET} ", 200),
        (basic(f"anybody:{SECRET}"), 200),
        (basic(f":{SECRET}"), 200),
        (basic(f"{SECRET}:wrong"), 403),
        (basic(SECRET), 400),
        ("Basic !!!", 400),
        ("Basic \u00e9", 400),
        ("Bearer", 400),
        ("Bearer ", 400),
        (SECRET, 400),
        ("", 400),
        (f"Digest {SECRET}", 400),
        (f"Bearer {SECRET}x", 403),
        (f"Bearer {SECRET[:-1]}", 403),
        ("Bearer \u00e9", 403),
        ("Bearer \u4e2d", 403),
    ],
)
def test_an_authorization_is_a_token_or_a_password(shown: str, status: int) -> None:
    for call in (calls.workflow(), calls.alertmanager()):
        assert let_in(replace(call, headers={"authorization": shown})) == status


def test_a_secret_beyond_ascii_is_compared_by_its_bytes() -> None:
    shown = "Bearer pässword".encode().decode("latin-1")
    assert let_in(replace(calls.workflow(), headers={"authorization": shown}), "pässword") == 200


@pytest.mark.parametrize("call", [calls.action(), calls.workflow(), calls.alertmanager()])
def test_a_hook_may_name_its_own_header(call: Call) -> None:
    own = HOOKS[call.hook].model_copy(update={"header": "X-Our-Own"})
    assert let_in(replace(call, headers={"x-our-own": SECRET}), hook=own) == 200
    assert let_in(replace(call, headers={"x-our-own": "wrong"}), hook=own) == 403
    assert let_in(call, hook=own) == 401
