"""`runbook pool plan [TARGET]`: declared beside observed beside usable, and sizes that fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from runbook.cli import options

if TYPE_CHECKING:
    from runbook.model.errors import RunbookError
    from runbook.model.fleet import Fleet
    from runbook.model.plan import Result
    from runbook.model.pool_facts import PoolFacts
    from runbook.model.pool_plan import PoolPlan
    from runbook.model.pool_what_if import Supposition

#: How long the server may be looked at, in seconds.
_WINDOW_S = 600.0


@click.command("plan")
@click.argument("target", required=False)
@options.inventory
@options.output("text", "json", "markdown")
@click.option(
    "--what-if",
    "what_if",
    metavar="NAME=NUMBER",
    multiple=True,
    help="Suppose hosts=8, shop.size=20, max_connections=300; may be given several times.",
)
@click.option("--reserve", metavar="AMOUNT", help="Usable slots to keep free: 20% or a count.")
@click.option(
    "--window", metavar="DURATION", default="3s", show_default=True, help="How long to look."
)
@click.option("--no-hosts", is_flag=True, help="Look at nothing over SSH but to get in.")
@click.option("--check", is_flag=True, help="Answer as a monitoring plugin: one line, exit 0 to 3.")
def command(
    target: str | None,
    inventory: str | None,
    output_format: str,
    what_if: tuple[str, ...],
    reserve: str | None,
    window: str,
    no_hosts: bool,
    check: bool,
) -> int:
    """Say whether the pools of the database TARGET fit into it, and which sizes would.

    Without TARGET, every database of the inventory, one after the other. It changes nothing.
    """
    from runbook import wiring
    from runbook.model.pool_what_if import check_fit, parse

    if check and target is None:
        raise click.UsageError("--check answers for one database: name it")
    looked, kept = _window(window), _reserve(reserve)
    fleet = wiring.load_fleet(inventory)
    targets = [target] if target is not None else list(fleet.inventory.databases)
    for name in targets:
        fleet.database(name)
    supposed = parse(what_if, fleet.inventory.services)
    check_fit(supposed, fleet, targets)
    look = _Look(fleet, looked, hosts=not (no_hosts or check), journal=not check)
    if check:
        return _answer(look, targets[0], kept, supposed)
    return _show_all(look, targets, kept, supposed, output_format, one=target is not None)


class _Look:
    """Looks at a database by the shipped playbook."""

    def __init__(self, fleet: Fleet, window: str, *, hosts: bool, journal: bool) -> None:
        self.fleet = fleet
        self._params = {"window": window, "hosts": hosts}
        self._journal = journal

    def plan(self, target: str, reserve: str | None, what_if: Sequence[Supposition]) -> PoolPlan:
        """Return the plan of one database.

        Raises:
            RunbookError: when it cannot be looked at.
        """
        from runbook.model.pool_planning import plan_pools

        return plan_pools(self.fleet, self.facts(target), reserve=reserve, what_if=what_if)

    def facts(self, target: str) -> PoolFacts:
        """Return what is seen of one database and its pools.

        Raises:
            RunbookError: when it cannot be looked at.
        """
        from runbook.cli.running import EXIT_CODES, Request, run_playbook
        from runbook.model.errors import ExitCode, Interrupted
        from runbook.model.pool_facts import PoolFacts

        request = Request(
            playbook="pool-plan",
            target=target,
            params=self._params,
            quiet=True,
            journal=self._journal,
        )
        outcome = run_playbook(request, self.fleet)
        result = outcome.steps[0].result
        if result is not None and result.good and "facts" in result.data:
            return PoolFacts.model_validate(result.data["facts"])
        if EXIT_CODES[outcome.finish.status] == ExitCode.INTERRUPTED:
            raise Interrupted("interrupted: the pools were not looked at")
        raise _failure(result, outcome.finish.reason)


def _failure(result: Result | None, reason: str) -> RunbookError:
    """Return what went wrong as an error; a monitoring check tells a full server from others."""
    from runbook.model.errors import SlotRefused, StepFailed

    if result is None:
        return StepFailed("the look at the pools did not come to its end", hint=reason)
    kind = SlotRefused if result.data.get("error") == SlotRefused.__name__ else StepFailed
    return kind(result.summary, hint=result.hint or None)


def _answer(look: _Look, target: str, reserve: str | None, what_if: Sequence[Supposition]) -> int:
    """Answer as a monitoring plugin does."""
    from runbook.cli.rendering.monitoring import from_error
    from runbook.cli.rendering.pool_check import check as plugin
    from runbook.model.errors import RunbookError

    try:
        line, code = plugin(look.plan(target, reserve, what_if))
    except RunbookError as error:
        line, code = from_error(target, error)
    click.echo(line)
    return code


def _show_all(
    look: _Look,
    targets: Sequence[str],
    reserve: str | None,
    what_if: Sequence[Supposition],
    output_format: str,
    *,
    one: bool,
) -> int:
    """Show the plan of each database; one that cannot be looked at does not hide the others.

    Raises:
        RunbookError: when the one that was asked for cannot be looked at.
    """
    from runbook.cli.rendering.consoles import notes
    from runbook.cli.rendering.errors import error_text
    from runbook.model.errors import Interrupted, RunbookError

    plans: list[PoolPlan] = []
    code = 0
    for target in targets:
        try:
            plan = look.plan(target, reserve, what_if)
        except RunbookError as error:
            if one or isinstance(error, Interrupted):
                raise
            notes().print(error_text(error, target))
            code = error.exit_code
            continue
        if output_format != "json":
            _show(plan, output_format, first=not plans)
        plans.append(plan)
    if output_format == "json":
        _echo_json(plans, one=one)
    return code


def _show(plan: PoolPlan, output_format: str, *, first: bool) -> None:
    if not first:
        click.echo()
    if output_format == "markdown":
        from runbook.cli.rendering.pool_markdown import render as markdown

        click.echo(markdown(plan))
    else:
        from runbook.cli.rendering.consoles import results
        from runbook.cli.rendering.pool_text import render as text

        text(plan, results())


def _echo_json(plans: Sequence[PoolPlan], *, one: bool) -> None:
    """Write the plan that was asked for; of every database, a list of them."""
    from pydantic import TypeAdapter

    if one:
        click.echo(plans[0].model_dump_json(indent=2))
        return
    from runbook.model.pool_plan import PoolPlan

    click.echo(TypeAdapter(list[PoolPlan]).dump_json(list(plans), indent=2))


def _window(text: str) -> str:
    """Return the text of a duration that can be one."""
    from runbook.model.units import parse_duration

    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--window") from None
    if seconds > _WINDOW_S:
        raise click.BadParameter(f"{text}: at most 10m", param_hint="--window")
    return text


def _reserve(text: str | None) -> str | None:
    from runbook.model.units import parse_floor

    if text is None:
        return None
    try:
        return parse_floor(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--reserve") from None
