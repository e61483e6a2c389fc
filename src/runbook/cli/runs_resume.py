"""`runbook runs resume [ID]`: looks at the world first, then goes on where a run was left."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from runbook.cli import options
from runbook.cli.runs_find import alive, damage_told, find_run, open_runs, standing
from runbook.cli.telling import telling_again
from runbook.model.document import visible
from runbook.model.errors import (
    DoorError,
    Locked,
    NotConfirmed,
    Refused,
    RunbookError,
    UsageError,
)

if TYPE_CHECKING:
    from runbook.cli.running import Request
    from runbook.engine.resume import TakenUp
    from runbook.model.fleet import Fleet
    from runbook.model.plan import Plan
    from runbook.model.ports import Journal, KeptRun


@click.command("resume")
@click.argument("run_id", required=False)
@click.option("--yes", is_flag=True, help="Do not ask; needed when there is no terminal.")
@click.option(
    "--done", metavar="TASK", multiple=True, help="In doubt: it was done, as you have seen."
)
@click.option("--again", metavar="TASK", multiple=True, help="In doubt: do it again.")
@click.option("--show", "only_show", is_flag=True, help="Show how it stands, and go no further.")
@options.steal_lock
@options.output("text", "json")
def resume(
    run_id: str | None,
    yes: bool,
    done: tuple[str, ...],
    again: tuple[str, ...],
    only_show: bool,
    steal_lock: bool,
    output_format: str,
) -> int:
    """Go on with a run that was killed, interrupted, halted, or that waits for an answer.

    RUN_ID may be cut short; without it, the one run that has no end. What was done is not done
    again; what was asked for and never answered is looked at first.
    """
    from runbook import wiring
    from runbook.engine.resume import take_up

    journal = wiring.open_journal()
    kept = _chosen(journal, run_id)
    _check_resumable(kept)
    _check_sound(journal, kept)
    planned = _planned_anew(kept, yes=yes, steal_lock=steal_lock)
    with damage_told(journal, kept):
        known = take_up(planned.plan, kept.events, kept.record.run_id)
    journal.close()
    _check_choices(known, kept.record.run_id, done, again)
    _show(kept, planned.plan, known, (*done, *again))
    if only_show:
        return 0
    _ask(kept, yes=yes)
    with telling_again(kept.request.tell if kept.request is not None else None) as told:
        planned = replace(planned, request=replace(planned.request, told=told))
        return _go_on(kept, planned, done, again, output_format)


@click.command("work", hidden=True)
@click.argument("run_id")
def work(run_id: str) -> int:
    """Be the process of a run that somebody has submitted or answered; nobody is here to ask."""
    from runbook import wiring

    journal = wiring.open_journal()
    kept = find_run(journal, run_id)
    if kept.record.ended_at is not None:
        raise UsageError(f"run {kept.record.run_id} is over: {kept.record.status}")
    _check_free(kept)
    _check_plannable(kept)
    _check_sound(journal, kept)
    journal.close()
    try:
        # Who has begun this process tells of it as well.
        return _go_on(kept, _planned_anew(kept, yes=False), (), (), "json")
    except RunbookError as error:
        with suppress(DoorError):  # then the journal is what went wrong
            _close(kept, error)
        raise


def _close(kept: KeptRun, error: RunbookError) -> None:
    """End a run that cannot be gone on with: nobody is here to be told, so the journal is.

    One that has changed nothing is refused; what another one is at must be looked at by a person.
    """
    from runbook import wiring

    acted = any(event.kind == "intended" for event in kept.events)
    run_id, journal, hint = kept.record.run_id, wiring.open_journal(), error.hint or ""
    if not _taken_up_since(journal, kept):
        status = "interrupted" if acted else "refused"
        if acted:
            hint = f"{hint}; then `runbook runs resume {run_id}`".removeprefix("; ")
        wiring.local_runs(journal).close(run_id, status, error.message, hint)
    journal.close()


def _taken_up_since(journal: Journal, kept: KeptRun) -> bool:
    """Whether somebody has gone on with a run, or has closed it: theirs is the last word then."""
    now = journal.run(kept.record.run_id)
    since = now.events[len(kept.events) :] if now is not None else ()
    moved = any(event.kind in {"planned", "resumed", "finished"} for event in since)
    return now is None or moved or alive(kept.record.run_id)


def _go_on(
    kept: KeptRun,
    planned: _Planned,
    done: tuple[str, ...],
    again: tuple[str, ...],
    output_format: str,
) -> int:
    from runbook.cli.running import TakenUp, exit_code, run_plan
    from runbook.rendering.summary import present

    taken = TakenUp(kept=kept, done=done, again=again)
    outcome = run_plan(planned.plan, planned.request, planned.fleet, taken)
    present(outcome, output_format)
    return exit_code(outcome)


def _chosen(journal: Journal, given: str | None) -> KeptRun:
    if given is not None:
        return find_run(journal, given)
    found = open_runs(journal)
    if len(found) == 1:
        return find_run(journal, found[0].run_id)
    if not found:
        raise UsageError(
            "there is no run without an end",
            hint=f"one that was halted or interrupted is resumed by its id{_such_as(journal)}",
        )
    for record in found:
        what = f"{record.playbook} {record.target or ''}".strip()
        click.echo(f"{record.run_id}  {standing(record)}  {what}  by {record.who}", err=True)
    raise UsageError(
        f"{len(found)} runs have no end", hint=f"name one: runbook runs resume {found[0].run_id}"
    )


def _such_as(journal: Journal) -> str:
    """Name the newest run that did not end well: it is most likely meant."""
    ended = (r for r in journal.runs(50) if not r.rehearsal and r.status not in {"done", "refused"})
    newest = next(ended, None)
    if newest is None:
        return ": `runbook runs list`"
    what = f"{newest.playbook} {newest.target or ''}".strip()
    return f", such as `runbook runs resume {newest.run_id}` ({what}, {newest.status})"


def _check_resumable(kept: KeptRun) -> None:
    record = kept.record
    _check_free(kept)
    if record.rehearsal:
        raise UsageError(
            f"run {record.run_id} is a rehearsal: there is nothing to go on with",
            hint="rehearse again instead",
        )
    if record.status == "done":
        raise UsageError(f"run {record.run_id} is done: there is nothing to go on with")
    _check_plannable(kept)


def _check_free(kept: KeptRun) -> None:
    record = kept.record
    if alive(record.run_id):
        raise Locked(
            f"run {record.run_id} goes on: a process on this machine works on it",
            hint=f"`runbook runs cancel {record.run_id}` stops it as Ctrl-C does",
        )


def _check_plannable(kept: KeptRun) -> None:
    record = kept.record
    if kept.request is None:
        raise UsageError(
            f"run {record.run_id} was kept by an older runbook, which did not write down what was"
            " asked for: it cannot be planned anew",
            hint=f"`runbook runs show {record.run_id}` has what it had done; look at those hosts"
            " by hand, then run the playbook again",
        )


def _check_sound(journal: Journal, kept: KeptRun) -> None:
    """What was changed after it was written is no ground to act on: not an answer, not a result."""
    run_id = kept.record.run_id
    faults = journal.verify(run_id)
    if faults:
        raise Refused(
            f"run {run_id} is not as it was written: {faults[0].what}",
            hint=f"`runbook runs verify {run_id}` tells where; look at its hosts by hand, then run"
            " the playbook anew",
        )


# ---- the plan, made anew ---------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Planned:
    """What a run was asked for, and the plan that it still is."""

    request: Request
    fleet: Fleet
    plan: Plan


def _planned_anew(kept: KeptRun, *, yes: bool, steal_lock: bool = False) -> _Planned:
    """Plan again from what was asked for; another plan than the one that was begun is refused."""
    from runbook import wiring
    from runbook.cli.running import Request, plan_for

    asked = kept.request
    assert asked is not None  # noqa: S101 - checked before
    fleet = wiring.load_fleet(asked.inventory)
    request = Request(
        playbook=asked.playbook,
        target=asked.target,
        params=asked.params,
        rehearsal=kept.record.rehearsal,
        yes=yes,
        incident=asked.incident,
        limit=asked.limit,
        tags=asked.tags,
        skip_tags=asked.skip_tags,
        steal_lock=steal_lock,
    )
    # A run is decided to its end by the rules that it began with.
    plan = replace(plan_for(request, fleet), engine=int(kept.plan.get("engine", 0)))
    if plan.hash != kept.record.plan_hash:
        raise _drifted(kept, plan)
    return _Planned(request=request, fleet=fleet, plan=plan)


def _drifted(kept: KeptRun, plan: Plan) -> Refused:
    from runbook.engine.drift import drift
    from runbook.model.plan import plan_from_json

    run_id = kept.record.run_id
    try:
        lines = drift(plan_from_json(kept.plan), plan)
    except (TypeError, KeyError):
        lines = ()  # kept by a runbook whose plans say other things
    what = "\n".join(f"  {visible(line)}" for line in lines) or "  this runbook plans otherwise"
    return Refused(
        f"the plan of run {run_id} is no longer the one that was begun:\n{what}",
        hint="undo that change and resume again; or look at what the run had done and owes"
        f" (runbook runs show {run_id}), give it up (runbook runs cancel {run_id}), and run the"
        " playbook anew",
    )


# ---- what is known ---------------------------------------------------------------------------


def _check_choices(
    known: TakenUp, run_id: str, done: tuple[str, ...], again: tuple[str, ...]
) -> None:
    # A task that would look for itself may be settled by a person who has looked already.
    doubts = list(dict.fromkeys([*(doubt.key for doubt in known.doubts), *known.crashed]))
    for key in (*done, *again):
        if key not in doubts:
            what = f"in doubt: {', '.join(doubts)}" if doubts else "nothing is in doubt"
            raise UsageError(f"run {run_id} has no doubt {key!r}", hint=what)
    both = sorted(set(done) & set(again))
    if both:
        raise UsageError(f"{both[0]}: either it was done, or it is done again")


def _show(kept: KeptRun, plan: Plan, known: TakenUp, settled: tuple[str, ...]) -> None:
    from runbook.rendering.consoles import notes
    from runbook.rendering.resuming import show_known

    show_known(kept, plan, known, settled, standing(kept.record), notes())


def _ask(kept: KeptRun, *, yes: bool) -> None:
    """A run that waits for an answer was never left: whoever resumes it only lets it look."""
    if yes or kept.record.status == "waiting":
        return
    if not sys.stdin.isatty():
        raise NotConfirmed(
            f"run {kept.record.run_id} was left half-way, and there is no terminal to ask at",
            hint="--show tells how it stands; --yes goes on without asking",
        )
    click.echo("\nGo on with it? [y/N] ", nl=False, err=True)
    try:
        answer = input()
    except EOFError:
        answer = ""
    if answer.strip().lower() not in {"y", "yes"}:
        raise NotConfirmed("not confirmed; nothing was changed")
