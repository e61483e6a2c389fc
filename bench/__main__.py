"""`python -m bench [NAME…]`: measures, prints a table, writes bench/results/latest.json."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING

from bench import (
    crowd,
    diagnose,
    engine,
    fleet,
    help,  # noqa: A004
    report,
    rolling,
    rungs,
    serve,
    terminate,
)
from bench.measure import NotMeasured
from lab.docker_engine import DockerFailed, LabUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.report import Figure

#: A benchmark is one file and one line here.
BENCHMARKS: dict[str, Callable[[], list[Figure]]] = {
    "help": help.measure,
    "diagnose": diagnose.measure,
    "crowd": crowd.measure,
    "rungs": rungs.measure,
    "terminate": terminate.measure,
    "fleet": fleet.measure,
    "rolling": rolling.measure,
    "engine": engine.measure,
    "serve": serve.measure,
}


def main() -> int:
    """Run the benchmarks that were named, or all; the exit code says nothing about targets."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    names = parser.parse_args().name or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}")
    measured: dict[str, list[Figure]] = {}
    load: dict[str, float] = {}
    for name in names:
        load[name] = round(os.getloadavg()[0], 2)
        measured[name] = _measure(name)
    report.save(measured, load)
    print(report.table(measured))
    busy = [name for name in names if load[name] > (os.cpu_count() or 1)]
    if busy:
        print(f"\nThe machine was busy with other work before: {', '.join(busy)}.", file=sys.stderr)
    return 0


def _measure(name: str) -> list[Figure]:
    began = time.monotonic()
    print(f"{name} …", end=" ", file=sys.stderr, flush=True)
    try:
        figures = BENCHMARKS[name]()
    except (NotMeasured, LabUnavailable, DockerFailed) as error:
        figures = [report.missing(name, str(error))]
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return figures


if __name__ == "__main__":
    sys.exit(main())
