"""`runbook playbooks`: list, show and validate playbooks; print their JSON Schema."""

from __future__ import annotations

import json
from pathlib import Path

import click

from runbook.cli import options
from runbook.cli.playbooks_test import command as test


@click.group("playbooks")
def command() -> None:
    """List, show, validate playbooks; print their JSON Schema."""


@command.command("list")
@options.output("text", "json")
def list_(output_format: str) -> None:
    """List the playbooks that come with runbook."""
    from runbook import wiring

    books = [wiring.load_playbook(name).frame for name in wiring.shipped_playbooks()]
    if output_format == "json":
        listing = [{"name": b.name, "target": b.target.kind, "summary": b.summary} for b in books]
        click.echo(json.dumps(listing, indent=2))
        return
    for book in books:
        click.echo(f"{book.name:<22} {book.target.kind:<9} {book.summary}")


@command.command("show")
@click.argument("playbook")
def show(playbook: str) -> None:
    """Print a playbook as it is written: a good start for one's own."""
    from runbook import wiring

    click.echo(wiring.load_playbook(playbook).document.text, nl=False)


@command.command("validate")
@click.argument("files", nargs=-1, required=True)
@click.option("--strict", is_flag=True, help="Also fail on what is allowed and will be regretted.")
@options.inventory
def validate(files: tuple[str, ...], strict: bool, inventory: str | None) -> int:
    """Check playbooks; all mistakes of each are told, with file:line:column.

    With --strict, -i also lets it look at the services that a playbook restarts.
    """
    from runbook import wiring
    from runbook.engine.lint import lint
    from runbook.model.errors import InvalidDocument, UsageError
    from runbook.rendering.errors import error_text, show_error

    fleet = wiring.load_fleet(inventory) if strict and inventory is not None else None
    bad = 0
    for name in files:
        try:
            book = wiring.load_playbook(name)
        except UsageError as error:
            show_error(error)
            bad += 1
            continue
        regretted = lint(book, fleet) if strict else ()
        if regretted:
            click.echo(error_text(InvalidDocument(regretted), "strict"), err=True)
            bad += 1
        else:
            click.echo(f"{name}: ok ({_count(len(book.steps), 'step')})")
    return 2 if bad else 0


def _count(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"


@command.command("schema")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="A file.")
def schema(output: Path | None) -> None:
    """Print the JSON Schema of the playbook language, for editors."""
    from runbook import wiring
    from runbook.engine.schema import playbook_schema

    text = json.dumps(playbook_schema(wiring.step_types()), indent=2)
    if output is None:
        click.echo(text)
    else:
        output.write_text(text + "\n", encoding="utf-8")


command.add_command(test)
