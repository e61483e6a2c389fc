"""How a client program tells what it knows of its own sessions, and then stays as it is."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any


def config() -> dict[str, Any]:
    """Return what the stage asked for: the first argument, JSON."""
    given: dict[str, Any] = json.loads(sys.argv[1])
    return given


def tell(*, lost: Iterable[int] = (), kept: Iterable[int] = (), busy: Iterable[int] = ()) -> None:
    """Say whose backend pids are lost, still known to a pool or to the program, and at work."""
    print(json.dumps({"lost": list(lost), "kept": list(kept), "busy": list(busy)}), flush=True)


def stay() -> None:
    """Stay until the stage closes our standard input, or kills us."""
    sys.stdin.read()
