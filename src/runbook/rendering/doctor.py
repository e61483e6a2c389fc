"""The doctor's report for people: what is missing first, each with what mends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from runbook.model.doctor import AREAS
from runbook.rendering.page import Page
from runbook.rendering.safe import safe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from runbook.model.doctor import Area, Check, CheckStatus, DoctorReport

#: Subjects of one fault that are named; those beyond are counted, and JSON has them all.
_NAMED = 6

_REST: tuple[CheckStatus, ...] = ("ok", "skipped")

_LABELS: dict[CheckStatus, tuple[str, str]] = {
    "missing": ("MISSING", "bold red"),
    "warning": ("warning", "yellow"),
    "skipped": ("skipped", "dim"),
    "ok": ("ok", "green"),
}
#: What is told, worst first; the rest is counted, unless it was asked for. A check is skipped
#: because of another one that is told, or because there was nothing to see.
_TOLD: tuple[CheckStatus, ...] = ("missing", "warning")


def render(report: DoctorReport, console: Console, *, show_all: bool = False) -> None:
    """Print a report; readable at 80 columns and below, without colour, and in a pager."""
    page = Page(console)
    told: tuple[CheckStatus, ...] = (*_TOLD, "skipped", "ok") if show_all else _TOLD
    troubled = [area for area in AREAS if _of(report, area, told)]
    for number, area in enumerate(sorted(troubled, key=lambda area: _worst(report, area))):
        if number:
            page.blank()
        _area(page, report, area, told)
    fine = [area for area in AREAS if area not in troubled and _of(report, area, _REST)]
    if troubled and fine:
        page.blank()
    for area in fine:
        page.wrapped(f"{area}: {_fine(report, area)}", indent=2, first="")
    page.blank()
    page.wrapped(report.verdict, style="bold green" if report.well else "bold red")


def _of(report: DoctorReport, area: Area, statuses: Iterable[CheckStatus]) -> list[Check]:
    return [c for status in statuses for c in report.checks if (c.area, c.status) == (area, status)]


def _worst(report: DoctorReport, area: Area) -> int:
    statuses = {check.status for check in report.checks if check.area == area}
    return min(_TOLD.index(status) if status in _TOLD else len(_TOLD) for status in statuses)


def _area(page: Page, report: DoctorReport, area: Area, told: tuple[CheckStatus, ...]) -> None:
    page.line(Text(area, style="bold"))
    for group in _alike(_of(report, area, told)):
        _told(page, group)
    if _of(report, area, _REST) and "ok" not in told:
        page.wrapped(_fine(report, area), indent=4, first="  ok  ", style="dim")


def _alike(checks: list[Check]) -> list[list[Check]]:
    """Put the same fault of many hosts together: it is mended in one way."""
    groups: dict[tuple[str, ...], list[Check]] = {}
    for check in checks:
        # What is fine, or named after the host that it is about, stands alone.
        key = (check.name, check.status, check.said, check.mend)
        groups.setdefault(key, []).append(check)
    return list(groups.values())


def _told(page: Page, group: list[Check]) -> None:
    first = group[0]
    word, style = _LABELS[first.status]
    subjects = [check.subject for check in group]
    more = f" and {len(subjects) - _NAMED} more" if len(subjects) > _NAMED else ""
    who = ", ".join(subjects[:_NAMED]) + more
    title = f"{word}  {first.name} of {who}"
    if first.status in _REST and not first.hint:
        page.wrapped(f"{title}: {first.said}", indent=6, first="  ", style="dim")
        return
    page.wrapped(title, indent=6, first="  ", style=style)
    page.wrapped(_sentence(first.said), indent=6)
    if first.hint:
        ends = ":" if first.mend else "."
        page.wrapped(f"{_mends(first)}{first.hint.rstrip('.:')}{ends}", indent=6)
    for line in first.mend.splitlines():
        # Never wrapped: it is there to be copied.
        page.unwrapped(Text("          ").append(safe(line), style="bold cyan"))


def _mends(check: Check) -> str:
    return "Mend it: " if check.mend else "What to do: "


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."


def _fine(report: DoctorReport, area: Area) -> str:
    """Return how many of an area's checks are well, in the words of what they are about."""
    every = _of(report, area, ("missing", "warning", "ok"))
    skipped = len(_of(report, area, ("skipped",)))
    logins = [check for check in every if check.name == "login"]
    rest = [check for check in every if check.name != "login"]
    parts = (
        _count(logins, "answer"),
        _count(rest, _WORDS[area]),
        f"{skipped} not judged (--all says why)" if skipped else "",
    )
    return "; ".join(filter(None, parts))


_WORDS: dict[Area, str] = {
    "inventory": "services and databases are declared in full",
    "secrets": "lead to a value",
    "databases": "doors, rights and settings are well",
    "services": "units, gates and pools are well",
    "pgbouncers": "consoles answer",
    "hosts": "sudo rules are there",
}


def _count(checks: list[Check], words: str) -> str:
    well = sum(check.status == "ok" for check in checks)
    return f"{well} of {len(checks)} {words}" if checks else ""
