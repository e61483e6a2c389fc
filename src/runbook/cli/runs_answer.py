"""`runbook runs approve ID` and `runbook runs cancel ID`: word for a run from somebody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runbook.cli.runs_find import find_run
from runbook.model.document import visible
from runbook.model.errors import UsageError

if TYPE_CHECKING:
    from runbook.model.ports import KeptRun


@click.command("approve")
@click.argument("run_id")
@click.option("--deny", is_flag=True, help="Say no.")
@click.option("--comment", default="", metavar="TEXT", help="Why; recorded with the answer.")
@click.option(
    "--hash", "digest", metavar="CONFIRMATION", help="Answer only if this is what is asked."
)
def approve(run_id: str, deny: bool, comment: str, digest: str | None) -> None:
    """Answer the question that a run waits for; what the answer binds to is shown.

    RUN_ID may be cut short; `last` is the newest. The first answer stands.
    """
    from runbook import wiring

    journal = wiring.open_journal()
    run_id = find_run(journal, run_id).record.run_id
    runs = wiring.local_runs(journal)
    question = runs.view(run_id).waiting
    if question is None:
        raise UsageError(f"run {run_id} waits for no answer", hint="`runbook runs list` shows them")
    if digest is not None and not str(question["hash"]).startswith(digest):
        raise UsageError(
            f"run {run_id} asks to confirm {question['hash']}, not {digest}",
            hint=f"something else would be touched now: runbook runs show {run_id}",
        )
    for line in question["touches"]:
        click.echo(f"  {visible(line)}", err=True)
    runs.approve(run_id, question["key"], not deny, wiring.who(), comment)
    asked = visible(str(question.get("prompt") or f"{len(question['touches'])} changes"))
    said = "Denied" if deny else "Approved"
    click.echo(f"{said}: {asked} (confirmation {question['hash']}, by {wiring.who()}).")
    click.echo(f"To go on with it: runbook runs resume {run_id}")


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
        click.echo(f"  not known: {visible(crashed.intended[-1])} ({visible(key)})")
    for doubt in known.doubts:
        click.echo(f"  in doubt: {visible(doubt.what)} ({visible(doubt.key)})")
    if known.owed or known.crashed or known.doubts:
        click.echo(f"To look there and settle it: runbook runs resume {kept.record.run_id}")
