"""From what a rule wants to a run in the journal: planned as the command line plans."""

from __future__ import annotations

from pathlib import Path

from runbook import wiring, wiring_serve
from runbook.alerts.rules import Wanted
from runbook.engine.planning import make_plan
from runbook.model.fleet import Fleet
from runbook.model.ports import Request
from runbook.serve.context import Context


def submit(context: Context, run_id: str, wanted: Wanted, fleet: Fleet) -> None:
    """Plan and begin a run. The same id is the same run.

    Raises:
        RunbookError: when it cannot be planned, or cannot be kept.
    """
    playbook = wiring_serve.serve_playbook(wanted.playbook, context.source)
    plan = make_plan(
        wiring.load_playbook(playbook),
        fleet=fleet,
        target=wanted.target,
        given=wanted.params,
        rehearsal=wanted.rehearsal,
    )
    request = Request(
        playbook=wiring.playbook_reference(playbook),
        target=wanted.target,
        params=dict(wanted.params),
        inventory=str(Path(fleet.source).absolute()),
        incident=wanted.incident,
        rule=wanted.rule,
        confirmed_by=wanted.confirmed_by,
        approvers=wanted.approvers,
        answer_within_s=wanted.answer_within_s,
        tell=dict(wanted.tell),
    )
    context.runs.submit(run_id, plan.to_json(), request)
