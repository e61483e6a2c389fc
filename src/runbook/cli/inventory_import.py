"""`runbook inventory import`: an Ansible inventory made runbook's, and what could not be taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from runbook.model.ansible_convert import Imported
    from runbook.model.ansible_inventory import Remark

#: More remarks than this in a file's head would bury the file; all of them go to stderr.
_IN_THE_FILE = 40


@click.command("import")
@click.argument("path", metavar="FILE|DIR")
@click.option("-o", "--output", metavar="FILE", help="Write it here; else to stdout.")
@click.option("--force", is_flag=True, help="Overwrite the file of -o.")
def command(path: str, output: str | None, force: bool) -> None:
    """Make an inventory of an Ansible inventory: INI, YAML, or a folder of them.

    group_vars/ and host_vars/ beside it are read. Templates, encrypted values, plugins and what
    looks like a secret are not carried over; each is told, with its place.
    """
    from runbook import wiring
    from runbook.model.ansible_convert import inventory_data
    from runbook.model.inventory_text import inventory_text

    if output is not None and not force and Path(output).exists():
        raise click.BadParameter(f"{output} exists; --force overwrites it", param_hint="-o")
    imported = wiring.import_ansible(path)
    remarks = list(_remarks(imported))
    text = inventory_text(inventory_data(imported), _head(path, imported, remarks))
    fleet = wiring.check_inventory(text, output or "the imported inventory")
    if output is None:
        click.echo(text, nl=False)
    else:
        wiring.write_inventory(output, text)
    for remark in remarks:
        click.echo(remark, err=True)
    groups = {group for host in fleet.hosts.values() for group in host.groups}
    count = "1 remark" if len(remarks) == 1 else f"{len(remarks)} remarks"
    click.echo(
        f"{output or path}: {len(fleet.hosts)} hosts, {len(groups)} groups, {count}."
        " Databases and services are yours to add.",
        err=True,
    )


def _head(path: str, imported: Imported, remarks: list[str]) -> Iterator[str]:
    """The comments that the file begins with."""
    from runbook.model.document import visible

    yield f"Made of {visible(path)} by `runbook inventory import`."
    yield "Ansible knows no databases and services: add `databases:` and `services:`, then check it"
    yield "with `runbook inventory validate`."
    if imported.unreachable:
        yield ""
        yield "MEND FIRST: hosts whose address could not be carried over."
    if remarks:
        yield ""
        yield "Not carried over, or not as it was:"
    for remark in remarks[:_IN_THE_FILE]:
        yield f"  {remark}"
    if len(remarks) > _IN_THE_FILE:
        yield f"  … and {len(remarks) - _IN_THE_FILE} more, told by the import"
    yield ""


def _remarks(imported: Imported) -> Iterator[str]:
    """One line for each remark; hosts of one range, which share a line, share a remark."""
    from runbook.model.document import visible

    together: dict[tuple[object, str], list[Remark]] = {}
    for remark in imported.remarks:
        together.setdefault((remark.place or remark.owner, remark.what), []).append(remark)
    for (_, what), same in together.items():
        first = same[0]
        place = f"{first.place}: " if first.place else ""
        more = f" and {len(same) - 1} more" if len(same) > 1 else ""
        yield f"{place}{visible(first.owner)}{more}: {visible(what)}"
    if imported.ansibles_own:
        names = sorted(imported.ansibles_own.items())
        listed = ", ".join(f"{visible(name)} ({count})" for name, count in names)
        yield f"of use to Ansible alone, and left out: {listed}"
