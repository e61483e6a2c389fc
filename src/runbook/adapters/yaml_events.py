"""Turns YAML text into the parser's events; the one place that knows which library parses.

The C parser only: the pure one refuses `{url: http://web/x?y=1}`, takes ten times as long, and
would make a file that reads well on one machine a mistake on the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runbook.adapters.yaml_faults import SyntaxFault
from runbook.model.errors import RunbookError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from yaml import MarkedYAMLError

#: The first libyaml that takes `%YAML 1.2`, and URLs in a flow mapping.
_OLDEST_LIBYAML = (0, 2, 5)
_AFTER_ANCHOR = ("", " ", "\t", "\n", "\r")
_AFTER_ALIAS = (*_AFTER_ANCHOR, ",", "]", "}")


def parse_events(text: str) -> Iterator[Any]:
    """Yield the events of `text`, in PyYAML's own classes (`ScalarEvent` and so on).

    Their marks count lines, columns and characters from 0. The events come one by one, so that
    whoever reads them can stop at a depth.

    Raises:
        SyntaxFault: where the text stops being YAML.
        RunbookError: when PyYAML has no parser that would do.
    """
    _require_parser()
    from yaml import YAMLError
    from yaml._yaml import CParser
    from yaml.error import MarkedYAMLError

    event = None
    try:
        for event in iter(CParser(text).get_event, None):
            if getattr(event, "anchor", None):
                _refuse_odd_name(event, text)
            yield event
    except MarkedYAMLError as error:
        raise _fault(error, text, event) from error
    except (YAMLError, ValueError) as error:  # a tag's %-escapes may be no UTF-8
        mark = event.end_mark if event else None
        line, column = (mark.line, mark.column) if mark else (0, 0)
        raise SyntaxFault("not valid YAML from here on", line, column) from error


def _refuse_odd_name(event: Any, text: str) -> None:
    """libyaml ends a name before a ':' and the like, and would read `&a:b` as `&a` and ':b'."""
    start = event.start_mark
    sign = text[start.index]
    end = start.index + 1 + len(event.anchor)
    fitting = _AFTER_ALIAS if sign == "*" else _AFTER_ANCHOR
    # A tag may stand before an anchor; it is refused as a tag.
    if sign in "&*" and text[end : end + 1] not in fitting:
        context = "while scanning an alias" if sign == "*" else "while scanning an anchor"
        raise SyntaxFault("odd name", start.line, start.column, context)


def _require_parser() -> None:
    """Refuse a PyYAML that was built without libyaml, or with one that misreads files."""
    hint = "install PyYAML's wheel: pip install --force-reinstall --only-binary :all: PyYAML"
    try:
        # Imported late: it takes longer to load than most files take to read.
        from yaml._yaml import get_version, get_version_string
    except ImportError as error:
        raise RunbookError(f"PyYAML's C parser cannot be loaded: {error}", hint=hint) from error
    if get_version() < _OLDEST_LIBYAML:
        oldest = ".".join(map(str, _OLDEST_LIBYAML))
        message = f"PyYAML uses libyaml {get_version_string()}; {oldest} or later is needed"
        raise RunbookError(message, hint=hint)


def _fault(error: MarkedYAMLError, text: str, last: Any) -> SyntaxFault:
    """The library's error in our terms; `last` is the event before it."""
    opened = error.context_mark
    mark = error.problem_mark or opened
    if mark is None:
        return SyntaxFault(str(error.problem), 0, 0)
    # Behind the end of a file without a last line break, libyaml sees a line of its own.
    index = min(mark.index, len(text))
    line_start = max(text.rfind("\n", 0, index), text.rfind("\r", 0, index)) + 1
    at_end = index == len(text) and index > line_start
    return SyntaxFault(
        problem=str(error.problem),
        line=mark.line - 1 if at_end and mark.column == 0 else mark.line,
        column=index - line_start,
        context="after '...'" if _was_ended(last) else str(error.context or ""),
        opened=(opened.line, opened.column) if opened else None,
        char=text[index : index + 1],
        leads=not text[line_start:index].strip(),
    )


def _was_ended(event: Any) -> bool:
    """Whether `event` is the '...' that ends a document."""
    return type(event).__name__ == "DocumentEndEvent" and bool(event.explicit)
