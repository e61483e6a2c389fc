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
    if threading.active_count() > 1:
        # Somebody has stopped waiting for what goes on elsewhere: so must the process. Leaving in
        # the ordinary way would wait for its threads.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _open_what_is_closed() -> None:
    """Give a stream that our caller has closed (`>&-`) somewhere to go."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123


if __name__ == "__main__":
    main()
