"""`ansible-playbook` in an environment of its own, installed when it is in reach."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_REQUIREMENT = "ansible-core>=2.18,<2.21"
_INSTALL_S = 180.0


def ansible_playbook() -> Path | None:
    """Return the program, installed into the user's cache folder once; None when it cannot be."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "runbook-bench" / "ansible"
    program = home / "bin" / "ansible-playbook"
    if not program.exists() and not _install(home):
        return None
    return program


def version(program: Path) -> str:
    """Return `2.19.1`, as the program says it."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return said.stdout.partition("core ")[2].partition("]")[0]


def _install(home: Path) -> bool:
    quiet = ["--quiet", "--disable-pip-version-check"]
    try:
        subprocess.run([sys.executable, "-m", "venv", home], check=True, capture_output=True)
        subprocess.run(
            [home / "bin" / "pip", "install", *quiet, _REQUIREMENT],
            check=True,
            capture_output=True,
            timeout=_INSTALL_S,
        )
    except (subprocess.SubprocessError, OSError):
        return False
    return True
