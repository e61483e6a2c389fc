"""The doctor's look at hosts: does the login work, and does sudo allow what an incident needs?

Only what a NOPASSWD rule of `sudo -n -l` names counts as allowed; nothing is run with sudo here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from runbook.model.doctor import Check, CheckStatus
from runbook.model.document import visible
from runbook.model.effects import CommandOutcome, ReadCommand
from runbook.model.errors import DoorError
from runbook.model.fleet import ResolvedHost
from runbook.model.sudo import LIST_ARGV, sudo_problem, sudo_user, sudoers_line
from runbook.steps.doctor_scope import Scope, Seen, Subject
from runbook.steps.service_manager import manager_of

#: Seconds for a command that does nothing, once logged in: a host that takes longer is in trouble.
LOOK_TIMEOUT_S = 10.0

SS = ("/usr/bin/ss",)
PSQL = ("/usr/bin/psql",)
SH = ("/bin/sh",)

SUDOERS = "a line of its own, there, with: visudo -f /etc/sudoers.d/runbook"


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """One command that runbook runs with sudo on a host."""

    name: str
    argv: tuple[str, ...]
    as_user: str
    #: What its absence costs, and how bad that is.
    costs: str
    status: CheckStatus = "missing"
    #: The database whose rung `local` proves it by opening: psql may well live elsewhere.
    proved_by: str | None = None


# ---- looks ---------------------------------------------------------------------------------


def login(host: str) -> ReadCommand:
    """Return the look that logs in and does nothing."""
    return ReadCommand(host=host, argv=("true",), timeout_s=LOOK_TIMEOUT_S)


def answers(seen: Seen, host: str) -> bool:
    """Whether the login on a host works."""
    return isinstance(seen.of(login(host)), CommandOutcome)


def first(scope: Scope, _seen: Seen) -> Iterator[ReadCommand]:
    """Yield a login on every host."""
    yield from (login(name) for name in scope.hosts)


def second(scope: Scope, seen: Seen) -> Iterator[ReadCommand]:
    """Yield sudo's own listing, where there is something to look for in it."""
    for name, host in scope.hosts.items():
        if answers(seen, name) and tuple(_needs(host, scope)):
            yield _listing(name)


def _listing(host: str) -> ReadCommand:
    return ReadCommand(host=host, argv=LIST_ARGV, timeout_s=LOOK_TIMEOUT_S)


def lacks(scope: Scope, seen: Seen, host: str, rule: str) -> bool:
    """Whether a host answers, and has not the sudo rule of that name."""
    where = scope.hosts[host]
    needs = tuple(need for need in _needs(where, scope) if need.name == rule)
    checks = _sudo(Subject(area="hosts", name=host), where, needs, seen)
    return answers(seen, host) and any(check.status == "missing" for check in checks)


# ---- what a host needs ---------------------------------------------------------------------


def _needs(host: ResolvedHost, scope: Scope) -> Iterator[Need]:
    """Yield each command that runbook runs with sudo on this host."""
    yield from dict.fromkeys(_database_needs(host, scope))
    if not host.sudo:
        return
    sockets = False
    for name, service, where in scope.seats():
        if where.name == host.name:
            argv = manager_of(name, service, host, scope.fleet).restart_argv()
            costs = f"{name} cannot be restarted here"
            yield Need(name="sudo-restart", argv=argv, as_user="root", costs=costs)
            sockets = sockets or service.database is not None
    if sockets:
        costs = "which process holds a connection is not seen, so fewer leaks are proved"
        yield Need(name="sudo-ss", argv=SS, as_user="root", costs=costs, status="warning")


def _database_needs(host: ResolvedHost, scope: Scope) -> Iterator[Need]:
    """The rungs `local` and `os` work as the server's own user."""
    for name, database in scope.databases.items():
        if database.host != host.name:
            continue
        user = database.local.os_user if database.local else "postgres"
        if host.ssh.user == user:
            continue
        if database.local is not None:
            costs = f"the rung local of {name} stays shut"
            yield Need(name="sudo-psql", argv=PSQL, as_user=user, costs=costs, proved_by=name)
        costs = f"sessions of {name} cannot be terminated when no connection opens (rung os)"
        yield Need(name="sudo-sh", argv=SH, as_user=user, costs=costs)


# ---- judging -------------------------------------------------------------------------------


def judge(scope: Scope, seen: Seen) -> Iterator[Check]:
    """Yield the login of each host, and each of its sudo rules."""
    for name, host in scope.hosts.items():
        subject = Subject(area="hosts", name=name)
        yield _login_check(subject, seen)
        needs = tuple(_needs(host, scope))
        if needs and answers(seen, name):
            yield from _sudo(subject, host, needs, seen)


def _login_check(subject: Subject, seen: Seen) -> Check:
    outcome = seen.of(login(subject.name))
    if isinstance(outcome, CommandOutcome):
        if outcome.ok:
            return subject.check("login", "ok", "answers", seconds=outcome.seconds)
        said = f"the login works, but `true` exits with {outcome.exit_code}"
        hint = "the account's shell, or a ForceCommand of sshd, stands in between"
        return subject.check("login", "missing", said, hint)
    if isinstance(outcome, DoorError):
        return subject.failed("login", outcome)
    return subject.check("login", "skipped", "it was not looked at")


def _sudo(
    subject: Subject, host: ResolvedHost, needs: tuple[Need, ...], seen: Seen
) -> Iterator[Check]:
    outcome = seen.of(_listing(host.name))
    listing = outcome.stdout if isinstance(outcome, CommandOutcome) else ""
    user = sudo_user(listing) or host.ssh.user or "USER"
    for need in needs:
        proved = need.proved_by is not None and seen.opened(need.proved_by, "local")
        problem = None if proved else _problem(listing, outcome, need)
        if problem is None:
            yield subject.check(
                need.name, "ok", f"may run {' '.join(need.argv)} without a password"
            )
            continue
        said = f"sudo for `{' '.join(need.argv)}` as {need.as_user}: {problem}; {need.costs}"
        line = sudoers_line(user, need.argv, need.as_user)
        yield subject.check(need.name, need.status, said, SUDOERS, line)


def _problem(listing: str, outcome: CommandOutcome | DoorError | None, need: Need) -> str | None:
    if isinstance(outcome, DoorError):
        return f"its rules could not be listed: {outcome.message}"
    if outcome is not None and outcome.exit_code != 0:
        said = visible(outcome.stderr.strip().partition("\n")[0])
        return f"its rules could not be listed: {said or outcome.exit_code}"
    return sudo_problem(listing, need.argv, need.as_user)
