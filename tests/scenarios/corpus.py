"""Every scenario: a new one is a function, and an entry in one of these three tables."""

from __future__ import annotations

from scenarios.causes import CAUSES
from scenarios.lookalikes import LOOKALIKES
from scenarios.mixtures import MIXTURES
from scenarios.scenario import Scenario

SCENARIOS: tuple[Scenario, ...] = (*CAUSES, *LOOKALIKES, *MIXTURES)
