"""Plays scenarios on a server, one after the other, and has each judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scenarios import binaries, networks
from scenarios.judging import judge, skipped, without_diagnosis
from scenarios.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scenarios.scenario import Judged, Need, Scenario
    from scenarios.servers import Server


def _networks() -> None:
    if not networks.possible():
        raise binaries.NotToBeHad("network namespaces need root, ip and ss (package iproute2)")


_NEEDS: dict[Need, Callable[[], object]] = {
    "node": binaries.node_modules,
    "pgbouncer": binaries.pgbouncer,
    "networks": _networks,
}


def play(scenario: Scenario, server: Server, failures: Path | None = None) -> Judged:
    """Play one scenario; what goes wrong on the way is told in the record, never raised."""
    if missing := lacking(scenario):
        return skipped(scenario, server.version, missing)
    stage = Stage(server)
    try:
        scenario.play(stage)
        return judge(scenario, stage, failures)
    except Exception as error:  # noqa: BLE001 - one broken scenario must not hide the others
        return without_diagnosis(scenario, server.version, f"{type(error).__name__}: {error}")
    finally:
        stage.clear()


def lacking(scenario: Scenario) -> str:
    """Return why a scenario cannot be run here; "" when it can."""
    for need in scenario.needs:
        try:
            _NEEDS[need]()
        except binaries.NotToBeHad as error:
            return str(error)
    return ""
