"""The proof that sudo will let us run a command, before anything hangs on it."""

from __future__ import annotations

from runbook.model.document import visible
from runbook.model.effects import CommandOutcome
from runbook.model.errors import DoorError
from runbook.model.fleet import ResolvedHost
from runbook.model.sudo import LIST_ARGV, sudo_problem, sudo_user, sudoers_line
from runbook.model.systemd import Unfit


def sudo_unfit(
    host: ResolvedHost, outcome: CommandOutcome | DoorError, argvs: tuple[tuple[str, ...], ...]
) -> Unfit | None:
    """Say which of these commands sudo is not proven to allow on a host."""
    unproven = ((argv, _unproven(outcome, argv)) for argv in argvs)
    argv, problem = next(((a, why) for a, why in unproven if why is not None), ((), None))
    if problem is None:
        return None
    listed = sudo_user(outcome.stdout) if isinstance(outcome, CommandOutcome) else None
    line = sudoers_line(listed or host.ssh.user or "USER", argv)
    return Unfit(
        problem=f"sudo for `{' '.join(argv)}` is unproven: {problem}",
        hint=f"this line in sudoers (visudo) allows exactly it: {line}",
    )


def _unproven(outcome: CommandOutcome | DoorError, argv: tuple[str, ...]) -> str | None:
    if isinstance(outcome, DoorError):
        return outcome.message
    if outcome.exit_code != 0:
        said = visible(outcome.stderr.strip().partition("\n")[0])
        return f"{' '.join(LIST_ARGV)} was refused: {said or outcome.exit_code}"
    return sudo_problem(outcome.stdout, argv)
