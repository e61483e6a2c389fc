"""`runbook --help` beside `python -c 'import click'`: what the first keystroke costs."""

from __future__ import annotations

from bench.measure import PYTHON, RUNBOOK, Command, interleave, ratios, walls
from bench.report import Figure, figure

_ROUNDS = 25
_MOST = 1.6


def measure() -> list[Figure]:
    """Return the ratio, and both times."""
    taken = interleave(
        {
            "ours": Command(argv=(RUNBOOK, "--help")),
            "floor": Command(argv=(PYTHON, "-c", "import click")),
        },
        _ROUNDS,
    )
    ours, floor = taken["ours"], taken["floor"]
    return [
        figure("`runbook --help` / `import click`", "times", ratios(ours, floor), _MOST),
        figure("`runbook --help`", "s", walls(ours)),
        figure("`python -c 'import click'`", "s", walls(floor)),
    ]
