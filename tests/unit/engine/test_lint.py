"""`playbooks validate --strict`: each check finds its case, and leaves the sound one alone."""

from __future__ import annotations

import pytest

from runbook.adapters.yaml_reader import parse_document
from runbook.engine.lint import LINTS, lint
from runbook.engine.reading import read_playbook
from runbook.steps import STEPS
from runbook.wiring import load_playbook, shipped_playbooks
from unit.engine.books import FLEET, book, read

HEAD = "summary: s\n"
BOUNDED = HEAD + "target: {kind: hosts, max: 3}\n"
LOOP = "parameters: {over: {type: hosts, max: 3, description: d}}\n"
ROLL = "- {name: a, rolling: {service: shop, hosts: '${params.over}'}}"
CHECK = "- {name: b, check: {service: shop, http: {url: 'http://x/'}}}"


def run(name: str, argv: str = "touch, x", more: str = "timeout: 5s", frame: str = "") -> str:
    """Return a step that runs a command on web-0."""
    return f"- {{name: {name}, command: {{hosts: web-0, argv: [{argv}], {more}}}{frame}}}"


def shell(line: str) -> str:
    """Return a step that runs a line in a shell."""
    return f"- {{name: a, shell: {{hosts: web-0, line: {line}, timeout: 5s}}}}"


RESTART = "sudo, systemctl, restart, shop"
KEPT = run("a", frame=", save: x") + "\n"
LOOSE = "parameters: {over: {type: hosts, max: 3}}\n"

#: Code -> (head, steps) that it finds, and (head, steps) that are sound.
CASES = {
    "no-summary": (("", run("a")), (HEAD, run("a"))),
    "parameter-undescribed": ((HEAD + LOOSE, ROLL), (HEAD + LOOP, ROLL)),
    "parameter-unused": ((HEAD + LOOP, run("a")), (HEAD + LOOP, ROLL)),
    "result-unused": (
        (HEAD, KEPT + run("b")),
        (HEAD, KEPT + run("b", frame=", when: steps.x.exit_code == 0")),
    ),
    "target-unbounded": ((HEAD + "target: {kind: hosts}\n", run("a")), (BOUNDED, run("a"))),
    "hosts-unbounded": (
        (HEAD, run("a").replace("web-0", "all")),
        (HEAD, run("a", "uptime", "read_only: true").replace("web-0", "all")),
    ),
    "restart-unchecked": (
        (HEAD, run("a", RESTART) + "\n" + run("b")),
        (HEAD, run("a", RESTART) + "\n" + CHECK),
    ),
    "service-ungated": ((HEAD, "- {name: a, rolling: {service: shop}}"), (HEAD, run("a"))),
    "shell-needless": (
        (HEAD, shell("/bin/reload shop")),
        (HEAD, shell("reload a && reload b")),
    ),
    "timeout-missing": (
        (HEAD, run("a", more="sudo: true")),
        (HEAD, run("a", more="sudo: true", frame=", timeout: 5s")),
    ),
    "look-that-acts": (
        (HEAD, run("a", "sudo, -n, rm, x", "read_only: true")),
        (HEAD, run("a", "systemctl, status, x", "read_only: true")),
    ),
    "secret-written": (
        (HEAD, run("a", "psql, --password, hunter2")),
        (HEAD, run("a", "psql, --password, '$PGPASSWORD'")),
    ),
    "failure-unseen": (
        (HEAD, run("a", frame=", on_failure: continue")),
        (
            HEAD,
            run("a", frame=", on_failure: continue, save: x")
            + "\n"
            + run("b", frame=", when: steps.x.status == 'ok'"),
        ),
    ),
}


def codes(head: str, steps: str) -> list[str]:
    """Return the codes that a playbook is found with."""
    found = lint(read(book(steps + "\n", head)), FLEET)
    return [problem.message.rsplit("[", 1)[-1].rstrip("]") for problem in found]


def test_every_check_has_a_case() -> None:
    assert set(CASES) == {check.code for check in LINTS}


@pytest.mark.parametrize("code", CASES)
def test_a_check_finds_its_case_and_no_other(code: str) -> None:
    wrong, sound = CASES[code]
    assert code in codes(*wrong)
    assert code not in codes(*sound)


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        (run("a", "sh, -c, reload shop"), "shell-needless"),
        (shell("systemctl restart x; true"), "restart-unchecked"),
        (
            run("a", RESTART) + "\n" + run("b", RESTART, "read_only: true"),
            "restart-unchecked",
        ),
        (run("a", frame=f", on_failure: [{run('b', RESTART)[2:]}]"), "restart-unchecked"),
    ],
)
def test_the_same_in_other_words(steps: str, code: str) -> None:
    assert code in codes(HEAD, steps)


def test_a_selector_from_a_parameter_wants_a_bound() -> None:
    steps = "- {name: a, command: {hosts: '${params.over}', argv: [touch, x], timeout: 5s}}"
    assert codes(HEAD + LOOP, steps) == []
    assert codes(HEAD + LOOP.replace("max: 3, ", ""), steps) == ["hosts-unbounded"]


def test_gates_are_looked_at_with_an_inventory_alone() -> None:
    text = book("- {name: a, rolling: {service: shop}}\n", HEAD)
    assert lint(read(text)) == ()
    (found,) = lint(read(text), FLEET)
    assert str(found).startswith("book.yaml:5:34: shop has no health gate")
    assert found.hint is not None
    assert found.excerpt is not None


def test_a_comment_silences_one_check_at_one_place() -> None:
    step = "- {name: %s, command: {hosts: web-0, argv: [touch, x]}}"
    allowed = "# strict: allow timeout-missing, no-summary\n" + step % "a"
    # The line below the next one is not meant any more.
    assert codes(HEAD, allowed + "\n" + step % "b") == ["timeout-missing"]
    assert codes(HEAD, step % "a" + "  # strict: allow timeout-missing") == []
    assert codes(HEAD, step % "a" + "  # strict: allow no-summary") == ["timeout-missing"]


def test_included_playbooks_are_checked_at_their_own_place() -> None:
    inner = f"version: 1\nname: i\nsteps:\n  {run('x')}\n"
    outer = "- {name: a, include: {playbook: i}}\n- {name: b, include: {playbook: i}}\n"
    found = lint(read(book(outer, HEAD), {"i": inner}))
    assert [str(problem.place) for problem in found] == ["i:1:1"]


@pytest.mark.parametrize("name", shipped_playbooks())
def test_the_shipped_playbooks_have_nothing_to_regret(name: str) -> None:
    assert lint(load_playbook(name)) == ()


def test_a_playbook_without_beside_is_read_as_well() -> None:
    text = book(run("a") + "\n", HEAD)
    assert lint(read_playbook(parse_document(text, "b"), STEPS)) == ()


@pytest.mark.parametrize(
    ("head", "steps", "where"),
    [
        ("", "file: {hosts: web-0, path: /x/y, content: 'db_password=hunter2'}", "content of 'a'"),
        ("", "shell: {hosts: web-0, line: run, env: {PGPASSWORD: hunter2}}", "env of 'a'"),
        ("", "query: {database: db, sql: 'SELECT 1', parameters: {}}", ""),
        ("", "shell: {hosts: web-0, line: run, env: {PGPASSWORD: '${target}'}}", ""),
        (
            "parameters: {p: {type: string, default: ghp_0123456789abcdefghij01, description: d}}",
            "command: {hosts: web-0, argv: [say, '${params.p}']}",
            "the default of p",
        ),
    ],
)
def test_a_secret_in_a_playbook_is_found_where_it_stands(head: str, steps: str, where: str) -> None:
    found = lint(read(book(f"- {{name: a, {steps}}}\n", f"{HEAD}{head}\n")), FLEET)
    said = [problem.message for problem in found if "[secret-written]" in problem.message]
    assert len(said) == bool(where)
    assert all(where in each and "hunter2" not in each for each in said)
