"""Opens SSH connections as fabric does: ~/.ssh/config, jump hosts, identity files, the agent."""

from __future__ import annotations

import logging
import os
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook.adapters.ssh_errors import Whither, connect_error
from runbook.adapters.ssh_known_hosts import KnownHosts
from runbook.model.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    import fabric

    from runbook.model.fleet import ResolvedHost
    from runbook.model.inventory import Ssh

#: Seconds to reach a host, when neither the inventory nor ssh_config says otherwise.
CONNECT_TIMEOUT_S = 10.0
#: A login may take longer than a connection: the host asks directories, writes logs.
_AUTH_TIMEOUT_S = 20.0
_KEEPALIVE_S = 15
#: The kernel gives a connection up when the peer confirms nothing for this long.
_PEER_SILENT_MS = 30_000
_SYSTEM_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts"


class Connector:
    """Opens one connection after the other, from several threads; keeps none."""

    def __init__(self) -> None:
        self._known = KnownHosts()
        self._config: Any = None
        #: Identity files as keys; None for one that paramiko has to be asked about each time.
        self._keys: dict[str, Any] = {}
        self._lock = threading.Lock()
        # paramiko logs every hiccup, with tracebacks; what matters reaches the user as an error.
        logging.getLogger("paramiko").addHandler(logging.NullHandler())

    def open(self, host: ResolvedHost) -> fabric.Connection:
        """Return an open connection to `host`, through its jump hosts.

        Raises:
            Unreachable: HostKeyRejected and LoginRejected among them; nothing was done there.
        """
        connection = self._prepare(host)
        whither = self._secure(host, connection)
        try:
            connection.open()
            _keep_alive(connection.transport)
        except Exception as error:  # noqa: BLE001 - whatever a library raises ends here
            hang_up(connection)
            raise connect_error(error, whither) from None
        return connection

    def _prepare(self, host: ResolvedHost) -> fabric.Connection:
        import fabric

        ssh, config = host.ssh, self._fabric_config()
        try:
            connection = fabric.Connection(
                host.address,
                user=ssh.user,
                port=ssh.port,
                config=config,
                gateway=_gateway(ssh.jump, config),
                connect_kwargs=_key_options(ssh.identity_file),
            )
        except Exception as error:  # noqa: BLE001 - a broken ~/.ssh/config, a jump like `a:b:c`
            raise Unreachable(
                f"{host.name}: the SSH settings cannot be used: {error}",
                hint=f"look at ~/.ssh/config and at hosts.{host.name}.ssh in the inventory",
            ) from None
        self._settle_all(connection, ssh)
        return connection

    def _settle_all(self, connection: fabric.Connection, ssh: Ssh) -> None:
        """Decide on keys and timeouts of every hop, jump hosts included."""
        beyond_s: float | None = None
        for hop in _hops(connection):
            if ssh.identity_file and not hop.connect_kwargs.get("key_filename"):
                # A jump host of which ssh_config says nothing takes the host's own key.
                hop.connect_kwargs = {**hop.connect_kwargs, **_key_options(ssh.identity_file)}
            _settle(hop, ssh.connect_timeout)
            # A jump host opens a channel to the next hop; paramiko would wait an hour for it.
            hop.connect_kwargs["channel_timeout"] = beyond_s or hop.connect_timeout
            beyond_s = hop.connect_timeout
            self._bring_key(hop.connect_kwargs)

    def _secure(self, host: ResolvedHost, connection: fabric.Connection) -> Whither:
        """Have every hop verify its host key, jump hosts included; return where we are going."""
        whithers = []
        for hop in _hops(connection):
            identities = hop.connect_kwargs.pop("runbook_identities")
            name = host.name if hop is connection else f"{host.name}, jump host {hop.host}"
            whither = Whither(
                host=name,
                address=hop.host,
                port=hop.port,
                user=hop.user,
                identities=identities,
                known_hosts=_known_hosts_files(host.ssh.known_hosts, hop.ssh_config),
            )
            self._known.trust(hop.client, whither, hop.ssh_config.get("hostkeyalias"))
            whithers.append(whither)
        return whithers[0]

    def _bring_key(self, options: dict[str, Any]) -> None:
        """Hand a single identity file over as a key, parsed once for all hosts.

        Left to itself paramiko parses it for each connection, as every kind of key in turn.
        """
        if len(options["key_filename"]) != 1:
            return
        (path,) = options["key_filename"]
        with self._lock:
            if path not in self._keys:
                self._keys[path] = _load_key(path)
        if self._keys[path] is not None:
            options.update(pkey=self._keys[path], key_filename=[])

    def _fabric_config(self) -> Any:
        """Read ssh_config once; fabric's own files (~/.fabric.py is code) are not read at all."""
        import fabric

        with self._lock:
            if self._config is None:
                # fabric assigns this attribute without declaring it, which invoke takes for a
                # change of the configuration: the one that all connections share would be merged
                # anew by every thread, under the feet of the others.
                if not hasattr(fabric.Connection, "inline_ssh_env"):
                    fabric.Connection.inline_ssh_env = None
                config = fabric.Config(lazy=True)
                config.load_ssh_config()
                self._config = config
            return self._config


def hang_up(connection: fabric.Connection) -> None:
    """Close a connection and its jump hosts at once.

    The socket is shut first: paramiko's thread looks at it only ten times a second, and would
    make every close wait for that.
    """
    for hop in _hops(connection):
        transport = hop.client.get_transport()
        with suppress(Exception):
            if transport is not None:
                transport.sock.shutdown(socket.SHUT_RDWR)
        with suppress(Exception):
            hop.close()
        with suppress(Exception):
            hop.client.close()


def _hops(connection: Any) -> Iterator[Any]:
    """Yield the connection, then the jump host that it goes through, and so on outwards."""
    while connection is not None and hasattr(connection, "client"):
        yield connection
        connection = connection.gateway


def _gateway(jump: str | None, config: Any) -> Any:
    """Return the connection to go through, as `ssh -J a,b` does; None leaves it to ssh_config."""
    import fabric

    if jump is None:
        return None
    if jump == "none":
        return False
    gateway = None
    for hop in jump.split(","):
        gateway = fabric.Connection(
            hop.strip(), config=config, gateway=gateway, connect_kwargs=_key_options(None)
        )
    return gateway


def _key_options(identity_file: str | None) -> dict[str, Any]:
    # Never empty: fabric would hand every host the one mapping of its configuration.
    files = [identity_file] if identity_file else []
    return {"allow_agent": True, "key_filename": files}


def _load_key(path: str) -> Any:
    """Return the key, or None for one that is locked or broken: paramiko says what is wrong."""
    import paramiko

    try:
        return paramiko.PKey.from_path(path)
    except Exception:  # noqa: BLE001 - its own errors, cryptography's, the file's
        return None


def _settle(hop: Any, timeout_s: float | None) -> None:
    """Decide on keys and timeouts, once fabric has read ssh_config for this hop."""
    options = hop.connect_kwargs
    named = [os.path.expanduser(path) for path in options.get("key_filename") or ()]  # noqa: PTH111
    identities = tuple((path, Path(path).is_file()) for path in dict.fromkeys(named))
    # OpenSSH passes over a missing identity file; paramiko would raise.
    options["key_filename"] = [path for path, exists in identities if exists]
    options["look_for_keys"] = not identities
    options["runbook_identities"] = identities or (("~/.ssh/id_*", True),)
    hop.connect_timeout = timeout_s or hop.connect_timeout or CONNECT_TIMEOUT_S
    options["banner_timeout"] = hop.connect_timeout
    options["auth_timeout"] = max(_AUTH_TIMEOUT_S, hop.connect_timeout)


def _known_hosts_files(named: str | None, ssh_config: Any) -> tuple[str, ...]:
    """The inventory's file; else ssh_config's or the user's own, and the system's."""
    if named is not None:
        return (str(Path(named).expanduser()),)
    files = ssh_config.get("userknownhostsfile", "~/.ssh/known_hosts").split()
    return (*(str(Path(file).expanduser()) for file in files), _SYSTEM_KNOWN_HOSTS)


def _keep_alive(transport: Any) -> None:
    transport.set_keepalive(_KEEPALIVE_S)
    sock = transport.sock
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _PEER_SILENT_MS)
