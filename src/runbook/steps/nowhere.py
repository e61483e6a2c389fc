"""Steps that work on no host and no database: they have one task, whose target is called `here`."""

from __future__ import annotations

from typing import Any

from runbook.model.fleet import Fleet

HERE = "here"


def targets(_args: Any, _fleet: Fleet) -> tuple[str, ...]:
    """Return the one target of a step that has none."""
    return (HERE,)
