"""Where alerts come from, one source a file; and which of them lead to a run. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from runbook.model.source import Source

#: Source `pagerduty-action` is the constant `PAGERDUTY_ACTION` in `alerts/pagerduty_action.py`.
_NAMES = (
    "pagerduty",
    "pagerduty-action",
    "pagerduty-workflow",
    "alertmanager",
    "slack",
)


class _Table(Mapping[str, Source]):
    """Loads a source's file when a hook first needs it."""

    def __getitem__(self, name: str) -> Source:
        if name not in _NAMES:
            raise KeyError(name)
        module = name.replace("-", "_")
        source: Source = getattr(import_module(f"runbook.alerts.{module}"), module.upper())
        return source

    def __contains__(self, name: object) -> bool:
        return name in _NAMES

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)


SOURCES: Mapping[str, Source] = _Table()
