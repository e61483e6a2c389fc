"""Selectors: set operations in the inventory's order, and never "all" by accident."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.model.errors import UsageError
from runbook.model.selector_syntax import (
    MAX_CHARACTERS,
    MAX_NESTING,
    AllOf,
    AnyOf,
    Compare,
    Expression,
    Named,
    Not,
    Pattern,
    parse,
    write,
)
from runbook.model.selectors import select

HOSTS = (
    ("web-1", frozenset({"web", "prod"}), {"role": "app", "zone": "a", "memory": "8"}),
    ("web-2", frozenset({"web", "prod"}), {"role": "app", "zone": "b", "memory": "16"}),
    ("web-3", frozenset({"web", "test"}), {"role": "app", "zone": "a", "memory": "7.5"}),
    ("db-1", frozenset({"db", "prod"}), {"role": "db", "zone": "a", "group": "1 2"}),
)


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("all", "web-1 web-2 web-3 db-1"),
        ("web", "web-1 web-2 web-3"),
        ("db-1, web-1", "web-1 db-1"),
        ("web & prod", "web-1 web-2"),
        ("web and not prod", "web-3"),
        ("role=app & zone=a", "web-1 web-3"),
        ("web & !web-2", "web-1 web-3"),
        ("(web | db) & zone=a", "web-1 web-3 db-1"),
        ("web, db & zone=a", "web-1 web-2 web-3 db-1"),
        ("web-*", "web-1 web-2 web-3"),
        ("web-[13]", "web-1 web-3"),
        ("db or web-?", "web-1 web-2 web-3 db-1"),
        ("!(web)", "db-1"),
        ("!!web & !!!prod", "web-3"),
        ("zone!=a", "web-2"),
        ("zone != a or db", "web-2 db-1"),
        ("memory>=8", "web-1 web-2"),
        ("memory < 8", "web-3"),
        ("!memory<=8", "web-2 db-1"),
        ("memory!=8", "web-2 web-3 db-1"),  # db-1 has none, and so it is not 8
        ("role~a*", "web-1 web-2 web-3"),
        ("role!~a*", "db-1"),
        ("group=web & group!=test", "web-1 web-2"),
        ("group~t*", "web-3"),
        ("name~web-? & name!=web-2", "web-1 web-3"),
        ("vars.group='1 2'", "db-1"),
        ('"web-1" or "db"', "web-1 db-1"),
    ],
)
def test_selects(expression: str, names: str) -> None:
    assert select(expression, HOSTS) == tuple(names.split())


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("", "the selector is empty"),
        (" \n", "the selector is empty"),
        ("web & test & db", "selects no host"),
        ("zone=c", "selects no host"),
        ("wbe", "^'wbe' is neither a host nor a group"),
        ("web & wbe", "character 7: 'wbe' is neither a host nor a group"),
        ("group=wbe", "there is no group 'wbe'"),
        ("zoen!=a", "no host has a var named 'zoen'"),
        ("all & !zoen=a", "character 8: no host has a var named 'zoen'"),
        ("web &", "character 6: it ends too early"),
        ("web & (db, prod", "character 7: a closing parenthesis"),
        ("(web db)", "character 6: a comma or & is missing"),
        ("web web-1", "character 5: 'web-1' is left over"),
        ("& web", "character 1: '&' stands where a name belongs"),
        ("web)", "character 4: '\\)' is left over"),
        ("web & 'db", 'character 7: "\'" stands where a name belongs'),
        ("zone=", "character 6: a value is missing"),
        ("zone==a", "== is no comparison"),
        ("memory>lots", "character 8: 'lots' is no number"),
        ("zone>1", "zone of web-1 is 'a', no number"),
        ("=a", "character 1: '=' stands"),
        ("web-1\x1bm", r"^'web-1\\x1bm' is neither"),
    ],
)
def test_refuses(expression: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        select(expression, HOSTS)


@pytest.mark.parametrize(
    ("expression", "hint"),
    [
        ("wbe", "did you mean 'web'?"),
        ("db, wbe-1", "did you mean 'web-1'?"),
        ("zoen=a", "did you mean 'zone'?"),
        ("group=prd", "did you mean 'prod'?"),
        ("zone==a", "write zone=VALUE"),
        ('zone!=""x', "join two names with a comma (either) or & (both)"),
        ("zone=", 'for the empty one, write zone=""'),
    ],
)
def test_an_error_names_the_remedy(expression: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        select(expression, HOSTS)
    assert caught.value.hint == hint


@pytest.mark.parametrize("text", ["(" * 10_000, "(" * 10_000 + "web" + ")" * 10_000])
def test_no_nesting_is_too_deep_for_an_error(text: str) -> None:
    with pytest.raises(UsageError, match=f"more than {MAX_NESTING} deep") as caught:
        select(text, HOSTS)
    assert len(caught.value.message) < 200


def test_depth_that_a_person_may_write_is_read() -> None:
    assert select("(" * MAX_NESTING + "web-1" + ")" * MAX_NESTING, HOSTS) == ("web-1",)
    assert select("!" * 10_001 + "web", HOSTS) == ("db-1",)


def test_a_list_of_very_many_names_is_read() -> None:
    names = [f"web-{number}.example.com" for number in range(20_000)]
    hosts = tuple((name, frozenset[str](), dict[str, str]()) for name in names)
    assert select(", ".join(names[::2]), hosts) == tuple(names[::2])
    with pytest.raises(UsageError, match="characters; the limit is"):
        select("a," * MAX_CHARACTERS, hosts)


# --- a selector means what its tree means ------------------------------------------------------

_NAMES = st.text("ab-._'()&|!, =~<>*\u00e9", min_size=1, max_size=5).filter(lambda name: name != "")
_VALUES = st.text(string.printable.replace('"', ""), max_size=6)
_KEYS = st.sampled_from(["zone", "group", "name", "vars.name", "vars.and"])
_LEAVES = (
    st.builds(Named, _NAMES | st.sampled_from(["all", "and", "or", "not"]))
    | st.builds(Pattern, st.text("ab*?", max_size=4).map(lambda text: f"{text}*"))
    | st.builds(Compare, _KEYS, st.sampled_from(["=", "!=", "~", "!~"]), _VALUES)
    | st.builds(Compare, _KEYS, st.sampled_from(["<", "<=", ">", ">="]), st.integers().map(str))
)
_TREES: st.SearchStrategy[Expression] = st.recursive(
    _LEAVES,
    lambda inner: (
        st.builds(Not, inner.filter(lambda tree: not isinstance(tree, Not)))
        | st.builds(AllOf, st.lists(inner, min_size=2, max_size=4).map(tuple))
        | st.builds(AnyOf, st.lists(inner, min_size=2, max_size=4).map(tuple))
    ),
    max_leaves=12,
)


@given(_TREES)
def test_what_is_written_is_read_as_the_same_tree(tree: Expression) -> None:
    assert parse(write(tree)) == tree


@given(st.text("web-123dbpo&|!,() =~<>*'\"az\n", max_size=40) | st.text(max_size=40))
def test_any_text_is_a_selection_or_our_error(text: str) -> None:
    said: UsageError | None = None
    chosen: tuple[str, ...] = ()
    try:
        chosen = select(text, HOSTS)
    except UsageError as error:
        said = error
    assert chosen or (said and said.message and said.hint)


_SETS = {"web": {0, 1, 2}, "prod": {0, 1, 3}, "db-1": {3}, "zone=a": {0, 2, 3}, "all": {0, 1, 2, 3}}


@st.composite
def _sets(draw: st.DrawFn, depth: int = 4) -> tuple[str, set[int]]:
    """A selector, and the positions that plain set operations give for it."""
    kind = draw(st.sampled_from(["leaf", "or", "and", "not"])) if depth else "leaf"
    if kind == "leaf":
        name = draw(st.sampled_from(sorted(_SETS)))
        return name, _SETS[name]
    one, first = draw(_sets(depth - 1))
    if kind == "not":
        return f"not ({one})", {0, 1, 2, 3} - first
    two, second = draw(_sets(depth - 1))
    both = first | second if kind == "or" else first & second
    return f"({one}) {kind} ({two})", both


@given(_sets())
def test_selecting_is_set_algebra(case: tuple[str, set[int]]) -> None:
    expression, positions = case
    expected = tuple(HOSTS[position][0] for position in sorted(positions))
    if expected:
        assert select(expression, HOSTS) == expected
    else:
        with pytest.raises(UsageError, match="selects no host"):
            select(expression, HOSTS)
