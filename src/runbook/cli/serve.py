"""`runbook serve`: alerts in, runs out, until it is told to stop."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from runbook.cli import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runbook.model.document import Problem
    from runbook.model.serve_config import ServeConfig


@click.command("serve")
@click.option(
    "--config",
    "given",
    metavar="FILE",
    help="The configuration; else RUNBOOK_SERVE_CONFIG, ./serve.yaml, ~/.config/runbook/,"
    " /etc/runbook/.",
)
@options.inventory
@click.option("--address", help="Listen here instead of where the configuration says.")
@click.option("--port", type=click.IntRange(0, 65535), help="And on this port; 0: any.")
@click.option("--check", "only_check", is_flag=True, help="Check everything, show the rules, end.")
@click.option("--schema", is_flag=True, help="Print the configuration's JSON Schema, end.")
def command(
    given: str | None,
    inventory: str | None,
    address: str | None,
    port: int | None,
    only_check: bool,
    schema: bool,
) -> int:
    """Take alerts in over HTTP and begin the runs that the rules of its configuration name.

    SIGTERM or Ctrl-C stops it: what was accepted is kept for the next start, and runs go on.
    """
    from runbook import wiring_serve

    if schema:
        click.echo(json.dumps(_schema(), indent=2))
        return 0
    config, source = wiring_serve.load_serve_config(given)
    config = _listening(config, address, port)
    named = wiring_serve.serve_inventory(config, source, inventory)
    if only_check:
        return _check(config, source, named)
    return _serve(config, source, named)


def _schema() -> dict[str, Any]:
    from runbook.model.serve_config import ServeConfig

    return ServeConfig.model_json_schema()


def _listening(config: ServeConfig, address: str | None, port: int | None) -> ServeConfig:
    given = {"address": address, "port": port}
    changed = {name: value for name, value in given.items() if value is not None}
    return config.model_copy(update={"listen": config.listen.model_copy(update=changed)})


def _check(config: ServeConfig, source: str, inventory: str | None) -> int:
    from runbook import wiring, wiring_serve
    from runbook.rendering.consoles import results
    from runbook.rendering.serve_rules import render
    from runbook.serve.checking import missing_secrets

    fleet = wiring.load_fleet(inventory)
    _warn(wiring_serve.check_serve_config(config, source, fleet))
    render(config, results())
    missing = list(missing_secrets(config))
    for line in missing:
        click.echo(f"error: {line}", err=True)
    if missing:
        return 2
    hooks, rules = len(config.hooks), len(config.rules)
    click.echo(f"{source}: ok (hooks: {hooks}, rules: {rules}, inventory: {fleet.source})")
    return 0


def _warn(doubts: Sequence[Problem]) -> None:
    from runbook.model.errors import InvalidDocument
    from runbook.rendering.errors import error_text

    if doubts:
        click.echo(error_text(InvalidDocument(doubts), "warning"), err=True)


def _serve(config: ServeConfig, source: str, inventory: str | None) -> int:
    from runbook import wiring
    from runbook.serve.checking import missing_secrets
    from runbook.serve.joining import join
    from runbook.serve.log import Log
    from runbook.serve.service import serve

    log = Log(sys.stderr, as_json=not sys.stderr.isatty(), mask=wiring.without_secrets)
    for missing in missing_secrets(config):
        # It may come yet, and is looked for whenever it is needed.
        log.say("secret missing", why=missing)
    serve(config, source, inventory, join, log)
    return 0
