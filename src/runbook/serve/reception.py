"""One request to a hook, from raw bytes to what is on disk: who calls, what it says, keep it.

All of it waits for secrets, for arithmetic or for the disk, and runs in a thread of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from runbook.model.alert import Answer, Reading, Received, Rejected
from runbook.model.errors import DoorError, RunbookError
from runbook.model.intake import QueueFull
from runbook.model.serve_config import Hook
from runbook.model.source import Source
from runbook.serve.context import Context
from runbook.serve.hook_secrets import HookSecrets

#: Answers a run's question for somebody who pressed a button; returns what to tell them.
TakeAnswer = Callable[[Context, Answer], str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a request came to."""

    status: int
    #: For our log alone.
    why: str = ""
    new: int = 0
    duplicates: int = 0
    #: What the caller is told, where a source's callers are people.
    text: str = ""


class Reception:
    """Takes requests in; used from several threads."""

    def __init__(
        self,
        context: Context,
        sources: Mapping[str, Source],
        secrets: HookSecrets,
        take_answer: TakeAnswer | None = None,
    ) -> None:
        self._context = context
        # Loaded before the first request, which is not to wait for it.
        self._sources = {hook.source: sources[hook.source] for hook in self.hooks.values()}
        self._secrets = secrets
        self._take_answer = take_answer

    @property
    def hooks(self) -> Mapping[str, Hook]:
        """Return the hooks of the configuration, by name."""
        return self._context.config.hooks

    def now(self) -> float:
        """Return the time by the clock that events are judged by later."""
        return self._context.now()

    def check_type(self, hook: Hook, headers: Mapping[str, str]) -> None:
        """Hold what a body claims to be against what the hook's source sends.

        Raises:
            Rejected: with 415.
        """
        given = headers.get("content-type", "").partition(";")[0].strip().lower()
        if given not in self._source(hook).content_types:
            raise Rejected(415, "another content type")

    def take(self, received: Received) -> Outcome:
        """Take one request; never raises for what it says, nor for a store that is away."""
        hook = self.hooks[received.hook]
        try:
            self._authenticate(received, hook)
            reading = self._source(hook).read(received, hook)
            return self._keep(received, reading)
        except Rejected as error:
            return Outcome(status=error.status, why=error.why)
        except QueueFull as error:
            return Outcome(status=503, why=str(error))
        except DoorError as error:
            return Outcome(status=503, why=error.message)

    def _authenticate(self, received: Received, hook: Hook) -> None:
        """Let the caller in or raise; a caller whose secret we have not is asked to come again."""
        judge = self._source(hook).authenticate
        known = self._secrets.known(hook.secrets)
        try:
            judge(received, hook, known.values)
        except Rejected as error:
            if error.status != _WRONG or not (known.kept or known.missing):
                raise
            known = self._secrets.known(hook.secrets, anew=True)
            self._judge_again(received, hook, known.values, known.missing)

    def _judge_again(
        self,
        received: Received,
        hook: Hook,
        values: tuple[str, ...],
        missing: tuple[DoorError, ...],
    ) -> None:
        try:
            self._source(hook).authenticate(received, hook, values)
        except Rejected as error:
            if error.status == _WRONG and missing:
                raise missing[0] from None  # it may be the one that is missing: a 4xx is for good
            raise

    def _source(self, hook: Hook) -> Source:
        return self._sources[hook.source]

    def _keep(self, received: Received, reading: Reading) -> Outcome:
        if reading.answer is not None:
            return Outcome(status=200, why="answer", text=self._answered(reading.answer))
        if not reading.alerts:
            return Outcome(status=200, why="ping")
        new = self._context.inbox.put(reading.alerts, received.at)
        return Outcome(status=202, new=new, duplicates=len(reading.alerts) - new, text=_TAKEN)

    def _answered(self, answer: Answer) -> str:
        if self._take_answer is None:
            raise Rejected(400, "an answer, and nobody takes answers here")
        try:
            return self._take_answer(self._context, answer)
        except DoorError:
            raise
        except RunbookError as error:
            return error.message  # to the person who pressed the button: too late, not theirs


#: A signature that no secret of ours makes.
_WRONG = 403
_TAKEN = "Taken. What becomes of it is for the rules to say; where there is a run, it will be told."


def headers_of(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers by their names in lower case; what came twice is joined."""
    headers: dict[str, str] = {}
    for name_, value_ in raw:
        name, value = name_.decode("latin-1").lower(), value_.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
