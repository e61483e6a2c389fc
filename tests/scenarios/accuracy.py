"""The accuracy table: what was right, by version, by cause and by scenario."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from scenarios.scenario import Judged, Kind, Scenario

_ABOUT = """\
# Accuracy

How often `runbook diagnose` is right, and whether `runbook remediate --terminate-idle` would ever
end a session that somebody needs. `make scenarios` plays every incident of `tests/scenarios/` on
real PostgreSQL servers with real clients (SQLAlchemy, psycopg_pool, asyncpg, Django,
node-postgres, pgbench, psql, pg_dump, pg_receivewal, PgBouncer), diagnoses each as the command
does, and writes this page.

- **The truth comes from the clients.** Each tells the backend pids of the connections that its code
  has lost. Every other session on the server is healthy, whatever it looks like.
- **Hours are not waited for.** States, statements, locks, refusals and PgBouncer's queues are the
  server's own; then the sessions that a scenario names are made older in the snapshot, as if they
  had stayed as they are for longer, before it is judged.
- **One machine plays all hosts.** They are told apart by application_name, as services are declared
  in the inventory, and are not looked into. Where a scenario says that app hosts tell, each is a
  network namespace with an address of its own, and is asked for its sockets there.

The columns: *cause right*: the expected cause is named first. *further right*: what else has to be
named is named, in order, and nothing else. *owner right*: the service and host at fault, where
somebody is. *proved*: of the sessions that clients have lost, those that would be terminated; to
leave some of them is caution (each pool keeps a floor, and up to its declared size). **healthy
killed**: sessions that would be terminated and were not lost. It must be 0, else `make scenarios`
fails.
"""

_COLUMNS = (
    "scenarios",
    "cause right",
    "further right",
    "owner right",
    "lost sessions",
    "proved",
    "healthy sessions",
    "healthy killed",
)
_KINDS: dict[Kind, str] = {
    "cause": "One thing is wrong",
    "lookalike": "Nothing is wrong, and it looks as if",
    "mixture": "Several things at once",
}


def line(one: Judged) -> str:
    """Return one scenario's result for the progress on stderr."""
    what = f"{one.version} {one.scenario}: "
    if one.skipped:
        return f"{what}skipped: {one.skipped}"
    if one.failed:
        return f"{what}NOT JUDGED: {one.failed}"
    also = f" also {', '.join(one.also)}" if one.also else ""
    return (
        f"{what}{'ok' if one.right else 'WRONG'}: {one.cause}{also}; {one.owner or 'nobody'};"
        f" {one.rung}; proved {one.proved} of {one.lost}, killed {one.killed} of {one.healthy}"
    )


def page(judged: Sequence[Judged], scenarios: Sequence[Scenario]) -> str:
    """Return the whole page; the same results give the same text."""
    ran = [one for one in judged if not one.skipped]
    parts = [
        _ABOUT,
        _summary(judged),
        "## By PostgreSQL version\n",
        _table("version", _groups(ran, lambda one: one.version, _versions(judged)), ran),
        "## By cause\n",
        _table("cause", _groups(ran, lambda one: one.expected, _causes(scenarios)), ran),
        *_scenarios(judged, scenarios),
        *_wrong(judged, scenarios),
        *_skipped(judged),
    ]
    return "\n".join(parts)


def _summary(judged: Sequence[Judged]) -> str:
    ran = [one for one in judged if not one.skipped]
    right = sum(one.right for one in ran)
    return (
        f"{right} of {len(ran)} diagnoses right in everything; {sum(o.killed for o in ran)} of"
        f" {sum(o.healthy for o in ran)} healthy sessions would be terminated;"
        f" {len(judged) - len(ran)} runs skipped.\n"
    )


def _versions(judged: Iterable[Judged]) -> list[str]:
    return sorted({one.version for one in judged}, key=int)


def _causes(scenarios: Sequence[Scenario]) -> list[str]:
    return list(dict.fromkeys(scenario.cause for scenario in scenarios))


def _groups(
    ran: Sequence[Judged], key: Callable[[Judged], str], names: Iterable[str]
) -> list[tuple[str, list[Judged]]]:
    grouped = [(name, [one for one in ran if key(one) == name]) for name in names]
    return [(name, members) for name, members in grouped if members]


def _table(
    first: str, groups: Sequence[tuple[str, Sequence[Judged]]], ran: Sequence[Judged]
) -> str:
    rows = [(name, *_counts(members)) for name, members in groups]
    rows.append(("all", *_counts(ran)))
    return _markdown((first, *_COLUMNS), rows)


def _counts(members: Sequence[Judged]) -> tuple[str, ...]:
    owned = [one for one in members if one.owner_right is not None]
    lost = sum(one.lost for one in members)
    return (
        str(len(members)),
        _of(sum(one.cause_right for one in members), len(members)),
        _of(sum(one.also_right for one in members), len(members)),
        _of(sum(one.owner_right is True for one in owned), len(owned)),
        str(lost),
        _of(sum(one.proved for one in members), lost),
        str(sum(one.healthy for one in members)),
        str(sum(one.killed for one in members)),
    )


def _of(part: int, whole: int) -> str:
    return f"{part} ({part * 100 // whole}%)" if whole else "-"


def _scenarios(judged: Sequence[Judged], scenarios: Sequence[Scenario]) -> list[str]:
    parts = ["## By scenario\n", "Each cell counts PostgreSQL versions.\n"]
    for kind, title in _KINDS.items():
        rows = [
            _scenario(scenario, [one for one in judged if one.scenario == scenario.name])
            for scenario in scenarios
            if scenario.kind == kind
        ]
        header = ("scenario", "what happens", "cause", "right", "proved", "healthy killed")
        parts += [f"### {title}\n", _markdown(header, [row for row in rows if row])]
    return parts


def _scenario(scenario: Scenario, judged: Sequence[Judged]) -> tuple[str, ...]:
    if not judged:
        return ()
    ran = [one for one in judged if not one.skipped]
    right = f"{sum(one.right for one in ran)} of {len(ran)}" if ran else "skipped"
    lost = sum(one.lost for one in ran)
    causes = ", ".join((f"**{scenario.cause}**", *scenario.also))
    proved = _of(sum(one.proved for one in ran), lost)
    killed = str(sum(one.killed for one in ran)) if ran else "-"
    return (scenario.name, scenario.says, causes, right, proved, killed)


def _wrong(judged: Sequence[Judged], scenarios: Sequence[Scenario]) -> list[str]:
    """List what is wrong, once for all versions on which it is wrong in the same way."""
    lines: list[str] = []
    for scenario in scenarios:
        here = [one for one in judged if one.scenario == scenario.name]
        ways = Counter[str]()
        for one in sorted(here, key=lambda one: int(one.version)):
            if not one.right and not one.skipped:
                ways[_how(one)] += 1
        lines += [f"- {scenario.name} ({_times(n)}): {how}" for how, n in ways.items()]
    return ["## What is wrong\n", "\n".join(lines) + "\n"] if lines else []


def _how(one: Judged) -> str:
    if one.failed:
        return f"not judged: {one.failed}"
    said = [f"said {', '.join((one.cause, *one.also))}"]
    if one.owner_right is False:
        said.append("named another owner")
    if one.killed:
        said.append("would terminate healthy sessions")
    return "; ".join(said)


def _times(versions: int) -> str:
    return f"on {versions} version{'s' if versions > 1 else ''}"


def _skipped(judged: Sequence[Judged]) -> list[str]:
    reasons: dict[str, set[str]] = {}
    for one in judged:
        if one.skipped:
            reasons.setdefault(one.skipped, set()).add(one.scenario)
    lines = [f"- {why}: {', '.join(sorted(names))}" for why, names in sorted(reasons.items())]
    return ["## What was skipped\n", "\n".join(lines) + "\n"] if lines else []


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines) + "\n"
