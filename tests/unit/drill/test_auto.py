"""The incident played by itself: a good command passes, a bad one fails, nothing is left."""

from __future__ import annotations

import io
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from runbook.drill import auto, saturation, scorecard, state
from runbook.drill.probe import Login, Sample
from runbook.drill.processes import Identity
from runbook.drill.scorecard import Record

if TYPE_CHECKING:
    from runbook.drill.saturation import Drill

FAKE = (sys.executable, str(Path(__file__).with_name("fake_runbook.py")))


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=80, highlight=False)


def _text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_an_incident_that_is_handled_well_passes(tmp_path: Path, console: Console) -> None:
    assert auto.run_auto(tmp_path / "d", console=console, program=FAKE) == 0
    text = _text(console)
    assert "$ runbook diagnose drill-db\n" in text
    assert "$ runbook remediate drill-db --rolling-restart --service shop --yes\n" in text
    assert "drill: PASS" in text
    assert "FAILED" not in text
    assert max(map(len, text.splitlines())) <= 80 + len(str(tmp_path))
    assert not (tmp_path / "d").exists()


def test_commands_that_fail_are_told_and_the_drill_goes_on(drill: Drill, console: Console) -> None:
    false = (sys.executable, "-S", "-c", "raise SystemExit(7)")
    incident = auto.Incident(
        console=console, drill=drill, program=false, began=time.monotonic() - 5
    )
    incident.play()
    lines = incident.record.judge()
    scorecard.show(console, incident.record, lines)
    assert not scorecard.passed(lines)
    text = _text(console)
    assert "failed: runbook diagnose drill-db (exit code 7)" in text
    assert "0 of 9 (0 terminated)" in text
    assert "drill: FAIL" in text


def test_ctrl_c_removes_everything(
    tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch, drill: Drill
) -> None:
    root = tmp_path / "d"

    def start(*_: object) -> Drill:
        root.mkdir()
        state.create(root, home=root / "postgres", user=None)
        return replace(drill, state_dir=root)

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(saturation, "start", start)
    monkeypatch.setattr(auto.Incident, "play", interrupted)
    assert auto.run_auto(root, console=console) == 130
    assert not root.exists()


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"finding": null}', b"\xff"])
def test_a_diagnosis_that_cannot_be_read_names_no_cause(text: bytes) -> None:
    assert auto.read_cause(text) == (None, ())


def test_a_diagnosis_names_its_cause_and_whom_it_blames() -> None:
    owners = [{"host": "app-3", "concerned": 9}, {"host": "app-1", "concerned": 0}]
    document = json.dumps({"finding": {"cause": "leaked-sessions", "owners": owners}})
    assert auto.read_cause(document.encode()) == ("leaked-sessions", ("app-3",))


def _sample(pids: list[int], *, accepted: bool, started: str = "1") -> Sample:
    return Sample(
        login=Login(accepted=accepted),
        used=len(pids),
        sessions={(pid, "t"): "shop-app-3" for pid in pids},
        ready={"app-3": True},
        identities={"app-3": Identity(pid=1, started=started)},
    )


def _record() -> Record:
    full, relieved = _sample([1, 2, 3, 4], accepted=False), _sample([1, 2], accepted=True)
    after = _sample([9], accepted=True, started="2")
    return Record(
        leaked=frozenset({(3, "t"), (4, "t")}), terminated=frozenset({3, 4}), culprit="app-3",
        paged_at=1.0, diagnosed_at=2.0, cause="leaked-sessions", blamed=("app-3",),
        saturated=full, rehearsed=full, relieved=relieved, rolled=after, final=after,
        rolling_sent=9,
    )  # fmt: skip


def test_the_scorecard_passes_what_went_well() -> None:
    assert scorecard.passed(_record().judge())


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"terminated": frozenset({2, 3, 4})}, "healthy sessions terminated"),
        ({"leaked": frozenset({(9, "t")}), "terminated": frozenset()}, "leaked sessions gone"),
        ({"cause": "surge"}, "cause named"),
        ({"blamed": ("app-1", "app-3")}, "cause named"),
        ({"rolling_failed": 1}, "requests failed during the roll"),
        ({"rolling_sent": None}, "requests failed during the roll"),
        ({"terminated_in_rehearsal": frozenset({3})}, "changed by rehearsals"),
        ({"rehearsed": _sample([1, 2, 3], accepted=False)}, "changed by rehearsals"),
        ({"relieved": _sample([1], accepted=False)}, "app gets in once terminated"),
        ({"rolled": _sample([9], accepted=True)}, "app servers restarted"),
        ({"final": _sample([9], accepted=False)}, "slots in use, before and after"),
        ({"diagnosed_at": None}, "time to diagnosis"),
        ({"failed_commands": ["x"]}, "commands that failed"),
    ],
)
def test_the_scorecard_fails_on_each_thing_that_went_wrong(
    change: dict[str, object], line: str
) -> None:
    record = _record()
    for name, value in change.items():
        setattr(record, name, value)
    failed = [each.what for each in record.judge() if each.passed is False]
    assert line in failed
