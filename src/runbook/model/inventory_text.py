"""Writes an inventory as a person would: a host a line where it fits, quotes where they matter."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

_WIDTH = 100
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*|[0-9]{1,3}(\.[0-9]{1,3}){3}(/[0-9]{1,2})?")
#: Words that some reader of YAML, ours included, takes for something else than text.
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
#: JSON leaves these as they are, and YAML's text must not hold them.
_UNWELCOME = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def inventory_text(data: Mapping[str, object], comments: Iterator[str]) -> str:
    """Return the plain data of an inventory as YAML; `comments` stand above it, without `#`."""
    lines = [f"# {comment}".rstrip() for comment in comments]
    for key, value in data.items():
        if value == {}:
            continue
        if isinstance(value, dict):
            lines += ["", f"{key}:", *_entries(value, "  ")]
        else:
            lines.append(f"{key}: {_flow(value)}")
    return "\n".join(lines) + "\n"


def _entries(mapping: Mapping[str, object], indent: str) -> Iterator[str]:
    for key, value in mapping.items():
        line = f"{indent}{_text(key)}: {_flow(value)}"
        if len(line) <= _WIDTH or not isinstance(value, dict) or not value:
            yield line
        else:
            yield f"{indent}{_text(key)}:"
            yield from _entries(value, indent + "  ")


def _flow(value: object) -> str:
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_text(str(key))}: {_flow(item)}" for key, item in value.items())
        return f"{{{inside}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _text(value) if isinstance(value, str) else str(value)


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return _UNWELCOME.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)
