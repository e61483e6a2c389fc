"""The verbs of the playbook language: one step type a file, one line here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from runbook.model.step import StepType

#: Verb `query` is the constant `QUERY` in `steps/query.py`.
_VERBS = (
    "approve",
    "check",
    "command",
    "diagnose",
    "doctor",
    "file",
    "grants",
    "notify",
    "pause",
    "pgbouncer",
    "pgbouncer_check",
    "pgbouncer_moved",
    "pgbouncer_retire",
    "pgbouncer_role",
    "pgbouncer_setup",
    "pgbouncer_status",
    "pool_check",
    "pool_plan",
    "pooling_fitness",
    "query",
    "role_guards",
    "role_settings",
    "rolling",
    "script",
    "service",
    "set",
    "shell",
    "terminate",
)


class _Table(Mapping[str, StepType]):
    """Loads a verb's file when the verb is first used: a diagnosis needs one of them."""

    def __getitem__(self, verb: str) -> StepType:
        if verb not in _VERBS:
            raise KeyError(verb)
        step: StepType = getattr(import_module(f"runbook.steps.{verb}"), verb.upper())
        return step

    def __contains__(self, verb: object) -> bool:
        return verb in _VERBS

    def __iter__(self) -> Iterator[str]:
        return iter(_VERBS)

    def __len__(self) -> int:
        return len(_VERBS)


STEPS: Mapping[str, StepType] = _Table()
