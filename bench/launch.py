"""Runs one command and prints what it took: seconds, processor seconds, peak memory, exit code.

A process of its own, and a small one: on Linux the peak memory of a child begins with that of the
process which it was forked from, and the benchmarks themselves are large.
"""

from __future__ import annotations

import os
import sys
import time


def main() -> None:
    """Run `launch.py OUTPUT COMMAND…`; its streams go to OUTPUT.out and OUTPUT.err."""
    output, *argv = sys.argv[1:]
    written = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    streams = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, f"{output}.out", written, 0o600),
        (os.POSIX_SPAWN_OPEN, 2, f"{output}.err", written, 0o600),
    ]
    began = time.perf_counter()
    child = os.posix_spawnp(argv[0], argv, os.environ, file_actions=streams)
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - began
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(wall, usage.ru_utime + usage.ru_stime, peak, os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
