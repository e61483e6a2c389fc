"""Values in texts on hosts: read as systemd reads them, and rewritten with nothing else."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.model.setting_text import (
    CannotSet,
    DropIn,
    assignments,
    drop_in_text,
    env_value,
    matched_value,
    read_drop_in,
    value_problem,
    with_drop_in,
    with_env,
    with_matched,
)

#: Signs that mean something to one of the readers, and a few that do not.
ODD = st.text(alphabet="ab1 \t\n\"'\\$`%#;=é…", max_size=12)
KEYS = st.from_regex(r"[A-Z_][A-Z0-9_]{0,5}", fullmatch=True)


# ---- an EnvironmentFile


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=x", "x"),
        ("  A = x y  \n", "x y"),
        ("A=", ""),
        ("A=1\nA=2\n", "2"),
        ("#A=1\n;A=2\nA=3", "3"),
        ("A=x # no comment", "x # no comment"),
        ("A='x y' ", "x y"),
        ('A="x\\"y\\z\\$"', 'x"y\\z$'),
        ('A=x"y"', 'x"y"'),
        ('A="x"y', "xy"),
        ("A=\"x\" 'y'", "xy"),
        ("A=x\\\ny", "xy"),
        ("A=x\\ ", "x "),
        ('A="x\ny"', "x\ny"),
        ('A="x\\\ny"', "xy"),
        ("A=x\r\nB=1", "x"),
        ("AA=x\n=A=y\nno line\n", None),
    ],
)
def test_a_variable_as_systemd_reads_it(text: str, value: str | None) -> None:
    assert env_value(text, "A") == value


@pytest.mark.parametrize(
    ("text", "value", "written"),
    [
        ("# a\nA=5\nB=1\n", "7", "# a\nA=7\nB=1\n"),
        ('A="5" \n', "7", 'A="7"\n'),
        ("A='5'\n", "it's", 'A="it\'s"\n'),
        ("A=5 # x\r\nB=1\r\n", "7", "A=7\r\nB=1\r\n"),
        ("A=1\nA=2\n", "3", "A=1\nA=3\n"),
        ("B=1", "7", "B=1\nA=7\n"),
        ("", "a b", 'A="a b"\n'),
    ],
)
def test_one_value_is_rewritten_and_nothing_else(text: str, value: str, written: str) -> None:
    assert with_env(text, "A", value) == written


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("export A=5\n", "`export A=` in line 1 is as shells write it"),
        ("A=4\nexport A=5\n", "line 2"),
        ("# so \\\nA=5\n", "systemd before 254"),
        ('B="not closed\n', "a quote that is not closed"),
    ],
)
def test_what_cannot_be_set_for_sure_is_refused(text: str, says: str) -> None:
    with pytest.raises(CannotSet, match=re.escape(says)):
        with_env(text, "A", "7")


@pytest.mark.parametrize("value", ["a\x00b", "a\rb", "\x1b[31m", "\x7f", "\ud800", "\ufffe"])
def test_a_value_that_systemd_drops_is_refused_and_not_repeated(value: str) -> None:
    assert value_problem(value) is not None
    with pytest.raises(CannotSet) as no:
        with_env("A=1\n", "A", value)
    assert value not in str(no.value)
    with pytest.raises(CannotSet) as no:
        with_drop_in(None, "A", value, "R")
    assert value not in str(no.value)


@given(st.lists(st.tuples(KEYS, ODD), max_size=4), KEYS, ODD)
def test_any_value_comes_out_of_an_environment_file_as_it_went_in(
    others: list[tuple[str, str]], key: str, value: str
) -> None:
    text = "# first\n"
    for name, said in others:
        text = with_env(text, name, said)
    written = with_env(text, key, value)
    assert env_value(written, key) == value
    expected = {**dict(others), key: value}
    assert {each.key: each.value for each in assignments(written)} == expected
    assert with_env(written, key, value) == written


@given(st.text(alphabet="AB=\"'\\ #;\n\r\tx$", max_size=30), ODD)
def test_any_text_is_rewritten_in_one_value_or_refused(text: str, value: str) -> None:
    try:
        written = with_env(text, "A", value)
    except CannotSet:
        return
    assert env_value(written, "A") == value
    others = [(a.key, a.value) for a in assignments(text) if a.key != "A"]
    assert [(a.key, a.value) for a in assignments(written) if a.key != "A"] == others


# ---- a drop-in


@given(st.dictionaries(KEYS, ODD, max_size=4))
def test_any_values_come_out_of_a_drop_in_as_they_went_in(values: dict[str, str]) -> None:
    text = drop_in_text(DropIn(made_by="R1", values=values))
    assert read_drop_in(text) == DropIn(made_by="R1", values=values)
    assert all(line.startswith(("#", "[", "Environment=")) for line in text.splitlines())


def test_a_drop_in_keeps_who_made_it_and_what_else_it_holds() -> None:
    first = with_drop_in(None, "A", "100%", "R1")
    second = with_drop_in(first, "B", "$x", "R2")
    assert read_drop_in(second) == DropIn(made_by="R1", values={"A": "100%", "B": "$x"})
    assert 'Environment="A=100%%"\nEnvironment="B=$x"\n' in second


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text + "Nice=5\n",
        lambda text: text.replace("[Service]", "[Unit]"),
        lambda text: text.partition("\n")[2],
        lambda text: text.removesuffix("\n"),
        lambda text: text.replace('"A=1"', "A=1"),
        lambda text: text.replace("A=1", "A=%h"),
    ],
)
def test_a_drop_in_that_somebody_edits_is_left_to_them(edit: object) -> None:
    text = with_drop_in(None, "A", "1", "R1")
    assert callable(edit)
    with pytest.raises(CannotSet, match="edited it by hand"):
        with_drop_in(edit(text), "B", "2", "R2")


# ---- any text


def test_the_one_group_of_the_one_line_is_rewritten() -> None:
    text = "pool:\r\n  size: 5\r\n  max: 5\r\n"
    assert matched_value(text, r"^  size: (\d+)$") == "5"
    assert with_matched(text, r"^  size: (\d+)$", "12") == "pool:\r\n  size: 12\r\n  max: 5\r\n"


@pytest.mark.parametrize(
    ("pattern", "value", "says"),
    [
        (r"^min: (\d+)", "7", "no line matches"),
        (r": (\d+)", "7", "finds 2 lines (1, 2), and it must be one"),
        (r"^size: (\d)$", "12", "would not find the new value"),
        (r"^size: (\d+)", "7\n8", "more than one line"),
        (r"^size: 5|(never)", "7", "no line matches"),
    ],
)
def test_a_pattern_that_does_not_mean_one_place_is_refused(
    pattern: str, value: str, says: str
) -> None:
    with pytest.raises(CannotSet) as no:
        with_matched("size: 5\nmax: 6\n", pattern, value)
    assert says in str(no.value)
