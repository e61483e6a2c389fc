"""Host names as Ansible writes them: `web[01:50:2].example.com`, `[a:f]-db`, `host:2222`."""

from __future__ import annotations

import ipaddress
import re
import string
from collections.abc import Iterator

#: Nobody has as many hosts in one inventory; a range with a few digits too many would.
MAX_HOSTS = 100_000
#: A host name has at most 253 characters; its ranges may make a pattern longer.
_LONGEST = 1_000

_BRACKETED = re.compile(r"\[(.+)\]:([0-9]+)")
_WITH_PORT = re.compile(r"((?:[^:\[\]]|\[[^\]]*\])*):([0-9]+)")
_RANGE = re.compile(r"\[([^\[\]]*)\]")
_RANGE_IN_LABEL = r"\[(?:[a-zA-Z]:[a-zA-Z]|[0-9]+:[0-9]+)(?::[0-9]+)?\]"
_LABEL = rf"(?:\w|{_RANGE_IN_LABEL})(?:[\w-]|{_RANGE_IN_LABEL})*(?<![_-])"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


class WrongName(Exception):
    """A host pattern that names no hosts: `why` is a clause for people."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def hosts_of(pattern: str) -> tuple[list[str], int | None]:
    """Return the names that a host pattern stands for, and the port behind it.

    Raises:
        WrongName: for a range that is none, or too large a one.
    """
    if len(pattern) > _LONGEST:
        raise WrongName(f"it has {len(pattern):,} characters")
    name, port = _split_port(pattern)
    if port is None and pattern.endswith(":"):
        raise WrongName("a name does not end in ':'")
    names: list[str] = []
    for host in _expand(name):
        names.append(host)
        if len(names) > MAX_HOSTS:
            raise WrongName(f"this range has more than {MAX_HOSTS:,} hosts")
    return names, port


def _split_port(pattern: str) -> tuple[str, int | None]:
    """The host and its port; the whole pattern, where what stands before ':' is no host."""
    match = _BRACKETED.fullmatch(pattern) or _WITH_PORT.fullmatch(pattern)
    if match and len(match[2]) <= 5 and _is_host(match[1]):
        return match[1], int(match[2])
    return pattern, None


def _is_host(text: str) -> bool:
    if _HOST_NAME.fullmatch(text):
        return True
    try:
        ipaddress.ip_address(text)
    except ValueError:
        # IPv6 with ranges in it; whatever else has a colon was no host and port together.
        return ":" in text and "[" in text
    return True


def _expand(name: str) -> Iterator[str]:
    """Every name that the ranges in `name` stand for, the first range the slowest to move."""
    match = _RANGE.search(name)
    if match is None:
        if "[" in name:
            raise WrongName("a '[' has no ']'")
        yield name
        return
    for part in _sequence(match[1]):
        for rest in _expand(name[match.end() :]):
            yield name[: match.start()] + part + rest


def _sequence(text: str) -> Iterator[str]:
    """The members of one range: `01:50`, `a:f`, `1:9:2`."""
    bounds = text.split(":")
    if len(bounds) not in {2, 3}:
        raise WrongName(f"[{text}] is no range: write [begin:end] or [begin:end:step]")
    begin, end = bounds[0] or "0", bounds[1]
    step = bounds[2] if len(bounds) == 3 else "1"
    if not step.isascii() or not step.isdigit() or int(step[:9]) < 1:
        raise WrongName(f"the step of [{text}] is no number from 1 on")
    if begin in string.ascii_letters and end in string.ascii_letters and len(begin + end) == 2:
        yield from _letters(text, begin, end, int(step[:9]))
        return
    if not re.fullmatch(r"[0-9]{1,9}", begin) or not re.fullmatch(r"[0-9]{1,9}", end):
        raise WrongName(f"[{text}] has bounds that are neither numbers nor single letters")
    padded = begin.startswith("0") and len(begin) > 1
    if padded and len(begin) != len(end):
        raise WrongName(f"begin and end of [{text}] differ in length")
    width = len(begin) if padded else 0
    for number in range(int(begin), int(end) + 1, int(step[:9])):
        yield str(number).zfill(width)


def _letters(text: str, begin: str, end: str, step: int) -> Iterator[str]:
    letters = string.ascii_letters
    if letters.index(begin) > letters.index(end):
        raise WrongName(f"[{text}] ends before it begins")
    yield from letters[letters.index(begin) : letters.index(end) + 1 : step]
