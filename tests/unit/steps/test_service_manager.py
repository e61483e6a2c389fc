"""The lines for a person's own terminal: two shells, and still the very same argv."""

from __future__ import annotations

import shlex

import pytest

from runbook.steps.service_manager import on_host
from unit.steps.shop_world import fleet


@pytest.mark.parametrize(
    "word",
    [r"srv-a\x2db.service", "a;b", "$HOME", "two words", "it's", "~", "*", "", "`id`", "caf\u00e9"],
)
def test_a_word_is_the_same_on_the_host(word: str) -> None:
    line = on_host(fleet().host("web-1"), ("systemctl", "status", word))
    ssh, target, *sent = shlex.split(line)
    assert (ssh, target) == ("ssh", "oncall@10.0.1.1")
    # ssh joins its words with spaces, and the shell of the host reads them again.
    assert shlex.split(" ".join(sent)) == ["systemctl", "status", word]


def test_plain_words_stay_readable() -> None:
    argv = ("sudo", "/usr/bin/systemctl", "restart", "shop@1.service")
    line = on_host(fleet().host("web-1"), argv)
    assert line == "ssh oncall@10.0.1.1 sudo /usr/bin/systemctl restart shop@1.service"
