"""`file`: put a small text file on hosts, or one line into it; with diff, backup and undo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runbook.model.effects import CommandOutcome, Drive, PutFile, ReadCommand, ask
from runbook.model.errors import CommandFailed, ConnectionLost, NotStarted
from runbook.model.fleet import Fleet
from runbook.model.host_files import (
    LARGEST,
    MOVED_ON,
    FileSeen,
    look_argv,
    parse_look,
    sha256,
)
from runbook.model.plan import Result
from runbook.model.step import StepContext, StepType
from runbook.steps.file_args import FileArgs, backup_of, check_path, with_line
from runbook.steps.file_diff import shown_diff
from runbook.steps.service_manager import on_host


class _No(Exception):
    """The file cannot be written, and nothing was changed; the result says why."""

    def __init__(self, summary: str, hint: str = "") -> None:
        super().__init__(summary)
        self.result = Result(status="failed", summary=summary, hint=hint)


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """What a file is, and what it shall be."""

    seen: FileSeen
    content: str
    mode: str | None
    owner: str | None

    @property
    def fulfilled(self) -> bool:
        """Whether the file is as it shall be."""
        return (
            self.seen.kind == "file"
            and self.seen.digest == sha256(self.content)
            and (self.mode is None or int(self.mode, 8) == int(self.seen.mode, 8))
            and (self.owner is None or _owned_by(self.seen.owner, self.owner))
        )


def prepare(args: FileArgs, ctx: StepContext) -> Drive[Result]:
    """Look at the file, and show what would become of it, line by line."""
    try:
        wish = yield from _look(args, ctx)
    except _No as no:
        return no.result
    path = _path(args, ctx)
    kept = {"before": wish.seen.digest, "after": sha256(wish.content)}
    if wish.fulfilled:
        return Result(status="ok", summary=f"{path} is as it shall be: nothing to do", data=kept)
    change = _change(args, ctx, wish)
    return Result(
        status="ok",
        summary=change.sentence(),
        touches=tuple(sorted(change.footprint())),
        data={**kept, "diff": _diff(path, wish)},
    )


def act(args: FileArgs, ctx: StepContext) -> Drive[Result]:
    """Write the file, if it is still as it was shown."""
    path = _path(args, ctx)
    try:
        wish = yield from _look(args, ctx)
    except _No as no:
        return no.result
    before = ctx.given.get("prepared", {}).get("before", wish.seen.digest)
    data = {"path": path, "changed": False, "sha256": sha256(wish.content)}
    if wish.fulfilled:
        return _as_it_shall_be(args, ctx, data)
    if wish.seen.digest != before:
        return _moved_on(f"{path} has changed since it was shown")
    return (yield from _write(args, ctx, wish, data))


def _write(args: FileArgs, ctx: StepContext, wish: _Wish, data: dict[str, Any]) -> Drive[Result]:
    change = _change(args, ctx, wish)
    by_hand = (_check_line(args, ctx, wish), _undo_line(args, ctx, wish))
    try:
        outcome = yield from ask(change)
    except NotStarted as error:
        return Result(status="failed", summary=error.message, hint=error.hint or "")
    except (ConnectionLost, CommandFailed) as error:
        hint = f"the file is whole, as it was or as it shall be: {error.hint or 'look at it'}"
        return Result(status="unknown", summary=error.message, hint=hint, by_hand=by_hand)
    if outcome.exit_code != 0:
        return _not_written(change.path, outcome)
    kept = change.backup if wish.seen.kind == "file" else None
    return Result(
        status="ok",
        summary=f"wrote {change.path}",
        data={**data, "changed": True, "diff": _diff(change.path, wish), "backup": kept},
        touches=tuple(sorted(change.footprint())),
        by_hand=by_hand,
    )


def targets(args: FileArgs, fleet: Fleet) -> tuple[str, ...]:
    """Return the hosts, in the inventory's order; path, content and line are filled in once.

    Raises:
        UsageError: for a selector or a value that does not fit the inventory.
    """
    names = fleet.select(args.hosts)
    for name in names:
        check_path(fleet.expand(args.path, fleet.host(name)))
        for text in (args.line or "", _template(args)):
            fleet.expand(text, fleet.host(name))
    return names


def _look(args: FileArgs, ctx: StepContext) -> Drive[_Wish]:
    path = _path(args, ctx)
    seen = yield from _see(args, ctx, path)
    if seen.kind == "refused":
        raise _No(seen.why, seen.hint)
    content, mode, owner = args.content or "", args.mode, args.owner
    host = ctx.fleet.host(ctx.target)
    if args.restore is not None:
        backup = yield from _backup(args, ctx, backup_of(path, args.restore))
        content, mode, owner = backup.content, mode or backup.mode, owner or backup.owner
    elif args.line is not None:
        content = _with_line(args, seen, ctx.fleet.expand(args.line, host), path)
    elif args.from_file is not None and args.content is None:
        raise _No(f"the file {args.from_file!r} was not read with the playbook")
    else:
        content = ctx.fleet.expand(content, host) if _template(args) else content
    if len(content.encode()) > LARGEST:
        raise _No(f"{path} would have more than {LARGEST:,} bytes")
    return _Wish(seen=seen, content=content, mode=mode, owner=owner)


def _with_line(args: FileArgs, seen: FileSeen, line: str, path: str) -> str:
    try:
        return with_line(seen.content, line, args.match)
    except ValueError as error:
        raise _No(f"{path}: {error}", "make match more exact") from None


def _backup(args: FileArgs, ctx: StepContext, path: str) -> Drive[FileSeen]:
    backup = yield from _see(args, ctx, path)
    if backup.kind == "absent":
        raise _No(
            f"there is no {path}",
            f"run {args.restore} kept no backup here: it did not change the file, or made it",
        )
    if backup.kind == "refused":
        raise _No(backup.why, backup.hint)
    return backup


def _see(args: FileArgs, ctx: StepContext, path: str) -> Drive[FileSeen]:
    outcome: CommandOutcome = yield from ask(
        ReadCommand(
            host=ctx.target,
            argv=look_argv(path, follow=args.follow),
            timeout_s=args.timeout,
            sudo=args.sudo,
            # What stands before the content fits the rest.
            keep_bytes=LARGEST + 8192,
        )
    )
    seen = parse_look(outcome.stdout, path)
    if seen is None:
        said = outcome.stderr.strip() or f"exit code {outcome.exit_code}"
        hint = "is `sudo -n sh` allowed there?" if args.sudo else ""
        raise _No(f"{path} could not be looked at: {said}", hint)
    return seen


def _template(args: FileArgs) -> str:
    """The content in which a host's values are filled in: what stands in the playbook itself."""
    return "" if args.from_file is not None else args.content or ""


def _path(args: FileArgs, ctx: StepContext) -> str:
    return ctx.fleet.expand(args.path, ctx.fleet.host(ctx.target))


def _change(args: FileArgs, ctx: StepContext, wish: _Wish) -> PutFile:
    path = _path(args, ctx)
    return PutFile(
        host=ctx.target,
        path=path,
        content=wish.content,
        expected=wish.seen.digest,
        backup=backup_of(path, ctx.run_id) if args.backup else None,
        mode=wish.mode,
        owner=wish.owner,
        sudo=args.sudo,
        follow=args.follow,
        timeout_s=args.timeout,
    )


def _as_it_shall_be(args: FileArgs, ctx: StepContext, data: dict[str, Any]) -> Result:
    path = data["path"]
    if ctx.given.get("crashed"):
        # The process ended after it had asked for the change, and before it heard the answer.
        backup = backup_of(path, ctx.run_id) if args.backup else None
        summary = f"{path} had been written before the run was cut off"
        return Result(status="ok", summary=summary, data={**data, "backup": backup})
    return Result(status="ok", summary=f"{path} is as it shall be: nothing to do", data=data)


def _not_written(path: str, outcome: CommandOutcome) -> Result:
    said = outcome.stderr.strip().rpartition("\n")[2] or f"exit code {outcome.exit_code}"
    if outcome.exit_code == MOVED_ON:
        return _moved_on(said)
    return Result(status="failed", summary=f"{path} was not written: {said}", hint=_LEFT_ALONE)


_LEFT_ALONE = "the file is as it was"


def _moved_on(said: str) -> Result:
    return Result(
        status="failed",
        summary=f"not written: {said}",
        hint="somebody else, or an earlier step of this run, has changed it: look at it, then run"
        " this again",
    )


def _check_line(args: FileArgs, ctx: StepContext, wish: _Wish) -> str:
    """The command that shows the digest, with the two that it may have."""
    line = _by_hand(args, ctx, "sha256sum", _path(args, ctx))
    after, before = sha256(wish.content)[:12], wish.seen.digest[:12] or "no such file"
    return f"{line}  # written: {after}…; as it was: {before}"


def _undo_line(args: FileArgs, ctx: StepContext, wish: _Wish) -> str:
    path = _path(args, ctx)
    if wish.seen.kind == "absent":
        return f"{_by_hand(args, ctx, 'rm', path)}  # undoes it"
    if not args.backup:
        return f"# {path} on {ctx.target}: no backup was kept (backup: false)"
    return f"{_by_hand(args, ctx, 'cp', '-p', backup_of(path, ctx.run_id), path)}  # undoes it"


def _by_hand(args: FileArgs, ctx: StepContext, *argv: str) -> str:
    sudo = ("sudo",) if args.sudo else ()
    return on_host(ctx.fleet.host(ctx.target), (*sudo, *argv))


def _diff(path: str, wish: _Wish) -> str:
    """Return what changes, as people may see it."""
    old = wish.seen.content
    before = path if wish.seen.kind == "file" else "/dev/null"
    lines = shown_diff(before, path, old, wish.content)
    lines += _rights(wish)
    return "\n".join(lines)


def _rights(wish: _Wish) -> list[str]:
    lines = []
    if wish.mode is not None and wish.seen.kind == "file" and not _same_mode(wish):
        lines.append(f"mode {wish.seen.mode} -> {wish.mode}")
    if (
        wish.owner is not None
        and wish.seen.kind == "file"
        and not _owned_by(wish.seen.owner, wish.owner)
    ):
        lines.append(f"owner {wish.seen.owner} -> {wish.owner}")
    return lines


def _same_mode(wish: _Wish) -> bool:
    return wish.mode is not None and int(wish.mode, 8) == int(wish.seen.mode, 8)


def _owned_by(has: str, wanted: str) -> bool:
    """Whether `user:group` is what `user`, `user:group` or `:group` asks for."""
    user, _, group = wanted.partition(":")
    has_user, _, has_group = has.partition(":")
    return (not user or user == has_user) and (not group or group == has_group)


FILE = StepType(
    verb="file",
    summary="put a small text file on hosts, or one line into it, with diff, backup and undo",
    args=FileArgs,
    phases={"prepare": prepare, "act": act},
    changes=lambda _args: True,
    targets=targets,
    # The file itself says whether it was written.
    after_crash="probe",
    default_timeout_s=120.0,
    undo="file with restore: RUN_ID, or the printed cp of the backup (rm, for a new file)",
    target_kind="host",
    # It looks first, and writes nothing that is there already.
    repeatable=lambda _args: True,
    files={"from_file": "content"},
)
