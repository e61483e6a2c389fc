"""Reading SQL for safety: tokens, single statements, side effects, placeholders."""

from __future__ import annotations

import pytest

from runbook.model.sql_guard import (
    fill_in,
    placeholders,
    reading_statement,
    single_statement,
    tokens,
)


@pytest.mark.parametrize(
    ("sql", "kinds"),
    [
        ("select 'a''b;c' x", ["code", "literal", "code"]),
        ("select E'a\\'b;' x", ["code", "literal", "code"]),
        ("select 'a\\' || ';' x", ["code", "literal", "code", "literal", "code"]),
        ('select "a"";b"', ["code", "identifier"]),
        ("select $$;'$$, $x$ $$ ; $x$", ["code", "literal", "code", "literal"]),
        ("select a$b$c", ["code"]),
        ("select 1 /* a /* ; */ b */ + 1 -- ;'", ["code", "comment", "code", "comment"]),
    ],
)
def test_literals_names_and_comments_are_told_from_code(sql: str, kinds: list[str]) -> None:
    found = list(tokens(sql))
    assert [token.kind for token in found] == kinds
    assert "".join(token.text for token in found) == sql


@pytest.mark.parametrize("sql", ["select 'a", 'select "a', "select $$a", "select /* /* */", "a\0"])
def test_what_does_not_end_is_refused(sql: str) -> None:
    with pytest.raises(ValueError, match=r"unclosed|NUL"):
        list(tokens(sql))


def test_one_statement_may_end_in_a_semicolon_and_comments() -> None:
    assert single_statement("select ';' ; ; -- done\n/* ; */ ") == "select ';'"


@pytest.mark.parametrize("sql", ["select 1; select 2", "a;'b'", "select 1;\n--\ncommit"])
def test_several_statements_are_refused(sql: str) -> None:
    with pytest.raises(ValueError, match="more than one statement"):
        single_statement(sql)


@pytest.mark.parametrize("sql", ["", "  ", ";", "-- nothing", "/* nothing */;"])
def test_no_statement_is_refused(sql: str) -> None:
    with pytest.raises(ValueError, match="no SQL statement"):
        single_statement(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "select * from pg_stat_activity",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "(select 1) union (select 2)",
        "show max_connections",
        "explain analyze select 1",
        "select 'pg_terminate_backend(1)' -- pg_reload_conf()",
        "/* why */ values (1)",
    ],
)
def test_statements_that_read_are_let_through(sql: str) -> None:
    assert reading_statement(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "select pg_terminate_backend(1)",
        "select PG_Cancel_Backend (1)",
        'select "pg_terminate_backend"(1)',
        "select pg_catalog . pg_reload_conf()",
        "select pg_terminate_backend/**/(1)",
        'select U&"pg_terminate\\005fbackend"(1)',
        "select dblink_exec('x')",
        "select lo_import('/etc/passwd')",
        "select query_to_xml('select pg_terminate_backend(1)', true, true, '')",
        "select set_config('a.b', 'c', false)",
        "select pg_try_advisory_lock(1)",
        "select nextval('s')",
        "explain analyze select pg_switch_wal()",
        "delete from t",
        "do $$ begin perform pg_reload_conf(); end $$",
        "copy t to program 'id'",
        "begin",
        "set role postgres",
        # Servers before 15 read a number, then a dollar-quoted literal.
        "select 1$a$ ' $a$, pg_reload_conf() --'",
    ],
)
def test_statements_that_may_change_something_are_refused(sql: str) -> None:
    with pytest.raises(ValueError, match=r"side effects|read-only|refused"):
        reading_statement(sql)


def test_placeholders_are_filled_in_outside_of_quotes_only() -> None:
    sql = "select %(a)s, 'x%', 5 % 2 -- %(b)s"
    assert placeholders(sql) == ("a",)
    assert fill_in(sql, {"a": " 'it''s %(b)s'"}) == "select  'it''s %(b)s', 'x%', 5 % 2 -- %(b)s"


@pytest.mark.parametrize(
    ("sql", "values", "said"),
    [
        ("select '%(a)s'", {"a": "1"}, "inside quotes"),
        ("select %(a)s", {}, "no value"),
        ("select 1", {"a": "1"}, "not used"),
    ],
)
def test_misused_placeholders_are_told(sql: str, values: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fill_in(sql, values)
