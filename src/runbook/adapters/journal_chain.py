"""The hash chain: each event seals all that stands before it, the first one the run's own row.

`seal` is the hash of what a run's row says for good (plan, request, who, …). An event's hash
covers the hash before it and the event. The row also has how many events were kept and the last
hash, written in the same transaction as they: so events that are missing at the end are found.

It finds an edit; it does not prevent one. Somebody who may write the file and knows how it is made
can write all hashes of a run anew, or take a whole run away. Against that, keep the last hash of a
run somewhere else: `runs verify` prints it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Chain:
    """What a run's row says of its events."""

    #: Over the row; None for a run of version 1, which has no chain.
    seal: str | None
    kept: int
    last: str | None


def seal(row: Sequence[Any]) -> str:
    """Return the hash over what a run's row says for good, in the columns' order."""
    return hashlib.sha256(json.dumps(list(row)).encode()).hexdigest()


def link(before: str, event: Sequence[Any]) -> str:
    """Return the hash of one event (run id, seq, at, kind, task, data as kept) after another."""
    return hashlib.sha256(json.dumps([before, *event]).encode()).hexdigest()


def faults(
    row: Sequence[Any], chain: Chain, events: Sequence[tuple[Sequence[Any], str | None]]
) -> Iterator[tuple[int | None, str]]:
    """Yield where a run is not as it was written: an event's number (None: the row), and what.

    `events` are (run id, seq, at, kind, task, data) with their hash, by seq.
    """
    if chain.seal != seal(row):
        yield None, "the run's own row was changed: its plan, what was asked for, who, or when"
    before, seq = chain.seal, 0
    for event, kept in events:
        number = int(event[1])
        gap = number - seq - 1
        if gap:
            yield number, f"{_events(gap)} missing before it"
        elif kept != link(before or "", event):
            yield number, "this event was changed, or does not stand where it was written"
        before, seq = kept, number
    yield from _end(chain, before, seq)


def _end(chain: Chain, last: str | None, seq: int) -> Iterator[tuple[int | None, str]]:
    if seq < chain.kept:
        yield seq or None, f"{_events(chain.kept - seq)} missing after it"
    elif seq > chain.kept:
        yield chain.kept, f"after it, {_events(seq - chain.kept)} not written by a run"
    elif last != chain.last:
        yield seq or None, "the last event is not the one that the run's row was closed with"


def _events(count: int) -> str:
    return "1 event is" if count == 1 else f"{count} events are"
