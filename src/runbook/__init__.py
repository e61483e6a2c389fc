"""runbook: diagnose a saturated PostgreSQL, rehearse the smallest safe remedy, do it, prove it."""

__version__ = "0.1.0"
