"""What it means that a door was shut: how many slots must have been taken at that moment."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runbook.model.sessions import Limits, Snapshot

#: Every slot is taken, the superusers' reserve included; said before the login, and also when
#: sockets that never log in fill the server's table of children. In the languages into which
#: PostgreSQL 15 is translated: the server speaks its own (lc_messages) until somebody is logged in.
_EVERYBODY = (
    "sorry, too many clients already",
    "tut mir leid, schon zu viele Verbindungen",
    "lo siento, ya tenemos demasiados clientes",
    "désolé, trop de clients sont déjà connectés",
    "spiacente, troppi client già connessi",
    "現在クライアント数が多すぎます",
    "უკაცრავად, უკვე მეტისმეტად ბევრი კლიენტია",
    "최대 동시 접속자 수를 초과했습니다.",
    "извините, уже слишком много клиентов",
    "ledsen, för många klienter",
    "вибачте, вже забагато клієнтів",
    "对不起, 已经有太多的客户",
)
#: All but the superusers' reserve is taken (13 to 15; 16 and later).
_ALL_BUT_SUPERUSERS = re.compile(
    r"reserved for (non-replication superuser|roles with the SUPERUSER)", re.IGNORECASE
)
#: All but both reserves is taken (16 and later).
_ALL_BUT_RESERVED = re.compile(r"pg_use_reserved_connections", re.IGNORECASE)
_WALSENDERS = re.compile(r"requested standby connections exceeds", re.IGNORECASE)


def taken_at_least(snapshot: Snapshot) -> int:
    """Return the slots that were taken when the doors before ours were shut; 0 when none was."""
    return max((_taken(text, snapshot.limits) for _, text in snapshot.refusals), default=0)


def _taken(text: str, limits: Limits) -> int:
    if any(words in text for words in _EVERYBODY):
        return limits.max_connections
    if _ALL_BUT_SUPERUSERS.search(text):
        return limits.max_connections - limits.superuser_reserved
    if _ALL_BUT_RESERVED.search(text):
        return limits.max_connections - limits.superuser_reserved - limits.reserved
    return 0


def slot_refusals(snapshot: Snapshot) -> tuple[str, ...]:
    """Return the doors that had no slot for us, in the order in which they were tried."""
    return tuple(rung for rung, text in snapshot.refusals if _taken(text, snapshot.limits))


def refused_everybody(snapshot: Snapshot) -> bool:
    """Whether a door said that not even a superuser has a slot."""
    return any(words in text for _, text in snapshot.refusals for words in _EVERYBODY)


def refused_walsender(snapshot: Snapshot) -> bool:
    """Whether the rescue door found every walsender's slot taken."""
    return any(_WALSENDERS.search(text) for _, text in snapshot.refusals)
