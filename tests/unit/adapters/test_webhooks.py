"""Slack's and signed webhooks, to a real server on this machine."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest

from runbook.adapters.signed_webhook import SignedWebhook
from runbook.adapters.slack_webhook import SlackWebhook, blocks
from runbook.model.intake import Told
from runbook.model.inventory import Secret
from runbook.model.serve_config import Notify
from runbook.model.telling import NotTold
from unit.adapters.test_http_post import say, serving

KEY = "a signing key"
HOSTILE = "<!channel> *bold* <https://evil|click> & more"


def message(**more: Any) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "id": "20260101-021700-abcd/result",
        "event": "ended",
        "headline": f"Done: {HOSTILE}",
        "text": f"Done: {HOSTILE}\nNext: runbook diagnose db",
        "run": {"id": "20260101-021700-abcd"},
        "question": None,
        "link": "https://runbook.example/runs/20260101-021700-abcd",
        **more,
    }


def told(**more: Any) -> Told:
    return Told(
        run_id="20260101-021700-abcd", recipient="chat", key="result", content=message(**more)
    )


def notify(**references: str) -> Notify:
    return Notify.model_validate({key: {"file": value} for key, value in references.items()})


def secret(reference: Secret) -> str:
    """A reference of these tests stands for itself."""
    return str(reference.file)


def test_a_signed_body_is_verified_as_the_documentation_says() -> None:
    with serving(say(200)) as (url, got):
        SignedWebhook(notify(webhook=url, sign_with=KEY), secret, now=lambda: 1800000000.9).send(
            told(), 5
        )
    headers, body = got[0]["headers"], got[0]["body"]
    parts = dict(part.split("=", 1) for part in headers["X-Runbook-Signature"].split(","))
    signed = hmac.new(KEY.encode(), f"{parts['t']}.{body}".encode(), hashlib.sha256).hexdigest()
    assert (parts["v1"], parts["t"]) == (signed, "1800000000")
    assert headers["X-Runbook-Event"] == "20260101-021700-abcd/result"
    assert json.loads(body) == message()


def test_without_a_key_it_is_not_signed() -> None:
    with serving(say(204)) as (url, got):
        SignedWebhook(notify(webhook=url), secret).send(told(), 5)
    assert "X-Runbook-Signature" not in got[0]["headers"]


QUESTION = {"key": "roll/approval", "hash": "abc123def456"}


def test_slack_gets_buttons_where_somebody_has_to_answer() -> None:
    with serving(say(200, b"ok")) as (url, got):
        SlackWebhook(notify(slack=url), secret).send(told(question=QUESTION), 5)
    body = json.loads(got[0]["body"])
    approve, deny, page = body["blocks"][-1]["elements"]
    assert approve["action_id"] == "runbook-approve"
    assert approve["value"] == "20260101-021700-abcd roll/approval abc123def456"
    assert (deny["action_id"], deny["value"]) == ("runbook-deny", approve["value"])
    assert page["url"] == message()["link"]


def test_nothing_in_a_text_is_obeyed_by_slack() -> None:
    body = blocks(message())
    assert body["text"] == ("Done: &lt;!channel&gt; *bold* &lt;https://evil|click&gt; &amp; more")
    texts = [block["text"]["type"] for block in body["blocks"] if "text" in block]
    assert texts == ["plain_text", "plain_text"]


def test_slacks_limits_are_kept() -> None:
    body = blocks(message(headline="x" * 999, text="x\n" * 9999, link=None))
    header, section = body["blocks"]
    assert (len(header["text"]["text"]), len(section["text"]["text"])) == (150, 3000)


@pytest.mark.parametrize(
    ("status", "again", "after"),
    [(400, False, 0), (404, True, 300), (429, True, 9), (500, True, 9)],
)
def test_what_an_answer_means(status: int, again: bool, after: float) -> None:
    answer = say(status, b"no_service", **{"Retry-After": "9"})
    with serving(answer) as (url, _), pytest.raises(NotTold) as caught:
        SlackWebhook(notify(slack=f"{url}/services/T0/B0/secret"), secret).send(told(), 5)
    assert (caught.value.again, caught.value.after_s) == (again, after)
    assert "secret" not in f"{caught.value!r}{caught.value.hint}"


def test_no_error_says_the_address() -> None:
    for url in ("http://127.0.0.1:9/services/secret", "ftp://secret", "http://secret\n/"):
        with pytest.raises(NotTold) as caught:
            SlackWebhook(notify(slack=url), secret).send(told(), 5)
        assert "secret" not in f"{caught.value!r}{caught.value.hint}"
        assert caught.value.__cause__ is None
