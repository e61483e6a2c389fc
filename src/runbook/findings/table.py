"""Every finding, in order of precedence, and every witness: a new one is a file, and a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.findings import (
    database_limit,
    healthy,
    idle_in_transaction,
    leaked_sessions,
    lock_pile_up,
    pools_over_budget,
    role_limit,
    slow_queries,
    surge,
    unexplained,
)

if TYPE_CHECKING:
    from runbook.findings.finding_type import FindingType
    from runbook.findings.witness import Witness

# A limit of its own refuses whatever else is going on; what holds others up comes before those
# that are held up; work comes before idleness, which is what the slots look like when it is over.
FINDINGS: tuple[FindingType, ...] = (
    role_limit.FINDING,
    database_limit.FINDING,
    lock_pile_up.FINDING,
    idle_in_transaction.FINDING,
    slow_queries.FINDING,
    surge.FINDING,
    leaked_sessions.FINDING,
    pools_over_budget.FINDING,
    unexplained.FINDING,
    healthy.FINDING,
)

#: Whom else an examination asks. The order does not matter.
WITNESSES: tuple[Witness, ...] = ()
