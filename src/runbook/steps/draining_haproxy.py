"""HAProxy as its runtime socket tells it: where a server stands, and how many sessions it holds.

Observed on HAProxy 2.6: the socket answers mistakes in text and closes as it does after a success,
so that socat exits with 0 either way; a change that was made is answered with an empty line.
"""

from __future__ import annotations

import csv
from typing import Literal

#: Bits of srv_admin_state: drained (FDRAIN, IDRAIN), in maintenance (all others).
_DRAINED = 0x08 | 0x10
#: srv_op_state: 2 is running, 1 is starting slowly (slowstart): both get connections.
_TAKING = {"1", "2"}

#: Where a balancer has a host.
#:   in       it gets new connections
#:   out      somebody took it out: drained, in maintenance, weight 0
#:   down     nobody took it out, but the balancer's own check holds it down
#:   unknown  the balancer did not say
Place = Literal["in", "out", "down", "unknown"]


def answered(text: str) -> bool:
    """Whether the socket answered `show servers state` at all."""
    return "# be_id be_name" in text


def refusal(text: str) -> bool:
    """Whether an answer to a change is a refusal."""
    return bool(text.strip())


def place_of(text: str, backend: str, server: str) -> tuple[Place, str, int | None]:
    """Return where a server stands, in words too, and how many sessions it has."""
    row = _row(text, backend, server)
    if row is None:
        return "unknown", f"knows no server {server} in the backend {backend}", None
    connections = _sessions(text, backend, server)
    where = f"{backend}/{server}"
    admin = int(row["srv_admin_state"])
    if admin & ~_DRAINED:
        return "out", f"has {where} in maintenance", connections
    if admin & _DRAINED:
        return "out", f"has {where} drained", connections
    if row["srv_uweight"] == "0":
        return "out", f"has {where} at weight 0", connections
    if row["srv_op_state"] not in _TAKING:
        return "down", f"holds {where} down by its own check", connections
    return "in", f"has {where} in rotation", connections


def _row(text: str, backend: str, server: str) -> dict[str, str] | None:
    """Return the server's line of `show servers state`, by column."""
    lines = text.splitlines()
    heads = [line for line in lines if line.startswith("# be_id ")]
    if not heads:
        return None
    columns = heads[0].removeprefix("# ").split()
    for line in lines:
        row = dict(zip(columns, line.split(" "), strict=False))
        if row.get("be_name") == backend and row.get("srv_name") == server:
            return row if row.get("srv_admin_state", "").isdigit() else None
    return None


def _sessions(text: str, backend: str, server: str) -> int | None:
    """Return the server's sessions of `show stat`, those that queue for it too, or None."""
    lines = text.splitlines()
    start = next((n for n, line in enumerate(lines) if line.startswith("# pxname,")), None)
    if start is None:
        return None
    lines[start] = lines[start].removeprefix("# ")
    for row in csv.DictReader(lines[start:]):
        if row.get("pxname") == backend and row.get("svname") == server:
            counts = (str(row.get("scur")), str(row.get("qcur")))
            return sum(map(int, counts)) if all(each.isdigit() for each in counts) else None
    return None
