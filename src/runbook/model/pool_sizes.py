"""Sizes of pools as people give them: `shop.size=4`, several of one service together."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from runbook.model.document import nearest, quoted

#: What of a pool may be given, and the least that it may be.
LEAST = {"size": 1, "overflow": 0, "processes": 1}
#: What an item of a parameter of type `pools` has: `${item.service}`, `${item.size}`, ….
FIELDS = ("service", *LEAST)
#: PostgreSQL has no more connections than this.
_MOST = 262_143
_WORD = re.compile(r"(?P<service>.+)\.(?P<name>[a-z_-]+)\s*=\s*(?P<number>[0-9]{1,9})")


def parse_sizes(words: object) -> list[dict[str, Any]]:
    """Return a mapping of `FIELDS` for each service, in order; what is not given is None.

    `words` is `shop.size=4,shop.overflow=0`, a list of such, or what this function returned.

    Raises:
        ValueError: for anything else, and for what is given twice.
    """
    pools: dict[str, dict[str, Any]] = {}
    for service, name, number in _given(words):
        pool = pools.setdefault(service, dict.fromkeys(FIELDS) | {"service": service})
        if pool[name] is not None:
            raise ValueError(f"{service}.{name} is given twice")
        pool[name] = number
    if not pools:
        raise ValueError("no size is given: write it as in shop.size=4")
    return list(pools.values())


def words_of(pool: dict[str, Any]) -> list[str]:
    """Return a pool's sizes as they are written."""
    return [f"{pool['service']}.{n}={pool[n]}" for n in LEAST if pool.get(n) is not None]


def _given(words: object) -> Iterable[tuple[str, str, int]]:
    for word in words.split(",") if isinstance(words, str) else _listed(words):
        if isinstance(word, dict):
            yield from (_pair(text) for text in words_of(word))
        else:
            yield _pair(str(word).strip())


def _listed(words: object) -> Iterable[object]:
    if not isinstance(words, list | tuple):
        raise ValueError(f"{words!r} is no list of sizes, as in shop.size=4")  # noqa: TRY004 - pydantic
    return words


def _pair(word: str) -> tuple[str, str, int]:
    match = _WORD.fullmatch(word)
    if match is None:
        raise ValueError(f"{quoted(word)} is no SERVICE.NAME=NUMBER, as in shop.size=4")
    name, number = match["name"], int(match["number"])
    if name not in LEAST:
        near = nearest(name, LEAST)
        hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(LEAST)}"
        raise ValueError(f"{quoted(word)}: a pool has no {name!r}: {hint}")
    if not LEAST[name] <= number <= _MOST:
        raise ValueError(f"{quoted(word)}: {name} is {LEAST[name]} to {_MOST:,}")
    return match["service"], name, number
