"""Slack's incoming webhooks: a message, with buttons where somebody has to approve.

Every text is sent as plain text: what hosts and databases say mentions nobody and leads nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from runbook.adapters.webhook_post import WebhookPost
from runbook.model.intake import Told
from runbook.model.inventory import Secret
from runbook.model.serve_config import Notify

#: What a button's answer is recognised by: `runbook serve` reads it.
APPROVE, DENY = "runbook-approve", "runbook-deny"
#: Characters of a heading, and of a section, by Slack's limits.
_HEADING, _SECTION = 150, 3_000


class SlackWebhook:
    """One channel."""

    def __init__(self, config: Notify, secret: Callable[[Secret], str]) -> None:
        if config.slack is None:
            raise ValueError("no Slack webhook")
        self._post = WebhookPost("Slack", config.slack, secret)

    def send(self, told: Told, within_s: float) -> str | None:
        """Send a message; see `Sender`. One that may have arrived is sent again."""
        self._post.send(blocks(told.content), {}, within_s)
        return None

    def close(self) -> None:
        """Close what is open."""
        self._post.close()


def blocks(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message of `runbook.telling.messages` as Block Kit has it."""
    headline = str(message["headline"])
    lines = str(message["text"]).split("\n")
    # A question's last lines are commands, for where there are no buttons.
    rest = "\n".join(lines[1:]).strip()
    parts: list[dict[str, Any]] = [{"type": "header", "text": _plain(headline, _HEADING)}]
    if rest:
        parts.append({"type": "section", "text": _plain(rest, _SECTION)})
    buttons = [*_answers(message), *_page(message)]
    if buttons:
        parts.append({"type": "actions", "elements": buttons})
    return {"text": _escaped(headline), "blocks": parts}


def _answers(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    question = message.get("question")
    if question is None:
        return []
    value = f"{message['run']['id']} {question['key']} {question['hash']}"
    return [
        _button("Approve", APPROVE, value=value, style="primary"),
        _button("Deny", DENY, value=value, style="danger"),
    ]


def _page(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    link = message.get("link")
    return [_button("Open the run", "runbook-open", url=str(link))] if link else []


def _button(words: str, action: str, **more: str) -> dict[str, Any]:
    return {"type": "button", "text": _plain(words, 75), "action_id": action, **more}


def _plain(text: str, most: int) -> dict[str, Any]:
    return {"type": "plain_text", "text": text[:most], "emoji": False}


def _escaped(text: str) -> str:
    """Return text that Slack's markup shows as it is: without mentions, links or commands."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
