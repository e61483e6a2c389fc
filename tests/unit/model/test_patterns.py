"""Patterns for what others send: sound ones are taken, those that may take for ever are not."""

from __future__ import annotations

import re

import pytest

from runbook.model.patterns import check_pattern


@pytest.mark.parametrize(
    "pattern",
    [
        "(.*)",
        "([a-z0-9-]+):[0-9]+",
        r"([a-z0-9-]+)(?:\.[a-z0-9.-]+)?(?::[0-9]+)?",
        "(?:prod|staging)-(?P<name>[a-z]+)",
        r"\[([^]]+)\] .*",
        r"(a\+b\)c|d)",
        "([a-z]{3}-[0-9]{4})",
        "((?:[0-9]{2}){3})",
        "([a-z]++)-([a-z]++)-([a-z]++)-([0-9]++)",
        r"x\{2,\}([{}]+)",
        "(a)?",
    ],
)
def test_a_sound_pattern_is_taken(pattern: str) -> None:
    assert check_pattern(pattern) == pattern


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", "no regular expression"),
        ("(a", "no regular expression"),
        ("(a{99999999999})", "no regular expression"),
        ("[a-z]+", "no group"),
        ("(?:a)", "no group"),
        ("(a+)+b", "inside of a repeat"),
        ("((?:a|a)*)b", "inside of a repeat"),
        ("((?:ab?)*)", "inside of a repeat"),
        ("((a*)c){2,9}", "inside of a repeat"),
        ("((?:(?:x+)y)+)", "inside of a repeat"),
        ("((?:a+)++)", "inside of a repeat"),
        (r"(a+)\1", "refers back"),
        ("(?P<x>a)(?P=x)", "group of another kind"),
        ("(?=.*a)(.*)", "group of another kind"),
        ("(?i)(a)", "group of another kind"),
        ("(.*)-.*-.*-.*", "4 open repeats"),
        ("(" + "a?" * 7 + ")", "7 choices"),
        ("(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)", "7 choices"),
    ],
)
def test_a_pattern_that_could_take_for_ever_is_not(pattern: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        check_pattern(pattern)
