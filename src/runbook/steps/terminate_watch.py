"""Counts sessions that come straight back after a termination: a pool that refills."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from runbook.model.effects import AskDatabase, Effect, Now, Question, Say, Sleep, ask
from runbook.model.errors import DoorError
from runbook.model.units import format_duration
from runbook.steps.terminate_batches import LIMITS, SLOTS, Progress, timestamp

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from runbook.model.effects import Answers

#: Shares of the terminated sessions that came straight back (proposed in the facts, from how
#: pools behave): below the first they stay away; from the second on a pool refills.
_STAYED_AWAY, _CAME_BACK = 0.2, 0.8

#: Sessions that want slots again are told apart by these columns.
_GROUP = ("role", "database", "application_name", "client_addr")
#: Seen by the server's host, before or now, a session has no application_name to be told by.
_NAMELESS = ("role", "database", "client_addr")

_NEWCOMERS = """
SELECT coalesce(usename, '') AS role, coalesce(datname, '') AS database,
       coalesce(application_name, '') AS application_name,
       coalesce(host(client_addr), '') AS client_addr, count(*) AS sessions
  FROM pg_catalog.pg_stat_activity
 WHERE backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid()
   AND backend_start AT TIME ZONE 'UTC' > {since}
 GROUP BY 1, 2, 3, 4
"""


@dataclass(frozen=True, kw_only=True)
class Back:
    """Sessions that came back, by owner, and what that means."""

    verdict: Literal["stayed_away", "came_back", "partly_back", "not_watched"]
    owners: dict[str, dict[str, int]]
    after_s: float = 0.0
    trouble: str = ""


def watch(progress: Progress) -> Generator[Effect[Any], Any, Back]:
    """Count sessions that began after the termination, at each of the wanted moments."""
    back = Back(verdict="not_watched", owners={})
    waited = 0.0
    for moment in sorted(progress.args.watch) if progress.terminated else ():
        text = f"until {format_duration(moment)} after, for sessions that come straight back"
        yield from ask(Say(stage="watching", text=text))
        whole = yield from ask(Sleep(seconds=max(0.0, moment - waited), cut_short=True))
        if not whole:
            return back
        waited = moment
        try:
            back = yield from _count_back(progress, moment)
        except DoorError as error:
            return Back(
                verdict=back.verdict, owners=back.owners, after_s=moment, trouble=error.message
            )
        if back.verdict != "partly_back":
            break
    return back


def _count_back(progress: Progress, moment: float) -> Generator[Effect[Any], Any, Back]:
    newcomers = Question(
        name="newcomers", sql=_NEWCOMERS.format(since=timestamp(progress.before["at"]))
    )
    # Taken before the look, which may be slow: who connected meanwhile, before the first batch,
    # must not count as one that came back.
    since = (yield from ask(Now())) - progress.began
    answers = yield from ask(
        AskDatabase(database=progress.args.database, questions=(SLOTS, LIMITS, newcomers))
    )
    told = progress.look(answers)
    rows = _newcomers(answers, since)
    if rows is None or not told:
        raise DoorError("; ".join(answers.failed.values()))
    named = answers.processes is None and not any(
        session["backend_start"].startswith("ticks ") for session in progress.shown.values()
    )
    return _judge_back(progress, rows, _GROUP if named else _NAMELESS, moment)


def _newcomers(answers: Answers, since: float) -> list[dict[str, Any]] | None:
    """Return sessions that began since, one row a group; None when it was not told."""
    if answers.processes is None:
        return answers.rows.get("newcomers")
    return [
        {
            "role": process.role or "",
            "database": process.database or "",
            "application_name": "",
            "client_addr": process.client_addr or "",
            "sessions": 1,
        }
        for process in answers.processes.processes
        if process.kind == "client" and process.age_s < since
    ]


def _judge_back(
    progress: Progress,
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    moment: float,
) -> Back:
    """Compare newcomers with the terminated, group by group; what a group has beyond is its own."""
    gone = [progress.shown[pid] for pid in progress.terminated]
    new: Counter[tuple[Any, ...]] = Counter()
    for row in rows:
        new[tuple(row[key] for key in columns)] += row["sessions"]
    groups = Counter(tuple(session[key] or "" for key in columns) for session in gone)
    owner_of = {tuple(s[key] or "" for key in columns): s["owner"] for s in gone}
    owners: dict[str, dict[str, int]] = {}
    for group, count in groups.items():
        owner = owners.setdefault(owner_of[group], {"terminated": 0, "came_back": 0})
        owner["terminated"] += count
        owner["came_back"] += min(count, new.get(group, 0))
    share = sum(o["came_back"] for o in owners.values()) / len(gone)
    verdict: Literal["stayed_away", "came_back", "partly_back"] = "partly_back"
    if share < _STAYED_AWAY:
        verdict = "stayed_away"
    elif share >= _CAME_BACK:
        verdict = "came_back"
    return Back(verdict=verdict, owners=owners, after_s=moment)
