"""The server's host as a witness: its processes, when slots are taken and nobody is seen there."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runbook.findings import stalled_logins
from runbook.findings.witness import Told, Witness
from runbook.model.effects import ReadCommand
from runbook.model.errors import DoorError
from runbook.model.os_user import script_as_os_user
from runbook.model.server_look import LookFailed, read_look
from runbook.model.server_scripts import look_script

if TYPE_CHECKING:
    from runbook.findings.view import View
    from runbook.model.effects import CommandOutcome, Observe
    from runbook.model.processes import ServerProcesses
    from runbook.model.sessions import Snapshot

#: Seconds for one look: it takes a tenth of one with 100 processes.
TIMEOUT_S = 5.0
#: Bytes of the answer that are kept: 10,000 processes are about 6 MB.
KEPT_BYTES = 64 * 1024 * 1024
#: Where the snapshot says why the host told nothing.
FAILED = "server-processes"


def looks(view: View) -> tuple[Observe[Any], ...]:
    """Ask for its processes when what is seen does not account for the doors that were shut."""
    database = view.database
    if view.snapshot.processes is not None or database is None:
        return ()
    if database.host is None or database.local is None or not stalled_logins.suspects(view):
        return ()
    local = database.local
    return (
        ReadCommand(
            host=database.host,
            argv=script_as_os_user(local.os_user, or_plainly=True),
            # Whoever reads the answer is told nothing but the answer.
            stdin=f"echo asked {local.port} {shlex.quote(database.host)}\n"
            + look_script(local.port, local.socket_dir, local.os_user),
            timeout_s=TIMEOUT_S,
            keep_bytes=KEPT_BYTES,
        ),
    )


def take(snapshot: Snapshot, told: tuple[Told, ...]) -> Snapshot:
    """Add the processes, or why there are none."""
    try:
        return replace(snapshot, processes=_read(told[0].outcome))
    except (DoorError, LookFailed) as error:
        hint = (error.hint or "").replace("databases.…", f"databases.{snapshot.database}")
        why = f"{error.message} ({hint})" if hint else error.message
        return replace(snapshot, failed={**snapshot.failed, FAILED: why})


def _read(outcome: CommandOutcome | DoorError) -> ServerProcesses:
    """Return what the script told.

    Raises:
        DoorError: the host was not reached.
        LookFailed: no server was found there, or the answer cannot be read.
    """
    if isinstance(outcome, DoorError):
        raise outcome
    asked = re.match(r"asked (\d+) (.+)", outcome.stdout)
    host, port = (asked[2], int(asked[1])) if asked else ("the server's host", 0)
    try:
        return read_look(host, port, outcome.stdout)[1]
    except (ValueError, IndexError):
        said = " ".join(outcome.stdout[:200].split()) or "nothing"
        raise LookFailed(f"its processes came in a way that cannot be read: {said}", "") from None


WITNESS = Witness(name="server-host", looks=looks, take=take, by_ssh=True)
