"""PgBouncer's host as the verbs see it: the look as root, what refuses it, commands there."""

from __future__ import annotations

from typing import Any

from runbook.model.document import visible
from runbook.model.effects import (
    Change,
    ChangeCommand,
    CommandOutcome,
    Drive,
    ReadCommand,
    Say,
    ask,
)
from runbook.model.pgbouncer_config import differences, whose, written_for
from runbook.model.pgbouncer_host import PACKAGE, HostSeen, look_argv, parse_look
from runbook.model.plan import Result
from runbook.steps.bouncer_subject import Bouncer
from runbook.steps.service_manager import on_host

_LOOK_S = 60.0
#: Differences of a foreign configuration that are told one by one.
_TOLD = 6


class CannotSetUp(Exception):
    """It cannot be set up, and nothing was changed; the result says why."""

    def __init__(self, summary: str, hint: str = "") -> None:
        super().__init__(summary)
        self.result = Result(status="refused", summary=summary, hint=hint)


def look_at(bouncer: Bouncer) -> Drive[HostSeen]:
    """Look at the host as root.

    Raises:
        CannotSetUp: when it is not root who looks, or nothing was told.
    """
    entry, tls = bouncer.entry, bouncer.entry.tls
    readable = [path for path in (server_ca(bouncer),) if path]
    readable += [p for p in (tls.cert_file, tls.key_file, tls.ca_file) if p] if tls else []
    files = (entry.config, bouncer.auth_file, bouncer.dropin)
    argv = look_argv(entry.unit, files, bouncer.listens, tuple(readable))
    outcome: CommandOutcome = yield from ask(
        ReadCommand(
            host=bouncer.host.name,
            argv=argv,
            timeout_s=_LOOK_S,
            sudo=bouncer.host.sudo,
            keep_bytes=1024 * 1024,
        )
    )
    seen = parse_look(outcome.stdout)
    if seen is None or not seen.root:
        said = visible(outcome.stderr.strip().rpartition("\n")[2]) or "it is not root who looked"
        user = bouncer.host.ssh.user or "USER"
        raise CannotSetUp(
            f"{bouncer.host.name} could not be looked at as root: {said}",
            f"for as long as this takes, in sudoers there: {user} ALL=(root) NOPASSWD: ALL",
        )
    return seen


def refuse(bouncer: Bouncer, seen: HostSeen) -> None:
    """Refuse what no step of ours may touch, each with how to go on."""
    entry, host = bouncer.entry, bouncer.host.name
    if not seen.said.get("systemd"):
        raise CannotSetUp(f"{host} has no systemd", "PgBouncer is set up as a unit of systemd's")
    if not seen.installed:
        _refuse_package(bouncer, seen)
    elif seen.said.get("LoadState") == "not-found":
        raise CannotSetUp(
            f"{host} has a pgbouncer, and no unit {entry.unit}",
            f"name its unit in pgbouncers.{bouncer.name}.unit",
        )
    _refuse_port(bouncer, seen)
    # Without the package there is nothing to mask: an install that was killed has left it so.
    if seen.masked and seen.installed:
        raise CannotSetUp(
            f"{entry.unit} on {host} is masked: somebody does not want it to run",
            f"ask why; then: {on_host(bouncer.host, ('sudo', 'systemctl', 'unmask', entry.unit))}",
        )
    if seen.unreadable:
        raise CannotSetUp(
            f"on {host}: {'; '.join(seen.unreadable)}",
            f"pgbouncers.{bouncer.name}.tls and the database's connect.sslrootcert name files that"
            " PgBouncer itself has to read",
        )
    for name in ("config", "auth", "dropin"):
        if getattr(seen, name).kind in {"link", "other"}:
            raise CannotSetUp(f"on {host}: {_path(bouncer, name)} is no regular file")


def _path(bouncer: Bouncer, name: str) -> str:
    paths = {"config": bouncer.entry.config, "auth": bouncer.auth_file, "dropin": bouncer.dropin}
    return paths[name]


def _refuse_package(bouncer: Bouncer, seen: HostSeen) -> None:
    host = bouncer.host.name
    if seen.said.get("package", "").startswith("ii"):
        raise CannotSetUp(
            f"dpkg says that {PACKAGE} is installed on {host}, and there is no such program",
            f"sudo apt-get install --reinstall {PACKAGE}",
        )
    if seen.said.get("apt") != "yes":
        raise CannotSetUp(
            f"{host} has no pgbouncer, and no apt to install it with",
            f"install it by the host's own means, leave it stopped, and run this again: its version"
            f" and unit are looked at ({bouncer.entry.unit})",
        )
    simulated = seen.said.get("simulated", "")
    if simulated != "ok":
        why = visible(simulated.removeprefix("no: ")) or "apt has no candidate"
        raise CannotSetUp(
            f"{PACKAGE} cannot be installed on {host}: {why}",
            "where the lists are old: sudo apt-get update. Without a way to Debian's archive: bring"
            f" the package (apt-get download {PACKAGE} libevent-2.1-7 on a machine of the same"
            f" release), then sudo apt-get install ./{PACKAGE}_*.deb ./libevent*.deb; or name a"
            " mirror of your own in /etc/apt/sources.list.d. Then run this again",
        )


def _refuse_port(bouncer: Bouncer, seen: HostSeen) -> None:
    listener, entry = seen.listener, bouncer.entry
    if listener is None:
        return
    name, pid = listener
    if str(pid) == seen.said.get("MainPID") and pid:
        return
    who = f"{name} (pid {pid})" if pid else name
    where = f"port {bouncer.listens} on {bouncer.host.name}"
    raise CannotSetUp(
        f"{where} is taken by {who}, which is not {entry.unit}",
        f"give pgbouncers.{bouncer.name} another port, or a `unit` and a `config` where that is the"
        " PgBouncer that is meant",
    )


def refuse_theirs(bouncer: Bouncer, seen: HostSeen, ours: str) -> None:
    """Refuse to overwrite a configuration that is not as we have written it; say what differs."""
    entry, host = bouncer.entry, bouncer.host.name
    kind = whose(seen.text)
    if seen.pristine or (kind == "ours" and written_for(seen.text) == bouncer.name):
        return
    if kind == "ours":
        other = written_for(seen.text)
        raise CannotSetUp(
            f"{entry.config} on {host} was written for pgbouncers.{other}",
            "two PgBouncers on one host need a config, a unit and a port of their own each",
        )
    if kind == "edited":
        raise CannotSetUp(
            f"{entry.config} on {host} was changed by hand since it was written",
            f"{_told(seen.text, ours)}. Take the change over into the inventory, or give it up:"
            " -p overwrite=true replaces the file, and keeps it beside the new one",
        )
    raise CannotSetUp(
        f"there is a PgBouncer on {host} already, configured by somebody else ({entry.config})",
        f"{_told(seen.text, ours)}. To use it as it is: a playbook with `rolling` and its url leads"
        " services to it. To have this configuration in its place: -p overwrite=true, which keeps"
        " the old file beside the new one",
    )


def _told(theirs: str, ours: str) -> str:
    lines = differences(theirs, ours)
    more = f"; and {len(lines) - _TOLD} more" if len(lines) > _TOLD else ""
    return "; ".join(visible(line) for line in lines[:_TOLD]) + more


def command(bouncer: Bouncer, *argv: str, timeout_s: float = 60.0) -> ChangeCommand:
    """Return a command on PgBouncer's host, as root."""
    host = bouncer.host
    return ChangeCommand(host=host.name, argv=argv, timeout_s=timeout_s, sudo=host.sudo)


def made(change: Change[Any], done: list[str], stage: str = "setting up") -> Drive[None]:
    """Make one change, and take it down.

    Raises:
        CannotSetUp: it said no; its last words say why.
    """
    yield from ask(Say(stage=stage, text=change.sentence()))
    outcome: CommandOutcome = yield from ask(change)
    if outcome.exit_code != 0:
        said = visible(" ".join((outcome.stderr or outcome.stdout).split()))[-300:]
        raise CannotSetUp(f"{change.sentence()}: exit code {outcome.exit_code}: {said}")
    done.append(change.sentence())


def server_ca(bouncer: Bouncer) -> str | None:
    """Return the file by which PgBouncer verifies the server, where that is asked for."""
    connect = bouncer.database.connect
    verifies = connect.sslmode in {"verify-ca", "verify-full"}
    return connect.sslrootcert if verifies else None
