"""The pages for people: sign in, what runs and what ran, one run live, and the answers to it.

`routes` is all that the application needs; nothing here is imported by anything else.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from runbook import wiring_serve
from runbook.serve.pages.access import Access
from runbook.serve.pages.inbox import InboxPage
from runbook.serve.pages.paper import Paper
from runbook.serve.pages.run import RunPages
from runbook.serve.pages.runs import RunsPage
from runbook.serve.pages.sign_in import SignIn
from runbook.serve.pages.words import Words
from runbook.serve.people import Tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.routing import BaseRoute

    from runbook.adapters.browser_sessions import BrowserSessions
    from runbook.serve.context import Context

_HERE = Path(__file__).parent


def routes(context: Context, sessions: BrowserSessions | None = None) -> Sequence[BaseRoute]:
    """Return what answers browsers, and scripts that read runs; to be mounted at the root.

    `sessions` are those of the state directory unless given.

    Raises:
        DoorError: when the sessions cannot be opened.
    """
    from starlette.responses import RedirectResponse
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles

    tokens = Tokens(context.config.people, context.secret)
    kept = sessions if sessions is not None else wiring_serve.browser_sessions()
    paper = Paper(_HERE / "templates")
    access = Access(context, tokens, kept, paper)
    run, words = RunPages(context, paper), Words(context)
    sign_in = SignIn(access, paper)
    runs, inbox = RunsPage(context, paper), InboxPage(context, paper)
    return [
        Route("/", lambda _request: RedirectResponse("/runs", 303)),
        Route("/sign-in", sign_in.show, methods=["GET"]),
        Route("/sign-in", sign_in.enter, methods=["POST"]),
        Route("/sign-out", sign_in.leave, methods=["POST"]),
        Route("/runs", access.reading(runs.page)),
        Route("/runs/live", access.reading(runs.live, part=True)),
        Route("/runs.json", access.reading(runs.data, part=True)),
        Route("/inbox", access.reading(inbox.page)),
        Route("/runs/{run_id}.json", access.reading(run.data, part=True)),
        Route("/runs/{run_id}", access.reading(run.page)),
        Route("/runs/{run_id}/live", access.reading(run.live, part=True)),
        Route("/runs/{run_id}/report", access.reading(run.report)),
        Route("/runs/{run_id}/answer", access.acting(words.answer, run.after), methods=["POST"]),
        Route("/runs/{run_id}/cancel", access.acting(words.cancel, run.after), methods=["POST"]),
        Route("/runs/{run_id}/resume", access.acting(words.go_on, run.after), methods=["POST"]),
        Mount("/static", StaticFiles(directory=_HERE / "static")),
    ]
