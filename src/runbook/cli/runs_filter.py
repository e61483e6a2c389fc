"""Which runs `runbook runs list` is asked for."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from runbook.model.ports import Journal, RunRecord

#: Runs that are looked through when only some are wanted.
_LOOKED_THROUGH = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """What a run must be to be listed; None is anything."""

    target: str | None = None
    playbook: str | None = None
    incident: str | None = None
    #: Seconds since the epoch.
    since: float | None = None
    #: Only those without an end, and those that still owe something.
    only_open: bool = False

    @classmethod
    def of(
        cls,
        target: str | None,
        playbook: str | None,
        incident: str | None,
        since: str | None,
        only_open: bool,
    ) -> Filter:
        """Return the filter of some options.

        Raises:
            click.BadParameter: for a moment that is none.
        """
        return cls(
            target=target,
            playbook=playbook,
            incident=incident,
            since=None if since is None else moment(since, time.time()),
            only_open=only_open,
        )

    @property
    def narrows(self) -> bool:
        """Whether it leaves any run out."""
        return self != Filter()

    def of_journal(self, journal: Journal, limit: int) -> list[RunRecord]:
        """Return the newest runs that fit."""
        looked = journal.runs(_LOOKED_THROUGH if self.narrows else limit)
        fitting = [record for record in looked if self._fits(record)]
        if self.only_open:
            ended = [r.run_id for r in fitting if r.ended_at is not None and r.status != "done"]
            owing = journal.owing(ended)
            fitting = [r for r in fitting if r.ended_at is None or r.run_id in owing]
        return fitting[:limit]

    def _fits(self, record: RunRecord) -> bool:
        return (
            self.target in {None, record.target}
            and self.playbook in {None, record.playbook}
            and self.incident in {None, record.incident}
            and (self.since is None or record.started_at >= self.since)
        )


def moment(written: str, now: float) -> float:
    """Return the moment that `24h`, `7d` or a date (with a time) means, in epoch seconds.

    Raises:
        click.BadParameter: for anything else.
    """
    from runbook.model.units import parse_duration

    if written.endswith("d") and written[:-1].isascii() and written[:-1].isdigit():
        return now - int(written[:-1][:6]) * 86_400.0
    try:
        return now - parse_duration(written)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(written).timestamp()
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter(
            f"{written!r} is no age and no date: write 24h, 7d or 2026-11-23", param_hint="--since"
        ) from None
