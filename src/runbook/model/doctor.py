"""What `runbook doctor` says: every door and every right that an incident needs, one check each.

These models are the documented JSON of `runbook doctor --format json`; `schema_version` grows
when a key changes its meaning or goes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from runbook.model.inventory import Closed

#: ok       it would work now
#: warning  it works, or can be done without; something about it should be better
#: missing  it would not work at 2:17
#: skipped  not judged: it could not be looked at, or another check has to be mended first
CheckStatus = Literal["ok", "warning", "missing", "skipped"]

#: What a check is about, in the order in which a report has them.
Area = Literal["inventory", "secrets", "databases", "hosts", "services", "pgbouncers"]
AREAS: tuple[Area, ...] = (
    "inventory",
    "secrets",
    "databases",
    "hosts",
    "services",
    "pgbouncers",
)


class Check(Closed):
    """One thing that was looked at."""

    area: Area
    name: str = Field(description="what was checked: rung-rescue, grant-signal, sudo-restart, …")
    subject: str = Field(description="the inventory's name: prod-db-01, web-01, shop on web-01")
    status: CheckStatus
    said: str = Field(description="what was seen, and what it costs at night")
    hint: str = Field("", description="where the mend goes, or what to do when there is none")
    mend: str = Field(
        "", description="the exact statement, line or command, ready to paste; never a secret"
    )
    seconds: float | None = Field(None, description="how long the look took, where that is known")


class DoctorReport(Closed):
    """Whether every door would open."""

    schema_version: Literal[1] = 1
    target: str | None = Field(description="the database; null for the whole inventory")
    verdict: str = Field(description="in one line")
    missing: int = Field(description="checks that are missing: any of them makes the exit code 1")
    warnings: int
    ok: int
    skipped: int
    checks: tuple[Check, ...]

    @property
    def well(self) -> bool:
        """Whether nothing is missing."""
        return self.missing == 0


def report_of(target: str | None, checks: tuple[Check, ...]) -> DoctorReport:
    """Return the report of these checks, in the order of their areas."""
    ordered = tuple(sorted(checks, key=lambda check: AREAS.index(check.area)))
    count = {
        status: sum(check.status == status for check in ordered)
        for status in ("missing", "warning", "ok", "skipped")
    }
    return DoctorReport(
        target=target,
        verdict=_verdict(count["missing"], count["warning"]),
        missing=count["missing"],
        warnings=count["warning"],
        ok=count["ok"],
        skipped=count["skipped"],
        checks=ordered,
    )


def _verdict(missing: int, warnings: int) -> str:
    warned = f"{warnings} warning{'' if warnings == 1 else 's'}"
    if not missing:
        return f"Every door would open; {warned}." if warnings else "Every door would open."
    things = f"{missing} thing{'' if missing == 1 else 's'} to mend"
    return f"{things}, {warned}." if warnings else f"{things}."
