"""`python -m runbook` and the installed command."""

from __future__ import annotations

import gc
import os
import sys
import threading


def main() -> None:
    """Run the command line and exit with its code."""
    # Else pydantic looks into every installed distribution for plugins, which takes as long as
    # loading pydantic; nothing from outside has business in the models here anyway.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # Loading makes objects that stay; looking through them for garbage again and again finds none.
    gc.set_threshold(50_000)
    from runbook.cli.main import run

    code = run(sys.argv[1:])
    if threading.active_count() > 1:
        # Somebody has stopped waiting for what goes on elsewhere: so must the process. Leaving in
        # the ordinary way would wait for its threads.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
