"""What sudo says when it refuses, told from what the program says that it runs."""

from __future__ import annotations

import pytest

from runbook.model.os_user import sudo_refusal, sudoers_rule


@pytest.mark.parametrize(
    "said",
    [
        "sudo: a password is required",
        "sudo: psql: command not found",
        "sh: 1: sudo: not found",
        "bash: line 1: sudo: command not found",
        "oncall is not in the sudoers file.",
        "Sorry, user oncall is not allowed to execute '/bin/sh -s' as postgres on db.",
    ],
)
def test_sudos_own_words(said: str) -> None:
    assert sudo_refusal(f"warning: locale\n{said}\n") == f"warning: locale {said}"


def test_the_programs_words_are_not_sudos() -> None:
    assert sudo_refusal("psql: error: connection to server failed: FATAL:  role does not") == ""


def test_the_line_that_lets_us_through() -> None:
    rule = sudoers_rule("oncall", "postgres", "/bin/sh")
    assert rule == "oncall ALL=(postgres) NOPASSWD: /bin/sh"
