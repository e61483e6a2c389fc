"""One run and one recipient: what happened, what was told of it, and what is wanted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from runbook.model.history import Asked, History
from runbook.model.intake import Told
from runbook.model.serve_config import Tell


@dataclass(frozen=True, kw_only=True, slots=True)
class Links:
    """Where people find the page; None where there is none."""

    base: str | None = None

    def run(self, run_id: str) -> str | None:
        """Return the address of a run's page."""
        return f"{self.base.rstrip('/')}/runs/{run_id}" if self.base else None

    @property
    def inbox(self) -> str | None:
        """Return the address of the page that shows what came in."""
        return f"{self.base.rstrip('/')}/inbox" if self.base else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """What a recipient's rules decide from."""

    history: History
    tell: Tell
    incident: str | None
    recipient: str
    #: What this recipient was told of the run, or is to be, by key.
    told: Mapping[str, Told]
    links: Links
    now: float
    #: Whether its process was lost after a change was intended: a person has to take it up.
    lost: bool = False

    @property
    def run_id(self) -> str:
        """Return the run's id."""
        return self.history.record.run_id

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return self.history.record.ended_at is not None

    @property
    def link(self) -> str | None:
        """Return the address of the run's page, where there is one."""
        return self.links.run(self.run_id)

    @property
    def question(self) -> Asked | None:
        """Return the question that the run waits with, if its answer would still count."""
        if self.history.status != "waiting":
            return None
        asked = self.history.questions[-1] if self.history.questions else None
        if asked is None or asked.yes is not None:
            return None
        return asked if asked.until is None or self.now <= asked.until else None

    def at_end(self, key: str) -> str:
        """Return the key of what is told of this end: a run that was resumed ends once more."""
        return key if self.history.ends <= 1 else f"{key}/{self.history.ends}"

    def want(self, key: str, content: Mapping[str, Any]) -> Iterator[Told]:
        """Yield what is to be kept so that this is told once."""
        known = self.told.get(key)
        if known is None:
            yield Told(
                run_id=self.run_id,
                recipient=self.recipient,
                key=key,
                content=content,
                since=self.now,
            )
        elif known.state == "due" and known.attempts == 0 and known.content != content:
            # After an attempt it may have arrived as it was.
            yield replace(known, content=content)

    def drop_others(self, prefix: str, key: str, why: str) -> Iterator[Told]:
        """Yield what is to be kept so that only `key` of a prefix is told: others are false now."""
        for other in self.told:
            if other.startswith(prefix) and other != key:
                yield from self.drop(other, why, tried=True)

    def drop(self, key: str, why: str, *, tried: bool = False) -> Iterator[Told]:
        """Yield what is to be kept so that this is told no more; what was tried may be there.

        `tried`: that too, for it would be false by now.
        """
        known = self.told.get(key)
        if known is not None and known.state == "due" and (tried or known.attempts == 0):
            yield replace(known, state="given-up", why=why)
