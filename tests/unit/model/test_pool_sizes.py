"""Sizes of pools as people give them."""

from __future__ import annotations

import pytest

from runbook.model.pool_sizes import parse_sizes, words_of

SHOP = {"service": "shop", "size": 4, "overflow": 0, "processes": None}
BACK = {"service": "a.b", "size": None, "overflow": None, "processes": 2}


def test_words_become_one_mapping_for_each_service() -> None:
    words = ["shop.size=4", "a.b.processes=2", "shop.overflow=0"]
    assert parse_sizes(words) == [SHOP, BACK]
    assert parse_sizes(",".join(words)) == [SHOP, BACK]
    # A plan's parameters are read again on a resume.
    assert parse_sizes([SHOP, BACK]) == [SHOP, BACK]
    assert words_of(SHOP) == ["shop.size=4", "shop.overflow=0"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("size=4", "is no SERVICE.NAME=NUMBER"),
        ("shop.size=-1", "is no SERVICE.NAME=NUMBER"),
        ("shop.sise=4", "did you mean 'size'"),
        ("shop.size=0", "size is 1 to 262,143"),
        ("shop.size=4,shop.size=5", "given twice"),
        ([], "no size is given"),
        (4, "is no list of sizes"),
    ],
)
def test_what_is_no_size(words: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_sizes(words)
