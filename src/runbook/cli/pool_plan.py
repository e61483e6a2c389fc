"""`runbook pool plan [TARGET]`: declared beside observed beside usable, and sizes that fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    if check and target is None:
        raise click.UsageError("--check answers for one database: name it")
    asked = Asked(
        target=target,
        inventory=inventory,
        what_if=what_if,
        reserve=_reserve(reserve),
        window=_window(window),
        # A check that runs every minute leaves hosts alone, and no record.
        hosts=not (no_hosts or check),
        journal=not check,
    )
    return _answer(asked) if check else _show_all(asked, output_format)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the user asked for."""

    target: str | None
    inventory: str | None
    what_if: tuple[str, ...]
    reserve: str | None
    window: str
    hosts: bool
    journal: bool

    @classmethod
    def of(cls, target: str, *, reserve: str | None, window: str) -> Asked:
        """Return what asks for one database, with a record of the look.

        Raises:
            BadParameter: for what is no reserve, or no window.
        """
        return cls(
            target=target,
            inventory=None,
            what_if=(),
            reserve=_reserve(reserve),
            window=_window(window),
            hosts=True,
            journal=True,
        )

    def planner(self) -> Planner:
        """Return what makes the plans.

        Raises:
            RunbookError: when the inventory cannot be read, or has not what is named.
        """
        from runbook import wiring
        from runbook.model.pool_what_if import check_fit, parse

        fleet = wiring.load_fleet(self.inventory)
        targets = _servers(fleet) if self.target is None else [self.target]
        for name in targets:
            fleet.database(name)
        supposed = parse(self.what_if, fleet.inventory.services)
        on_them = [sibling for name in targets for sibling in fleet.same_server(name)]
        check_fit(supposed, fleet, on_them)
        return Planner(self, fleet, targets, supposed)


def _servers(fleet: Fleet) -> list[str]:
    """Return the first database of each server: its slots are one budget."""
    return list({fleet.same_server(name)[0]: None for name in fleet.inventory.databases})


class Planner:
    """Looks at databases by the shipped playbook, and makes their plans."""

    def __init__(
        self, asked: Asked, fleet: Fleet, targets: Sequence[str], what_if: Sequence[Supposition]
    ) -> None:
        self.targets = targets
        self._asked, self._fleet, self._what_if = asked, fleet, what_if
        self._looked: dict[str, PoolFacts] = {}

    def plan(self, target: str) -> PoolPlan:
        """Return the plan of one database.

        Raises:
            RunbookError: when it cannot be looked at.
        """
        self._looked[target] = self._facts(target)
        return self.suppose(target, self._what_if)

    def suppose(
        self, target: str, what_if: Sequence[Supposition], *, alike: bool = True
    ) -> PoolPlan:
        """Return the plan of a database that was looked at, were it as supposed."""
        from runbook.model.pool_planning import plan_pools

        facts = self._looked[target]
        reserve = self._asked.reserve
        return plan_pools(self._fleet, facts, reserve=reserve, what_if=what_if, alike=alike)

    def _facts(self, target: str) -> PoolFacts:
        from runbook.cli.running import Request, run_playbook
        from runbook.model.errors import Interrupted
        from runbook.model.pool_facts import PoolFacts

        request = Request(
            playbook="pool-plan",
            target=target,
            params={"window": self._asked.window, "hosts": self._asked.hosts},
            quiet=True,
            journal=self._asked.journal,
        )
        outcome = run_playbook(request, self._fleet)
        result = outcome.steps[0].result
        if outcome.stop_asked:
            # What was seen until then is a part of the window; and nobody wants it any more.
            raise Interrupted("interrupted while the pools were looked at: nothing was changed")
        if result is not None and result.good and "facts" in result.data:
            return PoolFacts.model_validate(result.data["facts"])
        raise _failure(result, outcome.finish.reason)


def _failure(result: Result | None, reason: str) -> RunbookError:
    """Return what went wrong as an error; a monitoring check tells a full server from others."""
    from runbook.model.errors import SlotRefused, StepFailed

    if result is None:
        return StepFailed("the look at the pools did not come to its end", hint=reason)
    kind = SlotRefused if result.data.get("error") == SlotRefused.__name__ else StepFailed
    return kind(result.summary, hint=result.hint or None)


def _answer(asked: Asked) -> int:
    """Answer as a monitoring plugin does."""
    from runbook.model.errors import RunbookError
    from runbook.rendering.monitoring import from_error
    from runbook.rendering.pool_check import check as plugin

    try:
        line, code = plugin(asked.planner().plan(str(asked.target)))
    except RunbookError as error:
        line, code = from_error(str(asked.target), error)
    click.echo(line)
    return code


def _show_all(asked: Asked, output_format: str) -> int:
    """Show the plan of each database; one that cannot be looked at does not hide the others.

    Raises:
        RunbookError: when the one that was asked for cannot be looked at.
    """
    from runbook.model.errors import DoorError, StepFailed
    from runbook.rendering.errors import error_text

    planner = asked.planner()
    plans: list[PoolPlan] = []
    code = 0
    for target in planner.targets:
        try:
            plan = planner.plan(target)
        except (DoorError, StepFailed) as error:
            if asked.target is not None:
                raise
            click.echo(error_text(error, f"error: {target}"), err=True)
            code = error.exit_code
            continue
        if output_format != "json":
            _show(plan, output_format, first=not plans)
        plans.append(plan)
    if output_format == "json":
        _echo_json(plans, one=asked.target is not None)
    return code


def _show(plan: PoolPlan, output_format: str, *, first: bool) -> None:
    if not first:
        click.echo()
    if output_format == "markdown":
        from runbook.rendering.pool_markdown import render as markdown

        click.echo(markdown(plan))
    else:
        from runbook.rendering.consoles import results
        from runbook.rendering.pool_text import render as text

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
