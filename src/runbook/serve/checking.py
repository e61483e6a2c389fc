"""Which secrets of a configuration lead nowhere at this moment, and where they are written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from runbook import wiring_serve
from runbook.model.errors import SecretMissing
from runbook.model.inventory import Secret
from runbook.model.serve_config import ServeConfig


def missing_secrets(config: ServeConfig) -> Iterator[str]:
    """Follow each reference; yield what is wrong with each that leads nowhere."""
    for where, secret in _secrets(config, ""):
        try:
            wiring_serve.secret(secret)
        except SecretMissing as error:
            yield f"{where}: {error.message}" + (f" ({error.hint})" if error.hint else "")


def _secrets(value: Any, where: str) -> Iterator[tuple[str, Secret]]:
    if isinstance(value, Secret):
        yield where, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets(getattr(value, name), f"{where}.{name}".lstrip("."))
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from _secrets(each, f"{where}.{name}")
    elif isinstance(value, tuple):
        for number, each in enumerate(value):
            yield from _secrets(each, f"{where}.{number}")
