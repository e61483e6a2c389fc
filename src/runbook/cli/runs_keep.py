"""`runbook runs verify` and `runs prune`: is the journal as it was written, and how long is it."""

from __future__ import annotations

import time

import click

from runbook.cli.runs_find import find_run
from runbook.model.document import visible

#: Runs among which those are looked for that were kept although they are old.
_LOOKED_THROUGH = 10_000


@click.command("verify")
@click.argument("run_id", required=False)
def verify(run_id: str | None) -> int:
    """Look whether the journal, or one run of it, is as it was written; exit 1 when it is not.

    RUN_ID may be cut short; `last` is the newest.
    """
    from runbook import wiring

    journal = wiring.open_journal()
    whole = find_run(journal, run_id).record.run_id if run_id is not None else None
    faults = journal.verify(whole)
    for fault in faults:
        where = f", event {fault.seq}" if fault.seq is not None else ""
        click.echo(f"{visible(fault.run_id)}{where}: {visible(fault.what)}")
    old = [each for each in journal.unsealed() if whole in {None, each}]
    if old:
        runs = "1 run was" if len(old) == 1 else f"{len(old)} runs were"
        click.echo(f"{runs} kept by an older runbook, without hashes: nothing can verify that.")
    if faults:
        return 1
    if whole is None or not old:
        click.echo(f"{whole or 'The journal'} is as it was written.")
    return 0


def _age(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    """Return seconds; an age has days as well, which no duration of a playbook needs."""
    from runbook.model.units import parse_duration

    if value.endswith("d") and value[:-1].isdecimal():
        return int(value[:-1]) * 86_400.0
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command("prune")
@click.option("--older-than", required=True, callback=_age, metavar="AGE", help="Such as 90d.")
@click.option("--yes", is_flag=True, help="Do not ask; needed when there is no terminal.")
def prune(older_than: float, yes: bool) -> None:
    """Forget runs that ended longer ago than AGE.

    Runs without an end, and runs that still owe something (a host to be put back), are kept.
    """
    from runbook import wiring

    journal = wiring.open_journal()
    before = time.time() - older_than
    if not yes:
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(before))
        click.confirm(f"Forget every run that ended before {day}?", abort=True, err=True)
    gone = journal.prune(before)
    click.echo("1 run was forgotten." if gone == 1 else f"{gone} runs were forgotten.")
    for record in journal.runs(_LOOKED_THROUGH):
        if record.ended_at is not None and record.ended_at < before:
            owes = f"it still owes something, see `runbook runs resume {record.run_id} --show`"
            click.echo(f"{record.run_id} is kept: {owes}")
