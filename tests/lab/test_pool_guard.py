"""`pool guard`: a role is guarded against the next leak, the guard bites, and is taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .command import Command, Ran
from .lab import DB, Lab, until

if TYPE_CHECKING:
    from collections.abc import Mapping

GUARD = ("pool", "guard", DB)
LOCAL: Mapping[str, Any] = {"databases": {DB: {"local": {"os_user": "postgres"}}}}


def has(lab: Lab) -> str:
    """What the catalogue has of the shop's role, to the letter."""
    return lab.psql(
        "SELECT r.rolconnlimit, array_to_string(s.setconfig, ' ') FROM pg_roles r"
        " LEFT JOIN pg_db_role_setting s ON s.setrole = r.oid AND s.setdatabase = 0"
        " WHERE r.rolname = 'shop'"
    )


def run_id(ran: Ran) -> str:
    """Return the run's id."""
    return str(ran.json()["run_id"])


def test_a_role_is_guarded_the_guard_bites_and_is_taken_back_to_the_letter(
    lab: Lab, runbook: Command
) -> None:
    # Something had been there before, as PostgreSQL's users write it.
    lab.psql("ALTER ROLE shop SET idle_in_transaction_session_timeout = '7200s'")
    lab.psql("ALTER ROLE shop SET lock_timeout = 5000")
    before = has(lab)
    pool = {"processes": 2, "size": 3}
    runbook.declare(services={"shop": {"role": "shop", "pool": pool}})

    # The ordinary role has no right to it, and what would give it is named.
    refused = runbook(*GUARD, "--apply", "--yes", code=3)
    assert 'ALTER ROLE "oncall" CREATEROLE' in refused.said

    runbook.declare(**LOCAL, services={"shop": {"role": "shop", "pool": pool}})
    proposed = runbook(*GUARD)
    assert "idle_in_transaction_session_timeout: 7200s -> 5min" in proposed.said
    assert "shop 4 hosts (1 for a deploy) x 2 processes x 3 = 24" in proposed.said
    assert "declares neither idle_timeout nor" in proposed.said
    assert f"runbook pool guard {DB} --apply" in proposed.said
    short = ("--set", "shop.idle_in_transaction_session_timeout=1s")
    rehearsed = runbook(*GUARD, *short, "--dry-run")
    assert "shop.connection_limit: no limit -> 24" in rehearsed.said
    assert has(lab) == before

    applied = runbook(*GUARD, *short, "--apply", "--yes", "--format", "json")
    assert has(lab).startswith("24|")
    assert "idle_in_transaction_session_timeout=1s" in has(lab)

    # Sessions that began before keep what they had; after a restart the server ends the leak.
    app = lab.apps[0]
    lab.exec(app, ["systemctl", "restart", "shop.service"])
    lab.wait_ready(app)
    leaked = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'shop-app-1'"
        " AND state = 'idle in transaction'"
    )
    lab.http(app, "/leak?n=1&how=in_transaction", "POST")
    until(lambda: lab.psql(leaked) == "0", "the server to end the leaked session")
    assert lab.http(app, "/ready").status == 200

    run = run_id(applied)
    lab.psql("ALTER ROLE shop CONNECTION LIMIT 30")
    moved = runbook(*GUARD, "--undo", run, "--yes", code=3)
    assert "shop.connection_limit is 30, and not 24" in moved.said
    lab.psql("ALTER ROLE shop CONNECTION LIMIT 24")
    undone = runbook(*GUARD, "--undo", run, "--yes")
    assert has(lab) == before, undone
