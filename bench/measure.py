"""Runs whole processes, interleaved so that a slow moment of the machine hits all of them alike."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

BIN = Path(sys.prefix) / "bin"
PYTHON = str(BIN / "python")
RUNBOOK = str(BIN / "runbook")
_LAUNCH = str(Path(__file__).with_name("launch.py"))
_LONGEST_S = 120.0


class NotMeasured(Exception):
    """A figure cannot be had on this machine, or now; the message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A process to measure."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    #: Exit codes that count as having done its work.
    good: tuple[int, ...] = (0,)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What one process took: seconds of wall clock and of processor, bytes of peak memory."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    stdout: str
    stderr: str


def run(command: Command) -> Sample:
    """Run a process to its end.

    Raises:
        NotMeasured: when it did not do its work; what it said is in the message.
    """
    env = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "SSH_AUTH_SOCK"}}
    with tempfile.TemporaryDirectory(prefix="runbook-bench-") as folder:
        output = Path(folder) / "command"
        launched = subprocess.run(
            [sys.executable, "-I", "-S", _LAUNCH, str(output), *command.argv],
            env={**env, **command.env},
            stdout=subprocess.PIPE,
            text=True,
            timeout=_LONGEST_S,
            check=True,
        )
        stdout, stderr = (output.with_suffix(s).read_text("utf-8", "replace") for s in _STREAMS)
    wall, cpu, peak, code = launched.stdout.split()
    if int(code) not in command.good:
        raise NotMeasured(f"{' '.join(command.argv[:4])}… exited with {code}: {stderr[-600:]}")
    return Sample(
        wall_s=float(wall), cpu_s=float(cpu), peak_bytes=int(peak), stdout=stdout, stderr=stderr
    )


_STREAMS = (".out", ".err")


def interleave(
    commands: Mapping[str, Command],
    rounds: int,
    *,
    warm_up: bool = True,
    before: Callable[[], object] = lambda: None,
) -> dict[str, list[Sample]]:
    """Run each command once a round, in an order that turns around every round.

    `before` is called before each run, outside of what is measured.
    """
    names = list(commands)
    taken: dict[str, list[Sample]] = {name: [] for name in names}
    for number in range(rounds + warm_up):
        for name in names if number % 2 else reversed(names):
            before()
            sample = run(commands[name])
            if number >= warm_up:
                taken[name].append(sample)
    return taken


def ratios(ours: Sequence[Sample], theirs: Sequence[Sample]) -> list[float]:
    """Return ours over theirs in wall-clock time, round by round."""
    return [a.wall_s / b.wall_s for a, b in zip(ours, theirs, strict=True)]


def walls(samples: Sequence[Sample]) -> list[float]:
    """Return the seconds of each run."""
    return [sample.wall_s for sample in samples]


def peak_mb(samples: Sequence[Sample]) -> float:
    """Return the median peak memory in MB (10^6 bytes)."""
    return median(sample.peak_bytes for sample in samples) / 1e6
