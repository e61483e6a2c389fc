"""Names in SQL as PostgreSQL's scanner takes them: every character beyond ASCII is a letter."""

from __future__ import annotations

import string
import sys

import pytest

from runbook.model.sql_guard import reading_statement, tokens

_STARTS = {ord(c) for c in string.ascii_letters + "_"}
_GOES_ON = _STARTS | {ord(c) for c in string.digits + "$"}


@pytest.mark.parametrize("prefix", ["", "a"])
def test_which_characters_belong_to_a_name(prefix: str) -> None:
    allowed = _GOES_ON if prefix else _STARTS
    for code in [*range(1, 0x250), 0x2028, 0x3000, 0xD7FF, 0xE000, 0x1F600, sys.maxunicode]:
        begins = chr(code) + "pg_sleep_until"
        belongs = code in allowed or code > 127
        assert _is_refused(f"select {prefix}{begins}()") is not belongs, hex(code)


def _is_refused(sql: str) -> bool:
    try:
        reading_statement(sql)
    except ValueError:
        return True
    return False


def test_a_dollar_tag_may_hold_letters_beyond_ascii_and_no_dollar() -> None:
    assert [token.kind for token in tokens("$tägé9$ ; $tägé9$")] == ["literal"]
    assert [token.kind for token in tokens("1 $1$ 2")] == ["code"]
