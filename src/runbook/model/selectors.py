"""Selectors: which hosts are meant, by names, groups, attributes and set operations.

    expression := term ("," term)*            union; `|` and `or` mean the same
    term       := factor ("&" factor)*        intersection; `and` means the same
    factor     := "!" factor | "(" expression ")" | NAME | KEY "=" VALUE

NAME is a host, a group, `all`, or a pattern with `*` and `?` over host names. KEY=VALUE compares a
host's var. The order is the inventory's. Nothing selected is an error, never "all".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase

from runbook.model.document import nearest
from runbook.model.errors import UsageError

_TOKEN = re.compile(r"\s*(?:([,|&!()])|([^\s,|&!()]+))")
_WORDS = {"and": "&", "or": ",", "not": "!"}

#: What a host offers to a selector: name, groups, vars.
Attributes = tuple[str, frozenset[str], dict[str, str]]
_Test = Callable[[Attributes], bool]


def select(expression: str, hosts: tuple[Attributes, ...]) -> tuple[str, ...]:
    """Return the names of the hosts that `expression` selects, in the given order.

    Raises:
        UsageError: for a syntax error, an unknown name, and when nothing is selected.
    """
    test = _Parser(expression, hosts).parse()
    chosen = tuple(host[0] for host in hosts if test(host))
    if not chosen:
        raise UsageError(
            f"the selector {expression!r} selects no host",
            hint="`runbook inventory list` shows hosts and groups; an empty selection never"
            " means all of them",
        )
    return chosen


class _Parser:
    def __init__(self, expression: str, hosts: tuple[Attributes, ...]) -> None:
        self._expression = expression
        self._tokens = [symbol or _WORDS.get(word, word) for symbol, word in _tokens(expression)]
        self._names = {host[0] for host in hosts}
        self._groups = {group for host in hosts for group in host[1]}

    def parse(self) -> _Test:
        if not self._tokens:
            raise UsageError("the selector is empty", hint="name a host, a group, or `all`")
        test = self._union()
        if self._tokens:
            raise self._wrong(f"{self._tokens[0]!r} is left over")
        return test

    def _union(self) -> _Test:
        tests = [self._intersection()]
        while self._tokens and self._tokens[0] in ",|":
            self._tokens.pop(0)
            tests.append(self._intersection())
        return lambda host: any(test(host) for test in tests)

    def _intersection(self) -> _Test:
        tests = [self._factor()]
        while self._tokens and self._tokens[0] == "&":
            self._tokens.pop(0)
            tests.append(self._factor())
        return lambda host: all(test(host) for test in tests)

    def _factor(self) -> _Test:
        if not self._tokens:
            raise self._wrong("it ends too early")
        token = self._tokens.pop(0)
        if token == "!":
            inner = self._factor()
            return lambda host: not inner(host)
        if token == "(":
            inner = self._union()
            if not self._tokens or self._tokens.pop(0) != ")":
                raise self._wrong("a closing parenthesis is missing")
            return inner
        if token in ",|&)":
            raise self._wrong(f"{token!r} stands where a name belongs")
        return self._leaf(token)

    def _leaf(self, token: str) -> _Test:
        key, equals, value = token.partition("=")
        if equals:
            return lambda host: host[2].get(key) == value
        if token == "all":
            return lambda _host: True
        if "*" in token or "?" in token:
            return lambda host: fnmatchcase(host[0], token)
        if token in self._names:
            return lambda host: host[0] == token
        if token in self._groups:
            return lambda host: token in host[1]
        near = nearest(token, sorted(self._names | self._groups))
        raise UsageError(
            f"{token!r} is neither a host nor a group",
            hint=f"did you mean {near!r}?" if near else "`runbook inventory list` shows them",
        )

    def _wrong(self, what: str) -> UsageError:
        return UsageError(
            f"the selector {self._expression!r} cannot be read: {what}",
            hint="as in: web & env=prod, !web-03",
        )


def _tokens(expression: str) -> list[tuple[str, str]]:
    return [(m[1] or "", m[2] or "") for m in _TOKEN.finditer(expression.rstrip())]
