"""What new pool sizes make of a budget, before they are asked about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from runbook.rendering.page import Page
from runbook.rendering.pool_sums import addition, paper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from runbook.model.pool_plan import PoolPlan


def show_tuning(
    before: PoolPlan,
    after: PoolPlan,
    words: Sequence[str],
    left: Sequence[str],
    console: Console,
) -> None:
    """Print the sum as it is and as it will be, and what stands in the way of being sure."""
    page = Page(console)
    page.wrapped(f"{before.target}: {before.title}", style="bold")
    _sum(page, "The sum now", before)
    if words:
        _sum(page, "With the new sizes", after)
        page.wrapped(f"{after.target} would be {after.title}")
        if after.together > after.slots.usable:
            page.wrapped("It helps, and is not enough yet.", style="yellow")
    else:
        page.wrapped("Nothing to apply: nothing was changed.")
    page.bullets("Not done from here", left)
    page.bullets("What stands out", before.notes)
    page.bullets("Not seen", before.unseen)


def _sum(page: Page, title: str, plan: PoolPlan) -> None:
    page.heading(title)
    for line in paper(addition(plan), min(page.width, 80), unicode=page.unicode):
        page.line(Text(line))
