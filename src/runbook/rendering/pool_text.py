"""A pool plan for people: the verdict, the sum as on paper, sizes that fit, the next command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from runbook.rendering.page import Page
from runbook.rendering.pool_chart import chart_lines
from runbook.rendering.pool_sums import Addition, addition, paper
from runbook.rendering.pool_words import (
    HEADS,
    band_line,
    cells,
    host_lines,
    load_lines,
    seen_line,
    usable_line,
)
from runbook.rendering.safe import safe

if TYPE_CHECKING:
    from rich.console import Console

    from runbook.model.pool_plan import PoolPlan

_STYLES = {
    "over": "bold red",
    "full": "bold red",
    "tight": "bold yellow",
    "comfortable": "bold green",
}
#: Services that the table lists; `--format json` has them all.
SERVICES_SHOWN = 20
#: Below this many columns, a table becomes a list.
NARROW = 64


def render(plan: PoolPlan, console: Console) -> None:
    """Print a plan; readable at 80 columns and below, without colour, and in a pager."""
    page = Page(console)
    page.wrapped(f"{plan.target}: {plan.title}", style=_STYLES[plan.verdict])
    page.wrapped(seen_line(plan), style="dim")
    if plan.what_if:
        page.wrapped(f"What if {', '.join(plan.what_if)}: nothing of it is applied", style="yellow")
    _sum(page, "The sum", addition(plan))
    page.wrapped(usable_line(plan), indent=2, style="dim")
    page.wrapped(band_line(plan), indent=2, style="dim")
    _services(page, plan)
    page.bullets("What they need", load_lines(plan))
    page.bullets("On the hosts", host_lines(plan))
    _proposal(page, plan)
    page.heading("Against the limit")
    for line in chart_lines(plan, min(page.width, 80), unicode=page.unicode):
        page.line(line)
    page.bullets("What stands out", plan.notes)
    page.bullets("Not seen", plan.unseen)
    _next(page, plan)


def _sum(page: Page, title: str, sums: Addition) -> None:
    page.heading(title)
    for line in paper(sums, min(page.width, 80), unicode=page.unicode):
        page.line(Text(line))


def _services(page: Page, plan: PoolPlan) -> None:
    if not plan.services:
        return
    shown, rest = plan.services[:SERVICES_SHOWN], plan.services[SERVICES_SHOWN:]
    rows = [cells(service, fits=plan.proposal.fits) for service in shown]
    page.blank()
    if page.width < NARROW:
        listed = (
            f"{row[0]}: "
            + ", ".join(
                f"{head} {cell}" for head, cell in zip(HEADS[1:], row[1:], strict=True) if cell
            )
            for row in rows
        )
        page.bullets("Services", listed, blank=False)
    else:
        page.table(HEADS, rows)
    if rest:
        page.wrapped(f"and {len(rest)} more (--format json lists all)", indent=2)


def _proposal(page: Page, plan: PoolPlan) -> None:
    proposal = plan.proposal
    if not any(service.proposed for service in plan.services):
        return
    if not proposal.fits:
        page.bullets(
            f"Nothing fits: the smallest pools take {proposal.together}, and"
            f" {plan.slots.target} are to be had",
            proposal.ways,
        )
        return
    if not any(service.changed for service in plan.services):
        page.heading("Proposed")
        page.wrapped(
            f"nothing: as they are, {proposal.free} of {plan.slots.usable} stay free, and"
            f" {plan.slots.reserve} are to",
            indent=2,
        )
        return
    _sum(page, "Proposed", addition(plan, proposed=True))
    page.wrapped(_room(plan), indent=2, style="dim")


def _room(plan: PoolPlan) -> str:
    slots, proposal = plan.slots, plan.proposal
    asked = f"{slots.reserve_asked} of {slots.usable} is " if "%" in slots.reserve_asked else ""
    growth = "" if proposal.holds_growth else "; the declared deploys or autoscaling do not fit in"
    return f"{proposal.free} of {slots.usable} stay free (reserve: {asked}{slots.reserve}){growth}"


def _next(page: Page, plan: PoolPlan) -> None:
    if plan.advice:
        page.heading("What to do")
        page.wrapped(plan.advice, indent=2)
    if plan.command:
        page.heading("Next")
        # Never wrapped: it is there to be copied.
        page.unwrapped(Text("  ").append(safe(plan.command), style="bold cyan"))
