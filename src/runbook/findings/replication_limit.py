"""Are the walsenders or the replication slots used up?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runbook.findings.finding_type import FindingType, Verdict
from runbook.findings.refusals import refused_walsender
from runbook.findings.words import age, bytes_words, count, psql
from runbook.model.diagnosis import Finding, Owner
from runbook.model.effects import Question

if TYPE_CHECKING:
    from runbook.findings.view import View

#: Evidence names this many slots and senders.
NAMED = 4

# One row a sender, seen by every role (details of others' are NULL without pg_read_all_stats).
SENDERS = Question(
    name="walsenders",
    sql="""
SELECT pid, application_name, usename::text AS role, host(client_addr) AS client_addr, state,
       pid = pg_backend_pid() AS ours
  FROM pg_stat_replication""",
)

# The row as JSON: `wal_status` came with 13, `inactive_since` with 17. A standby has no current WAL
# position; what it has replayed takes its place.
SLOTS = Question(
    name="replication-slots",
    sql="""
SELECT current_setting('max_replication_slots')::int AS most,
       slot_name::text AS name, slot_type::text AS kind, active,
       coalesce(to_jsonb(s)->>'synced', 'false') = 'true' AS synced,
       to_jsonb(s)->>'wal_status' AS wal_status,
       pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                            ELSE pg_current_wal_lsn() END, restart_lsn)::float8 AS retained,
       extract(epoch FROM clock_timestamp()
         - (to_jsonb(s)->>'inactive_since')::timestamptz)::float8 AS inactive_s
  FROM pg_replication_slots s""",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Use:
    """One of the two limits: how many it allows, and how many are taken by others than us."""

    what: str
    setting: str
    most: int
    used: int

    @property
    def full(self) -> bool:
        return self.used >= self.most > 0

    @property
    def words(self) -> str:
        return f"{self.used} of {self.most} {self.what} ({self.setting})"


def judge(view: View) -> Verdict | None:
    """A standby that is refused is no saturation: the table lets every other cause come first."""
    senders, slots = _senders(view), _slots(view)
    full = [use for use in (senders, slots) if use.full]
    # All slots in active use are a server sized to its standbys; an abandoned one is a fault.
    if not full or (not senders.full and not _abandoned(view)):
        return None
    return Verdict(finding=_finding(view, full), weight="cause")


def _senders(view: View) -> _Use:
    rows = view.snapshot.extra.get(SENDERS.name)
    most = view.snapshot.limits.max_wal_senders
    processes = view.snapshot.processes
    if rows is not None:
        # Entered by the rescue door, we are a walsender ourselves, and leave at once.
        used = sum(not row["ours"] for row in rows)
    elif view.snapshot.rung == "os" and processes is not None:
        used = sum(p.kind == "walsender" for p in processes.processes)
    else:
        used = 0
    if refused_walsender(view.snapshot):
        used = max(used, most)
    return _Use(what="walsenders", setting="max_wal_senders", most=most, used=used)


def _slots(view: View) -> _Use:
    rows = view.snapshot.extra.get(SLOTS.name) or []
    most = rows[0]["most"] if rows else 0
    return _Use(
        what="replication slots", setting="max_replication_slots", most=most, used=len(rows)
    )


def _abandoned(view: View) -> list[dict[str, Any]]:
    """Return the slots that nobody uses, those that retain most first.

    A standby's copies of its primary's slots (17 and later) are never in use there.
    """
    rows = view.snapshot.extra.get(SLOTS.name) or []
    left = (row for row in rows if not row["active"] and not row["synced"])
    return sorted(left, key=lambda row: -(row["retained"] or 0.0))


def _finding(view: View, full: list[_Use]) -> Finding:
    rows = view.snapshot.extra.get(SENDERS.name) or []
    senders = [row for row in rows if not row["ours"]]
    abandoned = _abandoned(view)
    return Finding(
        cause="replication-limit",
        title=f"no replication connection is left: {' and '.join(use.words for use in full)}",
        confidence="certain",
        because="the server's own count: a standby, a backup or the rescue door that comes now is"
        " refused; ordinary sessions have slots apart from these",
        evidence=(
            *(f"walsender pid {row['pid']}: {_sender(row)}" for row in senders[:NAMED]),
            *(_slot(row) for row in abandoned[:NAMED]),
        ),
        owners=tuple(_owner(view, row) for row in senders),
        advice=_advice(abandoned),
        command=psql(view, _look(abandoned)),
    )


def _sender(row: dict[str, Any]) -> str:
    name = row["application_name"] or row["role"] or "a hidden role"
    return f"{name} from {row['client_addr'] or 'a local socket'}, {row['state'] or 'hidden'}"


def _slot(row: dict[str, Any]) -> str:
    since = f" for {age(row['inactive_s'])}" if row["inactive_s"] is not None else ""
    kept = f", retains {bytes_words(row['retained'])} of WAL" if row["retained"] else ""
    lost = ", its WAL is lost" if row["wal_status"] == "lost" else ""
    return f"{row['kind']} slot {row['name']}: used by nobody{since}{kept}{lost}"


def _owner(view: View, row: dict[str, Any]) -> Owner:
    at = [h.name for h in view.fleet.hosts.values() if h.address == row["client_addr"]]
    return Owner(
        role=row["role"],
        host=at[0] if len(at) == 1 else None,
        application_name=row["application_name"] or None,
        client_addr=row["client_addr"],
        sessions=1,
        concerned=1,
    )


def _advice(abandoned: list[dict[str, Any]]) -> str:
    if abandoned:
        return (
            f"{count(len(abandoned), 'slot')} {'is' if len(abandoned) == 1 else 'are'} used by"
            " nobody. Ask first whether its standby or subscriber comes back: dropping a slot"
            " makes that one start anew. If it does not: SELECT pg_drop_replication_slot('…'). A"
            " slot that stays keeps WAL until the disk is full."
        )
    return (
        "End the backup or the WAL receiver that is not needed, or raise max_wal_senders (the"
        " server must be restarted for it). A dead standby's walsender goes by itself after"
        " wal_sender_timeout."
    )


def _look(abandoned: list[dict[str, Any]]) -> str:
    if abandoned:
        return "SELECT * FROM pg_replication_slots"
    return "SELECT * FROM pg_stat_replication"


FINDING = FindingType(
    name="replication-limit",
    summary="Walsenders or replication slots are used up: standbys and backups are refused.",
    judge=judge,
    questions=(SENDERS, SLOTS),
    looks="A standby or a backup is refused with `number of requested standby connections exceeds"
    " max_wal_senders` or `all replication slots are in use`, while applications work. The rescue"
    " door of runbook is refused as well.",
    told_apart="By count: as many walsenders as `max_wal_senders`, runbook's own aside; or as many"
    " replication slots as `max_replication_slots`, one of them used by nobody (all in use is a"
    " server sized to its standbys). Walsenders take no slot of `max_connections`, so this is the"
    " cause only when nothing else is; otherwise it is named besides.",
    remedy="Now: drop the slots of standbys that are gone for good"
    " (`pg_drop_replication_slot`), end backups that hang. For good: `max_wal_senders` and"
    " `max_replication_slots` for each standby, backup and the rescue role, with one to spare; an"
    " alert on slots that are inactive; `max_slot_wal_keep_size` as a bound.",
)
