"""Every finding, in order of precedence, and every witness: a new one is a file, and a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.findings import (
    app_hosts,
    churn,
    database_limit,
    healthy,
    idle_in_transaction,
    later_look,
    leaked_clients,
    leaked_sessions,
    lock_pile_up,
    pooler,
    pooler_exhausted,
    pools_over_budget,
    replication_limit,
    role_limit,
    server_host,
    slow_queries,
    stalled_logins,
    superuser_sessions,
    surge,
    unexplained,
)

if TYPE_CHECKING:
    from runbook.findings.finding_type import FindingType
    from runbook.findings.witness import Witness

# A limit of its own refuses whatever else is going on, and logins that never end keep out even
# whoever is to help. What holds others up comes before those that are held up; what comes and goes
# before the work that it does; work before idleness, which is what the slots look like when it is
# over. Replication has slots of its own: it is the cause when nothing else is.
FINDINGS: tuple[FindingType, ...] = (
    role_limit.FINDING,
    database_limit.FINDING,
    stalled_logins.FINDING,
    lock_pile_up.FINDING,
    idle_in_transaction.FINDING,
    pooler_exhausted.FINDING,
    churn.FINDING,
    slow_queries.FINDING,
    surge.FINDING,
    leaked_sessions.FINDING,
    leaked_clients.FINDING,
    superuser_sessions.FINDING,
    pools_over_budget.FINDING,
    replication_limit.FINDING,
    unexplained.FINDING,
    healthy.FINDING,
)

#: Whom else an examination asks. The order does not matter.
WITNESSES: tuple[Witness, ...] = (
    pooler.WITNESS,
    app_hosts.WITNESS,
    server_host.WITNESS,
    app_hosts.AGAIN,
    later_look.WITNESS,
)
