"""Where the other rooms come in: who reads requests, tells people, takes answers, shows pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook import wiring
from runbook.alerts import SOURCES
from runbook.serve.answering import answer
from runbook.serve.pages import routes
from runbook.serve.service import Doors

if TYPE_CHECKING:
    from runbook.model.alert import Answer
    from runbook.model.serve_config import ServeConfig
    from runbook.serve.context import Context


def join(config: ServeConfig) -> Doors:
    """Open what a configuration asks for.

    Raises:
        DoorError: when what was told cannot be opened.
    """
    return Doors(
        sources=SOURCES,
        incidents=wiring.incident_reader(config),
        teller=wiring.open_teller(config),
        take_answer=_from_slack,
        pages=routes,
    )


def _from_slack(context: Context, pressed: Answer) -> str:
    """Take a button that was pressed in Slack; return what its presser is told."""
    return answer(
        context,
        run_id=pressed.run_id,
        key=pressed.key,
        digest=pressed.digest,
        yes=pressed.yes,
        who=pressed.by,
        via="slack",
    ).message
