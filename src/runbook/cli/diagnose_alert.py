"""`runbook diagnose --check --alert`: the check tells PagerDuty by itself, from cron."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from runbook.model.errors import RunbookError
from runbook.rendering.monitoring import CRITICAL, OK, UNKNOWN, WARNING

if TYPE_CHECKING:
    from runbook.model.diagnosis import Diagnosis
    from runbook.model.fleet import Fleet
    from runbook.telling.alarm import Decision, Status

_STATUS: dict[int, Status] = {
    OK: "ok",
    WARNING: "warning",
    CRITICAL: "critical",
    UNKNOWN: "unknown",
}
#: Seconds that a plugin spends on telling: monitoring systems give it ten in all.
_WITHIN_S = 5.0
#: The longest dedup key and summary that PagerDuty takes.
_KEY, _SUMMARY = 255, 1024
#: Lines of evidence that go along.
_EVIDENCE = 5


def told(  # the plugin's line, with what came of telling
    line: str,
    code: int,
    *,
    target: str,
    fleet: Fleet | None,
    diagnosis: Diagnosis | None,
    config: str | None,
    warnings: bool,
) -> str:
    """Tell PagerDuty what a check came to, if that is news; return the plugin's line.

    The line says so when it could not be told; nothing is raised: what was seen counts.
    """
    try:
        _tell(line, code, target, fleet, diagnosis, config, warnings=warnings)
    except RunbookError as error:
        head, bar, performance = line.partition(" | ")
        why = " ".join(error.message.split()).replace("|", "¦")
        return f"{head} (ALERT NOT SENT: {why}){bar}{performance}"
    return line


def dedup_key(target: str, environment: str | None) -> str:
    """Return what makes two events the same alert: the database's name and its environment."""
    parts = ["runbook", *([environment] if environment else []), target]
    return "/".join(parts)[:_KEY]


def _tell(
    line: str,
    code: int,
    target: str,
    fleet: Fleet | None,
    diagnosis: Diagnosis | None,
    config: str | None,
    *,
    warnings: bool,
) -> None:
    from runbook import wiring_serve
    from runbook.telling.alarm import alarm_from, decide

    read, _ = wiring_serve.load_serve_config(config)
    events = wiring_serve.open_events(read)
    key = dedup_key(target, fleet.inventory.environment if fleet is not None else None)
    store = wiring_serve.open_telling()
    try:
        decision = decide(
            alarm_from(store.said_of(key)), _STATUS[code], time.time(), warnings=warnings
        )
        # Kept first: looks in a row are counted though nothing can be sent.
        store.say_of(key, decision.if_not_sent.as_data())
        if decision.action is not None:
            events.alert(_event(decision, key, line, target, diagnosis), _WITHIN_S)
            store.say_of(key, decision.kept.as_data())
    finally:
        store.close()
        events.close()


def _event(
    decision: Decision, key: str, line: str, target: str, diagnosis: Diagnosis | None
) -> dict[str, Any]:
    if decision.action == "resolve":
        return {"event_action": "resolve", "dedup_key": key}
    head = line.partition(" | ")[0].partition(" - ")[2]
    payload = {
        "summary": head[:_SUMMARY],
        "source": target,
        "severity": decision.severity,
        "component": "postgresql",
        "class": diagnosis.finding.cause if diagnosis is not None else "no answer",
        "custom_details": _details(target, diagnosis),
    }
    return {"event_action": "trigger", "dedup_key": key, "client": "runbook", "payload": payload}


def _details(target: str, diagnosis: Diagnosis | None) -> dict[str, Any]:
    """Return what a rule of `serve` finds as labels of the incident: `database` above all."""
    from runbook.telling.text import plain

    details: dict[str, Any] = {"database": target}
    if diagnosis is not None:
        finding = diagnosis.finding
        details |= {
            "cause": finding.cause,
            "used": diagnosis.slots.used,
            "usable": diagnosis.slots.usable,
            "percent": diagnosis.slots.percent,
            "evidence": [plain(each) for each in finding.evidence[:_EVIDENCE]],
        }
        if finding.command:
            details["next"] = plain(finding.command)
    return details
