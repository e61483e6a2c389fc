"""Reading some small files of a host in one command, each told for itself."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

#: Bytes of one file that are read: settings are smaller.
LARGEST = 256 * 1024

#: One line a path: a word, and of a file its content. `closed`: its folder does not let us look.
_SCRIPT = """\
for path do
  if [ ! -e "$path" ]; then
    folder=$(dirname -- "$path")
    if [ -d "$folder" ] && [ -x "$folder" ]; then echo absent; else echo closed; fi
  elif [ ! -f "$path" ]; then echo other
  elif [ ! -r "$path" ]; then echo closed
  elif [ "$(wc -c < "$path")" -gt "$MOST" ]; then echo large
  else printf 'file '; base64 < "$path" | tr -d '\\n'; echo
  fi
done
echo end
"""

State = Literal["file", "absent", "closed", "other", "large", "garbled"]
_OTHERWISE: dict[str, State] = {
    "absent": "absent",
    "closed": "closed",
    "other": "other",
    "large": "large",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRead:
    """One path: its text, or why there is none."""

    state: State
    text: str = ""


def read_argv(paths: Sequence[str]) -> tuple[str, ...]:
    """Return the command that reads files."""
    return ("sh", "-c", _SCRIPT.replace("$MOST", str(LARGEST)), "sh", *paths)


def keep_bytes(paths: Sequence[str]) -> int:
    """Return how much of the command's output is to be kept: all of it."""
    return 1024 + len(paths) * (LARGEST * 4 // 3 + 16)


def parse_read(output: str, paths: Sequence[str]) -> dict[str, FileRead] | None:
    """Return what was read, by path; None when that is no whole answer of the command."""
    lines = output.splitlines()
    if len(lines) != len(paths) + 1 or lines[-1] != "end":
        return None
    return {path: _file(line) for path, line in zip(paths, lines, strict=False)}


def _file(line: str) -> FileRead:
    word, _, encoded = line.partition(" ")
    if word in _OTHERWISE:
        return FileRead(state=_OTHERWISE[word])
    try:
        return FileRead(state="file", text=base64.b64decode(encoded, validate=True).decode())
    except (binascii.Error, ValueError):
        return FileRead(state="garbled")
