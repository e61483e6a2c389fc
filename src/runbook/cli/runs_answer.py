"""`runbook runs approve ID` and `runbook runs cancel ID`: word for a run from somebody else."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from runbook.cli.runs_find import find_run
from runbook.model.document import visible
from runbook.model.errors import NotConfirmed, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runbook.model.ports import Journal, KeptRun


#: Digits of a confirmation that bind an answer to it: 24 bits, and few enough to be typed.
_BINDING = 6


@click.command("approve")
@click.argument("run_id")
@click.option("--deny", is_flag=True, help="Say no.")
@click.option("--comment", default="", metavar="TEXT", help="Why; recorded with the answer.")
@click.option("--yes", is_flag=True, help="Do not ask whether this is meant.")
@click.option(
    "--hash",
    "digest",
    metavar="CONFIRMATION",
    help="Answer only if this is what is asked; does not ask whether it is meant.",
)
def approve(run_id: str, deny: bool, comment: str, yes: bool, digest: str | None) -> None:
    """Answer the question that a run waits for, once it was shown what the answer binds to.

    RUN_ID may be cut short; `last` is the newest. The first answer stands. Without a terminal,
    --yes or --hash is needed.
    """
    from runbook import wiring

    journal = wiring.open_journal()
    run_id = find_run(journal, run_id).record.run_id
    runs = wiring.local_runs(journal)
    question = runs.view(run_id).waiting
    if question is None:
        raise _not_waiting(journal, run_id)
    _check_digest(run_id, str(question["hash"]), digest)
    asked = _show_question(run_id, question)
    if not yes and digest is None:
        _ask_whether_meant(run_id, "Deny" if deny else "Approve")
    runs.approve(
        run_id, question["key"], not deny, wiring.who(), comment, digest=str(question["hash"])
    )
    said = "Denied" if deny else "Approved"
    click.echo(f"{said}: {asked} (confirmation {question['hash']}, by {wiring.who()}).")
    click.echo(_what_comes_next(find_run(journal, run_id)))


def _what_comes_next(kept: KeptRun) -> str:
    run_id = kept.record.run_id
    if kept.request is not None and kept.request.rule:
        return (
            f"`runbook serve` goes on with it by itself (rule {visible(kept.request.rule)});"
            f" without it: runbook runs resume {run_id}"
        )
    return f"To go on with it: runbook runs resume {run_id}"


def _not_waiting(journal: Journal, run_id: str) -> UsageError:
    """Somebody may have been quicker: then who, what, and what comes next."""
    kept = journal.run(run_id)
    answers = [e for e in (kept.events if kept else ()) if e.kind == "answered"]
    if not answers or kept is None or kept.record.status != "waiting":
        return _asks_nothing(kept, run_id)
    said, last = ("yes" if answers[-1].data["yes"] else "no"), answers[-1].data
    comment = f" ({visible(str(last['comment']))})" if last.get("comment") else ""
    return UsageError(
        f"run {run_id} was answered already: {said}, by {visible(str(last['by']))}{comment}",
        hint=_what_comes_next(kept),
    )


def _asks_nothing(kept: KeptRun | None, run_id: str) -> UsageError:
    if kept is None or kept.record.ended_at is None:
        hint = "`runbook runs list --open` shows those that do"
        return UsageError(f"run {run_id} waits for no answer", hint=hint)
    last = next((e.data for e in reversed(kept.events) if e.kind == "finished"), {})
    why = f": {visible(str(last['reason']))}" if last.get("reason") else ""
    return UsageError(
        f"run {run_id} is over: {kept.record.status}{why}",
        hint=f"`runbook runs resume {run_id} --show` tells what of it is still to do, and what it"
        " would ask anew",
    )


def _check_digest(run_id: str, asked: str, given: str | None) -> None:
    if given is not None and len(given) < _BINDING:
        raise UsageError(
            f"--hash {given!r} is too short to bind an answer",
            hint=f"give {_BINDING} digits of the confirmation or more: runbook runs show {run_id}",
        )
    if given is not None and not asked.startswith(given):
        raise UsageError(
            f"run {run_id} asks to confirm {asked}, not {given}",
            hint=f"something else would be touched now: runbook runs show {run_id}",
        )


def _show_question(run_id: str, question: Mapping[str, Any]) -> str:
    """Show what an answer would let happen, and return the question."""
    asked = visible(str(question.get("prompt") or f"{len(question['touches'])} changes"))
    click.echo(f"run {run_id} asks: {asked}", err=True)
    for line in question["touches"]:
        click.echo(f"  {visible(line)}", err=True)
    if question.get("by"):
        click.echo(f"  it is for {visible(' or '.join(question['by']))} to answer", err=True)
    click.echo(f"  confirmation {question['hash']}", err=True)
    return asked


def _ask_whether_meant(run_id: str, act: str) -> None:
    if not sys.stdin.isatty():
        raise NotConfirmed(
            f"run {run_id} was not answered: there is no terminal to ask at",
            hint="--hash CONFIRMATION answers what was seen; --yes answers whatever is asked",
        )
    click.echo(f"\n{act} it? [y/N] ", nl=False, err=True)
    try:
        answer = input()
    except EOFError:
        answer = ""
    if answer.strip().lower() not in {"y", "yes"}:
        raise NotConfirmed(f"run {run_id} was not answered; it waits still")


@click.command("cancel")
@click.argument("run_id")
def cancel(run_id: str) -> None:
    """Ask a run to stop as Ctrl-C does: what is in flight is seen to its end.

    A run that waits, or that lost its process, is closed; it may still be resumed.
    """
    from runbook import wiring

    journal = wiring.open_journal()
    kept = find_run(journal, run_id)
    runs = wiring.local_runs(journal)
    runs.cancel(kept.record.run_id, wiring.who())
    if runs.view(kept.record.run_id).record.ended_at is None:
        click.echo(f"Run {kept.record.run_id} was asked to stop; what is in flight is finished.")
        return
    click.echo(f"Run {kept.record.run_id} is closed; no process worked on it.")
    _say_what_is_left(kept)


def _say_what_is_left(kept: KeptRun) -> None:
    from runbook.engine.resume import take_up
    from runbook.model.plan import plan_from_json

    known = take_up(plan_from_json(kept.plan), kept.events)
    for debt in known.owed:
        click.echo(f"  owed: {visible(debt.what)}")
        for line in debt.by_hand:
            click.echo(f"    {visible(line)}")
    for key, crashed in known.crashed.items():
        if not crashed.intended:
            continue  # a person has looked, and wants it done again
        click.echo(f"  not known: {visible(crashed.intended[-1])} ({visible(key)})")
    for doubt in known.doubts:
        click.echo(f"  in doubt: {visible(doubt.what)} ({visible(doubt.key)})")
    if known.owed or known.crashed or known.doubts:
        click.echo(f"To look there and settle it: runbook runs resume {kept.record.run_id}")
