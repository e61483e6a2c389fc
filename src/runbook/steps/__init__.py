"""The verbs of the playbook language: one step type a file, one line here."""

from __future__ import annotations

from collections.abc import Mapping

from runbook.model.step import StepType
from runbook.steps.command import COMMAND
from runbook.steps.diagnose import DIAGNOSE
from runbook.steps.query import QUERY
from runbook.steps.rolling import ROLLING
from runbook.steps.terminate import TERMINATE

STEPS: Mapping[str, StepType] = {
    step.verb: step
    for step in (
        COMMAND,
        DIAGNOSE,
        QUERY,
        ROLLING,
        TERMINATE,
    )
}
