"""Where the other rooms come in: who reads requests, tells people, takes answers, shows pages."""

from __future__ import annotations

from runbook.alerts import SOURCES
from runbook.model.serve_config import ServeConfig
from runbook.serve.service import Doors


def doors(_config: ServeConfig) -> Doors:
    """Return what a configuration asks for."""
    return Doors(sources=SOURCES)
