"""`python -m bench.journaled INVENTORY with|without`: one rolling restart, journaled or not."""

from __future__ import annotations

import sys

from runbook import wiring
from runbook.cli.running import EXIT_CODES, Request, run_playbook


def main() -> int:
    """Restart the service `shop` without asking."""
    inventory, journal = sys.argv[1:]
    request = Request(
        playbook="rolling-restart", target="shop", yes=True, quiet=True, journal=journal == "with"
    )
    outcome = run_playbook(request, wiring.load_fleet(inventory))
    return EXIT_CODES[outcome.finish.status]


if __name__ == "__main__":
    sys.exit(main())
