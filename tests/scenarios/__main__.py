"""Runs the corpus on every PostgreSQL, prints the accuracy table, and writes docs/accuracy.md."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from scenarios import accuracy, binaries
from scenarios.corpus import SCENARIOS
from scenarios.networks import network
from scenarios.running import play
from scenarios.scenario import Judged
from scenarios.servers import running

ROOT = Path(__file__).parents[2]
#: What was judged wrongly, with the snapshot: not to be committed.
FAILURES = ROOT / ".cache" / "scenarios"


def main() -> int:
    """Return 0 when no healthy session would have been terminated, and everything was judged."""
    given = _arguments()
    try:
        packages = {version: binaries.server_package(version) for version in given.version}
    except binaries.NotToBeHad as error:
        print(f"scenarios: {error}", file=sys.stderr)
        return 2
    judged: list[Judged] = []
    # All versions at once: a scenario waits for most of its time.
    with ProcessPoolExecutor(len(packages)) as workers:
        asked = [
            workers.submit(on_one_version, version, package, tuple(given.only))
            for version, package in packages.items()
        ]
        for done in as_completed(asked):
            judged += done.result()
    return _report(judged, whole=not given.only and set(given.version) == set(binaries.RELEASES))


def on_one_version(version: str, package: Path, only: tuple[str, ...]) -> list[Judged]:
    """Play all scenarios, or those named, on a server of one version."""
    judged = []
    with network() as hosts, running(version, package, hosts) as server:
        for scenario in SCENARIOS:
            if not only or scenario.name in only:
                started = time.monotonic()
                judged.append(play(scenario, server, FAILURES))
                seconds = time.monotonic() - started
                print(f"{accuracy.line(judged[-1])}; {seconds:.1f}s", file=sys.stderr, flush=True)
    return judged


def _report(judged: list[Judged], *, whole: bool) -> int:
    page = accuracy.page(judged, SCENARIOS).rstrip() + "\n"
    print(page)
    if whole:
        (ROOT / "docs" / "accuracy.md").write_text(page, encoding="utf-8")
    killed = sum(one.killed for one in judged)
    if killed:
        print(f"scenarios: {killed} healthy sessions would be terminated", file=sys.stderr)
    return int(killed > 0 or any(one.failed for one in judged))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scenarios", description=__doc__)
    parser.add_argument("--version", nargs="*", default=list(binaries.RELEASES))
    parser.add_argument("--only", nargs="*", default=[], help="names of scenarios")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
