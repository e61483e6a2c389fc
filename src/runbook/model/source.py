"""What every alert source is made of: who may call, and what a call says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runbook.model.alert import Reading, Received
from runbook.model.serve_config import Hook


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One kind of caller: add a file in `alerts/` with one of these, and a line in its table."""

    name: str
    #: In one line; `runbook serve --check` and the docs show it.
    summary: str
    #: Media types that a body may have; anything else is answered 415.
    content_types: tuple[str, ...]
    #: Judges who calls, from raw bytes and headers, against all live secrets in constant time.
    #: Raises `Rejected` with 401 (nothing to judge by), 403 (wrong) or 400 (malformed).
    authenticate: Callable[[Received, Hook, Sequence[str]], None]
    #: Reads the body of a caller that was let in. Raises `Rejected` with 400.
    read: Callable[[Received, Hook], Reading]
