"""The YAML reader: what it takes, what it refuses, and how it says so."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runbook.adapters import yaml_reader
from runbook.adapters.yaml_reader import parse_document, read_document
from runbook.model.document import Place, Problem
from runbook.model.errors import InvalidDocument, RunbookError

PROC_FILE = Path("/proc/cpuinfo")
INVENTORY = """\
version: 1
hosts:
  web-01: {address: 10.0.1.1, groups: [web, prod]}
  web-02:
    address: 10.0.1.2
    groups:
    - web
"""


def value(text: str) -> object:
    return parse_document(text, "f.yaml").value


def problems(text: str) -> tuple[Problem, ...]:
    with pytest.raises(InvalidDocument) as caught:
        parse_document(text, "f.yaml")
    return caught.value.problems


def problem(text: str) -> Problem:
    (only,) = problems(text)
    return only


def spot(found: Problem) -> tuple[int, int]:
    assert found.place is not None
    return found.place.line, found.place.column


def refusal(path: Path, **options: object) -> Problem:
    with pytest.raises(InvalidDocument) as caught:
        read_document(path, **options)  # type: ignore[arg-type]
    (only,) = caught.value.problems
    return only


# --- values and places -------------------------------------------------------------------------


def test_a_document_is_plain_values() -> None:
    assert value(INVENTORY) == {
        "version": 1,
        "hosts": {
            "web-01": {"address": "10.0.1.1", "groups": ["web", "prod"]},
            "web-02": {"address": "10.0.1.2", "groups": ["web"]},
        },
    }


def test_every_value_and_key_has_its_place() -> None:
    doc = parse_document(INVENTORY, "f.yaml")
    assert doc.place_of(()) == Place("f.yaml", 1, 1)
    assert doc.place_of(("version",)) == Place("f.yaml", 1, 10)
    assert doc.key_place_of(("hosts", "web-01")) == Place("f.yaml", 3, 3)
    assert doc.place_of(("hosts", "web-01", "groups", 1)) == Place("f.yaml", 3, 45)
    assert doc.place_of(("hosts", "web-02", "groups", 0)) == Place("f.yaml", 7, 7)
    assert doc.place_of(("hosts", "web-02", "nothing")) == Place("f.yaml", 5, 5)


@pytest.mark.parametrize("text", ["a: 1\r\nb: x\r\n", "a: 1\rb: x\r", "\ufeffa: 1\nb: x\n"])
def test_line_ends_and_a_byte_order_mark_do_not_move_places(text: str) -> None:
    assert parse_document(text, "f").place_of(("b",)) == Place("f", 2, 4)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("FALSE", False),
        ("0", 0),
        ("-12", -12),
        ("+7", 7),
        ("0o755", 0o755),
        ("0xFF", 255),
        (str(2**63 - 1), 2**63 - 1),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1.", 1.0),
        ("1e3", 1000.0),
        ("-0.0", 0.0),
    ],
)
def test_plain_scalars_follow_the_core_schema(raw: str, expected: object) -> None:
    found = value(f"a: {raw}\n")
    assert found == {"a": expected}
    assert type(found["a"]) is type(expected)


@pytest.mark.parametrize(
    "raw",
    ["1:30", "12:30:45", "2024-01-01", "1_000", "0b11", "nUll", "tRue", "10.0.0.1", "25%", "1.2.3"],
)
def test_what_older_yaml_took_for_something_else_is_a_string(raw: str) -> None:
    assert value(f"a: {raw}\n") == {"a": raw}


@pytest.mark.parametrize("raw", ["yes", "0755", "1", "null", ".nan", "", "<<", "!x", "9" * 99])
def test_quotes_make_any_scalar_and_any_key_a_string(raw: str) -> None:
    assert value(f'a: "{raw}"') == {"a": raw}
    assert value(f"'{raw}': 1") == {raw: 1}


def test_block_text_keeps_its_lines() -> None:
    assert value("a: |\n  x\n   y\nb: >-\n  z\n  z\n") == {"a": "x\n y\n", "b": "z z"}


def test_a_url_may_stand_in_a_flow_mapping_unquoted() -> None:
    assert value("{url: http://web:80/x}") == {"url": "http://web:80/x"}


def test_tabs_may_part_values_but_not_hide_in_them() -> None:
    assert value("a:\tb\t# c\nd\t: [e,\tf]\t\n") == {"a": "b", "d": ["e", "f"]}
    assert value('a: "b\tc"') == {"a": "b\tc"}
    for text in ("a: b\tc", "b\tc: a", "{a: b\tc}"):
        found = problem(text)
        assert "holds a tab" in found.message
        assert "\t" not in str(found)


def test_a_missing_value_stands_behind_its_colon() -> None:
    assert parse_document("a:\n\n# c\nb: 1\n", "f").place_of(("a",)) == Place("f", 1, 3)


# --- refused scalars and keys ------------------------------------------------------------------


@pytest.mark.parametrize("raw", ["yes", "No", "ON", "off", "y", "N"])
def test_old_booleans_are_refused_as_values_and_as_keys(raw: str) -> None:
    as_value = problem(f"a: {raw}\n")
    assert raw in as_value.message
    assert 'quote it: "' in str(as_value.hint)
    assert spot(as_value) == (1, 4)
    as_key = problem(f"{raw}: 1\n")
    assert raw in as_key.message
    assert spot(as_key) == (1, 1)


def test_yes_is_offered_true_and_off_false() -> None:
    assert "write true" in str(problem("a: yes").hint)
    assert "write false" in str(problem("a: off").hint)


@pytest.mark.parametrize(
    ("raw", "hint"),
    [
        ("0755", 'quote it: "0755", or write 0o755'),
        ("010", 'quote it: "010", or write 0o10'),
        ("089", 'quote it: "089"'),
        ("00", 'quote it: "00"'),
        ("-01", 'quote it: "-01"'),
    ],
)
def test_leading_zeros_are_refused(raw: str, hint: str) -> None:
    found = problem(f"mode: {raw}")
    assert raw in found.message
    assert found.hint == hint


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (".nan", "finite"),
        ("-.inf", "finite"),
        ("1e999", "too large"),
        (str(2**63), "64-bit"),
        (str(-(2**63) - 1), "64-bit"),
        ("9" * 5000, "64-bit"),
        ("0x" + "f" * 17, "64-bit"),
    ],
)
def test_numbers_are_finite_and_bounded(raw: str, words: str) -> None:
    found = problem(f"a: {raw}")
    assert words in found.message
    assert len(found.message) < 100


@pytest.mark.parametrize("key", ["1", "1.5", "true", "null", "~", "[a, b]", "{a: b}", "? [a]\n"])
def test_keys_are_strings(key: str) -> None:
    assert "key" in problems(f"{key}: x\n")[0].message


def test_a_missing_key_is_said_to_be_missing() -> None:
    assert "missing" in problem(": x\n").message


def test_a_second_key_names_both_places() -> None:
    found = problem("a: 1\nb: {c: 1}\na: 2\n")
    assert spot(found) == (3, 1)
    assert "f.yaml:1:1" in str(found.hint)


def test_the_same_key_in_two_mappings_is_no_duplicate() -> None:
    assert value("a: {x: 1}\nb: {x: 2}\n") == {"a": {"x": 1}, "b": {"x": 2}}


def test_all_mistakes_are_told_at_once_in_order() -> None:
    text = "a: yes\nb: 0755\na: .nan\n1: <<\nc: !x 1\nd: [on]\ne: @\n"
    found = problems(text)
    assert [spot(each)[0] for each in found] == [1, 2, 3, 3, 4, 5, 6, 7]
    assert all(each.excerpt and each.hint for each in found)


def test_a_flood_of_mistakes_is_cut_off() -> None:
    found = problems("- yes\n" * 1000)
    assert len(found) == yaml_reader.MAX_PROBLEMS + 1
    assert "stopped" in found[-1].message


# --- what YAML has and we do not take ----------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words", "where"),
    [
        ("<<: {a: 1}\n", "merge", (1, 1)),
        ("a: !foo 1\n", "!foo", (1, 4)),
        ("a: !!str 1\n", "!!str", (1, 4)),
        ("a: !!python/object:os.system x\n", "!!python", (1, 4)),
        ("a: !x [1]\n", "!x", (1, 4)),
        ("a: !e!x 1\n", "tags", (1, 4)),
        ("a: 1\n---\nb: 2\n", "second document", (2, 1)),
        ("a: 1\n...\nb: 2\n", "second document", (3, 1)),
        ("%YAML 1.1\n---\na: 1\n", "YAML 1.1", (1, 1)),
        ("%YAML 2.0\n---\na: 1\n", "another YAML version", (1, 1)),
        ("", "empty", (1, 1)),
        ("# only words\n", "empty", (1, 1)),
        ("---\n", "empty", (2, 1)),
    ],
)
def test_features_that_are_left_out(text: str, words: str, where: tuple[int, int]) -> None:
    found = problem(text)
    assert words in found.message
    assert spot(found) == where
    assert found.hint


def test_yaml_1_2_may_be_asked_for_and_ended() -> None:
    assert value("%YAML 1.2\n---\na: 1\n...\n") == {"a": 1}


# --- aliases and depth -------------------------------------------------------------------------


def test_an_alias_repeats_a_value_as_a_copy() -> None:
    found = value("a: &x {b: [1]}\nc: *x\n")
    assert found == {"a": {"b": [1]}, "c": {"b": [1]}}
    assert found["a"]["b"] is not found["c"]["b"]


def test_what_an_alias_brought_in_stands_where_the_alias_stands() -> None:
    doc = parse_document("a: &x {b: 1}\nc: *x\n", "f")
    assert doc.place_of(("c", "b")) == Place("f", 2, 4)


@pytest.mark.parametrize("text", ["&a [*a]", "a: &a {b: [*a]}", "&a {b: &b [*a]}"])
def test_an_alias_inside_its_own_anchor_is_refused(text: str) -> None:
    assert "never end" in problem(text).message


def test_an_unknown_alias_is_told_its_nearest_anchor() -> None:
    assert "*base" in str(problem("a: &base 1\nb: *bass\n").hint)


def test_an_alias_is_no_key() -> None:
    assert "key" in problem("a: &x z\n*x : 1\n").message


def test_a_billion_laughs_are_refused_early() -> None:
    lines = ["a0: &a0 [" + ", ".join("x" * 10) + "]"]
    lines += [f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * 10) + "]" for i in range(1, 10)]
    assert "bomb" in problem("\n".join(lines)).message


def test_aliases_do_not_get_around_the_depth() -> None:
    lines = ["a0: &a0 " + "[" * 20 + "]" * 20]
    lines += [f"a{i}: &a{i} " + "[" * 20 + f"*a{i - 1}" + "]" * 20 for i in range(1, 5)]
    assert "60 levels" in problem("\n".join(lines)).message


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 61, "- " * 100_000, "? " * 10_000])
def test_deep_nesting_is_an_error_and_no_recursion(text: str) -> None:
    assert any("60 levels" in each.message or "key" in each.message for each in problems(text))


def test_reasonable_nesting_is_fine() -> None:
    depth = yaml_reader.MAX_DEPTH
    assert value("[" * depth + "]" * depth)


# --- syntax ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words", "where"),
    [
        ("a:\n\tb: 1\n", "a tab is used to indent", (2, 1)),
        ("a:\n  \tb: 1\n", "a tab is used to indent", (2, 3)),
        ("-\tb\n", "a tab stands", (1, 2)),
        ("a: [1, 2\nb: 3\n", "'[' is not closed", (1, 4)),
        ("a: {b: 1\n", "'{' is not closed", (1, 4)),
        ("a: 'x\nb: 1\n", "quote is not closed", (1, 4)),
        ("a: @x\n", "'@' cannot start", (1, 4)),
        ("a: b: c\n", "':' is not expected", (1, 5)),
        ("a: 1\nb\nc: 2\n", "no 'key: value'", (2, 1)),
        ("a:\n  b: 1\n c: 2\n", "does not fit", (3, 2)),
        ("a: - b\n", "list item", (1, 4)),
        ('a: "\\q"\n', "backslash", (1, 5)),
        ('a: "\\U99999999"\n', "half a character, or none", (1, 4)),
        ("a: !<%ED%A0%80> x\n", "not valid YAML", (1, 2)),
        ("é: 'ü' x\n", "does not fit", (1, 8)),
        ("{a: 1, : 2}\n", "key is missing", (1, 8)),
        ("a: [1", "'[' is not closed", (1, 4)),
        ("a: [", "the end of the file", (1, 5)),
        ("a: {b:[1]}\n", "':' is not expected", (1, 6)),
        ("a: *\n", "begins an alias", (1, 4)),
        ("a: &b:c\n", "begins an anchor", (1, 4)),
        ("a: &x 1\nb: *x:c\n", "begins an alias", (2, 4)),
        ("a: |x\n  y\n", "'|'", (1, 5)),
        ("a: ]\n", "']'", (1, 4)),
        ("[]]\n", "left over", (1, 3)),
        ("%", "the end of the file", (1, 2)),
    ],
)
def test_syntax_errors_are_put_in_plain_words(
    text: str, words: str, where: tuple[int, int]
) -> None:
    found = problem(text)
    assert words in found.message
    assert spot(found) == where
    assert found.hint
    assert found.excerpt


def test_a_yaml_library_without_its_c_parser_is_told_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "yaml._yaml", None)
    with pytest.raises(RunbookError) as caught:
        parse_document("a: 1", "f.yaml")
    assert "C parser" in str(caught.value)
    assert "PyYAML" in str(caught.value.hint)


# --- characters --------------------------------------------------------------------------------


@pytest.mark.parametrize("char", ["\0", "\x07", "\x1b", "\x7f", "\x85", "\u2028", "\ud800"])
def test_invisible_characters_are_refused_with_their_place(char: str) -> None:
    found = problem(f"a: 1\nb: x{char}y\n")
    assert f"U+{ord(char):04X}" in found.message
    assert spot(found) == (2, 5)
    assert char not in str(found)
    assert char not in str(found.excerpt)


@pytest.mark.parametrize("escape", [r"\0", r"\ud800"])
def test_escapes_do_not_bring_in_what_no_program_takes(escape: str) -> None:
    assert spot(problem(f'a: "{escape}"')) == (1, 4)
    assert spot(problem(f'"{escape}": a')) == (1, 1)


def test_other_escapes_are_the_writers_choice() -> None:
    assert value(r'a: "\e[0m\u00e9\U0001F600"') == {"a": "\x1b[0mé😀"}


# --- files -------------------------------------------------------------------------------------


def test_a_file_is_read_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "inventory.yaml"
    path.write_text(INVENTORY)
    doc = read_document(path, kind="inventory")
    assert doc.source == str(path)
    assert doc.place_of(("version",)) == Place(str(path), 1, 10)


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_document(path).value == {"a": 1}


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_byte_that_is_not_utf_8_is_named_with_its_place(tmp_path: Path, mark: bytes) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(mark + "é: 1\né".encode() + b"b\xe9c: 2\n")
    found = refusal(path)
    assert "0xE9" in found.message
    assert spot(found) == (2, 3)
    assert r"\xe9" in str(found.excerpt)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf_16_is_named(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes("a: 1\n".encode(encoding))
    found = refusal(path)
    assert "UTF-16" in found.message
    assert "iconv" in str(found.hint)


def test_size_is_bounded_by_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"#" * 1_000_001)
    assert "300,000" in refusal(path).message
    assert "empty" in refusal(path, kind="inventory").message
    assert "limit is 10" in refusal(path, max_bytes=10).message


@pytest.mark.skipif(not PROC_FILE.exists(), reason="needs /proc")
def test_a_file_that_hides_its_size_is_bounded_too() -> None:
    path = PROC_FILE
    assert "more than 10 bytes" in refusal(path, max_bytes=10).message


def test_a_missing_file_is_told_its_nearest_neighbour(tmp_path: Path) -> None:
    (tmp_path / "inventory.yaml").write_text("a: 1")
    found = refusal(tmp_path / "inventroy.yaml")
    assert "inventroy.yaml does not exist" in found.message
    assert "inventory.yaml?" in str(found.hint)
    assert "check the path" in str(refusal(tmp_path / "x").hint)
    assert "cannot be listed" in str(refusal(tmp_path / "x" / "y").hint)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert "is a directory" in refusal(tmp_path).message


def test_a_fifo_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "FIFO" in refusal(tmp_path / "pipe").message


def test_a_socket_and_a_device_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("sock")
        assert "socket" in refusal(tmp_path / "sock").message
    assert "device" in refusal(Path("/dev/null")).message


def test_a_file_without_permission_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)  # root may read everything
    found = refusal(tmp_path / "a.yaml")
    assert "may not be read" in found.message
    assert "ls -l" in str(found.hint)


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "a\x1b[2J"])
def test_strange_file_names_are_errors_with_safe_words(tmp_path: Path, name: str) -> None:
    found = refusal(tmp_path / name)
    assert str(found).isprintable() or "\n  hint" in str(found)
    assert "\x1b" not in str(found)
    assert "\0" not in str(found)


def test_the_error_carries_exit_code_2() -> None:
    with pytest.raises(InvalidDocument) as caught:
        parse_document("a: yes", "f.yaml")
    assert caught.value.exit_code == 2
    assert "f.yaml:1:4" in str(caught.value)


# --- whatever comes ----------------------------------------------------------------------------

_SYNTAX = [
    *" \n\t:-?[]{},#&*!|>'\"%@`~<019ab.\\\r\x85\ud800\0\ufeff",
    *("a: ", "- ", "? ", "\n  ", "\n- ", "&a ", "*a", "<<", "\n---\n", "...", "%YAML 1.2\n"),
    *("%TAG ! x", "!!str ", "|\n", "yes", "0755", ".inf", "\\u", "\\U00110000", "!<", "%41"),
]


@settings(
    max_examples=600, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(
    st.one_of(
        st.lists(st.sampled_from(_SYNTAX), max_size=25).map("".join),
        st.text(max_size=40),
    )
)
def test_any_text_is_a_document_or_an_invalid_document(text: str) -> None:
    try:
        doc = parse_document(text, "f.yaml")
    except InvalidDocument as invalid:
        for each in invalid.problems:
            assert min(spot(each)) >= 1
            assert each.excerpt
    else:
        assert doc.place_of(()).file == "f.yaml"


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.text("abc: #-", max_size=6),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text("xyz-", max_size=4), inner, max_size=3)
        ),
        max_leaves=12,
    )
)
def test_json_reads_as_itself(data: object) -> None:
    assert value(f"top: {json.dumps(data)}") == {"top": data}
