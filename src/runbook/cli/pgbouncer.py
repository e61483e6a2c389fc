"""`runbook pgbouncer`: PgBouncers as their consoles tell, and one put before a database."""

from __future__ import annotations

import click

from runbook.cli.command_group import LazyGroup

_COMMANDS = {
    "status": ("runbook.cli.pgbouncer_status", "Pools, who waits and for what, which limit binds."),
    "introduce": ("runbook.cli.pgbouncer_introduce", "Put one in between, canary first."),
    "remove": ("runbook.cli.pgbouncer_remove", "Lead the app servers back to PostgreSQL."),
}


@click.group("pgbouncer", cls=LazyGroup, commands_table=_COMMANDS)
def command() -> None:
    """Look through PgBouncers, put one before a database, take it away again."""
