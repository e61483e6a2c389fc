"""What paramiko, the socket and the resolver raise while a connection opens, in our own words."""

from __future__ import annotations

import shlex
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runbook.model.document import visible
from runbook.model.errors import DoorError, HostKeyRejected, LoginRejected, Unreachable

if TYPE_CHECKING:
    import paramiko


@dataclass(frozen=True, kw_only=True, slots=True)
class Whither:
    """Where a connection was to lead, for messages."""

    #: The inventory's name of the host.
    host: str
    address: str
    port: int
    user: str
    #: Identity files that were tried, and whether each exists.
    identities: tuple[tuple[str, bool], ...]
    #: The files that say which host keys are trusted.
    known_hosts: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.host} ({self.user}@{self.address}:{self.port})"

    @property
    def key_name(self) -> str:
        """The name under which known_hosts keeps this host's key."""
        return self.address if self.port == 22 else f"[{self.address}]:{self.port}"

    @property
    def by_hand(self) -> str:
        """The command that tries the same by hand."""
        port = "" if self.port == 22 else f" -p {self.port}"
        return f"ssh{port} {self.user}@{self.address} true"


def unknown_host_key(whither: Whither, key: paramiko.PKey) -> HostKeyRejected:
    """The host showed a key of which known_hosts says nothing."""
    files = ", ".join(whither.known_hosts)
    return HostKeyRejected(
        f"{whither}: its host key is not known: {_fingerprint(key)} is not in {files}",
        # Asking over the same network again would prove nothing.
        hint="compare the fingerprint with the host's own, on its console (ssh-keygen -lf"
        " /etc/ssh/ssh_host_ed25519_key.pub); if it is right:"
        f" {_scan(whither)} >> {shlex.quote(whither.known_hosts[0])}",
    )


def changed_host_key(
    whither: Whither, shown: paramiko.PKey, expected: paramiko.PKey
) -> HostKeyRejected:
    """The host showed another key than known_hosts has."""
    name, file = shlex.quote(whither.key_name), shlex.quote(whither.known_hosts[0])
    return HostKeyRejected(
        f"{whither}: its host key has changed: it shows {_fingerprint(shown)}, but"
        f" {', '.join(whither.known_hosts)} has {_fingerprint(expected)}",
        hint="somebody may be in between. If the host was set up anew, check the fingerprint on"
        f" its console, then: ssh-keygen -R {name} -f {file} && {_scan(whither)} >> {file}",
    )


def connect_error(  # noqa: C901, PLR0911 - a table of cases
    error: Exception, whither: Whither
) -> DoorError:
    """Translate what was raised while a connection opened; nothing has been done on the host."""
    import paramiko

    match error:
        case DoorError():
            return error
        case paramiko.BadHostKeyException():
            return changed_host_key(whither, error.key, error.expected_key)
        case paramiko.PasswordRequiredException():
            return _login(whither, "the identity file is locked with a passphrase")
        case paramiko.AuthenticationException() if "transport shut down" in str(error):
            return _away(
                whither,
                "the host cut the connection during the login",
                "is it starting up or shutting down, is the account locked, is sshd overloaded?",
            )
        case paramiko.AuthenticationException():
            return _login(whither, _plain(error))
        case paramiko.SSHException() if "No authentication methods" in str(error):
            return _login(whither, "there is no key to offer")
        case socket.gaierror():
            return Unreachable(
                f"{whither}: the name {whither.address} cannot be resolved",
                hint=f"hosts.{whither.host}.address in the inventory names the host; does"
                f" `getent hosts {whither.address}` know it?",
            )
        case paramiko.SSHException() if "Timeout opening channel" in str(error):
            return _away(
                whither,
                "the jump host did not reach it in time",
                "is it up, and is the port open from the jump host?",
            )
        case TimeoutError():
            return _away(whither, "no answer in time", "is it up, and is the port open from here?")
        case paramiko.ssh_exception.NoValidConnectionsError():
            reasons = {cause.strerror or str(cause) for cause in error.errors.values()}
            why = ", ".join(sorted(reasons)).lower()
            return _away(whither, why, "is sshd running there, and is this its port?")
        case OSError():
            why = (error.strerror or str(error)).lower()
            return _away(whither, why, "is it up, and is there a route from here?")
        case _:
            return _away(whither, _plain(error), "does an SSH server answer on this port?")


def _login(whither: Whither, why: str) -> LoginRejected:
    tried = [
        path if exists else f"{path} (there is no such file)" for path, exists in whither.identities
    ]
    return LoginRejected(
        f"{whither}: the login was refused: {why}; tried: {', '.join([*tried, 'the SSH agent'])}",
        hint=f"try it by hand: {whither.by_hand}; the inventory's keys are ssh.user and"
        " ssh.identity_file; `ssh-add` unlocks a key with a passphrase",
    )


def _away(whither: Whither, why: str, question: str) -> Unreachable:
    return Unreachable(
        f"{whither}: no connection: {why}", hint=f"{question} By hand: {whither.by_hand}"
    )


def _scan(whither: Whither) -> str:
    port = "" if whither.port == 22 else f"-p {whither.port} "
    return f"ssh-keyscan {port}{whither.address}"


def _fingerprint(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.fingerprint}"


def _plain(error: Exception) -> str:
    """The error's own words; a server's text is data, never terminal control."""
    return visible(str(error).strip().rstrip(".")) or type(error).__name__
