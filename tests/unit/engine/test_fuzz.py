"""A few hundred of the fuzzer's inputs; `make fuzz` feeds the reader a hundred thousand."""

from __future__ import annotations

import textwrap
from collections import Counter
from pathlib import Path

import pytest

from fuzz.inputs import BESIDE, CORPUS, make
from fuzz.trial import trial


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the files that a playbook of the fuzzer may bring in."""
    for name, text in BESIDE.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_input_ends_in_an_error_of_ours_or_in_a_plan(folder: Path) -> None:
    ended: Counter[str] = Counter()
    for number in range(250):
        done = trial(make(number), folder)
        assert done.ended != "broken", f"input {number}: {done.said}"
        ended[done.ended] += 1
    # Inputs that never get past the first check would prove little.
    assert min(ended["planned"], ended["unreadable"]) > 10
    assert ended["unplannable"] > 0


@pytest.mark.parametrize("text", CORPUS, ids=range(len(CORPUS)))
def test_what_is_bent_is_sound_before(text: str, folder: Path) -> None:
    done = trial(text.encode(), folder)
    assert done.ended in {"planned", "unplannable"}, done.said


def test_a_number_always_makes_the_same_input() -> None:
    assert [make(number) for number in range(50)] == [make(number) for number in range(50)]


def test_a_traceback_would_be_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr("fuzz.trial.make_plan", broken)
    text = """\
    version: 1
    name: sound
    steps: [{name: a, doctor: {}}]
    """
    done = trial(textwrap.dedent(text).encode(), folder)
    assert (done.ended, "KeyError" in done.said) == ("broken", True)
