"""Figures with their targets: one table for people, one JSON file that is committed."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

RESULTS = Path(__file__).parent / "results" / "latest.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One thing that was measured; `target` is the most that it may be, None for a yardstick."""

    what: str
    unit: str
    #: The median of `runs`; None when it could not be measured.
    value: float | None
    target: float | None = None
    least: float | None = None
    most: float | None = None
    runs: int = 1
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none, or nothing was measured."""
        if self.target is None or self.value is None:
            return None
        return self.value <= self.target


def figure(
    what: str, unit: str, values: Sequence[float], target: float | None = None, note: str = ""
) -> Figure:
    """Return the figure that stands for several runs: their median, with the extremes."""
    return Figure(
        what=what,
        unit=unit,
        value=median(values),
        target=target,
        least=min(values),
        most=max(values),
        runs=len(values),
        note=note,
    )


def missing(what: str, why: str) -> Figure:
    """Return the figure that could not be had."""
    return Figure(what=what, unit="", value=None, runs=0, note=" ".join(why.split()))


def machine() -> dict[str, Any]:
    """Return what the figures depend on, and nothing that names the machine."""
    return {
        "processors": os.cpu_count(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def save(measured: Mapping[str, Iterable[Figure]], load: Mapping[str, float]) -> None:
    """Write figures beside those of benchmarks that were not run this time."""
    kept: dict[str, Any] = {}
    if RESULTS.is_file():
        kept = json.loads(RESULTS.read_text())["benchmarks"]
    for name, figures in measured.items():
        entries = [{**asdict(f), "met": f.met} for f in figures]
        kept[name] = {"machine": machine(), "load": load.get(name), "figures": entries}
    whole = {"schema_version": SCHEMA_VERSION, "benchmarks": kept}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(whole, indent=1) + "\n")


def table(measured: Mapping[str, Iterable[Figure]]) -> str:
    """Return all figures as a Markdown table."""
    lines = [
        "| Benchmark | Figure | Median | Least to most | Target | Met |",
        "|---|---|---|---|---|---|",
    ]
    for name, figures in measured.items():
        lines += [f"| {name} | {_row(each)} |" for each in figures]
    notes = [f"- {f.what}: {f.note}" for figures in measured.values() for f in figures if f.note]
    return "\n".join([*lines, "", *notes])


def _row(each: Figure) -> str:
    if each.value is None:
        return f"{each.what} | not measured | | |"
    met = {True: "yes", False: "**no**", None: ""}[each.met]
    target = "" if each.target is None else f"≤ {_number(each.target, each.unit)}"
    spread = ""
    if each.least is not None and each.most is not None and each.runs > 1:
        spread = f"{_number(each.least, '')} to {_number(each.most, '')} ({each.runs})"
    return f"{each.what} | {_number(each.value, each.unit)} | {spread} | {target} | {met}"


def _number(value: float, unit: str) -> str:
    text = f"{value:.0f}" if value == int(value) or value >= 100 else f"{value:.2f}"
    return f"{text} {unit}".rstrip()
