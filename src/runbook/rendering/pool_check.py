"""`runbook pool plan --check`: one line, performance data, an exit code, as plugins give them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.model.pool_budget import TIGHT
from runbook.rendering.monitoring import CRITICAL, OK, WARNING, plugin_line

if TYPE_CHECKING:
    from runbook.model.pool_plan import PoolPlan, Verdict

_STATUS: dict[Verdict, int] = {
    "comfortable": OK,
    "tight": WARNING,
    "full": CRITICAL,
    "over": CRITICAL,
}


def check(plan: PoolPlan) -> tuple[str, int]:
    """Return the plugin's line and its exit code."""
    status = _STATUS[plan.verdict]
    usable = plan.slots.usable
    # A monitor alerts above these numbers: at exactly 70% it is tight, exactly usable is full.
    warn, full = -(-usable * TIGHT // 100) - 1, usable - 1
    performance = (
        f"budget={plan.together};{warn};{full};0;{usable}"
        f" used={plan.slots.used};;;0;{usable} peak={plan.slots.peak};;;0;{usable}"
        f" percent={plan.percent}%;{TIGHT - 1};99;0"
    )
    return f"{plugin_line(status, f'{plan.target}: {plan.title}')} | {performance}", status
