"""`runbook playbooks test`: what holds passes, and each thing that does not hold is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from runbook.cli.main import cli
from runbook.model.errors import InvalidDocument

ROOT = Path(__file__).parents[3]
RUNBOOK = Path(sys.executable).with_name("runbook")

BOOK = """version: 1
name: mine
target: {kind: hosts}
parameters:
  most: {type: int, default: 5}
steps:
  - name: count
    command: {hosts: web-1, argv: [wc, -l, /var/log/shop], read_only: true}
    save: counted
  - name: ask
    when: steps.counted.exit_code == 0 && params.most > 5
    approve: {prompt: "More than usual?"}
  - name: reload
    when: steps.counted.exit_code == 0
    command: {hosts: "${target}", argv: [shopctl, reload]}
    on_failure:
      - name: tell
        notify: {message: it failed, webhook: "https://hooks.example/oncall"}
  - name: look again
    retry: {times: 3, delay: 10s, until: result.exit_code == 0}
    shell: {hosts: web-1, line: curl -f localhost, read_only: true}
always:
  - name: wait
    pause: {for: 1h}
"""
TEST: dict[str, Any] = {
    "version": 1,
    "playbook": "book.yaml",
    "inventory": {
        "version": 1,
        "hosts": {"web-1": {"groups": ["web"]}, "web-2": {"groups": ["web"]}},
    },
}
COUNTED = {"step": "count", "result": {"data": {"exit_code": 0}}}
SEEN = {"step": "look again", "result": {"data": {"exit_code": 0}}}
RELOADS = ["web-1: shopctl reload", "web-2: shopctl reload"]


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.test = path / "book.test.yaml"
        (path / "book.yaml").write_text(BOOK)

    def play(self, case: dict[str, Any], *words: str) -> Result:
        cases = [{"name": "it", "target": "web", **case}]
        self.test.write_text(json.dumps({**TEST, "cases": cases}, indent=1))
        return CliRunner().invoke(
            cli, ["playbooks", "test", str(self.test), *words], standalone_mode=False
        )

    def failures(self, case: dict[str, Any]) -> list[str]:
        played = self.play(case, "--format", "json")
        said = json.loads(played.output)["files"][0]["cases"][0]
        assert played.return_value == (1 if said["failures"] else 0)
        assert said["ok"] is not bool(said["failures"])
        return [f"{f['place'].rsplit('/')[-1]} {f['message']}" for f in said["failures"]]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_run_as_expected(folder: Folder) -> None:
    expect = {
        "status": "done",
        "steps": {"count": "ok", "ask": "skipped", "reload": "ok", "tell": "skipped"},
        "shows": [*RELOADS, "POST to https://hooks.example/…"],
        "changes": RELOADS,
        "questions": ["plan"],
    }
    assert folder.failures({"outcomes": [COUNTED, SEEN], "expect": expect}) == []


@pytest.mark.parametrize(
    ("expect", "said"),
    [
        ({"status": "failed"}, "expected the run to end failed, got done"),
        ({"reason": "x"}, "expected a reason with 'x', got ''"),
        ({"steps": {"reload": "failed"}}, "expected 'reload' to be failed, got ok"),
        ({"steps": {"relaod": "ok"}}, "the plan has no step 'relaod'"),
        ({"changes": RELOADS[:1]}, "more than expected among changes: 'web-2: shopctl reload'"),
        ({"changes": [*RELOADS, "web-3: x"]}, "expected 'web-3: x' among changes, got none"),
        ({"changes": [*RELOADS, RELOADS[0]]}, "'web-1: shopctl reload' among changes once more"),
        ({"not_reached": ["web-2"]}, "expected 'web-2' among not_reached, got none"),
        ({"questions": []}, "expected these questions: nothing; got 'plan'"),
    ],
)
def test_what_is_not_as_expected_is_told_at_its_line(
    folder: Folder, expect: dict[str, Any], said: str
) -> None:
    (failure,) = folder.failures({"outcomes": [COUNTED, SEEN], "expect": expect})
    assert said in failure
    key = next(iter(next(iter(expect.values())))) if "steps" in expect else next(iter(expect))
    line = int(failure.split(":")[1])
    assert f'"{key}"' in "\n".join(folder.test.read_text().splitlines()[line - 5 : line])


def test_a_look_that_is_not_told_what_it_sees_is_a_failure(folder: Folder) -> None:
    (failure,) = folder.failures({"outcomes": [COUNTED]})
    assert "look-again on web-1 looks at the world" in failure
    assert "sh -c 'curl -f localhost' sh" in failure


def test_an_outcome_that_nothing_asks_for_is_a_failure(folder: Folder) -> None:
    more = {"step": "ask", "result": {"status": "ok"}}
    (failure,) = folder.failures({"outcomes": [COUNTED, SEEN, more]})
    assert "nothing asked for this outcome of 'ask'" in failure


def test_what_is_done_twice_was_not_expected_twice(folder: Folder) -> None:
    step = "command: {hosts: web-1, argv: [reboot]}"
    steps = f"  - {{name: one, {step}}}\n  - {{name: two, {step}}}\n"
    head = BOOK.split("steps:\n", maxsplit=1)[0]
    (folder.path / "book.yaml").write_text(f"{head}steps:\n{steps}")
    (failure,) = folder.failures({"expect": {"changes": ["web-1: reboot"]}})
    assert "more than expected among changes: 'web-1: reboot'" in failure
    assert folder.failures({"expect": {"changes": ["web-1: reboot"] * 2}}) == []


def test_a_failure_is_followed_and_stops_the_rest(folder: Folder) -> None:
    outcomes = [COUNTED, {"step": "reload", "target": "web-2", "result": {"status": "failed"}}]
    expect = {
        "status": "failed",
        "steps": {"reload": "failed", "tell": "ok", "look again": "not_reached", "wait": "ok"},
        "changes": [*RELOADS, "POST to https://hooks.example/…"],
    }
    assert folder.failures({"outcomes": outcomes, "expect": expect}) == []


def test_attempts_of_a_retry(folder: Folder) -> None:
    outcomes = [
        COUNTED,
        {**SEEN, "attempt": 1, "result": {"status": "failed", "data": {"exit_code": 22}}},
        {**SEEN, "attempt": 2},
    ]
    assert folder.failures({"outcomes": outcomes, "expect": {"status": "done"}}) == []
    (failure,) = folder.failures({"outcomes": [*outcomes, {**SEEN, "attempt": 3}]})
    assert "nothing asked" in failure


@pytest.mark.parametrize(
    ("answers", "status", "changes"),
    [({}, "waiting", []), ({"ask": True}, "done", RELOADS), ({"ask": False}, "refused", [])],
)
def test_an_approval_waits_unless_it_is_answered(
    folder: Folder, answers: dict[str, bool], status: str, changes: list[str]
) -> None:
    case = {
        "params": {"most": 9},
        "outcomes": [COUNTED, *([SEEN] if status == "done" else [])],
        "answers": answers,
        "expect": {"status": status, "changes": changes},
    }
    assert folder.failures(case) == []
    case["expect"] = {"questions": ["More than usual?"] + ["plan"] * (status == "done")}
    assert folder.failures(case) == []


def test_a_no_to_the_plan(folder: Folder) -> None:
    case = {"outcomes": [COUNTED], "answers": {"plan": False}, "expect": {"status": "refused"}}
    assert folder.failures(case) == []


def test_an_interrupt(folder: Folder) -> None:
    case = {
        "outcomes": [COUNTED],
        "interrupt_after": "reload",
        "expect": {"status": "interrupted", "changes": RELOADS, "steps": {"wait": "failed"}},
    }
    assert folder.failures(case) == []


def test_what_cannot_be_planned(folder: Folder) -> None:
    assert folder.failures({"target": "nowhere", "refused": "nowhere"}) == []
    (failure,) = folder.failures({"target": "nowhere"})
    assert "it cannot be planned" in failure
    (failure,) = folder.failures({"refused": "no such", "outcomes": [COUNTED, SEEN]})
    assert "expected that it cannot be planned" in failure


def test_a_wrong_file_is_a_mistake_of_the_call(folder: Folder) -> None:
    played = folder.play({"expect": {"stauts": "done"}})
    assert isinstance(played.exception, InvalidDocument)
    (problem,) = played.exception.problems
    assert problem.hint == "did you mean 'status'?"
    folder.test.write_text(
        json.dumps(
            {
                **TEST,
                "inventory": {"version": 1, "hosts": {"a": {"adress": "x"}}},
                "cases": [{"name": "x"}],
            },
            indent=1,
        )
    )
    done = subprocess.run(
        [str(RUNBOOK), "playbooks", "test", str(folder.test)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "did you mean 'address'?" in done.stderr
    assert f"{folder.test}:8:" in done.stderr


def test_the_example_of_a_shipped_playbook() -> None:
    example = ROOT / "tests" / "playbooks" / "rolling-restart.test.yaml"
    played = CliRunner().invoke(cli, ["playbooks", "test", str(example)], standalone_mode=False)
    assert (played.return_value, played.output.splitlines()[-1]) == (0, "7 cases, 0 failed")


# ---- recorded runs -------------------------------------------------------------------------

LOCAL = """version: 1
name: mine
parameters:
  word: {type: string, default: hello}
steps:
  - name: see
    shell:
      hosts: me
      line: 'printf "\\033[1m%s\\n\\n  x \\n" "$1"'
      args: ["${params.word}"]
      read_only: true
    save: seen
  - name: put
    for_each: [a, "b c"]
    file: {hosts: me, path: "FOLDER/${item}.txt", content: "${params.word}\\n"}
  - name: never
    when: steps.seen.exit_code == 7
    pause: {for: 1s}
  - name: fail
    shell: {hosts: me, line: exit 4}
"""


def run(folder: Path, *words: str, code: int) -> str:
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "RUNBOOK_STATE": str(folder / "state")}
    done = subprocess.run(
        [str(RUNBOOK), *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
        env=env,
    )
    assert done.returncode == code, done
    return done.stdout + done.stderr


def test_a_real_run_becomes_a_test_that_holds_until_the_playbook_changes(tmp_path: Path) -> None:
    inventory = {"version": 1, "hosts": {"me": {"connection": "local"}}}
    (tmp_path / "inventory.yaml").write_text(json.dumps(inventory))
    book = tmp_path / "book.yaml"
    book.write_text(LOCAL.replace("FOLDER", str(tmp_path)))
    run(tmp_path, "run", "book.yaml", "--yes", "-p", "word=ü", code=1)
    run_id = json.loads(run(tmp_path, "runs", "list", "--format", "json", code=0))[0]["run_id"]
    (tmp_path / "tests").mkdir()
    said = run(tmp_path, "playbooks", "test", "--record", run_id, "tests/night.yaml", code=0)
    assert "look through it" in said
    for name in ("a.txt", "b c.txt"):
        (tmp_path / name).unlink()
    said = run(tmp_path, "playbooks", "test", "tests/night.yaml", code=0)
    assert "1 case, 0 failed" in said
    assert not (tmp_path / "a.txt").exists(), "a test touches nothing"
    assert "is there already" in run(
        tmp_path, "playbooks", "test", "--record", run_id, "tests/night.yaml", code=2
    )
    book.write_text(book.read_text().replace("exit_code == 7", "exit_code == 0"))
    said = run(tmp_path, "playbooks", "test", "tests/night.yaml", code=1)
    assert "expected 'never' to be skipped, got ok" in said


@pytest.mark.parametrize("words", [("--yes",), ("--dry-run",)])
def test_a_rolling_restart_becomes_a_test(tmp_path: Path, words: tuple[str, ...]) -> None:
    restart = ["sh", "-c", "date +%s%N > $0", f"{tmp_path}/${{host.name}}"]
    manager = {"command": {"restart": restart, "status": ["cat", f"{tmp_path}/${{host.name}}"]}}
    rolling = {"settle": "0s", "batches": [1], "min_available": 1}
    service = {"hosts": "all", "manager": manager, "rolling": rolling}
    hosts = {name: {"connection": "local"} for name in ("n", "on", "app-3")}
    inventory = {"version": 1, "hosts": hosts, "services": {"shop": service}}
    (tmp_path / "inventory.yaml").write_text(json.dumps(inventory))
    for name in hosts:
        (tmp_path / name).write_text(f"{name} before\n")
    run(tmp_path, "run", "rolling-restart", "shop", *words, code=0)
    run(tmp_path, "playbooks", "test", "--record", "last", "roll.yaml", code=0)
    said = run(tmp_path, "playbooks", "test", "roll.yaml", code=0)
    assert "1 case, 0 failed" in said


def test_no_run_no_record(tmp_path: Path) -> None:
    said = run(tmp_path, "playbooks", "test", "--record", "none", "x.yaml", code=2)
    assert "there is no run 'none'" in said


def test_for_ci_there_is_junit(folder: Folder) -> None:
    case = {"outcomes": [COUNTED, SEEN], "expect": {"status": "failed"}, "name": "a <b> \x1b & c"}
    played = folder.play(case, "--format", "junit")
    suites = ElementTree.fromstring(played.output)
    assert (suites.attrib["tests"], suites.attrib["failures"]) == ("1", "1")
    (failure,) = suites.iter("failure")
    assert "expected the run to end failed, got done" in failure.attrib["message"]
    assert "book.test.yaml:" in (failure.text or "")
    assert "\x1b" not in played.output
