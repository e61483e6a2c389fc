"""Playbooks that bring files along, and text that an interpreter reads as its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runbook import wiring
from runbook.engine.planning import make_plan
from runbook.model.errors import InvalidDocument
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from runbook.model.plan import Plan

FLEET = Fleet(Inventory.model_validate({"version": 1, "hosts": {"me": {"connection": "local"}}}))
HEAD = """version: 1
name: mine
parameters:
  x: {type: string, default: "'; rm -rf /; '"}
steps:
"""


def planned(folder: Path, steps: str, **given: Any) -> Plan:
    book = folder / "book.yaml"
    book.write_text(HEAD + steps, encoding="utf-8")
    playbook = wiring.load_playbook(str(book))
    return make_plan(playbook, fleet=FLEET, target=None, given=given, rehearsal=False)


def problem(folder: Path, steps: str) -> str:
    with pytest.raises(InvalidDocument) as caught:
        planned(folder, steps)
    return str(caught.value)


def test_a_script_is_read_beside_the_playbook_and_is_part_of_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "go.sh").write_text('echo "${HOME}" ${params.x}\n')
    monkeypatch.chdir("/")
    step = "  - {name: go, script: {hosts: me, file: scripts/go.sh}}\n"
    first = planned(tmp_path, step)
    assert first.nodes[0].args["text"] == 'echo "${HOME}" ${params.x}\n'
    (tmp_path / "scripts" / "go.sh").write_text("echo another\n")
    assert planned(tmp_path, step).hash != first.hash


def test_so_is_a_files_content(tmp_path: Path) -> None:
    (tmp_path / "app.conf").write_text("${x} = ${host.name}\n")
    step = "  - {name: put, file: {hosts: me, path: /etc/app.conf, from_file: app.conf}}\n"
    assert planned(tmp_path, step).nodes[0].args["content"] == "${x} = ${host.name}\n"


def test_a_file_that_is_not_there_is_told_at_its_place(tmp_path: Path) -> None:
    said = problem(tmp_path, "  - {name: go, script: {hosts: me, file: none.sh}}\n")
    assert "book.yaml:6:" in said
    assert "none.sh" in said


def test_a_file_and_a_text_are_one_too_many(tmp_path: Path) -> None:
    (tmp_path / "go.sh").write_text("true\n")
    said = problem(tmp_path, "  - {name: go, script: {hosts: me, file: go.sh, text: 'id'}}\n")
    assert "it has 'file' and 'text'" in said


@pytest.mark.parametrize(("verb", "key"), [("shell", "line"), ("script", "text")])
@pytest.mark.parametrize("value", ["${params.x}", "${host.name}", "${HOME}", "${target}"])
def test_no_value_is_ever_pasted_into_a_shell(
    tmp_path: Path, verb: str, key: str, value: str
) -> None:
    said = problem(tmp_path, f'  - {{name: go, {verb}: {{hosts: me, {key}: "echo {value}"}}}}\n')
    assert f"book.yaml:6:{18 + len(verb) + len(key) + 14}: " in said
    assert "pasted into a shell line" in said
    assert said.count("book.yaml") == 1
    # Another placeholder beside it must not hide it.
    beside = 'args: ["${params.x}"]'
    step = f'  - {{name: go, {verb}: {{hosts: me, {key}: "echo {value}", {beside}}}}}\n'
    assert "pasted into a shell line" in problem(tmp_path, step)


def test_values_are_handed_over_instead(tmp_path: Path) -> None:
    step = (
        "  - name: go\n    shell:\n      hosts: me\n      line: 'echo $1 $X'\n"
        "      args: ['${params.x}']\n      env: {X: '${params.x}'}\n"
    )
    args = planned(tmp_path, step).nodes[0].args
    assert (args["line"], args["args"], args["env"]) == (
        "echo $1 $X",
        ["'; rm -rf /; '"],
        {"X": "'; rm -rf /; '"},
    )


def test_what_may_run_twice_may_be_retried(tmp_path: Path) -> None:
    step = "  - {{name: go, retry: {{times: 2}}, shell: {{hosts: me, line: id{}}}}}\n"
    assert "may not be done again" in problem(tmp_path, step.format(""))
    (node,) = planned(tmp_path, step.format(", repeatable: true")).nodes
    assert (node.retry is not None, node.after_crash) == (True, "repeat")
    plain = "  - {name: go, shell: {hosts: me, line: id}}\n"
    assert planned(tmp_path, plain).nodes[0].after_crash == "ask"


@pytest.mark.parametrize("verb", ["pause: {for: 5m}", "set: {values: {a: 1}}"])
def test_verbs_without_hosts_are_planned(tmp_path: Path, verb: str) -> None:
    (node,) = planned(tmp_path, f"  - {{name: it, {verb}}}\n").nodes
    assert (node.targets, node.changes) == (("here",), False)
