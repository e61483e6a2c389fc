"""Whether clients of a database may be pooled by transaction: the evidence, and what is not known.

These models are documented JSON; `schema_version` grows when a key changes its meaning or goes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from runbook.model.inventory import Closed

#: What a session keeps beyond its transaction, and loses when the next one runs elsewhere.
#:   listen           LISTEN: notifications come to a server connection that nobody reads
#:   set              SET without LOCAL: it holds for whoever gets that server connection next
#:   prepare          PREPARE by SQL: EXECUTE does not find it elsewhere
#:   advisory-lock    pg_advisory_lock(): whoever comes next holds it, and nobody can release it
#:   temporary-table  gone, or another client's, in the next transaction
#:   cursor           DECLARE … WITH HOLD
#:   load             LOAD: loaded into one server connection
#:   driver           statements prepared by the protocol: PgBouncer before 1.21 mixes them up
#:   sequence         currval(), lastval(): of whichever session was here before
FitnessKind = Literal[
    "listen",
    "set",
    "prepare",
    "advisory-lock",
    "temporary-table",
    "cursor",
    "load",
    "driver",
    "sequence",
]
#: certain: it was seen. likely: what was seen comes with it. weak: it may be harmless as well.
Sureness = Literal["certain", "likely", "weak"]


class FitnessEvidence(Closed):
    """One thing that was seen and speaks against pooling by transaction."""

    kind: FitnessKind
    breaks: str = Field(description="what would go wrong, in one sentence")
    seen_in: Literal["pg_stat_statements", "pg_stat_activity", "pg_locks", "pg_class"]
    count: int = Field(description="how many of `unit`")
    unit: Literal["calls", "sessions", "tables"]
    roles: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()
    sample: str = Field("", description="a statement, its values masked")
    sure: Sureness
    remedy: str = Field(description="what to do, to be pooled by transaction nevertheless")

    @property
    def decides(self) -> bool:
        """Whether it is enough to speak against pooling by transaction."""
        return self.sure != "weak"


class PoolingFitness(Closed):
    """What pooling by transaction would break, and the mode that follows."""

    schema_version: Literal[1] = 1
    database: str = Field(description="the inventory's name")
    dbname: str | None = Field(description="this database of the server alone; null for all")
    service: str | None
    roles: tuple[str, ...] = Field(description="whose statements count; empty for everybody's")
    mode: Literal["transaction", "session"]
    sure: Sureness = Field(description="of the mode")
    verdict: str = Field(description="in one line")
    evidence: tuple[FitnessEvidence, ...] = Field(description="what decides first")
    unknown: tuple[str, ...] = Field(description="what cannot be seen, and what it would take")
    since: str | None = Field(None, description="when pg_stat_statements began to count")
