"""A query through a PgBouncer, as a client of it: the proof that login and pooling work."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from runbook.adapters.postgres_errors import Door
from runbook.adapters.postgres_ladder import application_name
from runbook.adapters.postgres_talk import StatementError
from runbook.adapters.postgres_wire import Wire
from runbook.adapters.secrets import resolve
from runbook.model.errors import Unreachable
from runbook.model.setup_effects import AskThroughPgBouncer, Through

if TYPE_CHECKING:
    from runbook.model.effects import Effect
    from runbook.model.fleet import Fleet

_ASK = (
    "SELECT CURRENT_USER::text AS role, pg_catalog.current_database()::text AS dbname,"
    " pg_catalog.pg_backend_pid() AS pid"
)


class ThroughDoor:
    """Performs AskThroughPgBouncer; each opens a connection of its own and closes it."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def perform(self, effect: Effect[Any]) -> Through:
        """Ask.

        Raises:
            Unreachable, DatabaseLogin, DatabaseError, ConnectionLost, SecretMissing: as the
                doors to PostgreSQL do; PgBouncer passes on what the server says.
        """
        if not isinstance(effect, AskThroughPgBouncer):
            raise TypeError(f"ThroughDoor does not perform {type(effect).__name__}")
        started = time.monotonic()
        wire = self._open(effect)
        try:
            (reply,) = wire.run([_ASK], effect.timeout_s)
        except StatementError as failure:
            raise failure.error from None
        finally:
            wire.close()
        row = reply.rows[0]
        return Through(
            role=str(row["role"]),
            dbname=str(row["dbname"]),
            backend_pid=int(row["pid"]),
            seconds=time.monotonic() - started,
        )

    def close(self) -> None:
        """Nothing is kept open."""

    def _open(self, effect: AskThroughPgBouncer) -> Wire:
        bouncer = self._fleet.inventory.pgbouncers[effect.pgbouncer]
        connect = self._fleet.database(bouncer.database).connect
        address = bouncer.address
        if address is None and bouncer.host is not None:
            address = self._fleet.host(bouncer.host).address
        if address is None:
            raise Unreachable(
                f"PgBouncer {effect.pgbouncer}: the inventory does not say where it is",
                hint=f"give pgbouncers.{effect.pgbouncer} a host, or an address",
            )
        door = Door(
            database=f"PgBouncer {effect.pgbouncer}",
            rung="connect",
            host=address,
            port=bouncer.port,
            dbname=effect.dbname,
            user=connect.user,
        )
        settings = {
            "host": address,
            "port": str(bouncer.port),
            "dbname": effect.dbname,
            "user": connect.user,
            "application_name": application_name(),
            "client_encoding": "UTF8",
            "gssencmode": "disable",
        }
        if connect.password is not None:
            settings["password"] = resolve(connect.password)
        return Wire.open(door, settings, effect.timeout_s)
