"""Many trials: `PYTHONPATH=tests python -m fuzz --inputs 100000`; ends with 1 when one broke."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from fuzz.inputs import BESIDE, make
from fuzz.trial import MOST_BYTES, Trial, trial

#: Inputs that one worker takes at a time.
_SHARE = 500


def _shares(first: int, inputs: int) -> Iterator[range]:
    for start in range(first, first + inputs, _SHARE):
        yield range(start, min(start + _SHARE, first + inputs))


def _work(numbers: range) -> tuple[list[tuple[int, Trial]], Counter[str], float, int]:
    """Return the trials that broke, how all ended, the slowest, and the memory at its most."""
    # Beyond twice the promise an allocation fails, and the trial with it; below, it is measured.
    resource.setrlimit(resource.RLIMIT_AS, (4 * MOST_BYTES, 4 * MOST_BYTES))
    broken: list[tuple[int, Trial]] = []
    ended: Counter[str] = Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for beside, text in BESIDE.items():
            (folder / beside).write_text(text, encoding="utf-8")
        os.chdir(folder)
        for number in numbers:
            done = trial(make(number), folder)
            ended[done.ended] += 1
            slowest = max(slowest, done.seconds)
            if done.ended == "broken":
                broken.append((number, done))
        os.chdir("/")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return broken, ended, slowest, most


def main() -> int:
    """Run the trials, print how they ended, and keep the inputs that broke something."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first input")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="a folder for inputs that broke something")
    asked = parser.parse_args()
    ended: Counter[str] = Counter()
    slowest, most, broken = 0.0, 0, 0
    with multiprocessing.Pool(asked.processes) as pool:
        for bad, counts, slow, memory in pool.imap(_work, _shares(asked.first, asked.inputs)):
            ended += counts
            slowest, most = max(slowest, slow), max(most, memory)
            broken += len(bad)
            for number, done in bad[:5]:
                print(f"--- input {number}: {done.said}", flush=True)
                if asked.keep is not None:
                    asked.keep.mkdir(parents=True, exist_ok=True)
                    (asked.keep / f"{number}.yaml").write_bytes(make(number))
    print(f"{sum(ended.values())} inputs: {dict(ended)}")
    print(f"slowest {slowest:.2f}s, most memory {most / 1e6:.0f} MB")
    return 1 if broken or most > MOST_BYTES else 0


if __name__ == "__main__":
    sys.exit(main())
