"""A diagnosis for people: the answer first, the one command to run next last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from runbook.model.units import format_duration
from runbook.rendering.page import Page
from runbook.rendering.poolers import pooler_lines
from runbook.rendering.safe import safe
from runbook.rendering.slots import bar, legend

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from runbook.model.diagnosis import Diagnosis, Finding, PoolUse, Since, SlotUse

#: Owners that are listed; those beyond are summed up, and `--format json` has them all.
OWNERS_SHOWN = 10
#: Owners whose sessions became more or fewer that are named.
OWNERS_CHANGED = 3
#: Processes that are listed: enough to see which one stands out.
PROCESSES_SHOWN = 5
#: Below this many columns, a table becomes a list.
NARROW = 60

#: What the sessions that a finding speaks of are called in the table of owners.
_CONCERNED = {
    "leaked-sessions": "leaked",
    "idle-in-transaction": "silent",
    "lock-pile-up": "in queue",
    "slow-queries": "slow",
    "surge": "at work",
}

#: The doors that let us in where the ordinary one did not, and what that means.
_DOORS = {
    "admin": "through the admin door: a slot reserved for superusers",
    "local": "through the local door: the server's own socket, over SSH",
    "rescue": "through the rescue door: a walsender's slot",
    "os": "through the os door: the processes of its host, without a connection",
}

#: One row of the table: whose, sessions, pool, concerned, and the longest idle time.
Row = tuple[str, str, str, str, str]


def render(diagnosis: Diagnosis, console: Console) -> None:
    """Print a diagnosis; readable at 80 columns and below, without colour, and in a pager."""
    page = Page(console)
    _answer(page, diagnosis)
    _slots(page, diagnosis)
    _whose(page, diagnosis)
    page.bullets("Processes", process_lines(diagnosis.finding))
    page.bullets("Evidence", diagnosis.finding.evidence)
    page.bullets("PgBouncer", pooler_lines(diagnosis))
    page.bullets("Also", (_also(f, diagnosis.finding) for f in diagnosis.also))
    page.bullets("Less likely", (f"{f.title}: {f.because}" for f in diagnosis.runners_up))
    page.bullets("Not seen", diagnosis.unseen)
    _next(page, diagnosis.finding)


def _answer(page: Page, diagnosis: Diagnosis) -> None:
    finding = diagnosis.finding
    page.wrapped(sentence(finding.title), style="bold green" if diagnosis.healthy else "bold red")
    page.wrapped(
        f"{finding.cause} on {diagnosis.target}, {sure(finding)}: {finding.because}", style="dim"
    )
    if diagnosis.replayed_from is not None:
        page.wrapped(replayed(diagnosis), style="yellow")


def replayed(diagnosis: Diagnosis) -> str:
    """Return that this is no live look, and of when it is."""
    return (
        f"Replayed from {diagnosis.replayed_from}, seen at {diagnosis.server.server_time}:"
        " nothing was asked now"
    )


def sentence(text: str) -> str:
    """Return text with a capital first letter, as a title has."""
    return text[:1].upper() + text[1:] if not text[:2].isupper() else text


def sure(finding: Finding) -> str:
    """Return how sure a finding is, in words."""
    words = {
        "certain": "certain",
        "strong": "strong evidence",
        "likely": "likely",
        "weak": "a hint only",
    }
    return words[finding.confidence]


def _slots(page: Page, diagnosis: Diagnosis) -> None:
    slots = diagnosis.slots
    page.blank()
    page.line(Text(f"{slots.used} of {slots.usable} slots in use ({slots.percent}%)", style="bold"))
    width = min(page.width, 80) - 2
    page.line(Text("  ").append_text(bar(diagnosis, width, unicode=page.unicode)))
    page.flowed(legend(diagnosis, unicode=page.unicode))
    page.wrapped(_arithmetic(slots), indent=2, style="dim")
    page.wrapped(_server(diagnosis), indent=2, style="dim")
    for refusal in diagnosis.server.refusals:
        rung, _, said = refusal.partition(": ")
        page.wrapped(f"{rung} door, tried before: {said}", indent=4, first="  - ", style="dim")
    if diagnosis.since is not None:
        page.blank()
        page.wrapped(since_line(diagnosis, diagnosis.since), indent=2, first="")
        for note in diagnosis.since.notes:
            page.wrapped(f"since then: {note}", indent=2)


def _arithmetic(slots: SlotUse) -> str:
    """Return how the usable slots come about: only what is not 0 is subtracted."""
    terms = [f"max_connections {slots.max_connections}"]
    taken = (
        (slots.superuser_reserved, "reserved for superusers"),
        (slots.reserved, "reserved_connections"),
        (slots.superuser_sessions, "held by superusers"),
    )
    terms += [f"{number} {words}" for number, words in taken if number]
    return f"{' - '.join(terms)} = {slots.usable} usable"


def _server(diagnosis: Diagnosis) -> str:
    server = diagnosis.server
    standby = ", a standby" if server.in_recovery else ""
    door = f", {_DOORS[server.rung]}" if server.rung in _DOORS else ""
    took = server.connect_ms + server.query_ms
    version = server.version.split(" ")[0] or "of unknown version"
    return f"PostgreSQL {version}{standby}, seen at {server.server_time} in {took:.0f} ms{door}"


def since_line(diagnosis: Diagnosis, since: Since) -> str:
    """Return what changed in one line: `Since 02:11Z (6m 00s ago): slots 61 -> 97; …`."""
    slots, cause = diagnosis.slots, diagnosis.finding.cause
    said = [
        f"slots {since.used} -> {slots.used}"
        if since.used != slots.used
        else f"still {slots.used} slots in use",
        f"{since.cause} then, {cause} now" if since.cause != cause else f"{cause} then as well",
    ]
    grown = [f"{change.owner} {change.grown:+d}" for change in since.owners[:OWNERS_CHANGED]]
    if grown:
        said.append(", ".join(grown))
    return f"Since {_when(diagnosis, since)}: {'; '.join(said)}"


def _when(diagnosis: Diagnosis, since: Since) -> str:
    """Return `02:11Z (6m 00s ago)`; of another day, the date as well."""
    day, _, clock = since.server_time.partition("T")
    same_day = diagnosis.server.server_time.startswith(day)
    at = f"{clock[:5]}Z" if same_day and clock else since.server_time
    return at if since.seconds is None else f"{at} ({format_duration(since.seconds)} ago)"


def _whose(page: Page, diagnosis: Diagnosis) -> None:
    rows = list(_rows(diagnosis))
    others = sum(count.sessions for count in diagnosis.by_state) - sum(int(row[1]) for row in rows)
    if rows and others > 0:
        rows.append(("everyone else", str(others), "", "", ""))
    if not rows:
        return
    heads = ("Whose", "sessions", "pool", _CONCERNED.get(diagnosis.finding.cause, ""), "idle for")
    shown, rest = rows[:OWNERS_SHOWN], rows[OWNERS_SHOWN:]
    page.blank()
    if page.width < NARROW:
        page.bullets("Whose", (_listed(heads, row) for row in shown), blank=False)
    else:
        page.table(heads, shown)
    if rest:
        held = sum(int(row[1]) for row in rest)
        page.wrapped(
            f"and {len(rest)} more with {held} sessions (--format json lists all)", indent=2
        )


def _rows(diagnosis: Diagnosis) -> Iterable[Row]:
    """Yield the finding's owners, then the other pools that hold sessions."""
    pools = {(pool.service, pool.host, pool.pgbouncer): pool for pool in diagnosis.pools}
    for owner in diagnosis.finding.owners:
        pool = pools.pop((owner.service or "", owner.host or "", owner.pgbouncer), None)
        label = owner.label
        if not owner.service and owner.role:
            label += f", role {owner.role}"
        concerned = str(owner.concerned) if diagnosis.finding.cause in _CONCERNED else ""
        yield (label, str(owner.sessions), _number(owner.budget), concerned, _oldest(pool))
    for pool in sorted(pools.values(), key=lambda pool: -pool.sessions):
        if pool.sessions:
            through = f" through {pool.pgbouncer}" if pool.pgbouncer else ""
            label = f"{pool.service} on {pool.host}{through}"
            yield (label, str(pool.sessions), _number(pool.budget), "", _oldest(pool))


def process_lines(finding: Finding) -> Iterable[str]:
    """Yield the processes that hold most of the sessions of a finding's owners, a line each."""
    held = [process for owner in finding.owners for process in owner.processes]
    held.sort(key=lambda process: -process.sessions)
    for process in held[:PROCESSES_SHOWN]:
        may = "" if process.budget is None else f", may open {process.budget}"
        sessions = f"{process.sessions} session{'' if process.sessions == 1 else 's'}"
        yield f"{process.host}: {process.label}: {sessions}{may}"


def _number(value: int | None) -> str:
    return "?" if value is None else str(value)


def _oldest(pool: PoolUse | None) -> str:
    if pool is None or pool.oldest_idle_s is None:
        return ""
    return format_duration(pool.oldest_idle_s)


def _listed(heads: Row, row: Row) -> str:
    """Return one row as a sentence, for narrow terminals."""
    said = [
        f"{head} {cell}" for head, cell in zip(heads[1:], row[1:], strict=True) if head and cell
    ]
    return f"{row[0]}: {', '.join(said)}"


def _also(finding: Finding, cause: Finding) -> str:
    """Return another finding in a line or two, with its own remedy where it has one."""
    remedy = finding.command if finding.command != cause.command else None
    return f"{finding.title} [{finding.confidence}]" + (f"; then: {remedy}" if remedy else "")


def _next(page: Page, finding: Finding) -> None:
    if finding.advice:
        page.heading("What to do")
        page.wrapped(finding.advice, indent=2)
    if finding.command:
        page.heading("Next")
        # Never wrapped: it is there to be copied.
        page.unwrapped(Text("  ").append(safe(finding.command), style="bold cyan"))
