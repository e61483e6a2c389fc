"""What `role_settings` is given, and the settings that it comes to."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from runbook.model.inventory import Closed, Name
from runbook.model.role_settings import (
    CONNECTION_LIMIT,
    PARAMETERS,
    RESET,
    RoleSetting,
    parse_line,
    typed,
)
from runbook.model.units import Duration

#: As PostgreSQL names roles and databases: 63 bytes, no control characters.
Identifier = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,63}$")]
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]
Lines = Annotated[tuple[Line, ...], Field(max_length=200)]
Count = Annotated[int, Field(ge=0, le=1000)]


class RoleSet(Closed):
    """Run-time parameters of a role; durations carry units, 0 switches a timeout off."""

    idle_in_transaction_session_timeout: Duration | None = None
    idle_session_timeout: Duration | None = Field(None, description="PostgreSQL 14 and later")
    transaction_timeout: Duration | None = Field(None, description="PostgreSQL 17 and later")
    statement_timeout: Duration | None = None
    lock_timeout: Duration | None = None
    tcp_keepalives_idle: Duration | None = None
    tcp_keepalives_interval: Duration | None = None
    tcp_keepalives_count: Count | None = None
    tcp_user_timeout: Duration | None = None
    client_connection_check_interval: Duration | None = Field(
        None, description="PostgreSQL 14 and later"
    )


class RoleSettingsArgs(Closed):
    """What `role_settings` is given."""

    database: Name = Field(description="the inventory's name of the database")
    role: Identifier | None = Field(None, description="the role that set, reset and the limit mean")
    set: RoleSet = Field(RoleSet(), description="run-time parameters, by name")
    connection_limit: Annotated[int, Field(ge=-1)] | None = Field(
        None, description="sessions that the role may have; -1 is no limit"
    )
    reset: tuple[Literal[tuple(PARAMETERS)] | Literal["connection_limit"], ...] = Field(  # type: ignore[valid-type]
        (), description="what is taken away from the role, so that the server's own holds again"
    )
    in_database: Identifier | None = Field(
        None, description="only for sessions in this database of the server; not for the limit"
    )
    settings: Lines = Field(
        (), description="the same for several roles, as in shop.idle_session_timeout=30m"
    )
    restore: Lines = Field(
        (), description="values as the catalogue had them, word for word: what an undo puts back"
    )
    expected: Lines = Field(
        (),
        description="with restore: what must stand there now; what somebody has changed since is"
        " left alone",
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        wishes = self.wishes
        if not wishes:
            raise ValueError("there is nothing to set: give role and set, or settings, or restore")
        keys = [wish.key for wish in wishes]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice} is given twice")
        if self.in_database is not None and any(w.name == CONNECTION_LIMIT for w in wishes):
            raise ValueError("a connection limit is the role's own, in every database")
        stray = sorted(self.expectations.keys() - self.restored)
        if stray:
            raise ValueError(f"expected: {stray[0]} is not among what is restored")
        return self

    @property
    def wishes(self) -> tuple[RoleSetting, ...]:
        """All that shall be, in the order in which it was written.

        Raises:
            ValueError: for a value that does not fit.
        """
        return (
            *self._of_role(),
            *(parse_line(line) for line in self.settings),
            *(parse_line(line, exactly=True) for line in self.restore),
        )

    @property
    def restored(self) -> frozenset[str]:
        """`ROLE.NAME` of what is put back to the letter."""
        return frozenset(parse_line(line, exactly=True).key for line in self.restore)

    @property
    def expectations(self) -> dict[str, str | None]:
        """`ROLE.NAME` -> what must stand there now, word for word."""
        parsed = (parse_line(line, exactly=True) for line in self.expected)
        return {setting.key: setting.value for setting in parsed}

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that are altered, once each."""
        return tuple(dict.fromkeys(wish.role for wish in self.wishes))

    def _of_role(self) -> tuple[RoleSetting, ...]:
        given = {name: v for name, v in self.set.model_dump().items() if v is not None}
        if self.connection_limit is not None:
            given[CONNECTION_LIMIT] = self.connection_limit
        given |= dict.fromkeys(self.reset, RESET)
        if bool(given) != (self.role is not None):
            raise ValueError("role goes with set, reset or connection_limit")
        role = self.role or ""
        return tuple(
            RoleSetting(role=role, name=name, value=typed(name, value))
            for name, value in given.items()
        )
