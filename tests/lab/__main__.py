"""`python -m lab up | down | reset | list`: keeps a lab by hand, for developers."""

from __future__ import annotations

import argparse
import sys
import time

from .docker_engine import STATE, LabUnavailable
from .lab import Lab


def up(name: str, app_hosts: int) -> None:
    """Start a lab, write its inventory, and print where everything is."""
    begun = time.monotonic()
    describe(Lab.start(app_hosts=app_hosts, name=name))
    print(f"up in {time.monotonic() - begun:.1f} s")


def describe(lab: Lab) -> None:
    """Print a lab's hosts and ports."""
    for host in lab.hosts.values():
        port = f"postgres {host.pg_port}" if host.is_db else f"http {host.http_port}"
        print(f"{host.name:8} {host.address:14} 127.0.0.1: ssh {host.ssh_port}, {port}")
    print(f"inventory: {lab.folder / 'inventory.yaml'}")


def main() -> int:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    parser.add_argument("verb", choices=["up", "down", "reset", "list"])
    parser.add_argument("name", nargs="?", default="dev")
    parser.add_argument("--app-hosts", type=int, default=3)
    arguments = parser.parse_args()
    try:
        if arguments.verb == "up":
            up(arguments.name, arguments.app_hosts)
        elif arguments.verb == "down":
            Lab(name=arguments.name).stop()
        elif arguments.verb == "reset":
            Lab.attach(arguments.name).reset()
        else:
            for saved in sorted(STATE.glob("*/lab.json")):
                describe(Lab.attach(saved.parent.name))
    except LabUnavailable as missing:
        print(f"error: {missing}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
