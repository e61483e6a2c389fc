"""docs/tutorial.md, done as a reader does it: every file written, every command run, in order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
#: Where the tutorial says that its reader sits.
PLACE = "/tmp/tutorial"

#: A block, and the line before it.
_BLOCK = re.compile(
    r"^(?P<lead>[^\n]+)\n\n```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")
_SECONDS = re.compile(r"\d+\.\d+s")


@dataclass(frozen=True)
class Command:
    """One command of the page, and what it prints there."""

    line: str
    code: int
    printed: str


def commands(block: str) -> Iterator[Command]:
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        line, _, printed = part.partition("\n")
        said, _, code = line.partition("  # exit code ")
        yield Command(said, int(code or 0), printed)


class Reader:
    """Somebody who does what the page says, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran: list[str] = []
        self.env = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder / "home"),
            "RUNBOOK_STATE": str(folder / "home" / "state"),
            "LANG": "C.UTF-8",
        }

    def follow(self, lead: str, kind: str, text: str) -> None:
        if kind == "console":
            for command in commands(text):
                self.run(command)
            return
        name = re.findall(r"`([\w.-]+)`[^`]*$", lead)[-1]
        file = self.folder / name
        before = file.read_text() if lead.startswith("At the end of") else ""
        file.write_text(before + text.replace(PLACE, str(self.folder)))

    def run(self, command: Command) -> None:
        done = subprocess.run(
            ["sh", "-c", command.line],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.ran.append(command.line)
        assert done.returncode == command.code, (command, done)
        printed = done.stdout if command.code == 0 else done.stderr
        if command.printed:
            assert plain(printed.replace(str(self.folder), PLACE)) == plain(command.printed)


def plain(text: str) -> str:
    """What is another at every run stands aside."""
    return _SECONDS.sub("0.0s", _RUN_ID.sub("RUN_ID", text)).strip()


def test_the_tutorial_holds_from_its_first_line_to_its_last(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    reader = Reader(tmp_path)
    page = PAGE.read_text(encoding="utf-8")
    blocks = list(_BLOCK.finditer(page))
    assert len(blocks) == page.count("\n```") / 2, "a block has no line before it"
    for match in blocks:
        reader.follow(match["lead"], match["kind"], match["text"])
    assert len(reader.ran) == page.count("\n$ ")
    assert "size = 5" in (tmp_path / "shop.conf").read_text()
    (backup,) = tmp_path.glob("shop.conf.runbook-*")
    assert "size = 20" in backup.read_text()
