"""What every part of `serve` works with; built in wiring, handed to the app and its threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runbook.engine.local_runs import LocalRuns
    from runbook.model.fleet import Fleet
    from runbook.model.intake import Inbox, IncidentReader
    from runbook.model.inventory import Secret
    from runbook.model.ports import Journal
    from runbook.model.serve_config import ServeConfig


@dataclass(frozen=True, kw_only=True)
class Context:
    """The configuration, and the doors."""

    config: ServeConfig
    #: The configuration file's path, for messages.
    source: str
    #: Reads the inventory anew: an edit must not need a restart.
    load_fleet: Callable[[], Fleet]
    inbox: Inbox
    #: A journal is used from several threads, one at a time; this one is for `serve` itself.
    journal: Journal
    #: Submits, answers, cancels; begins a process for each run that is to go on.
    runs: LocalRuns
    #: Follows a reference; a rotated file is read anew. Raises `SecretMissing`.
    secret: Callable[[Secret], str]
    #: None where the configuration has no `pagerduty`.
    incidents: IncidentReader | None = None
    now: Callable[[], float] = time.time
