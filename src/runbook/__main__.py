"""`python -m runbook` and the installed command."""

from __future__ import annotations

import os
import sys
import threading


def main() -> None:
    """Run the command line and exit with its code."""
    # Else pydantic looks into every installed distribution for plugins, which takes 10 ms or more;
    # nothing from outside has business in the models here anyway.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    _open_what_is_closed()
    from runbook.cli.main import run

    code = run(sys.argv[1:])
    _let_go_of_streams()
    if threading.active_count() > 1:
        # Somebody has stopped waiting for what goes on elsewhere: so must the process. Leaving in
        # the ordinary way would wait for its threads.
        os._exit(code)
    sys.exit(code)


def _let_go_of_streams() -> None:
    """Write what waits to be written; a reader that has gone must not become our exit code.

    Python would flush once more at its end, and exit with 120 when that fails.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except ValueError:  # closed
            continue
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _open_what_is_closed() -> None:
    """Give a stream that our caller has closed (`>&-`) somewhere to go."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123


if __name__ == "__main__":
    main()
