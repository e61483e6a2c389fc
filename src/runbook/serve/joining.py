"""Where the other rooms come in: who reads requests, tells people, takes answers, shows pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook import wiring
from runbook.alerts import SOURCES
from runbook.serve.answering import take_answer
from runbook.serve.pages import routes
from runbook.serve.service import Doors

if TYPE_CHECKING:
    from runbook.model.serve_config import ServeConfig


def join(config: ServeConfig) -> Doors:
    """Open what a configuration asks for.

    Raises:
        DoorError: when what was told cannot be opened.
    """
    return Doors(
        sources=SOURCES,
        incidents=wiring.incident_reader(config),
        teller=wiring.open_teller(config),
        take_answer=take_answer,
        pages=routes,
    )
