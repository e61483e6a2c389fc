"""Secrets: each kind of reference, its errors, and that no value leaks into one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from runbook.adapters import secrets
from runbook.model.effects import TrySecret
from runbook.model.errors import SecretMissing
from runbook.model.inventory import Secret

if TYPE_CHECKING:
    from pathlib import Path


def _resolve(**reference: Any) -> str:
    return secrets.resolve(Secret.model_validate(reference))


def test_an_environment_variable_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_SECRET", " s3cret\n")
    assert _resolve(env="THE_SECRET") == " s3cret\n"


@pytest.mark.parametrize("value", [None, "", " \n"])
def test_a_variable_without_a_value_is_named(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("THE_SECRET", raising=False)
    if value is not None:
        monkeypatch.setenv("THE_SECRET", value)
    with pytest.raises(SecretMissing, match="THE_SECRET") as caught:
        _resolve(env="THE_SECRET")
    assert "export THE_SECRET" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("content", "value"),
    [(b"s3cret", "s3cret"), (b"s3cret\n", "s3cret"), (b"s\r\n", "s"), (b" s \n\n", " s \n")],
)
def test_a_file_loses_one_line_end(tmp_path: Path, content: bytes, value: str) -> None:
    (tmp_path / "secret").write_bytes(content)
    assert _resolve(file=str(tmp_path / "secret")) == value


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "secret").write_text("s3cret\n")
    assert _resolve(file="~/secret") == "s3cret"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "nothing"),
        (b"\n", "nothing"),
        (b" \n\n", "nothing"),
        (b"\0" * 32, "nothing"),
        (b"\xff\xfe", "UTF-8"),
    ],
)
def test_a_useless_file_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(SecretMissing, match=said) as caught:
        _resolve(file=str(tmp_path / "secret"))
    assert str(tmp_path / "secret") in caught.value.message


def test_a_file_that_is_not_there_or_too_big(tmp_path: Path) -> None:
    with pytest.raises(SecretMissing, match="No such file"):
        _resolve(file=str(tmp_path / "none"))
    (tmp_path / "big").write_bytes(b"x" * 100_000)
    with pytest.raises(SecretMissing, match="more than 64 KiB"):
        _resolve(file=str(tmp_path / "big"))


def test_a_command_is_run_by_argv_without_a_shell() -> None:
    argv = [sys.executable, "-c", "import sys; print(sys.argv[1])", "$(id) 'x'"]
    assert _resolve(command=argv) == "$(id) 'x'"


def test_a_failed_command_is_named_and_its_output_is_not() -> None:
    script = "print('s3cret'); raise SystemExit(3)"
    with pytest.raises(SecretMissing, match="exited with 3") as caught:
        _resolve(command=[sys.executable, "-c", script, "vault"])
    assert "vault" in caught.value.message
    assert "\ns3cret" not in caught.value.message


def test_a_command_that_is_not_there_or_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SecretMissing, match="No such file"):
        _resolve(command=["/no/such/command"])
    monkeypatch.setattr(secrets, "COMMAND_TIMEOUT_S", 0.05)
    with pytest.raises(SecretMissing, match="did not end"):
        _resolve(command=["sleep", "5"])


def test_a_command_cannot_wait_for_a_keyboard() -> None:
    script = "import sys; print(repr(sys.stdin.read()))"
    assert _resolve(command=[sys.executable, "-c", script]) == "''"


def _try(**reference: Any) -> Any:
    effect = TrySecret(secret=Secret.model_validate(reference), where="databases.db.connect")
    return secrets.SecretsDoor().perform(effect)


def test_a_reference_is_followed_and_its_value_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("s3cret\n")
    file.chmod(0o600)
    tried = _try(file=str(file))
    assert (tried.found, tried.said, tried.hint) == (True, "", "")
    file.chmod(0o640)
    tried = _try(file=str(file))
    assert tried.found
    assert "mode 0640" in tried.said
    assert tried.hint == f"chmod 600 {file}"
    missing = _try(env="NOT_SET_AT_ALL")
    assert not missing.found
    assert "NOT_SET_AT_ALL" in missing.said
    assert "export" in missing.hint
    assert "s3cret" not in repr(tried)
