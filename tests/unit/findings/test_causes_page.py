"""docs/causes.md is what the findings say, and every finding says it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runbook.findings.table import FINDINGS

if TYPE_CHECKING:
    from runbook.findings.finding_type import FindingType

ROOT = Path(__file__).parents[3]


def test_the_page_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("causes", ROOT / "tools" / "causes.py")
    assert spec is not None
    assert spec.loader is not None
    causes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(causes)
    written = (ROOT / "docs" / "causes.md").read_text(encoding="utf-8")
    assert written == causes.page(), "run `make docs`"


@pytest.mark.parametrize("kind", FINDINGS, ids=lambda kind: kind.name)
def test_every_finding_is_described_in_sentences(kind: FindingType) -> None:
    for text in (kind.summary, kind.looks, kind.told_apart, kind.remedy):
        assert text[0].isupper()
        assert text.endswith(".")
        assert "  " not in text
