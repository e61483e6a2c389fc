"""Do clients wait at a PgBouncer while PostgreSQL has room?"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from runbook.findings import leaked_clients
from runbook.findings.finding_type import FindingType, Verdict
from runbook.findings.leak_proof import prove
from runbook.findings.leaked_clients import over, over_pool
from runbook.findings.words import age, common_statements, count, look_again, remediate, restart
from runbook.model.diagnosis import Finding

if TYPE_CHECKING:
    from runbook.findings.bouncers import Binding, Bouncer, Pool
    from runbook.findings.holders import Callers
    from runbook.findings.view import View
    from runbook.model.diagnosis import Confidence, Owner
    from runbook.model.sessions import Session

#: Groups of clients that are named in the evidence.
NAMED = 4
#: Percent more that a bound is raised to in the advice, where PostgreSQL has the slots.
RAISED = 150


def judge(view: View) -> Verdict | None:
    """The pool that makes most clients wait is named; a full PostgreSQL goes before it."""
    stuck = [(b, pool) for b in view.bouncers for pool in b.pools if pool.stuck]
    if not stuck:
        return None
    bouncer, pool = max(stuck, key=lambda pair: (pair[1].cl_waiting, pair[1].maxwait_s))
    held = _held(view, bouncer, pool)
    return Verdict(
        finding=_finding(view, bouncer, pool, held, more=len(stuck) - 1),
        weight="also" if view.saturated else "cause",
        concerns=frozenset(s.pid for s in held),
    )


def _held(view: View, bouncer: Bouncer, pool: Pool) -> list[Session]:
    """Return the sessions of this server that are a pool's server connections."""
    ports = {
        (server.pid, -1 if server.unix else server.local_port)
        for server in bouncer.servers
        if (server.database, server.user) == (pool.database, pool.user)
    }
    return [s for s in view.clients if (s.pid, s.client_port) in ports]


def _finding(
    view: View, bouncer: Bouncer, pool: Pool, held: list[Session], *, more: int
) -> Finding:
    owners = view.owners(held)
    return Finding(
        cause=FINDING.name,
        title=f"{_stuck(pool)} (PgBouncer {bouncer.name}, pool {pool.name})"
        + (f"; {count(more, 'other pool')} likewise" if more else ""),
        confidence=_confidence(pool),
        because=_because(view, pool),
        # What waits would be sessions if the pool let it: a long queue at a small pool matters.
        share=view.share(len(held) + pool.cl_waiting),
        evidence=_evidence(view, bouncer, pool, held),
        owners=owners,
        advice=_advice(view, bouncer, pool, held),
        command=_command(view, bouncer, pool, held, owners),
    )


def _stuck(pool: Pool) -> str:
    """Return what happens to the clients, and what binds them."""
    wait = f"{count(pool.cl_waiting, 'client')} wait{'s' if pool.cl_waiting == 1 else ''}"
    since = f"{wait} for a server connection, the first for {age(pool.maxwait_s)}"
    match pool.binding:
        case "disabled":
            return f"database {pool.database} is disabled: new clients are refused"
        case "paused":
            return f"{since}: database {pool.database} is paused"
        case "max_client_conn":
            return f"new clients are refused: all {pool.bound} of max_client_conn are in use"
        case "pool_size":
            most = count(pool.bound, "connection")
            return (
                f"{since}: its {most} ({pool.setting}) {'is' if pool.bound == 1 else 'are'} taken"
            )
        case "max_db_connections" | "max_user_connections":
            return f"{since}: {pool.setting} {pool.bound} is reached"
    untold = pool.binding == "untold"
    why = (
        "why, its console did not tell"
        if untold
        else "PgBouncer gets no further one from PostgreSQL"
    )
    return f"{since}: {why}"


def _confidence(pool: Pool) -> Confidence:
    unsure: dict[Binding | None, Confidence] = {"no_server": "likely", "untold": "weak"}
    return unsure.get(pool.binding, "certain")


def _because(view: View, pool: Pool) -> str:
    slots = view.slots
    room = f"PostgreSQL itself has {slots.free} of {slots.usable} slots free"
    if view.saturated:
        return f"PgBouncer's own count; but PostgreSQL is full as well ({slots.percent}%), which"
        " may be why"
    if pool.binding == "no_server":
        return (
            f"{room}, and no limit of PgBouncer's binds: its logins fail or take long, or all of it"
            " is paused, which its console does not tell"
        )
    if pool.binding == "untold":
        return f"{room}; which of PgBouncer's limits binds was not told, see what was not seen"
    return f"PgBouncer's own count; {room}"


def _evidence(view: View, bouncer: Bouncer, pool: Pool, held: list[Session]) -> tuple[str, ...]:
    use = (
        f"pool {pool.name}, {pool.mode} mode: {pool.servers} of"
        f" {count(pool.budget, 'server connection')}, {pool.sv_active} with a client;"
        f" {count(pool.cl_active, 'client')} active, {pool.cl_waiting} waiting"
    )
    lines = [use]
    lines += [f"waiting: {line}" for line in _waiting(view, pool)]
    if held:
        lines.append(f"the pool's sessions: {_states(held)}")
    if bouncer.full and pool.binding != "max_client_conn":
        lines.append(f"max_client_conn {bouncer.max_client_conn} is reached too: it refuses more")
    lines += [over(group) for group in over_pool(view, bouncer.name)]
    return tuple(lines) + tuple(f"last statement: {line}" for line in common_statements(held, 2))


def _waiting(view: View, pool: Pool) -> list[str]:
    """Return who waits at a pool, most first."""
    counted = [(_waits_at(group, pool), group.label) for group in view.callers]
    named = sorted((pair for pair in counted if pair[0]), key=lambda pair: -pair[0])
    return [f"{label} ({number})" for number, label in named[:NAMED]]


def _waits_at(group: Callers, pool: Pool) -> int:
    if group.bouncer != pool.bouncer:
        return 0
    return sum(
        c.waiting and (c.database, c.user) == (pool.database, pool.user) for c in group.clients
    )


def _states(held: list[Session]) -> str:
    """Return `3 active (longest 2m), 2 idle in transaction (longest 40s)`."""
    kinds = {
        "active": [s.query_age_s for s in held if s.state == "active"],
        "idle in transaction": [s.state_age_s for s in held if s.idle_in_transaction],
        "idle": [s.state_age_s for s in held if s.idle],
    }
    said = [
        f"{len(ages)} {kind} (longest {age(max(a or 0.0 for a in ages))})"
        for kind, ages in kinds.items()
        if ages
    ]
    hidden = sum(s.hidden for s in held)
    return ", ".join([*said, *([f"{hidden} hidden from our role"] if hidden else [])])


def _idling(pool: Pool, held: list[Session]) -> bool:
    """Whether clients without work keep most of a pool, which only session mode lets them."""
    return pool.mode == "session" and sum(s.idle for s in held) * 2 >= len(held) > 0


def _advice(view: View, bouncer: Bouncer, pool: Pool, held: list[Session]) -> str:
    match pool.binding:
        case "disabled":
            return (
                "Somebody has said DISABLE on its console. When that is over, an admin of PgBouncer"
                f" says ENABLE {pool.database}."
            )
        case "paused":
            return (
                "Somebody has said PAUSE or KILL on its console: make sure that no switchover or"
                f" restart is under way. Then an admin of PgBouncer says RESUME {pool.database}."
            )
        case "no_server" | "untold":
            return (
                "PgBouncer's log says why: a password, pg_hba.conf, a role's or a database's limit,"
                " an address. After a failed login it tries again every server_login_retry; if"
                " everything was paused, an admin of PgBouncer says RESUME."
            )
    return f"{_holders(view, bouncer, pool, held)} {_raise(view, pool)}"


def _holders(view: View, bouncer: Bouncer, pool: Pool, held: list[Session]) -> str:
    """Return what to do about those who have the connections."""
    if pool.binding == "max_client_conn":
        if groups := over_pool(view, bouncer.name):
            return f"{over(groups[0])}: it leaks them, and a restart gives them back."
        return "Clients without work count as well: see whose they are."
    silent = sum(s.idle_in_transaction for s in held)
    if silent * 2 >= len(held) > 0:
        return (
            f"{count(silent, 'transaction')} without a word keep the pool: end or restart whoever"
            " has begun them."
        )
    if _idling(pool, held):
        return (
            "In session mode a client keeps its server connection while it is idle. Ending such a"
            " session frees the slot, and not the client that took it: restart the service, or let"
            " the pool be in transaction mode."
        )
    return "Its connections are at work: shorter statements serve more clients than a larger pool."


def _raise(view: View, pool: Pool) -> str:
    """Return which setting to raise, as far as PostgreSQL has slots for it."""
    wanted = max(pool.bound + 1, pool.bound * RAISED // 100)
    if pool.binding == "max_client_conn":
        return f"To raise it: max_client_conn = {wanted}, then RELOAD; PostgreSQL holds no more."
    possible = min(wanted, pool.bound + view.slots.free * 8 // 10)
    if possible <= pool.bound:
        return "PostgreSQL has no slots for a larger pool."
    return (
        f"To raise it, where PostgreSQL has the slots: {pool.setting} = {possible} in PgBouncer's"
        " configuration, then RELOAD."
    )


def _command(
    view: View, bouncer: Bouncer, pool: Pool, held: list[Session], owners: tuple[Owner, ...]
) -> str:
    if pool.binding in {"disabled", "paused", "no_server", "untold"}:
        return console(view, bouncer.name, "SHOW DATABASES")
    if pool.binding == "max_client_conn":
        if groups := over_pool(view, bouncer.name):
            return leaked_clients.restart(view, groups[0])
        return console(view, bouncer.name, "SHOW CLIENTS")
    pids = {s.pid for s in held}
    if pids & {leaked.session.pid for leaked in prove(view, view.policy).sessions}:
        return remediate(view, "--terminate-idle")
    silent = sum(s.idle_in_transaction for s in held) * 2 >= len(held) > 0
    if silent or _idling(pool, held):
        return restart(view, owners)
    return look_again(view)


def console(view: View, name: str, command: str) -> str:
    """Return a psql command line for a PgBouncer's console, quoted for a POSIX shell."""
    bouncer = view.fleet.inventory.pgbouncers.get(name)
    if bouncer is None:
        return look_again(view)
    home = view.fleet.host(bouncer.host).address if bouncer.host else ""
    who = ["-h", bouncer.address or home, "-p", str(bouncer.port), "-U", bouncer.admin.user]
    return shlex.join(["psql", *who, "-d", bouncer.admin.dbname or "pgbouncer", "-c", command])


FINDING = FindingType(
    name="pooler-exhausted",
    summary="A PgBouncer lets clients wait, or refuses them, while PostgreSQL has room.",
    judge=judge,
    looks="Applications wait, then fail with `query_wait_timeout`, with `no more connections"
    " allowed (max_client_conn)`, with `server login has been failing`, or with a time-out of their"
    " own; PostgreSQL's own connections are few, and none of its limits is reached.",
    told_apart="PgBouncer's console says so: clients have waited for a second or longer, and the"
    " pool holds as many server connections as pool_size (with its reserve), max_db_connections or"
    " max_user_connections let it; or its database is paused or disabled; or max_client_conn is"
    " reached; or it gets no server connection at all. When 90% of PostgreSQL's slots are in use,"
    " that is the cause, and the queue at PgBouncer follows from it. When half of the pool's"
    " sessions are part of a lock pile-up, that is the cause. In any other case the queue counts"
    " with the sessions: how many slots it would fill.",
    remedy="Look at what holds the pool. Silent transactions and, in session mode, idle clients:"
    " restart the service that they belong to, which the finding names: it looks through PgBouncer."
    " Statements at work: make them shorter, or raise the bound that is named, as far as PostgreSQL"
    " has slots. For good: transaction mode, and pools of the applications that are no larger than"
    " they need. Ending an idle session of PgBouncer's own pool frees a slot, and cures nothing.",
)
