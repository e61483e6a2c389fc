"""Places, excerpts and near names, without any file."""

from __future__ import annotations

import pytest

from runbook.model.document import (
    Document,
    Place,
    Problem,
    excerpt,
    nearest,
    split_lines,
    visible,
)


def place(line: int = 1, column: int = 1) -> Place:
    return Place("f.yaml", line, column)


def document(text: str = "a: {b: 1}\n") -> Document:
    return Document(
        {"a": {"b": 1}},
        "f.yaml",
        text,
        {(): place(1, 1), ("a",): place(1, 4), ("a", "b"): place(1, 8)},
        {("a",): place(1, 1), ("a", "b"): place(1, 5)},
    )


def test_a_place_reads_as_editors_take_it() -> None:
    assert str(Place("inventory.yaml", 12, 3)) == "inventory.yaml:12:3"


def test_a_place_does_not_let_a_file_name_move_the_cursor() -> None:
    assert "\x1b" not in str(Place("\x1b[2J.yaml", 1, 1))


def test_values_and_keys_have_places_of_their_own() -> None:
    doc = document()
    assert doc.place_of(("a", "b")) == place(1, 8)
    assert doc.key_place_of(("a", "b")) == place(1, 5)


def test_an_unknown_path_falls_back_to_its_nearest_ancestor() -> None:
    doc = document()
    assert doc.place_of(("a", "b", 0, "c")) == place(1, 8)
    assert doc.place_of(("x", "y")) == place(1, 1)
    assert doc.key_place_of(("a", "x")) == place(1, 4)


def test_without_any_place_the_file_begins_at_its_top() -> None:
    assert Document(None, "f.yaml", "", {}, {}).place_of(("a",)) == place(1, 1)


def test_a_problem_says_where_what_and_what_to_do() -> None:
    assert str(Problem("no", place(2, 3), "do")) == "f.yaml:2:3: no\n  hint: do"
    assert str(Problem("no")) == "no"


def test_an_excerpt_points_at_the_column() -> None:
    assert document().excerpt(place(1, 8)) == "    1 | a: {b: 1}\n      |        ^"


def shown(line: str, column: int) -> tuple[str, str]:
    """The line and the caret, without their margins."""
    first, second = excerpt([line], place(1, column)).split("\n")
    return first[8:], second[8:]


def test_tabs_and_control_characters_are_escaped_and_counted() -> None:
    line, caret = shown("\ta: \x1b[31mred", 5)
    assert line == r"\ta: \x1b[31mred"
    assert caret.index("^") == line.index(r"\x1b")


def test_wide_characters_move_the_caret_by_two() -> None:
    assert shown("日本: x", 3)[1] == "    ^"


def test_combining_characters_take_no_column() -> None:
    assert shown("e\u0301: x", 3)[1] == " ^"


@pytest.mark.parametrize("column", [1, 50, 500, 1000])
def test_a_long_line_is_cut_around_the_caret(column: int) -> None:
    text = "x" * (column - 1) + "!" + "x" * (1000 - column)
    line, caret = shown(text, column)
    assert len(line) <= 96
    assert line[caret.index("^")] == "!"
    assert "..." in line


def test_a_place_behind_the_text_still_has_an_excerpt() -> None:
    assert excerpt(["a: 1"], place(9, 4)) == "    9 |\n      | ^"
    assert shown("a", 40) == ("a", " ^")


def test_lines_break_where_yaml_breaks_them() -> None:
    assert split_lines("a\r\nb\rc\nd\u2028e\x0cf") == ["a", "b", "c", "d\u2028e\x0cf"]


def test_visible_leaves_letters_of_all_scripts_alone() -> None:
    assert visible("é日") == "é日"
    assert visible("a\tb\x9b\u202e") == r"a\tb\x9b\u202e"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("adress", "address"),
        ("Address", "address"),
        ("known-hosts", "known_hosts"),
        ("hots", "host"),
        ("prt", "port"),
        ("shs", "ssh"),
        ("db", "dbs"),
        ("x", None),
        ("", None),
        ("to", None),
        ("zebra", None),
        ("a" * 1_000_000, None),
    ],
)
def test_the_nearest_name_is_likely_or_none(name: str, meant: str | None) -> None:
    names = ["address", "known_hosts", "host", "port", "ssh", "dbs"]
    assert nearest(name, names) == meant


def test_nearest_of_nothing_is_none() -> None:
    assert nearest("host", []) is None
