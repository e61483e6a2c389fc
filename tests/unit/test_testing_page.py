"""docs/testing-playbooks.md: its example runs as it is printed, and every key is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import BaseModel

from runbook.cli.main import cli
from runbook.model.playbook_test import (
    Expected,
    PlaybookTest,
    ScriptedOutcome,
    TestCase,
)

PAGE = (Path(__file__).parents[2] / "docs" / "testing-playbooks.md").read_text(encoding="utf-8")
PLAYBOOK, TEST = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
NAMED: dict[str, type[BaseModel]] = {
    "Keys": PlaybookTest,
    "A case": TestCase,
    "An outcome": ScriptedOutcome,
    "What is expected": Expected,
}


def played(folder: Path, test: str) -> str:
    (folder / "reload-app.yaml").write_text(PLAYBOOK)
    (folder / "reload-app.test.yaml").write_text(test)
    return CliRunner().invoke(cli, ["playbooks", "test", "reload-app.test.yaml"]).output


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_example_is_played_as_printed(tmp_path: Path) -> None:
    printed = re.search(
        r"^\$ runbook playbooks test reload.*?\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL
    )
    assert printed is not None
    assert played(tmp_path, TEST) == printed[1]


def test_its_failure_is_told_as_printed(tmp_path: Path) -> None:
    printed = re.search(r"^failed: .*$", PAGE, re.MULTILINE)
    assert printed is not None
    assert printed[0] in played(tmp_path, TEST.replace("{used: 3}", "{used: 30}"))


@pytest.mark.parametrize("section", NAMED)
def test_every_key_is_named_and_no_other(section: str) -> None:
    text = re.split(r"^#+ ", PAGE.split(f"# {section}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", text, re.MULTILINE)
    assert sorted(re.findall(r"\w+", " ".join(rows))) == sorted(NAMED[section].model_fields)
