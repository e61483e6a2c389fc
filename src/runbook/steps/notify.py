"""`notify`: tell people how far a run is: a webhook, a command, else the terminal alone.

A run that mends an outage does not end because the chat is down: what could not be delivered is
said, and only `required: true` makes it a failure. Telling twice is better than not at all, so an
answer that was lost is asked for again.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from runbook.model.document import visible
from runbook.model.effects import (
    ChangeCommand,
    Drive,
    HttpPost,
    HttpReply,
    Now,
    Say,
    Sleep,
    ask,
)
from runbook.model.errors import DoorError
from runbook.model.fleet import Fleet
from runbook.model.inventory import Argv, Closed, Name, Secret
from runbook.model.plan import Result
from runbook.model.step import StepContext, StepType
from runbook.model.units import Duration
from runbook.steps import nowhere

#: Attempts in all, and seconds before the second and the third: a chat that restarts is back
#: within seconds, and an incident does not wait for longer.
_PAUSES_S = (1.0, 3.0)
#: A webhook answers in a second or is in trouble.
_ATTEMPT_S = 10.0

_ORIGIN = re.compile(r"^(https?://)(?:[^/@?#]*@)?([^/?#]+)")

#: A URL that may stand in a playbook, and in every journal: a host, and a path of short plain
#: words, in which no token can hide. Chats put theirs into the path (/services/T0…/B0…/…).
_PLAIN_URL = re.compile(r"https?://[^\s/@?#]+(?:/[a-z][a-z_-]{0,15}){0,3}/?")

_TYPES = {
    "text": "text/plain; charset=utf-8",
    "slack": "application/json",
    "json": "application/json",
}


class NotifyCommand(Closed):
    """A command that is fed the message."""

    host: Name = Field(description="where it runs; a host with `connection: local` is this machine")
    argv: Argv = Field(description="the command; it reads the message from stdin")


class NotifyArgs(Closed):
    """What is said, and to whom."""

    message: Annotated[str, StringConstraints(min_length=1, max_length=4000)] = Field(
        description="what is said; ${params.…}, ${target}, ${steps.…} are filled in"
    )
    webhook: Secret | str | None = Field(
        None, description="where it is posted: a reference to the URL (env, file, command), or it"
    )
    command: NotifyCommand | None = Field(None, description="a command that is fed the message")
    format: Literal["text", "slack", "json"] = Field(
        "text", description="of a webhook: plain text, {text: …} as chats take it, or an object"
    )
    required: bool = Field(False, description="true: the run fails when it is not delivered")
    timeout: Duration = Field(30.0, description="for all attempts together")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.webhook is not None and self.command is not None:
            raise ValueError("a notify has a webhook or a command, not both")
        url = self.webhook
        if isinstance(url, str):
            _check_url(url)
        return self


def _check_url(url: str) -> None:
    """Refuse a URL that may be a secret, or be made one: plans are kept, and shown."""
    if "${" not in url and not _ORIGIN.match(url):
        raise ValueError("webhook: it does not begin with http:// or https:// and a host")
    # A value that is filled in is asked again when it is known.
    if not _PLAIN_URL.fullmatch(re.sub(r"^\$\{[^{}]*\}$", "http://later", url)):
        raise ValueError(
            "webhook: who knows such a URL can post there, and a playbook, its plan and its journal"
            " would show it: name where it is found, as in webhook: {env: CHAT_WEBHOOK} (a URL of"
            " a host and plain words alone may stand here)"
        )


def prepare(args: NotifyArgs, ctx: StepContext) -> Drive[Result]:
    """Show who would be told; nobody is told yet."""
    change = _change(args, ctx)
    yield from ()
    if change is None:
        return Result(status="ok", summary="it is told here")
    # The message alone tells a reader of the plan what will be said; the footprint, to whom.
    return Result(
        status="ok",
        summary=f"{change.sentence()}: {visible(args.message)}",
        touches=tuple(sorted(change.footprint())),
        data={"message": args.message},
    )


def act(args: NotifyArgs, ctx: StepContext) -> Drive[Result]:
    """Tell it: here always, and elsewhere until it is delivered or the time is over."""
    yield from ask(Say(stage="told", text=args.message))
    change = _change(args, ctx)
    if change is None:
        return Result(status="ok", summary=visible(args.message), data={"delivered": True})
    why = yield from _deliver(args, change)
    if not why:
        return Result(
            status="ok",
            summary=f"told: {visible(args.message)}",
            data={"delivered": True},
            touches=tuple(sorted(change.footprint())),
        )
    return Result(
        status="failed" if args.required else "ok",
        summary=f"NOT delivered ({change.sentence()}): {why}",
        hint="tell them by another way: " + visible(args.message),
        data={"delivered": False},
    )


def _deliver(args: NotifyArgs, change: HttpPost | ChangeCommand) -> Drive[str]:
    """Return why it could not be delivered, or ''."""
    deadline = (yield from ask(Now())) + args.timeout
    why = ""
    for pause in (*_PAUSES_S, None):
        why, again = yield from _attempt(change)
        if not why or not again or pause is None:
            return why
        if (yield from ask(Now())) + pause + _ATTEMPT_S > deadline:
            return f"{why} (no time left for another attempt)"
        yield from ask(Sleep(seconds=pause))
    return why


def _attempt(change: HttpPost | ChangeCommand) -> Drive[tuple[str, bool]]:
    """Return why it failed ('' when it did not), and whether another attempt may help."""
    try:
        if isinstance(change, HttpPost):
            return _posted((yield from ask(change)))
        outcome = yield from ask(change)
    except DoorError as error:
        # A secret that is missing, a program that is not there: the next attempt finds the same.
        return error.message, False
    if outcome.ok:
        return "", False
    said = visible((outcome.stderr or outcome.stdout).strip().rpartition("\n")[2])[:200]
    return f"exit code {outcome.exit_code}" + (f": {said}" if said else ""), False


def _posted(reply: HttpReply) -> tuple[str, bool]:
    if 200 <= reply.status < 300:
        return "", False
    if reply.status == 0:
        return reply.error, reply.asked
    said = visible(" ".join(reply.body.split()))[:120]
    # 408 and 429 ask for another attempt; every other 4xx would be answered so again.
    again = reply.status >= 500 or reply.status in {408, 429}
    return f"HTTP {reply.status}" + (f": {said}" if said else ""), again


def _change(args: NotifyArgs, ctx: StepContext) -> HttpPost | ChangeCommand | None:
    if args.webhook is not None:
        return HttpPost(
            url=args.webhook,
            shown=_shown(args.webhook),
            body=_body(args, ctx),
            content_type=_TYPES[args.format],
            timeout_s=min(_ATTEMPT_S, args.timeout),
        )
    if args.command is None:
        return None
    host = ctx.fleet.host(args.command.host)
    return ChangeCommand(
        host=host.name,
        argv=tuple(ctx.fleet.expand(word, host) for word in args.command.argv),
        stdin=args.message + "\n",
        timeout_s=args.timeout,
    )


def _shown(webhook: Secret | str) -> str:
    """A webhook's path is its password: people are shown the host alone, or the reference."""
    if isinstance(webhook, str):
        found = _ORIGIN.match(webhook)
        return f"{found[1]}{found[2]}/…" if found else "the webhook"
    if webhook.env is not None:
        return f"the webhook in the environment variable {webhook.env}"
    if webhook.file is not None:
        return f"the webhook in the file {webhook.file}"
    return f"the webhook that {(webhook.command or ('',))[0]} prints"


def _body(args: NotifyArgs, ctx: StepContext) -> str:
    match args.format:
        case "text":
            return args.message
        case "slack":
            return json.dumps({"text": args.message})
        case _:
            return json.dumps({"schema_version": 1, "message": args.message, "run": ctx.run_id})


def _targets(args: NotifyArgs, fleet: Fleet) -> tuple[str, ...]:
    if args.command is not None:
        host = fleet.host(args.command.host)
        for word in args.command.argv:
            fleet.expand(word, host)
    return (nowhere.HERE,)


def _tells_others(args: NotifyArgs) -> bool:
    return args.webhook is not None or args.command is not None


NOTIFY = StepType(
    verb="notify",
    summary="tell people: by a webhook, by a command, else on the terminal and in the journal",
    args=NotifyArgs,
    phases={"prepare": prepare, "act": act},
    changes=_tells_others,
    targets=_targets,
    after_crash="repeat",
    default_timeout_s=120.0,
    undo="none: what was said is said",
    repeatable=lambda _args: True,
)
