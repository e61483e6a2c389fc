"""Does what the real command owes the drill, in the plainest way: it plays runbook in tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import yaml

LEAKED_SQL = """
SELECT pid FROM pg_stat_activity WHERE application_name = 'shop-app-3' AND state = 'idle'
 ORDER BY state_change LIMIT greatest(0, (
    SELECT count(*) - 4 FROM pg_stat_activity WHERE application_name = 'shop-app-3'))
"""


def connect(inventory: dict[str, Any]) -> psycopg.Connection[Any]:
    door = dict(inventory["databases"]["drill-db"]["connect"])
    password = Path(door.pop("password")["file"]).read_text(encoding="utf-8")
    return psycopg.connect(**door, password=password, autocommit=True)


def diagnose(inventory: dict[str, Any], words: list[str]) -> None:
    with connect(inventory) as connection:
        leaked = len(connection.execute(LEAKED_SQL).fetchall())
    cause = "leaked-sessions" if leaked else "healthy"
    owners = [{"host": "app-3", "concerned": leaked}, {"host": "app-1", "concerned": 0}]
    if "json" in words:
        print(json.dumps({"finding": {"cause": cause, "owners": owners}}))
    else:
        print(f"cause: {cause}")


def terminate(inventory: dict[str, Any]) -> None:
    with connect(inventory) as connection:
        for (pid,) in connection.execute(LEAKED_SQL).fetchall():
            connection.execute("SELECT pg_terminate_backend(%s)", [pid])


def roll(inventory: dict[str, Any]) -> None:
    restart = inventory["services"]["shop"]["manager"]["command"]["restart"]
    for name in inventory["hosts"]:
        subprocess.run([word.replace("${host.name}", name) for word in restart], check=True)


def main(words: list[str]) -> None:
    if "--dry-run" in words:
        print("nothing changed")
        return
    inventory = yaml.safe_load(Path(words[words.index("-i") + 1]).read_text())
    if words[0] == "diagnose":
        diagnose(inventory, words)
    elif "--terminate-idle" in words:
        terminate(inventory)
    else:
        roll(inventory)


if __name__ == "__main__":
    main(sys.argv[1:])
