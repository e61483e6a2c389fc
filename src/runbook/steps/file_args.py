"""What the verb `file` is given, and what it makes of a file: pure text in, text out."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from runbook.model.errors import UsageError
from runbook.model.host_files import LARGEST
from runbook.model.inventory import Closed
from runbook.model.units import Duration

#: Absolute, and no path that the next person has to resolve in the head.
_PATH = r"^/(?!.*/\.\.?(/|$))[^\x00-\x1f]{1,4000}[^/\x00-\x1f]$"
_MODE = r"^0?[0-7]{3}$"
_NAME = r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?"
_OWNER = rf"^({_NAME}(:{_NAME})?|:{_NAME})$"
_RUN = r"^[A-Za-z0-9][A-Za-z0-9-]{0,63}$"


class FileArgs(Closed):
    """A small text file on some hosts: its whole content, or one line of it."""

    hosts: str = Field(description="a selector")
    path: Annotated[str, StringConstraints(max_length=4002)] = Field(
        description="an absolute path; ${host.name} is filled in"
    )
    content: str | None = Field(None, description="all that the file shall hold")
    from_file: str | None = Field(
        None, description="a file beside the playbook that holds the content; it is in the plan"
    )
    line: str | None = Field(
        None, description="a line that the file shall hold; added at its end, or see match"
    )
    match: str | None = Field(
        None, description="a regular expression: the one line that it finds is replaced by line"
    )
    restore: Annotated[str, StringConstraints(pattern=_RUN)] | None = Field(
        None, description="a run's id: what the file was before that run, from its backup"
    )
    mode: Annotated[str, StringConstraints(pattern=_MODE)] | None = Field(
        None, description="as in chmod, quoted; a file keeps its own, a new one has 0644"
    )
    owner: Annotated[str, StringConstraints(pattern=_OWNER)] | None = Field(
        None, description="as in chown: user, user:group or :group; a file keeps its own"
    )
    sudo: bool = Field(False, description="look and write with `sudo -n sh`")
    backup: bool = Field(True, description="keep what the file was beside it, with the run's id")
    follow: bool = Field(False, description="write to the file that a symbolic link leads to")
    timeout: Duration = Field(30.0, description="for each look and each writing, on each host")

    @model_validator(mode="after")
    def _one_wish(self) -> Self:
        if "${" not in self.path:
            _refuse_odd_path(self.path)
        wishes = [k for k in ("content", "line", "restore") if getattr(self, k) is not None]
        if not wishes and self.from_file is not None:
            wishes = ["content"]
        if len(wishes) != 1:
            said = f"it has {' and '.join(wishes)}" if wishes else "it has none"
            raise ValueError(f"a file has one of content, from_file, line or restore; {said}")
        if len((self.content or "").encode()) > LARGEST:
            raise ValueError(f"content: a file has at most {LARGEST:,} bytes")
        self._check_line()
        return self

    def _check_line(self) -> None:
        if self.line is not None and ("\n" in self.line or "\r" in self.line):
            raise ValueError("line: it is more than one line; use content")
        if self.match is None:
            return
        if self.line is None:
            raise ValueError("match: it says which line is replaced, and there is no line")
        try:
            pattern = re.compile(self.match)
        except re.error as error:
            raise ValueError(f"match: {self.match!r} is no regular expression: {error}") from None
        if "${" not in self.line and not pattern.search(self.line):
            raise ValueError(
                "match: it does not find the new line, so every run would add it once more;"
                f" write it so that it finds {self.line!r} as well"
            )


def check_path(path: str) -> None:
    """Check a path whose placeholders are filled in.

    Raises:
        UsageError: when it is none that is written to.
    """
    try:
        _refuse_odd_path(path)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _refuse_odd_path(path: str) -> None:
    if not re.match(_PATH, path):
        raise ValueError(f"path: {path!r} is no absolute path of a file, without . and ..")


def backup_of(path: str, run_id: str) -> str:
    """Return where a run keeps what a file was."""
    return f"{path}.runbook-{run_id}"


def with_line(content: str, line: str, match: str | None) -> str:
    """Return a file's text with a line in it: in place of the one that matches, or at the end.

    Raises:
        ValueError: when more than one line matches: which one was meant would be a guess.
    """
    lines = content.split("\n")
    if match is None:
        return content if line in lines else _appended(content, line)
    found = [number for number, text in enumerate(lines) if text and re.search(match, text)]
    if len(found) > 1:
        numbers = ", ".join(str(number + 1) for number in found[:5])
        raise ValueError(f"{match!r} finds {len(found)} lines ({numbers}), and it must be one")
    if not found:
        return _appended(content, line)
    return "\n".join([*lines[: found[0]], line, *lines[found[0] + 1 :]])


def _appended(content: str, line: str) -> str:
    gap = "" if not content or content.endswith("\n") else "\n"
    return f"{content}{gap}{line}\n"
