"""Captures in files: written whole, for their owner alone; whatever is read is told of."""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runbook import wiring_looks
from runbook.adapters import capture_file
from runbook.adapters.text_file import MAX_BYTES
from runbook.findings.capturing import capture
from runbook.model.errors import DoorError, InvalidDocument, RunbookError, UsageError
from runbook.model.leaks import LeakPolicy
from runbook.rendering.monitoring import check
from unit.findings.world import fleet, many, session, snapshot


def plain(**over: Any) -> dict[str, Any]:
    sessions = [*many(40), session(state="active", wait_event_type="Lock")]
    seen = snapshot(sessions, extra={"lock-waits": [{"pid": 1001, "blockers": [1002]}]})
    made = capture(seen, fleet(), saved_at="2026-01-01T02:17:00Z", version="0.9")
    return {**json.loads(json.dumps(made)), **over}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "c.json"


def refusal(file: Path, content: bytes | str) -> str:
    """Return what is said of a file that is no capture."""
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidDocument) as caught:
        capture_file.read(str(file))
    return str(caught.value)


# ---- writing -----------------------------------------------------------------------------------


def test_what_is_written_is_read_and_its_owner_alone_may(file: Path) -> None:
    capture_file.write(str(file), plain())
    assert capture_file.read(str(file)).runbook_version == "0.9"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_capture_is_replaced_whatever_its_mode_was(file: Path) -> None:
    capture_file.write(str(file), plain())
    file.chmod(0o644)
    capture_file.check_writable(str(file), force=False)
    capture_file.write(str(file), plain(runbook_version="1.0"))
    assert capture_file.read(str(file)).runbook_version == "1.0"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(file.parent) == [file.name]  # noqa: PTH208 - nothing is left beside it


def test_another_file_is_replaced_by_force_alone(file: Path) -> None:
    file.write_text("my notes")
    with pytest.raises(UsageError, match="is no capture") as caught:
        capture_file.check_writable(str(file), force=False)
    assert "--force" in (caught.value.hint or "")
    capture_file.check_writable(str(file), force=True)


def test_a_link_is_replaced_and_not_followed(file: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("x")
    file.symlink_to(precious)
    capture_file.write(str(file), plain())
    assert precious.read_text() == "x"
    assert not file.is_symlink()


@pytest.mark.parametrize("name", ["", "no/such/folder/c.json", "/dev/null"])
def test_where_nothing_can_be_written_that_is_said_before_the_look(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UsageError, DoorError)):
        capture_file.check_writable(name, force=True)


def test_a_full_disk_leaves_what_was_there(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    capture_file.write(str(file), plain())

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DoorError, match="No space left"):
        capture_file.write(str(file), plain(runbook_version="1.0"))
    monkeypatch.undo()
    assert capture_file.read(str(file)).runbook_version == "0.9"
    assert os.listdir(file.parent) == [file.name]  # noqa: PTH208


# ---- reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no JSON"),
        (b"\xff\xfe\x00", "UTF-16"),
        (b"\x80\x81", "not valid UTF-8"),
        ("&a [*a, *a]\n", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[1, 2]", "no `format: runbook-capture`"),
        ('{"format": "other"}', "no `format: runbook-capture`"),
        ("null", "no capture"),
    ],
)
def test_what_is_no_capture_is_said_to_be_none(file: Path, content: Any, words: str) -> None:
    assert words in refusal(file, content)


def test_a_capture_that_was_cut_off_says_so_and_where(file: Path) -> None:
    text = json.dumps(plain(), indent=1)
    said = refusal(file, text[:3000])
    assert "ends too early" in said
    assert f"{file}:{text[:3000].count(chr(10)) + 1}:" in said


def test_a_newer_format_says_which_runbook_it_takes(file: Path) -> None:
    said = refusal(file, json.dumps(plain(format_version=2, runbook_version="9.9")))
    assert "format version 2; this runbook knows version 1" in said
    assert "saved by runbook 9.9: upgrade" in said


@pytest.mark.parametrize("version", [0, -1, "1", None, True, 1.5, [1]])
def test_no_version_at_all_is_no_traceback(file: Path, version: Any) -> None:
    assert "this runbook knows version 1" in refusal(
        file, json.dumps(plain(format_version=version))
    )


def test_a_wrong_value_is_named_with_its_place(file: Path) -> None:
    broken = plain()
    broken["snapshot"]["sessions"][3]["pid"] = "many"
    assert "snapshot.sessions.3.pid" in refusal(file, json.dumps(broken))


def test_a_key_of_a_later_version_is_left_unread(file: Path) -> None:
    later = plain()
    later["snapshot"]["moon"] = 1
    file.write_text(json.dumps(later))
    assert capture_file.read(str(file)).snapshot.database == "db"


@pytest.mark.parametrize("number", ["1e999", "-Infinity", "NaN", "9" * 40, "9" * 6000])
def test_a_number_beyond_all_bounds_is_refused(file: Path, number: str) -> None:
    for whole in ('"max_connections": 100', '"age_s": 900.0'):
        text = json.dumps(plain())
        assert whole in text
        refusal(file, text.replace(whole, f"{whole.partition(' ')[0]} {number}"))


def test_a_huge_file_is_not_read(file: Path) -> None:
    with file.open("wb") as huge:
        huge.truncate(MAX_BYTES["capture"] + 1)
    with pytest.raises(InvalidDocument, match="too large for a capture"):
        capture_file.read(str(file))


def test_a_folder_and_a_pipe_are_no_captures(file: Path) -> None:
    with pytest.raises(InvalidDocument, match="is a directory"):
        capture_file.read(str(file.parent))
    os.mkfifo(file)
    with pytest.raises(InvalidDocument, match="FIFO"):
        capture_file.read(str(file))


GOOD = plain()
_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if not isinstance(value, dict | list):
        return [path]
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return [path, *(p for key, item in items for p in places(item, (*path, key)))]


PLACES = [
    path
    for path in places(GOOD)
    if path and (path[1:2] != ("sessions",) or path[2:3] in {(), (0,), (40,)})
]


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(where=st.sampled_from(PLACES), what=_ANY)
def test_whatever_stands_in_it_there_is_a_diagnosis_or_an_error(
    file: Path, where: tuple[Any, ...], what: Any
) -> None:
    broken = json.loads(json.dumps(GOOD))
    inner = broken
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = what
    file.write_text(json.dumps(broken), encoding="utf-8", errors="replace")
    with suppress(RunbookError):
        diagnosis = wiring_looks.judge_capture(str(file), LeakPolicy())
        assert diagnosis.model_dump_json()
        assert check(diagnosis, warning=80, critical=90)[0]
