"""How single verbs look: what they would do, what came of them; others get the default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from runbook.rendering import bouncer_setup, roles, rolling, terminate, verbs

if TYPE_CHECKING:
    from rich.console import Console

    from runbook.engine.outcomes import StepOutcome
    from runbook.model.plan import Node, Result

#: Verb -> what it would do, from what its looks found.
INTENTIONS: Mapping[str, Callable[[Node, Mapping[str, Result], Console], None]] = {
    "terminate": terminate.show_intention,
    "rolling": rolling.show_intention,
    "role_settings": roles.show_intention,
    "file": verbs.show_files,
    "notify": verbs.show_messages,
    "pgbouncer_setup": bouncer_setup.show_intention,
}

#: Verb -> what came of it.
OUTCOMES: Mapping[str, Callable[[StepOutcome, Mapping[str, Any], Console], None]] = {
    "terminate": terminate.show_outcome,
    "rolling": rolling.show_outcome,
    "role_settings": roles.show_outcome,
    "file": verbs.show_files_written,
}
