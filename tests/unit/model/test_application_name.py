"""A name as pg_stat_activity shows it, as measured on PostgreSQL 12 to 18."""

from __future__ import annotations

import pytest

from runbook.model.application_name import as_server_keeps


@pytest.mark.parametrize(
    ("name", "before_16", "since_16"),
    [
        ("shop-web-01", "shop-web-01", "shop-web-01"),
        ("caf\u00e9", "caf??", r"caf\xc3\xa9"),
        ("tab\there", "tab?here", r"tab\x09here"),
        ("x" * 70, "x" * 63, "x" * 63),
        ("\u00e9" * 40, "?" * 63, (r"\xc3\xa9" * 40)[:63]),
    ],
)
def test_what_the_server_keeps(name: str, before_16: str, since_16: str) -> None:
    assert as_server_keeps(name, 159999) == before_16
    assert as_server_keeps(name, 160000) == since_16
