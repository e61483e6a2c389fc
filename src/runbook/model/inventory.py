"""The inventory: hosts, databases, services and PgBouncers, typed and closed.

The keys are a promise to users: `inventory.example.yaml` shows every one of them, and
`runbook inventory show` prints what they came to after groups and defaults.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from runbook.model.units import Amount, Duration, Floor

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$")]

#: A host name or an IP address; nothing that ssh could take for an option.
Address = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9:\[][A-Za-z0-9.:%_\[\]-]{0,252}$")]
#: One systemd unit: no glob, no option.
UnitName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_:][A-Za-z0-9:_.@\\-]{0,254}$")]


def _word(value: object) -> object:
    """A whole number is as good a word of a command as a quoted one; nothing else is a guess."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


#: One word of a command.
Word = Annotated[str, BeforeValidator(_word)]
#: One argv; never a shell line. `${host.name}` and its like are replaced inside single words.
Argv = Annotated[tuple[Word, ...], Field(min_length=1)]
Scalar = str | int | float | bool


class Closed(BaseModel):
    """A frozen model in which an unknown key is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=False, arbitrary_types_allowed=False
    )


class Secret(Closed):
    """A reference to a secret; exactly one of the three. The value itself is never written here."""

    env: str | None = Field(None, description="an environment variable of the runbook process")
    file: str | None = Field(None, description="a file that holds the secret and nothing else")
    command: Argv | None = Field(None, description="a command that prints the secret")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(value is not None for value in (self.env, self.file, self.command)) != 1:
            raise ValueError("a secret is exactly one of env, file or command")
        return self


class Ssh(Closed):
    """How a host is reached; what is left out comes from `defaults`, then from ~/.ssh/config."""

    user: str | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    identity_file: str | None = None
    known_hosts: str | None = None
    jump: str | None = Field(None, description="a jump host, as in ssh -J: user@host:port")
    connect_timeout: Duration | None = None


class Host(Closed):
    """One machine."""

    address: Address | None = Field(
        None, description="where it is reached; its name, when left out"
    )
    connection: Literal["ssh", "local"] = Field(
        "ssh", description="local: commands run on the machine that runs runbook, without SSH"
    )
    sudo: bool | None = Field(
        None, description="prefix changes with `sudo -n`; by default yes, unless the user is root"
    )
    groups: tuple[Name, ...] = ()
    vars: dict[str, Scalar] = Field(default_factory=dict)
    ssh: Ssh = Ssh()


class Group(Closed):
    """Values that reach every host of a group; a host's own win."""

    vars: dict[str, Scalar] = Field(default_factory=dict)
    ssh: Ssh = Ssh()


class Connect(Closed):
    """A connection to PostgreSQL, in libpq's own words."""

    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 5432
    dbname: str = "postgres"
    user: str
    password: Secret | None = None
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] | None = (
        None
    )
    sslrootcert: str | None = None
    connect_timeout: Duration = 5.0


class Credentials(Closed):
    """Another role for the same server; what is left out is as in `connect`."""

    user: str
    password: Secret | None = None
    dbname: str | None = None


class LocalSocket(Closed):
    """The server's own socket, reached as an operating-system user over SSH."""

    os_user: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?$")] = (
        "postgres"
    )
    socket_dir: str = "/var/run/postgresql"
    port: Annotated[int, Field(ge=1, le=65535)] = 5432


class Protect(Closed):
    """Sessions that no run of runbook may terminate, on top of those that it never touches."""

    roles: tuple[str, ...] = Field((), description="database roles; * and ? match")
    applications: tuple[str, ...] = Field((), description="application names; * and ? match")
    databases: tuple[str, ...] = Field((), description="database names; * and ? match")
    addresses: tuple[str, ...] = Field((), description="client addresses or networks (CIDR)")


class Database(Closed):
    """One PostgreSQL server, and the doors that lead into it."""

    host: Name | None = Field(None, description="the inventory host that it runs on")
    connect: Connect
    admin: Credentials | None = Field(None, description="a superuser, for the reserved slots")
    rescue: Credentials | None = Field(
        None, description="a role with REPLICATION, for when no slot is left"
    )
    local: LocalSocket | None = None
    protect: Protect = Protect()
    max_terminated: Annotated[int, Field(ge=1)] | None = Field(
        None, description="no run may terminate more sessions than this; the smaller bound wins"
    )

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.local is not None and self.host is None:
            raise ValueError("local goes over SSH: it needs `host`, the server's inventory host")
        return self


class Pool(Closed):
    """A service's declared connection pool, per host."""

    processes: Annotated[int, Field(ge=1)] = 1
    size: Annotated[int, Field(ge=1)]
    overflow: Annotated[int, Field(ge=0)] = 0
    max_lifetime: Duration | None = Field(
        None, description="the pool retires a connection after this; see retires_idle"
    )
    retires_idle: bool = Field(
        False,
        description="the pool closes idle connections by itself when they reach max_lifetime"
        " (HikariCP, Go's database/sql): older idle ones have leaked",
    )
    idle_timeout: Duration | None = Field(
        None, description="the pool closes a connection that was idle for this long"
    )

    @property
    def budget(self) -> int:
        """Connections that one host may hold: processes x (size + overflow)."""
        return self.processes * (self.size + self.overflow)


class HttpGate(Closed):
    """An HTTP request from the machine that runs runbook."""

    url: str
    status: Annotated[int, Field(ge=100, le=599)] = 200
    contains: str | None = Field(None, description="text that the body must contain")
    timeout: Duration = 5.0


class Gate(Closed):
    """A question that must be answered well before a host counts as healthy."""

    http: HttpGate | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.http is None:
            raise ValueError("a gate needs a kind: http")
        return self


class GateTiming(Closed):
    """How often a gate is asked, and for how long."""

    successes: Annotated[int, Field(ge=1, le=100)] = Field(
        3, description="consecutive good answers; one bad answer starts the count anew"
    )
    interval: Duration = 2.0
    deadline: Duration = 60.0


class CommandManager(Closed):
    """Restart and status by commands of one's own, for services that systemd does not run."""

    restart: Argv
    status: Argv = Field(
        description="exits 0 while the service runs, and prints what changes with each start"
        " (a process id with its start time): the proof of a restart"
    )
    timeout: Duration = 60.0


class Manager(Closed):
    """What runs the service when it is not systemd."""

    command: CommandManager


class Rolling(Closed):
    """How the service is restarted: in which batches, and with how much kept up."""

    batches: Annotated[tuple[Amount, ...], Field(min_length=1)] = Field(
        ("1", "25%"), description="sizes of the batches; the first is the canary, the last repeats"
    )
    min_available: Floor = Field(
        "50%",
        description="hosts that stay healthy at any time, rounded up; 0 lets the service go down,"
        " which a service of one host cannot avoid",
    )
    max_failures: Annotated[int, Field(ge=0)] = Field(
        0, description="halt when more hosts than this have failed"
    )
    settle: Duration = Field(
        10.0, description="how long the restarted unit is watched for a crash loop"
    )
    gate: GateTiming = GateTiming()
    admit_deadline: Duration = Field(
        120.0, description="how long to wait for enough healthy hosts before a batch"
    )
    headroom: Annotated[int, Field(ge=0)] = Field(
        0, description="database slots that must be free after each host"
    )


class Service(Closed):
    """An application that runs on hosts and holds database connections."""

    hosts: str = Field(description="a selector: names, groups, expressions")
    unit: UnitName | None = Field(
        None, description="the systemd unit; the service's name, if left out"
    )
    manager: Literal["systemd"] | Manager = "systemd"
    database: Name | None = None
    role: str | None = Field(None, description="the database role that it logs in as")
    application_name: str | None = Field(
        None, description="how its sessions are told apart; ${host.name} names the host"
    )
    pool: Pool | None = None
    gates: tuple[Gate, ...] = ()
    rolling: Rolling = Rolling()
    max_hosts: Annotated[int, Field(ge=1)] | None = Field(
        None, description="no run may restart more hosts than this; the smaller bound wins"
    )


class PgBouncer(Closed):
    """A PgBouncer and its admin console."""

    host: Name | None = Field(None, description="the inventory host that it runs on")
    address: Address | None = Field(
        None, description="where its console is reached; its host's address, when left out"
    )
    database: Name
    port: Annotated[int, Field(ge=1, le=65535)] = 6432
    admin: Credentials


class Defaults(Closed):
    """What holds for every host that says nothing else."""

    ssh: Ssh = Ssh()


class Inventory(Closed):
    """The whole inventory, as read."""

    version: Literal[1]
    defaults: Defaults = Defaults()
    groups: dict[Name, Group] = Field(default_factory=dict)
    hosts: dict[Name, Host] = Field(default_factory=dict)
    databases: dict[Name, Database] = Field(default_factory=dict)
    services: dict[Name, Service] = Field(default_factory=dict)
    pgbouncers: dict[Name, PgBouncer] = Field(default_factory=dict)
