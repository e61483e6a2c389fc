"""`runbook serve --check` plans each rule and follows secrets; which Host a request may name."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.harness import Workshop
from runbook.cli.main import run
from runbook.model.serve_config import Listen
from runbook.serve.guard import allowed_hosts, host_of

HOOK = "hooks: {pd: {source: pagerduty, secrets: [{env: PD_SECRET}]}}\n"


def _write(folder: Path, text: str) -> str:
    path = folder / "serve.yaml"
    path.write_text("version: 1\n" + text)
    return str(path)


class Desk:
    """A folder with an inventory and a playbook, and the command."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder, self._capsys = folder, capsys
        Workshop(folder).playbook("look-here")

    def check(self, text: str) -> tuple[int, str]:
        """Return the exit code of `serve --check`, and all that it says."""
        config = _write(self._folder, "inventory: inventory.yaml\n" + HOOK + text)
        code = run(["serve", "--check", "--config", config])
        said = self._capsys.readouterr()
        return code, said.out + said.err


@pytest.fixture
def desk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Desk:
    """Everything is there, the secret as well."""
    monkeypatch.setenv("PD_SECRET", "x")
    return Desk(tmp_path, capsys)


RULE = "rules: [{name: first, hook: pd, run: look-here.yaml, when: {labels: {db: [a, b]}}}]"


def test_check_shows_the_rules(desk: Desk) -> None:
    """In one table, and a verdict."""
    code, said = desk.check(RULE)
    assert code == 0
    assert "db=a or b" in said
    assert "ok (hooks: 1, rules: 1" in said


def test_check_tells_what_would_not_work(desk: Desk) -> None:
    """At its place, and before the night."""
    code, said = desk.check(RULE.replace("look-here.yaml", "gone.yaml"))
    assert code == 2
    assert "serve.yaml:4:" in said
    assert "gone.yaml" in said


def test_check_follows_secrets(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says where the one that is missing is written."""
    monkeypatch.delenv("PD_SECRET")
    code, said = desk.check(RULE)
    assert code == 2
    assert "hooks.pd.secrets.0: the environment variable PD_SECRET is not set" in said


def test_check_remarks(desk: Desk) -> None:
    """What works, and is most likely not meant."""
    code, said = desk.check("listen: {address: 0.0.0.0}")
    assert code == 0
    assert "no rule is for hook 'pd'" in said


def test_the_hosts_that_a_request_may_name() -> None:
    """The address, the url's and those that are listed; a wildcard is no name."""
    plain = allowed_hosts(Listen())
    assert plain == {"127.0.0.1", "localhost", "::1"}
    listen = Listen(address="10.0.0.5", url="https://Runbook.example:8443/x", hosts=("RB",))
    assert allowed_hosts(listen) == {"10.0.0.5", "runbook.example", "rb"}
    assert "0.0.0.0" not in allowed_hosts(Listen(address="0.0.0.0"))


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("127.0.0.1:8425", "127.0.0.1"),
        ("Runbook.Example", "runbook.example"),
        ("[::1]:8425", "::1"),
        ("[::1]", "::1"),
        ("evil.example:80@127.0.0.1", ""),
        ("127.0.0.1:80@evil.example", ""),
        ("localhost]evil.example", ""),
        ("[::1].evil.example", ""),
        ("", ""),
    ],
)
def test_the_name_in_a_host_header(header: str, name: str) -> None:
    """Without its port."""
    assert host_of(header) == name


def test_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """For editors."""
    assert run(["serve", "--schema"]) == 0
    assert '"hooks"' in capsys.readouterr().out
