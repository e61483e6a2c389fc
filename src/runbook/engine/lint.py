"""`playbooks validate --strict`: what is allowed, and what an on-call engineer will regret.

Each check has a code, says why it matters and how to mend it, and is one line in a table. A comment
`# strict: allow CODE` on the line itself, or on the one above it, silences it there.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from runbook.engine.names import changes, names_in_args, names_in_condition
from runbook.engine.written import Playbook, RawStep
from runbook.model.document import Document, DocumentPath, Place, Problem, split_lines
from runbook.model.errors import UsageError
from runbook.model.fleet import Fleet
from runbook.model.redaction import OUT, redacted
from runbook.model.templates import placeholders
from runbook.model.validation import problem_at

_ALLOW = re.compile(r"#\s*strict:\s*allow\s+([a-z, -]+)")
#: What a shell is needed for: everything else is a program and its words.
_SHELL = re.compile(r"[|&;<>()$`*?\[\]#~=%{}!\n]|^\s*(?:if|for|while|case|cd|export|set|\.)\s")
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh"})
#: Programs that change something whatever their words.
_DOERS = frozenset(
    {"rm", "mv", "cp", "kill", "killall", "pkill", "reboot", "shutdown", "halt", "poweroff"}
    | {"dd", "truncate", "tee", "chmod", "chown", "mkfs", "dropdb", "createdb", "pg_ctlcluster"}
)
_MANAGERS = frozenset(
    {"systemctl", "service", "supervisorctl", "pg_ctl", "pg_ctlcluster", "docker"}
)
_RESTARTS = frozenset({"restart", "try-restart", "reload-or-restart", "force-reload"})
_ACTS = _RESTARTS | {"start", "stop", "reload", "kill", "mask", "disable", "enable", "rm"}


@dataclass(frozen=True, kw_only=True)
class Lint:
    """One check: its code, why it is made, and how to mend what it finds."""

    code: str
    why: str
    mend: str
    find: Callable[[Playbook, Fleet | None], Iterator[tuple[DocumentPath, str]]]


def lint(playbook: Playbook, fleet: Fleet | None = None) -> tuple[Problem, ...]:
    """Return what the checks find in a playbook and in all that it includes.

    What hangs on the inventory (a service's gates) is looked at only with a fleet.
    """
    found: list[Problem] = []
    for one in _books(playbook, []):
        lines = split_lines(one.document.text)
        for check in LINTS:
            for path, what in check.find(one, fleet):
                hint = f"{check.mend} ({check.why})"
                problem = problem_at(one.document, path, f"{what} [{check.code}]", hint)
                if not _allowed(check.code, problem, lines):
                    found.append(problem)
    return tuple(sorted(found, key=lambda p: _by_place(p, playbook.document)))


def _by_place(problem: Problem, first: Document) -> tuple[bool, str, int, int]:
    place = problem.place or Place(first.source, 1, 1)
    return place.file != first.source, place.file, place.line, place.column


def _books(playbook: Playbook, seen: list[str]) -> Iterator[Playbook]:
    if playbook.document.source in seen:
        return
    seen.append(playbook.document.source)
    yield playbook
    for step, _ in playbook.all_steps():
        if step.include is not None:
            yield from _books(step.include.playbook, seen)


def _allowed(code: str, problem: Problem, lines: list[str]) -> bool:
    line = problem.place.line if problem.place else 1
    near = lines[max(0, line - 2) : line]
    codes = [
        word.strip() for text in near for m in _ALLOW.finditer(text) for word in m[1].split(",")
    ]
    return code in codes


# ---- what a step does ------------------------------------------------------------------------


def _words(step: RawStep) -> list[str]:
    """Return the words of the command that a step runs, as far as they can be told."""
    verb = step.verb.verb if step.verb else ""
    if verb == "command":
        argv = step.args.get("argv")
        return [str(word) for word in argv] if isinstance(argv, list | tuple) else []
    if verb == "shell":
        text = step.args.get("line")
    else:
        text = step.contents.get("text", step.args.get("text")) if verb == "script" else None
    return re.findall(r"[^\s;|&()]+", text) if isinstance(text, str) else []


def _restarts(step: RawStep) -> bool:
    """Whether a step restarts something by itself, without gates of its own."""
    if step.verb is not None and step.verb.verb == "service":
        return any(str(step.args.get(key)) in _RESTARTS for key in ("action", "do", "state"))
    names = [PurePosixPath(word).name for word in _words(step)]
    managed = any(name in _MANAGERS for name in names)
    return managed and any(name in _RESTARTS for name in names) and changes(step) is not False


def _acts(step: RawStep) -> str | None:
    """Return the words with which a command changes something, or None."""
    names = [PurePosixPath(word).name for word in _words(step)]
    program = next((name for name in names if name not in {"sudo", "env", "-n"}), "")
    if program in _DOERS:
        return program
    if program in _MANAGERS:
        act = next((name for name in names if name in _ACTS), None)
        return act and f"{program} {act}"
    return None


def _lists(playbook: Playbook) -> Iterator[tuple[RawStep, ...]]:
    yield playbook.steps
    yield playbook.always
    for step in playbook.steps:
        yield step.on_failure


# ---- the checks ------------------------------------------------------------------------------

_Found = Iterator[tuple[DocumentPath, str]]


def _no_summary(playbook: Playbook, _fleet: Fleet | None) -> _Found:
    if not playbook.frame.summary:
        yield (), "the playbook has no summary"


def _undescribed(playbook: Playbook, _fleet: Fleet | None) -> _Found:
    for name, spec in playbook.frame.parameters.items():
        if not spec.description:
            yield ("parameters", name), f"parameter {name} has no description"


def _unused_parameter(playbook: Playbook, _fleet: Fleet | None) -> _Found:
    text = playbook.document.text
    for name in playbook.frame.parameters:
        if not re.search(rf"params\.{name}\b", text):
            yield ("parameters", name), f"parameter {name} is used nowhere"


def _unbounded_target(playbook: Playbook, _fleet: Fleet | None) -> _Found:
    target = playbook.frame.target
    acts = any(changes(step) is not False for step, _ in playbook.all_steps())
    if target.kind == "hosts" and target.max is None and acts:
        yield ("target",), "any number of hosts may be named, all of them at once too"


def _unbounded_hosts(playbook: Playbook, _fleet: Fleet | None) -> _Found:
    for step, _ in playbook.all_steps():
        if changes(step) is False or (step.verb is not None and step.verb.flow == "rolling"):
            continue
        hosts = str(step.args.get("hosts", ""))
        where = (*step.args_path, "hosts")
        if hosts.strip() in {"all", "*"}:
            yield where, f"{step.frame.name!r} changes every host of the inventory at once"
        for name in placeholders(hosts):
            spec = playbook.frame.parameters.get(name.removeprefix("params."))
            if spec is not None and spec.type == "hosts" and spec.max is None:
                yield where, f"{step.frame.name!r} takes any number of hosts from {name}"


def _unchecked_restart(playbook: Playbook, _fleet: Fleet | None) -> _Found:
    for steps in _lists(playbook):
        for index, step in enumerate(steps):
            if _restarts(step) and not _looked_at(steps[index + 1 :]):
                yield step.path, f"nothing looks whether {step.frame.name!r} came back healthy"


def _looked_at(after: tuple[RawStep, ...]) -> bool:
    """Whether a look comes before the next change."""
    for step in after:
        if step.include is not None or changes(step) or _acts(step):
            return False
        if step.verb is not None and step.verb.verb in {"check", "query", "command", "diagnose"}:
            return True
    return False


def _ungated_service(playbook: Playbook, fleet: Fleet | None) -> _Found:
    for step, _ in playbook.all_steps():
        if fleet is None or step.verb is None or step.verb.flow != "rolling":
            continue
        for name in _services(str(step.args.get("service", "")), fleet):
            try:
                gates = fleet.service(name).gates
            except UsageError as error:
                yield (*step.args_path, "service"), error.message
                continue
            if not gates:
                message = (
                    f"{name} has no health gate: it is restarted, and only its unit is watched"
                )
                yield (*step.args_path, "service"), message


def _services(said: str, fleet: Fleet) -> list[str]:
    """A placeholder may be any of them."""
    return list(fleet.inventory.services) if placeholders(said) else [said]


def _needless_shell(playbook: Playbook, _fleet: Fleet | None) -> _Found:
    for step, _ in playbook.all_steps():
        line, where = _shell_line(step)
        if line is not None and not _SHELL.search(line):
            argv = _as_argv(line)
            yield where, f"this line needs no shell: command with argv: {argv}"


def _shell_line(step: RawStep) -> tuple[str | None, DocumentPath]:
    verb = step.verb.verb if step.verb else ""
    if verb == "shell" and isinstance(step.args.get("line"), str):
        return step.args["line"], (*step.args_path, "line")
    words = _words(step) if verb == "command" else []
    if len(words) == 3 and PurePosixPath(words[0]).name in _SHELLS and words[1] in {"-c", "-ec"}:
        return words[2], (*step.args_path, "argv")
    return None, step.path


def _as_argv(line: str) -> str:
    try:
        return f"[{', '.join(shlex.split(line))}]"
    except ValueError:  # a quote that is not closed: the shell will complain
        return "[…]"


def _no_timeout(playbook: Playbook, _fleet: Fleet | None) -> _Found:
    for step, _ in playbook.all_steps():
        runs = step.verb is not None and step.verb.verb in {"command", "shell", "script"}
        said = "timeout" in step.args or step.frame.timeout is not None
        if runs and not said and changes(step) is not False:
            yield step.path, f"nobody says how long {step.frame.name!r} may take"


def _acting_look(playbook: Playbook, _fleet: Fleet | None) -> _Found:
    for step, _ in playbook.all_steps():
        act = _acts(step)
        if act is not None and step.args.get("read_only") is True:
            where = (*step.args_path, "read_only")
            yield where, f"`{act}` changes something: a rehearsal would do it for real"


def _unseen_failure(playbook: Playbook, _fleet: Fleet | None) -> _Found:
    asked = {
        name
        for step, _ in playbook.all_steps()
        for name in [*names_in_condition(step.frame.when), *_named(step.args)]
    }
    for step, _ in playbook.all_steps():
        goes_on = step.frame.on_failure == "continue" and not step.on_failure
        if goes_on and step.frame.save not in asked and changes(step) is not False:
            where = (*step.path, "on_failure")
            yield where, f"{step.frame.name!r} may fail, and the steps after it do not ask"


def _named(args: Mapping[str, Any]) -> list[str]:
    return [name for _, name in names_in_args(args)]


def _unused_result(playbook: Playbook, _fleet: Fleet | None) -> _Found:
    text = playbook.document.text
    for step, _ in playbook.all_steps():
        name = step.frame.save
        # The only step's result is what the run is for: `--format json` shows it.
        if name and len(playbook.steps) > 1 and not re.search(rf"steps\.{name}\b", text):
            yield (*step.path, "save"), f"nothing uses steps.{name}"


#: `${params.x}`, `$NAME`: where a secret comes from, not the secret.
_TAKEN_FROM = re.compile(r"\$(?:\{[^{}]*\}|[A-Za-z_]\w*)")


def _written_secret(playbook: Playbook, _fleet: Fleet | None) -> _Found:
    for name, spec in playbook.frame.parameters.items():
        if _bears_secret(spec.default):
            yield ("parameters", name, "default"), f"the default of {name} looks like a secret"
    for step, _ in playbook.all_steps():
        for key, value in {**step.args, **step.contents}.items():
            if _bears_secret(value):
                # What was read from a file beside the playbook stands at the key that names it.
                named = key if key in step.args else _file_key(step, key)
                where = (*step.args_path, named)
                yield where, f"{key} of {step.frame.name!r} holds what looks like a secret"


def _file_key(step: RawStep, key: str) -> str:
    files = step.verb.files if step.verb is not None else {}
    return next((name for name, becomes in files.items() if becomes == key), key)


def _bears_secret(value: Any) -> bool:
    if isinstance(value, Mapping):
        # A key tells what its value is: `env: {PGPASSWORD: x}` is as good as PGPASSWORD=x.
        named = (f"{key}={item}" for key, item in value.items() if isinstance(item, str))
        return any(_bears_secret(item) for item in (*value.values(), *named))
    if isinstance(value, list | tuple):
        # As it would be typed: `--password x` are two words.
        return _bears_secret(" ".join(str(item) for item in value))
    text = _TAKEN_FROM.sub(OUT, value) if isinstance(value, str) else ""
    return redacted(text) != text


LINTS: tuple[Lint, ...] = (
    Lint(
        code="no-summary",
        why="at 2:17 nobody opens a file to learn what it does",
        mend="say in one line what it does: summary: …",
        find=_no_summary,
    ),
    Lint(
        code="parameter-undescribed",
        why="the description is shown with every error about the parameter",
        mend="say what it means and its unit: description: …",
        find=_undescribed,
    ),
    Lint(
        code="parameter-unused",
        why="who sets it believes that it does something",
        mend="use it as ${params.NAME}, or take it out",
        find=_unused_parameter,
    ),
    Lint(
        code="result-unused",
        why="a forgotten condition is easily taken for one that holds",
        mend="ask for it in a `when`, or take out `save`",
        find=_unused_result,
    ),
    Lint(
        code="target-unbounded",
        why="a wrong selector reaches the whole fleet",
        mend="bound it, as in: target: {kind: hosts, max: 4}",
        find=_unbounded_target,
    ),
    Lint(
        code="hosts-unbounded",
        why="a command goes to all of its hosts side by side: nothing stops it half-way",
        mend="name a group and bound it with the parameter's or the target's max, or use rolling",
        find=_unbounded_hosts,
    ),
    Lint(
        code="restart-unchecked",
        why="systemctl answers 0 for a service that dies a moment later",
        mend="put a `check` after it, or use rolling, which has gates of its own",
        find=_unchecked_restart,
    ),
    Lint(
        code="service-ungated",
        why="without a gate the next host is restarted while this one does not serve",
        mend="add gates to the service in the inventory",
        find=_ungated_service,
    ),
    Lint(
        code="shell-needless",
        why="a shell splits and expands what an argv leaves alone",
        mend="use the verb command",
        find=_needless_shell,
    ),
    Lint(
        code="timeout-missing",
        why="the default of 60s is too short for some commands and too long for most",
        mend="say it: timeout: 30s",
        find=_no_timeout,
    ),
    Lint(
        code="look-that-acts",
        why="what says read_only runs in a rehearsal, unasked and for real",
        mend="take out read_only",
        find=_acting_look,
    ),
    Lint(
        code="secret-written",
        why="a playbook is kept in version control, and its plan in the journal of every run",
        mend="keep it in a file on the host that the command reads itself",
        find=_written_secret,
    ),
    Lint(
        code="failure-unseen",
        why="the run goes on as if it had worked",
        mend="`save` it, and let a later `when` ask for steps.NAME.status",
        find=_unseen_failure,
    ),
)
