"""`runbook playbooks test`: play playbooks against what their tests say, without a host."""

from __future__ import annotations

import click

from runbook.cli import options


@click.command("test")
@click.argument("files", nargs=-1, required=True)
@click.option(
    "--record",
    metavar="RUN_ID",
    help="Write a kept run to FILE as a test, so that it is decided so for ever.",
)
@options.output("text", "json", "junit")
def command(files: tuple[str, ...], record: str | None, output_format: str) -> int:
    """Play the tests in FILES: real playbooks and real decisions, scripted answers, no host.

    Exit code 0: all as expected; 1: not all; 2: a file is wrong.
    """
    from runbook import wiring
    from runbook.rendering import playbook_tests as rendering

    if record is not None:
        if len(files) != 1:
            raise click.UsageError("--record writes to one FILE")
        from runbook.cli.runs_find import find_run

        journal = wiring.open_journal()
        record = find_run(journal, record).record.run_id
        journal.close()
        wiring.record_playbook_test(record, files[0])
        click.echo(f"{files[0]}: written from run {record}; look through it before you keep it")
        return 0
    # All of them are read before the first is played: a mistake in one is a mistake of the call.
    benches = [(name, wiring.load_playbook_test(name)) for name in files]
    played = [(name, list(bench.run())) for name, bench in benches]
    click.echo(getattr(rendering, f"as_{output_format}")(played))
    return 1 if any(case.failures for _, cases in played for case in cases) else 0
