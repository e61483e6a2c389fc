"""The findings' room behind one door, as steps and wiring see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.findings import bouncer_status, classify, examination, leak_proof, pooling_fitness
from runbook.findings.view import View

if TYPE_CHECKING:
    from runbook.model.bouncer_status import BouncersReport
    from runbook.model.diagnosis import Diagnosis
    from runbook.model.effects import Drive
    from runbook.model.fleet import Fleet
    from runbook.model.leaks import LeakPolicy, TerminationPlan
    from runbook.model.pool_facts import PoolFacts
    from runbook.model.pooling_fitness import PoolingFitness
    from runbook.model.sessions import Snapshot


class FindingsJudge:
    """Implements `runbook.model.ports.Judge` with the findings of `findings/table.py`."""

    def examine(self, database: str, fleet: Fleet, *, hosts: bool = True) -> Drive[Snapshot]:
        """Look at a server, then at what its answers make worth a look."""
        return examination.examine(database, fleet, hosts=hosts)

    def diagnose(
        self, snapshot: Snapshot, fleet: Fleet, policy: LeakPolicy | None = None
    ) -> Diagnosis:
        """Name the cause."""
        return classify.diagnose(snapshot, fleet, policy)

    def leaks(self, snapshot: Snapshot, fleet: Fleet, policy: LeakPolicy) -> TerminationPlan:
        """Prove which sessions are leaked, and say which may be terminated, in order."""
        return leak_proof.prove(View(snapshot=snapshot, fleet=fleet), policy)

    def pool_use(
        self, database: str, fleet: Fleet, *, window_s: float, hosts: bool = True
    ) -> Drive[PoolFacts]:
        """Count connections over a window, by whom they belong to."""
        from runbook.findings.pool_use import pool_use

        return pool_use(database, fleet, window_s=window_s, hosts=hosts)

    def bouncers(self, target: str | None, fleet: Fleet) -> Drive[BouncersReport]:
        """Look at PgBouncers, and judge them."""
        return bouncer_status.examine(target, fleet)

    def pooling_fitness(
        self,
        database: str,
        fleet: Fleet,
        *,
        dbname: str | None = None,
        service: str | None = None,
        pgbouncer_version: str | None = None,
    ) -> Drive[PoolingFitness]:
        """Look for what pooling by transaction would break."""
        return pooling_fitness.examine(
            database,
            fleet,
            dbname=dbname,
            service=service,
            pgbouncer_version=pgbouncer_version,
        )
