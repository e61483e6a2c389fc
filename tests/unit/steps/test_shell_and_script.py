"""The verbs `shell` and `script`, run by real shells on this machine."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from runbook.adapters.local_command import LocalDoor
from runbook.model.effects import ChangeCommand, Drive, ReadCommand
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from runbook.model.plan import Result
from runbook.model.step import StepContext, StepType
from runbook.steps.script import SCRIPT
from runbook.steps.shell import SHELL

FLEET = Fleet(
    Inventory.model_validate(
        {"version": 1, "hosts": {"me": {"connection": "local", "vars": {"port": 8000}}}}
    )
)


def context(**given: Any) -> StepContext:
    judge: Any = None
    return StepContext(fleet=FLEET, judge=judge, target="me", given=given, run_id="R1")


def driven(drive: Drive[Result]) -> Result:
    """Drive a step with a real door, to its end."""
    door, value = LocalDoor(FLEET, rehearsal=False), None
    while True:
        try:
            effect = drive.send(value)
        except StopIteration as stop:
            result: Result = stop.value
            return result
        value = door.perform(effect)


def run(step: StepType, **given: Any) -> Result:
    """Prepare and act, as a run does."""
    args = step.args.model_validate({"hosts": "me", **given})
    prepared = driven(step.phases["prepare"](args, context()))
    assert prepared.good, prepared
    # What the journal keeps of a plan must be enough to do it.
    args = step.args.model_validate(args.model_dump(mode="json"))
    return driven(step.phases["act"](args, context(prepared=prepared.data)))


def first_change(step: StepType, **given: Any) -> ChangeCommand:
    args = step.args.model_validate({"hosts": "me", **given})
    change = next(step.phases["act"](args, context()))
    assert isinstance(change, ChangeCommand)
    return change


# ---- shell ---------------------------------------------------------------------------------


def test_a_line_is_read_by_a_shell() -> None:
    result = run(SHELL, line="printf 'a\\nb\\n' | grep -c .")
    assert (result.status, result.data["stdout"]) == ("ok", "2\n")


HOSTILE = "'; touch /tmp/never; echo '$(id)\"`id`\n"


def test_values_come_as_words_and_variables_whatever_is_in_them() -> None:
    result = run(SHELL, line='printf "%s|%s" "$1" "$NAME"', args=[HOSTILE], env={"NAME": HOSTILE})
    assert result.data["stdout"] == f"{HOSTILE}|{HOSTILE}"


def test_host_values_are_filled_in_outside_of_the_line() -> None:
    result = run(
        SHELL,
        line='echo "$1 $PORT"',
        args=["${host.name}"],
        env={"PORT": "${host.vars.port}"},
    )
    assert result.data["stdout"] == "me 8000\n"


@pytest.mark.parametrize("line", ["echo ${params.x}", "echo ${HOME}", "${host.name}"])
def test_a_value_inside_of_the_line_is_refused_with_the_way_to_do_it(line: str) -> None:
    with pytest.raises(ValidationError, match=r"env: \{NAME"):
        SHELL.args.model_validate({"hosts": "me", "line": line})


@pytest.mark.parametrize("name", ["A B", "1A", "A=B", "", "A-B"])
def test_a_variable_has_a_proper_name(name: str) -> None:
    with pytest.raises(ValidationError):
        SHELL.args.model_validate({"hosts": "me", "line": "id", "env": {name: "x"}})


def test_what_is_shown_is_what_is_run() -> None:
    change = first_change(SHELL, line="echo $1", args=["a b"], env={"X": "1"})
    assert change.argv == ("env", "X=1", "sh", "-c", "echo $1", "sh", "a b")
    assert change.footprint() == {"me: env X=1 sh -c 'echo $1' sh 'a b'"}


def test_only_what_says_so_may_be_repeated() -> None:
    plain = SHELL.args.model_validate({"hosts": "me", "line": "id"})
    said = SHELL.args.model_validate({"hosts": "me", "line": "id", "repeatable": True})
    assert (SHELL.repeatable(plain), SHELL.repeatable(said)) == (False, True)


# ---- script --------------------------------------------------------------------------------


def test_a_script_runs_with_its_words_and_leaves_nothing_behind(tmp_path: Path) -> None:
    text = 'cd "$1" && ls -A | wc -l\nexit 7\n'
    result = run(SCRIPT, text=text, args=[str(tmp_path)], ok_exit_codes=[7])
    assert (result.status, result.data["exit_code"]) == ("ok", 7)
    assert result.data["stdout"].strip() == "0"


@pytest.mark.parametrize(
    ("first", "text"),
    [
        ("", 'echo "$1-$X"'),
        ("#!/bin/sh\n", 'echo "$1-$X"'),
        ("#!/usr/bin/env bash\n", 'a=("$1"); echo "${a[0]}-${X}"'),
        ("#!/bin/bash -e\n", 'echo "$1-$X"; false; echo never'),
        ("#!/usr/bin/env python3\n", "import os, sys; print(f\"{sys.argv[1]}-{os.environ['X']}\")"),
    ],
)
def test_its_first_line_names_the_interpreter(first: str, text: str) -> None:
    # From a file, as a playbook's `file` comes: there `${…}` is the script's own.
    content = f"{first}{text}\n"
    result = run(SCRIPT, file="x", text=content, args=["a b"], env={"X": "ü"}, ok_exit_codes=[0, 1])
    assert result.data["stdout"] == "a b-ü\n", result


def test_an_interpreter_that_is_not_known_is_asked_for() -> None:
    with pytest.raises(ValidationError, match=r"interpreter: \[php, --\]"):
        SCRIPT.args.model_validate({"hosts": "me", "text": "#!/usr/bin/php\n"})
    result = run(SCRIPT, text="#!/usr/bin/odd\nhello\n", interpreter=["cat"])
    assert result.data["stdout"] == "#!/usr/bin/odd\nhello\n"


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_command_in_it_cannot_eat_the_rest_of_it(shell: str) -> None:
    """bash reads its script as it comes to it: without care `cat` would print what is left."""
    result = run(SCRIPT, text=f"#!/bin/{shell}\ncat\necho rest\n")
    assert result.data["stdout"] == "rest\n"


def test_a_complaint_names_the_scripts_own_line() -> None:
    result = run(SCRIPT, text="#!/bin/bash\n\nno_such_thing\n")
    assert result.status == "failed"
    assert "line 3:" in result.data["stderr"]


@pytest.mark.parametrize("first", ["", "#!/usr/bin/env python3\n"])
def test_a_script_that_arrives_by_halves_does_not_run(first: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    line = f"open({str(mark)!r}, 'w')" if first else f"touch {mark}"
    change = first_change(SCRIPT, text=f"{first}{line}\n{line}\n")
    half = replace(change, stdin=change.stdin[: len(change.stdin) - len(line) - 4])
    outcome = LocalDoor(FLEET, rehearsal=False).perform(half)
    assert "did not arrive whole" in outcome.stderr  # type: ignore[union-attr]
    assert not mark.exists()


def test_a_script_is_shown_by_its_name_and_digest() -> None:
    change = first_change(SCRIPT, file="scripts/drain.sh", text="true\n", args=["--now"])
    digest = hashlib.sha256(b"true\n").hexdigest()[:12]
    shown = f"me: sh -s -- --now < scripts/drain.sh (sha256 {digest})"
    assert change.footprint() == {shown}
    other = first_change(SCRIPT, file="scripts/drain.sh", text="false\n", args=["--now"])
    assert other.footprint() != change.footprint()


def test_a_script_that_reads_only_is_a_look() -> None:
    args = SCRIPT.args.model_validate({"hosts": "me", "text": "id\n", "read_only": True})
    assert not SCRIPT.changes(args)
    look = next(SCRIPT.phases["act"](args, context()))
    assert isinstance(look, ReadCommand)
    assert look.stdin


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "a file or a text"),
        ({"text": "echo ${params.x}\n"}, r"env: \{NAME"),
        ({"text": "a\0b"}, "NUL"),
    ],
)
def test_what_is_no_script_is_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        SCRIPT.args.model_validate({"hosts": "me", **given})
