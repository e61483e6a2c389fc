"""The inventory: hosts, databases, services and PgBouncers, typed and closed.

The keys are a promise to users: `inventory.example.yaml` shows every one of them, and
`runbook inventory show` prints what they came to after groups and defaults.
"""

from __future__ import annotations

import re
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

#: A proxy or a server of HAProxy, with `${host.…}` in it where it hangs on the host. The filled-in
#: name is asked again: a `;` or a line end would begin a second command on the runtime socket.
HaproxyName = Annotated[
    str, StringConstraints(pattern=r"^(?:[A-Za-z0-9_.:-]|\$\{[A-Za-z0-9_.\- ]+\})+$")
]


def _word(value: object) -> object:
    """A whole number is as good a word of a command as a quoted one; nothing else is a guess."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


#: One word of a command.
Word = Annotated[str, BeforeValidator(_word)]
#: One argv; never a shell line. `${host.name}` and its like are replaced inside single words.
Argv = Annotated[tuple[Word, ...], Field(min_length=1)]
Scalar = str | int | float | bool
#: An absolute path without `..`, on a host.
FilePath = Annotated[
    str, StringConstraints(pattern=r"^/[^\x00-\x1f]{0,4000}[^/\x00-\x1f]$", strict=True)
]
#: The name of an environment variable.
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]


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


class DatabaseBudget(Closed):
    """What of the usable slots is not for the services' pools."""

    direct: Annotated[int, Field(ge=0)] = Field(
        0, description="connections past every pool: people, cron jobs, migrations, monitoring"
    )
    reserve: Floor = Field(
        "20%", description="usable slots that stay free for a bad day: a count or a share"
    )


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
    budget: DatabaseBudget = DatabaseBudget()

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
    threads: Annotated[int, Field(ge=1)] | None = Field(
        None, description="threads of one process that may want a connection at the same moment"
    )
    nested: Annotated[int, Field(ge=1)] = Field(
        1,
        description="connections that one request holds at the same time; more than one can"
        " deadlock a small pool: size must be at least threads x (nested - 1) + 1",
    )
    surge: Amount | None = Field(
        None, description="hosts that a deploy starts beside the running ones: a count or a share"
    )
    scales_to: Annotated[int, Field(ge=1)] | None = Field(
        None, description="hosts that autoscaling may reach"
    )

    @property
    def budget(self) -> int:
        """Connections that one host may hold: processes x (size + overflow)."""
        return self.processes * (self.size + self.overflow)


class Setting(Closed):
    """Where a host keeps one value of a service: exactly one of env_file, environment, file."""

    env_file: FilePath | None = Field(
        None, description="an EnvironmentFile of the unit, with `key`"
    )
    key: Variable | None = Field(None, description="the variable in env_file")
    environment: Variable | None = Field(
        None,
        description="a variable in the unit's own Environment=; written as a drop-in of runbook's",
    )
    file: FilePath | None = Field(None, description="any text file, with `match`")
    match: str | None = Field(
        None,
        description="a regular expression for one line of file; its one group is the value",
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        places = {"env_file": self.env_file, "environment": self.environment, "file": self.file}
        if sum(value is not None for value in places.values()) != 1:
            raise ValueError("a setting lives in exactly one of env_file, environment, file")
        if (self.env_file is None) != (self.key is None):
            raise ValueError("env_file and key go together")
        if (self.file is None) != (self.match is None):
            raise ValueError("file and match go together")
        _check_match(self.match)
        return self


def _check_match(match: str | None) -> None:
    try:
        groups = re.compile(match).groups if match is not None else 1
    except re.error as error:
        raise ValueError(f"match: {match!r} is no regular expression: {error}") from None
    if groups != 1:
        raise ValueError(f"match: {match!r} has {groups} groups, and the value is exactly one")


class ServiceSettings(Closed):
    """Where a service's hosts keep its pool's size, and where its database is; all optional."""

    size: Setting | None = None
    overflow: Setting | None = None
    processes: Setting | None = None
    url: Setting | None = Field(None, description="the connection string, as in DATABASE_URL")
    sudo: bool = Field(True, description="look and write with `sudo -n sh`")


class HttpGate(Closed):
    """An HTTP request from the machine that runs runbook."""

    url: str
    status: Annotated[int, Field(ge=100, le=599)] = 200
    contains: str | None = Field(None, description="text that the body must contain")
    headers: dict[str, str] = Field(
        default_factory=dict, description="headers that the answer must have, with these values"
    )
    send: dict[str, str] = Field(
        default_factory=dict, description="headers to send along, such as Host; never a secret"
    )
    verify: bool = Field(True, description="an https certificate must be valid")
    ca_file: str | None = Field(None, description="the authorities that may sign it")
    timeout: Duration = 5.0


class TcpGate(Closed):
    """A TCP connection from the machine that runs runbook."""

    port: str | int = Field(description="a port, or ${host.vars.NAME}")
    host: str = Field("${host.address}", description="where to")
    banner: str | None = Field(None, description="text that the first line must contain")
    timeout: Duration = 5.0


class SystemdGate(Closed):
    """A unit that runs, has not been restarted, and is not about to hit its start limit."""

    unit: str | None = Field(None, description="the unit; the service's own, if left out")
    stable: Duration = Field(0.0, description="it must have been up for this long")


class CommandGate(Closed):
    """A command on the host that only reads, and says by its exit code whether all is well."""

    argv: Argv
    exit_code: int = 0
    contains: str | None = Field(None, description="text that its output must contain")
    sudo: bool = False
    timeout: Duration = 15.0


class SqlGate(Closed):
    """A statement that only reads; well when its first value is true (or not zero)."""

    database: Name | None = Field(None, description="the service's own, if left out")
    sql: str
    timeout: Duration = 10.0


class ReleasedGate(Closed):
    """The database has room: so many usable slots are free, or so large a share of them."""

    database: Name | None = Field(None, description="the service's own, if left out")
    free: Floor = Field("1", description="slots that must be free: a count, or a share of usable")


class Gate(Closed):
    """A question that must be answered well before a host counts as healthy; exactly one kind."""

    http: HttpGate | None = None
    tcp: TcpGate | None = None
    systemd: SystemdGate | None = None
    command: CommandGate | None = None
    sql: SqlGate | None = None
    pg_released: ReleasedGate | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [kind for kind in type(self).model_fields if getattr(self, kind) is not None]
        if len(given) != 1:
            kinds = ", ".join(type(self).model_fields)
            raise ValueError(f"a gate is exactly one of: {kinds}")
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
    start: Argv | None = Field(None, description="for `service: {action: start}`")
    stop: Argv | None = Field(None, description="for `service: {action: stop}`")
    reload: Argv | None = Field(None, description="for `service: {action: reload}`")
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


class DrainCommands(Closed):
    """Take a host out of rotation by commands of one's own."""

    on: str | None = Field(
        None,
        description="the inventory host that they run on, such as a load balancer;"
        " the host itself, if left out",
    )
    drain: Argv = Field(description="takes the host out; ${host.name} and its like are filled in")
    undrain: Argv = Field(description="puts it back; may be run twice")
    status: Argv | None = Field(
        None, description="exits 0 while the host is in rotation, 1 while it is not"
    )
    sudo: bool = False
    timeout: Duration = 30.0


class DrainHaproxy(Closed):
    """Take a host out of rotation by HAProxy's runtime socket."""

    on: tuple[Name, ...] | Name = Field(description="the inventory hosts that run HAProxy")
    socket: str = "/run/haproxy/admin.sock"
    backend: HaproxyName
    server: HaproxyName = Field("${host.name}", description="the server's name in the backend")
    sudo: bool = True
    timeout: Duration = 15.0


class Drain(Closed):
    """How a host is taken out of rotation before its restart, and put back after."""

    command: DrainCommands | None = None
    haproxy: DrainHaproxy | None = None
    connections: Argv | None = Field(
        None, description="a command on the host that prints how many connections are left"
    )
    at_most: Annotated[int, Field(ge=0)] = Field(
        0, description="so many connections may be left: HAProxy's own count, or the command's"
    )
    deadline: Duration = Field(60.0, description="how long they may take to go")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.command is None) == (self.haproxy is None):
            raise ValueError("a drain is exactly one of command or haproxy")
        return self


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
    settings: ServiceSettings = ServiceSettings()
    gates: tuple[Gate, ...] = ()
    drain: Drain | None = None
    rolling: Rolling = Rolling()
    max_hosts: Annotated[int, Field(ge=1)] | None = Field(
        None, description="no run may restart more hosts than this; the smaller bound wins"
    )


class BouncerTls(Closed):
    """TLS between the app servers and PgBouncer."""

    mode: Literal["allow", "prefer", "require", "verify-ca", "verify-full"] = "prefer"
    cert_file: FilePath = Field(description="on PgBouncer's host, readable to its user")
    key_file: FilePath = Field(description="on PgBouncer's host, readable to its user")
    ca_file: FilePath | None = None


class BouncerPool(Closed):
    """How a PgBouncer pools; what is left out comes from the pool budget."""

    mode: Literal["session", "transaction", "statement"] | None = Field(
        None, description="proposed from what is seen, when left out"
    )
    size: Annotated[int, Field(ge=1)] | None = Field(
        None, description="server connections for each database and role"
    )
    reserve: Annotated[int, Field(ge=0)] = Field(
        0, description="further ones, for clients that have waited"
    )
    max_client_conn: Annotated[int, Field(ge=1)] | None = None


class PgBouncer(Closed):
    """A PgBouncer and its admin console."""

    host: Name | None = Field(None, description="the inventory host that it runs on")
    address: Address | None = Field(
        None, description="where its console is reached; its host's address, when left out"
    )
    database: Name
    port: Annotated[int, Field(ge=1, le=65535)] = 6432
    admin: Credentials
    upstream: Address | None = Field(
        None,
        description="where PgBouncer reaches PostgreSQL; as the database's connect, when left out",
    )
    clients: Address | None = Field(
        None, description="the name by which app servers reach it; its address, when left out"
    )
    client_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None, description="the port that app servers reach it by; `port`, when left out"
    )
    auth: Credentials | None = Field(
        None,
        description="the least-privileged role of auth_query, which `pgbouncer introduce` makes",
    )
    pool: BouncerPool = BouncerPool()
    tls: BouncerTls | None = None
    unit: UnitName = "pgbouncer.service"
    config: FilePath = "/etc/pgbouncer/pgbouncer.ini"


class Defaults(Closed):
    """What holds for every host that says nothing else."""

    ssh: Ssh = Ssh()
    vars: dict[str, Scalar] = Field(default_factory=dict)


class Inventory(Closed):
    """The whole inventory, as read."""

    version: Literal[1]
    environment: Name | None = Field(
        None, description="prod, staging, …: part of the names of the locks on this machine"
    )
    defaults: Defaults = Defaults()
    groups: dict[Name, Group] = Field(default_factory=dict)
    hosts: dict[Name, Host] = Field(default_factory=dict)
    databases: dict[Name, Database] = Field(default_factory=dict)
    services: dict[Name, Service] = Field(default_factory=dict)
    pgbouncers: dict[Name, PgBouncer] = Field(default_factory=dict)
