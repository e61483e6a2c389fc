"""What came in, and what became of it and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from runbook.serve.context import Context
    from runbook.serve.pages.access import Visitor
    from runbook.serve.pages.paper import Paper

#: Events that a page shows, the newest first.
_EVENTS = 100


class InboxPage:
    """The events of the inbox."""

    def __init__(self, context: Context, paper: Paper) -> None:
        self._context = context
        self._paper = paper

    def page(self, _request: Request, visitor: Visitor) -> Response:
        """Show the newest events."""
        entries = self._context.inbox.recent(_EVENTS)
        return self._paper.page("inbox.html", visitor=visitor, entries=entries)
