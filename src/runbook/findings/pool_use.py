"""What a server's pools hold: counted several times over a window, then looked at once in full."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from runbook.findings import app_hosts, pool_rates, pool_sample, pooler
from runbook.findings import snapshot as snapshots
from runbook.findings import unseen as gaps
from runbook.findings.bearers import bearers
from runbook.findings.bouncers import server_of
from runbook.findings.examination import WITHIN_S
from runbook.findings.orphans import QUESTION as SERVER_ADDRESS
from runbook.findings.pool_seen import Looks, Seen, holders_in, see, through_bouncers
from runbook.findings.pools_over_budget import behind_pgbouncer
from runbook.findings.view import View
from runbook.findings.witness import Told
from runbook.model.effects import AskDatabase, Drive, Now, Say, Sleep, Together, ask
from runbook.model.errors import DoorError
from runbook.model.pool_facts import (
    BouncerUse,
    HostUse,
    OtherUse,
    PoolFacts,
    ProcessUse,
    ServerFacts,
    ServiceUse,
)
from runbook.model.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runbook.findings.holders import Holder
    from runbook.findings.pool_sample import Numbers, Sample
    from runbook.model.effects import Answers, Observe, Question
    from runbook.model.fleet import Fleet
    from runbook.model.sessions import Snapshot

#: Seconds between two counts: a pool under load opens and gives back within less, and a count of
#: 5,000 sessions costs the server some 20 ms.
INTERVAL_S = 0.5
#: Counts at most: over a long window they are further apart.
MOST_SAMPLES = 60
#: Groups of strangers that are told by name; the rest is summed up.
MOST_OTHERS = 20


@dataclass(frozen=True, kw_only=True)
class _Window:
    """What was seen over the window: the first and the last answers, and the counts between."""

    first: Answers
    last: Answers
    samples: tuple[Sample, ...]
    seconds: float
    #: How often the server was asked from the first answers to the last ones.
    asked: int
    #: Why a count is missing.
    missed: str = ""


def pool_use(
    database: str, fleet: Fleet, *, window_s: float, hosts: bool = True
) -> Drive[PoolFacts]:
    """Count over a window, then ask who is who; see `runbook.model.ports.Judge.pool_use`.

    Raises (through the drive):
        DoorError: when no rung of the ladder lets us in, at the first look or at the last.
        DatabaseError: when who is connected, or how many may be, was not answered.
    """
    window = yield from _watch(database, window_s)
    snapshot = snapshots.assemble(database, window.last)
    snapshot = yield from _hear(snapshot, fleet, hosts=hosts)
    return _facts(View(snapshot=snapshot, fleet=fleet), window)


# ---- looking -------------------------------------------------------------------------------


def _watch(database: str, window_s: float) -> Drive[_Window]:
    """Count every half second; the last look is a full one, and counts as well."""
    full = (*snapshots.NEEDED, SERVER_ADDRESS, pool_rates.DATABASES, pool_rates.EXTENSION)
    if window_s <= 0:
        last = yield from _look(database, *full)
        return _Window(first=last, last=last, samples=(), seconds=0.0, asked=0)
    text = f"the connections of {database}, for {format_duration(window_s)}"
    yield from ask(Say(stage="counting", text=text))
    looks = max(1, min(MOST_SAMPLES, round(window_s / INTERVAL_S)))
    started = yield from ask(Now())
    begin = (pool_sample.QUESTION, pool_rates.DATABASES, pool_rates.EXTENSION)
    first = yield from _look(database, *begin)
    # The statements of each role are counted from the second look on: only then is it known how.
    statements = pool_rates.statements_question(first)
    also = () if statements is None else (statements,)
    numbers: Numbers = {}
    samples, missed = [pool_sample.sample_from(database, first, numbers)], ""
    pause = Sleep(seconds=window_s / looks, cut_short=True)
    while (yield from ask(pause)) and len(samples) < looks:
        try:
            counted = yield from _look(database, pool_sample.QUESTION, *also)
        except DoorError as error:
            missed = error.message
            samples.append(None)
            continue
        samples.append(pool_sample.sample_from(database, counted, numbers))
        first, also = (_merged(first, counted), ()) if also else (first, also)
    last = yield from _look(database, *full, *filter(None, (statements,)))
    ended = yield from ask(Now())
    return _Window(
        first=first,
        last=last,
        samples=tuple(sample for sample in samples if sample is not None),
        seconds=round(ended - started, 1),
        asked=len(samples),
        missed=missed or first.failed.get(pool_sample.QUESTION.name, ""),
    )


def _look(database: str, *questions: Question) -> Drive[Answers]:
    return (yield from ask(AskDatabase(database=database, questions=questions)))


def _merged(first: Answers, second: Answers) -> Answers:
    """Return the first answers with what the second look asked besides."""
    return replace(
        first, rows={**second.rows, **first.rows}, failed={**second.failed, **first.failed}
    )


def _hear(snapshot: Snapshot, fleet: Fleet, *, hosts: bool) -> Drive[Snapshot]:
    """Ask PgBouncers whose connections theirs are, and the hosts which process has which."""
    view = View(snapshot=snapshot, fleet=fleet)
    consoles: tuple[Observe[Any], ...] = pooler.WITNESS.looks(view)
    sockets: tuple[Observe[Any], ...] = app_hosts.whoever_holds(view) if hosts else ()
    if not consoles and not sockets:
        return snapshot
    every = (*consoles, *sockets)
    outcomes = yield from ask(Together(effects=every, within_s=WITHIN_S))
    told = tuple(Told(look, outcome) for look, outcome in zip(every, outcomes, strict=True))
    snapshot = pooler.WITNESS.take(snapshot, told[: len(consoles)])
    return app_hosts.take(snapshot, told[len(consoles) :])


# ---- counting ------------------------------------------------------------------------------


def _facts(view: View, window: _Window) -> PoolFacts:
    snapshot = view.snapshot
    now = see(pool_sample.one_by_one(snapshot.rung, view.clients), view.holders)
    bounced = through_bouncers(view.holders)
    every = [*_counted(view, window.samples, bounced), now]
    limits_ = snapshot.limits
    return PoolFacts(
        database=view.target,
        at=limits_.server_time,
        window_s=window.seconds,
        samples=len(every),
        server=ServerFacts(
            version_num=limits_.version_num,
            max_connections=limits_.max_connections,
            superuser_reserved=limits_.superuser_reserved,
            reserved=limits_.reserved,
            superuser_sessions=snapshot.superusers,
            in_recovery=limits_.in_recovery,
            used=now.used,
            peak=max(seen.used for seen in every),
        ),
        services=tuple(_services(view, every, window)),
        others=tuple(_others(every)),
        bouncers=tuple(_bouncers(view)),
        behind_bouncer=tuple(sorted(behind_pgbouncer(view))),
        unseen=tuple(dict.fromkeys(_unseen(view, every, window))),
    )


def _counted(view: View, samples: tuple[Sample, ...], bounced: frozenset[Looks]) -> Iterator[Seen]:
    """Attribute the counts: those by the same door at one go, as most groups are in all of them."""
    known: dict[str, tuple[Holder, ...]] = {}
    for sample in samples:
        if sample.rung == "os":  # process ids, which are not the same sessions' in each
            yield see(sample, holders_in(sample, view.snapshot, view.fleet), bounced)
            continue
        if sample.rung not in known:
            alike = pool_sample.together(s for s in samples if s.rung == sample.rung)
            known[sample.rung] = holders_in(alike, view.snapshot, view.fleet)
        yield see(sample, known[sample.rung], bounced)


def _services(view: View, every: list[Seen], window: _Window) -> Iterator[ServiceUse]:
    rates = pool_rates.rates(window.first, window.last, window.asked)
    processes = _processes(view)
    for service in dict.fromkeys(seat.service for seat in view.seats):
        blind = any(seen.blind[service] for seen in every)
        busy = [seen.busy[service] for seen in every]
        statements, ms = _statements(service, every, rates)
        yield ServiceUse(
            service=service,
            now=every[-1].services[service],
            peak=max(seen.services[service] for seen in every),
            busy_mean=None if blind else round(sum(busy) / len(busy), 2),
            busy_peak=None if blind else max(busy),
            rate_per_s=_transactions(service, every, rates),
            statements_per_s=statements,
            statement_ms=ms,
            hosts=tuple(_hosts(view, service, every, processes)),
        )


def _hosts(
    view: View, service: str, every: list[Seen], processes: dict[tuple[str, str], list[ProcessUse]]
) -> Iterator[HostUse]:
    if any(service in seen.blurred for seen in every):
        return
    for host in (seat.host.name for seat in view.seats if seat.service == service):
        yield HostUse(
            host=host,
            now=every[-1].hosts[service, host],
            peak=max(seen.hosts[service, host] for seen in every),
            processes=tuple(processes.get((service, host), ())),
        )


def _processes(view: View) -> dict[tuple[str, str], list[ProcessUse]]:
    """Return which processes hold a service's own sessions, by service and host; most first."""
    found: dict[tuple[str, str], Counter[tuple[int, str]]] = {}
    for holder in view.holders:
        if holder.service is None or holder.bouncer:
            continue
        for process in (bearer.process for bearer in bearers(view, holder)):
            held = found.setdefault((holder.service, process.host), Counter())
            held[process.pid, process.name] += process.sessions
    return {
        place: [ProcessUse(pid=pid, name=name, now=n) for (pid, name), n in held.most_common()]
        for place, held in found.items()
    }


def _own(what: str, service: str, every: list[Seen]) -> set[str] | None:
    """Return a service's databases, or roles; None where another service has one of them, too."""
    mine: set[str] = set()
    others: set[str] = set()
    for seen in every:
        for name, words in getattr(seen, what).items():
            (mine if name == service else others).update(words)
    return mine if mine and not mine & others else None


def _transactions(service: str, every: list[Seen], rates: pool_rates.Rates) -> float | None:
    own = _own("databases", service, every)
    if own is None or not own <= rates.transactions.keys():
        return None
    return round(sum(rates.transactions[name] for name in own), 2)


def _statements(
    service: str, every: list[Seen], rates: pool_rates.Rates
) -> tuple[float | None, float | None]:
    """Return a service's statements in a second, and the mean milliseconds of one."""
    own = _own("roles", service, every)
    told = [rates.statements[name] for name in own or () if name in rates.statements]
    if not told:
        return None, None
    calls, ms = (sum(pair) for pair in zip(*told, strict=True))
    return round(calls, 2), round(ms / calls, 3) if calls else None


def _others(every: list[Seen]) -> Iterator[OtherUse]:
    peaks: Counter[str] = Counter()
    for seen in every:
        peaks |= seen.others
    now = every[-1].others
    named = [label for label, _ in peaks.most_common(MOST_OTHERS)]
    for label in named:
        yield OtherUse(label=label, now=now[label], peak=peaks[label])
    rest = peaks.keys() - set(named)
    if rest:
        peak = max(sum(seen.others[label] for label in rest) for seen in every)
        here = sum(now[label] for label in rest)
        yield OtherUse(label=f"{len(rest)} others", now=here, peak=peak)


def _bouncers(view: View) -> Iterator[BouncerUse]:
    """Yield each pool, with as many connections as PostgreSQL itself has of it."""
    found = server_of(view.bouncers)
    links = {
        (bouncer.name, server.ptr): (server.database, server.user)
        for bouncer in view.bouncers
        for server in bouncer.servers
    }
    held: Counter[tuple[str, str, str]] = Counter()
    for session in view.clients:
        key = found.get((session.pid, session.client_port or 0))
        if key is not None:
            bouncer, ptr = key
            held[bouncer.name, *links[bouncer.name, ptr]] += 1
    for bouncer in view.bouncers:
        for pool in bouncer.pools:
            yield BouncerUse(
                bouncer=bouncer.name,
                pool=pool.name,
                budget=pool.budget,
                now=held[bouncer.name, pool.database, pool.user],
                clients=pool.cl_active + pool.cl_waiting,
                waiting=pool.cl_waiting,
            )


# ---- what was not seen ---------------------------------------------------------------------


def _unseen(view: View, every: list[Seen], window: _Window) -> Iterator[str]:
    yield from gaps.by_rung(view)
    yield from gaps.by_role(view)
    if window.missed:
        yield f"some counts are missing, so a peak may be higher: {window.missed}"
    yield from _hidden_work(view, every)
    for service in sorted(set().union(*(seen.blurred for seen in every))):
        yield (
            f"the sessions of {service} cannot be told apart by host: give each host's an"
            " application_name of its own, as in shop-${host.name}"
        )
    database = view.database
    dbname = database.connect.dbname if database else "?"
    role = view.snapshot.limits.role
    if window.samples:
        yield from pool_rates.unseen(window.first, window.last, role, dbname)
    yield from app_hosts.unseen(view)
    yield from (
        f"PgBouncer {look.name}: {look.error}" for look in view.snapshot.poolers if look.error
    )
    yield from view.notes


def _hidden_work(view: View, every: list[Seen]) -> Iterator[str]:
    """Tell of services whose sessions may be at work or idle; a missing grant is told already."""
    if view.hidden or view.snapshot.rung == "os":
        return
    blind = sorted({name for seen in every for name, count in seen.blind.items() if count})
    if blind:
        yield (
            f"whether sessions of {', '.join(blind)} are at work is not told: track_activities is"
            " off for them, or they are logging in"
        )
