"""Bad input at the command line: a clear message, the place, the remedy, the exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook.cli.main import run
from unit.adapters.test_target_locks import THEIRS, another

GOOD = """\
version: 1
hosts:
  web-1: {address: 127.0.0.1}
databases:
  db: {connect: {host: 127.0.0.1, port: 1, user: oncall, password: {env: NO_SUCH_SECRET}}}
services:
  shop: {hosts: web-1, database: db}
"""


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNBOOK_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("RUNBOOK_INVENTORY", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


class Said:
    """What a command said, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], tmp_path: Path):  # type: ignore[no-untyped-def]
    """Run a command line against an inventory given as text."""

    def _call(*argv: str, inventory: str | bytes | None = GOOD) -> Said:
        if inventory is not None:
            data = inventory.encode() if isinstance(inventory, str) else inventory
            (tmp_path / "inventory.yaml").write_bytes(data)
        code = run(list(argv))
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        return Said(code, captured.out, captured.err)

    return _call


def test_no_inventory_at_all(call) -> None:  # type: ignore[no-untyped-def]
    said = call("diagnose", "db", inventory=None)
    assert said.code == 2
    assert "no inventory found" in said.err
    assert "inventory.example.yaml" in said.err


def test_an_unknown_target_names_the_nearest(call) -> None:  # type: ignore[no-untyped-def]
    said = call("diagnose", "dbb")
    assert said.code == 2
    assert "no database named 'dbb'" in said.err
    assert "did you mean 'db'?" in said.err


def test_an_unknown_command_names_the_nearest(call) -> None:  # type: ignore[no-untyped-def]
    said = call("diagnos", "db")
    assert said.code == 2
    assert "Did you mean 'diagnose'?" in said.err


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        (GOOD.replace("address", "adress"), "inventory.yaml:3:11", "did you mean 'address'?"),
        (GOOD + "  shop: {hosts: web-1}\n", "inventory.yaml:8:3", "'shop'"),
        (GOOD.replace("port: 1", "port: 0755"), "inventory.yaml:5:", "0755"),
        (GOOD.replace("port: 1", "port: on"), "inventory.yaml:5:", 'quote it: "on"'),
        (GOOD.replace("hosts: web-1", "hosts: web-9"), "inventory.yaml:7:", "'web-9'"),
        (GOOD.replace("database: db", "database: dbs"), "inventory.yaml:7:", "did you mean 'db'?"),
        (GOOD.replace("version: 1", "version: 2"), "inventory.yaml:1:10", "version"),
        ("- a\n- b\n", "inventory.yaml:1:1", "mapping"),
        ("", "inventory.yaml", "empty"),
    ],
)
def test_an_inventory_with_a_mistake(call, text: str, where: str, what: str) -> None:  # type: ignore[no-untyped-def]
    said = call("inventory", "validate", inventory=text)
    assert said.code == 2, said.err
    assert where in said.err
    assert what in said.err


def test_invalid_utf8_names_the_byte(call) -> None:  # type: ignore[no-untyped-def]
    said = call("inventory", "validate", inventory=GOOD.encode() + b"# caf\xe9\n")
    assert said.code == 2
    assert "inventory.yaml:8:6" in said.err
    assert "UTF-8" in said.err


def test_a_playbook_of_ten_megabytes_is_refused_unread(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "big.yaml").write_text("# x\n" * 2_600_000)
    said = call("playbooks", "validate", "big.yaml")
    assert said.code == 2
    assert "big.yaml" in said.err
    assert "MB" in said.err or "bytes" in said.err


def test_a_missing_secret_names_its_variable(call) -> None:  # type: ignore[no-untyped-def]
    said = call("diagnose", "db")
    assert said.code == 1
    assert "NO_SUCH_SECRET" in said.err


def test_postgres_down_says_where_and_what_next(call) -> None:  # type: ignore[no-untyped-def]
    said = call("diagnose", "db", inventory=GOOD.replace(", password: {env: NO_SUCH_SECRET}", ""))
    assert said.code == 1
    assert "127.0.0.1:1" in said.err
    assert "hint:" in said.err


def test_check_answers_unknown_when_it_cannot_look(call) -> None:  # type: ignore[no-untyped-def]
    said = call("diagnose", "db", "--check")
    assert said.code == 3
    assert said.out.startswith("RUNBOOK UNKNOWN - db:")
    assert said.out.count("\n") == 1


def test_a_change_without_a_terminal_looks_before_it_would_ask(call) -> None:  # type: ignore[no-untyped-def]
    said = call("remediate", "db", "--terminate-idle")
    assert said.code == 3  # what it would ask about could not even be looked at
    assert "NO_SUCH_SECRET" in said.err


def test_a_service_that_is_not_there(call) -> None:  # type: ignore[no-untyped-def]
    said = call("remediate", "db", "--rolling-restart", "--service", "shopp", "--dry-run")
    assert said.code == 2
    assert "did you mean 'shop'?" in said.err


def test_a_target_that_somebody_else_has_locked_is_exit_code_5(  # type: ignore[no-untyped-def]
    call, tmp_path: Path
) -> None:
    touch = "command: {hosts: here, argv: [touch, done]}"
    (tmp_path / "touch.yaml").write_text(f"version: 1\nname: t\nsteps: [{{name: t, {touch}}}]\n")
    locks = tmp_path / "state" / "locks"
    locks.mkdir(parents=True)
    holder = another(locks, THEIRS)
    try:
        here = "version: 1\nhosts: {here: {connection: local}}\n"
        said = call("run", "touch.yaml", "--yes", inventory=here)
    finally:
        holder.communicate()
    assert said.code == 5
    assert "host here is held by bob@desk for P7" in said.out
    assert not (tmp_path / "done").exists()


def test_two_remedies_at_once(call) -> None:  # type: ignore[no-untyped-def]
    said = call("remediate", "db", "--rolling-restart", "--terminate-idle")
    assert said.code == 2
    assert "choose one" in said.err


@pytest.mark.parametrize(
    "param",
    [
        "headroom",
        "=3",
        "headroom=0%",
        "headroom=x",
        "headrom=3%",
        # Bytes that are no text; and a value is data, nothing in it is looked up.
        "headroom=\udcff",
        "headroom=${host.name}",
    ],
)
def test_a_bad_parameter(call, param: str) -> None:  # type: ignore[no-untyped-def]
    said = call("remediate", "db", "--terminate-idle", "--dry-run", "-p", param)
    assert said.code == 2
    assert said.err


def test_an_error_cannot_recolour_the_terminal(call) -> None:  # type: ignore[no-untyped-def]
    said = call("diagnose", "db\x1b[31mred")
    assert "\x1b" not in said.err
    assert "\\x1b[31mred" in said.err


def test_the_example_inventory_is_valid(call) -> None:  # type: ignore[no-untyped-def]
    example = Path(__file__).parents[3] / "inventory.example.yaml"
    said = call("inventory", "validate", "-i", str(example))
    assert said.code == 0, said.err
    listed = call("inventory", "list", "-i", str(example))
    assert "prod-db-01" in listed.out


def test_a_check_with_a_mistake_in_its_own_words_is_unknown_not_critical(call) -> None:  # type: ignore[no-untyped-def]
    assert call("diagnose", "db", "--check", "--warnings", "80").code == 3
    assert call("diagnose", "db", "--check", "--warning", "95").code == 3
