"""`runbook pool`: the budget of each database's connections, and what keeps to it."""

from __future__ import annotations

import click

from runbook.cli.command_group import LazyGroup

_COMMANDS = {
    "plan": ("runbook.cli.pool_plan", "Declared beside observed beside usable; sizes that fit."),
    "apply": ("runbook.cli.pool_apply", "Write new sizes, restart in batches, prove the peak."),
    "guard": ("runbook.cli.pool_guard", "Timeouts and limits of roles against the next leak."),
}


@click.group("pool", cls=LazyGroup, commands_table=_COMMANDS)
def command() -> None:
    """Size the pools: app servers x processes x pool size < usable connections."""
