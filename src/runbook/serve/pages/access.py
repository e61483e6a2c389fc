"""Lets people in: who asks, by cookie or by bearer token, and whether they may."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from runbook.adapters.browser_sessions import Session
from runbook.model.errors import DoorError
from runbook.serve.answering import Answered
from runbook.serve.pages.forms import BadForm, form_token, from_ours, has_token, read_form
from runbook.serve.pages.paper import HEADERS
from runbook.serve.pages.throttle import Throttle
from runbook.serve.people import may

if TYPE_CHECKING:
    from starlette.requests import Request

    from runbook.adapters.browser_sessions import BrowserSessions
    from runbook.model.serve_config import Role
    from runbook.serve.context import Context
    from runbook.serve.pages.paper import Paper
    from runbook.serve.people import Known, Tokens

#: A turn of duty; then one signs in anew.
SESSION_S = 12 * 3600.0
#: Pages that one may come back to after signing in: nobody is led elsewhere.
_OURS = re.compile(r"/(runs|inbox)(/[A-Za-z0-9-]{1,64}(/report)?)?")
_NO_TOKEN = "this needs `Authorization: Bearer TOKEN`, with a token of somebody in `people`"


@dataclass(frozen=True, kw_only=True, slots=True)
class Visitor:
    """Somebody who is let in, and what their forms have to carry."""

    name: str
    role: Role
    form_token: str = ""

    def may(self, needed: Role) -> bool:
        """Whether they may do what a role is needed for."""
        return may(self.role, needed)


Read = Callable[["Request", Visitor], Response]
Act = Callable[["Request", Visitor, dict[str, str]], Answered]
After = Callable[["Request", Visitor, Answered], Response]
Endpoint = Callable[["Request"], Awaitable[Response]]


class Access:
    """The one way to every page but the one to sign in."""

    def __init__(
        self, context: Context, tokens: Tokens, sessions: BrowserSessions, paper: Paper
    ) -> None:
        self.context = context
        self.throttle = Throttle()
        self._tokens = tokens
        self._sessions = sessions
        self._paper = paper
        self.secure = (context.config.listen.url or "").startswith("https://")
        #: A `__Host-` cookie is taken by browsers over TLS only, and from this very host.
        self.cookie = "__Host-runbook" if self.secure else "runbook"

    def reading(self, read: Read, *, part: bool = False) -> Endpoint:
        """Return what answers a request to look; a `part` is for a program, which is not led on."""

        async def endpoint(request: Request) -> Response:
            try:
                visitor = await run_in_threadpool(self._visitor, request)
                if visitor is None:
                    return self._outside(request, part=part)
                return await run_in_threadpool(read, request, visitor)
            except DoorError as error:
                return self._trouble(error, part=part)

        return endpoint

    def acting(self, act: Act, after: After) -> Endpoint:
        """Return what answers a form: looked at for where it comes from before it is obeyed."""

        async def endpoint(request: Request) -> Response:
            try:
                visitor = await run_in_threadpool(self._by_cookie, request)
                if visitor is None:
                    return self._outside(request, part=False)
                form = await self.form(request, self._key(request))
                answered = await run_in_threadpool(act, request, visitor, form)
                return await run_in_threadpool(after, request, visitor, answered)
            except BadForm as error:
                return self.refused(str(error))
            except DoorError as error:
                return self._trouble(error, part=False)

        return endpoint

    # ---- forms

    async def form(self, request: Request, key: str) -> dict[str, str]:
        """Return a form that was sent from a page of ours, made for the cookie of this key.

        Raises:
            BadForm: for any other.
        """
        if not from_ours(request, self.context.config.listen.url):
            raise BadForm("it does not come from a page of ours")
        form = await read_form(request)
        if not has_token(form, key):
            raise BadForm("it was made for another session")
        return form

    def refused(self, why: str) -> Response:
        """Return the page for a form that is not obeyed."""
        return self._paper.page(
            "message.html",
            status=403,
            title="That was not done",
            text=f"The form was refused: {why}. Open the page anew, and try again.",
        )

    # ---- sessions

    def enter(self, known: Known, token: str) -> str:
        """Begin a session for somebody who has shown a token of this digest; return its key."""
        now = self.context.now()
        session = Session(person=known.name, token=token, ends_at=now + SESSION_S)
        return self._sessions.begin(session, now)

    def whose(self, token: str) -> tuple[Known, str] | None:
        """Return whose token this is, and its digest."""
        return self._tokens.whose(token)

    def leave(self, request: Request) -> None:
        """End the session of a request."""
        self._sessions.end(self._key(request))

    def set_cookie(self, response: Response, key: str, *, name: str = "") -> None:
        """Have the browser send a session's key with every request to us, and with no other."""
        response.set_cookie(
            name or self.cookie,
            key,
            max_age=int(SESSION_S),
            path="/",
            secure=self.secure,
            httponly=True,
            samesite="strict",
        )

    def _visitor(self, request: Request) -> Visitor | None:
        if "authorization" in request.headers:
            return self._by_bearer(request)
        return self._by_cookie(request)

    def _by_cookie(self, request: Request) -> Visitor | None:
        key = self._key(request)
        session = self._sessions.find(key, self.context.now()) if key else None
        known = self._tokens.still(session.person, session.token) if session else None
        if known is None:
            return None
        return Visitor(name=known.name, role=known.role, form_token=form_token(key))

    def _by_bearer(self, request: Request) -> Visitor | None:
        scheme, _, token = request.headers["authorization"].partition(" ")
        address = address_of(request)
        if scheme.lower() != "bearer" or self.throttle.wait_s(address):
            return None
        found = self.whose(token.strip())
        if found is None:
            self.throttle.failed(address)
            return None
        return Visitor(name=found[0].name, role=found[0].role)

    def _key(self, request: Request) -> str:
        return request.cookies.get(self.cookie, "")

    # ---- who is not let in

    def _outside(self, request: Request, *, part: bool) -> Response:
        if part or "authorization" in request.headers:
            wanted = {**HEADERS, "WWW-Authenticate": "Bearer"}
            return JSONResponse({"error": _NO_TOKEN}, status_code=401, headers=wanted)
        path = request.url.path if request.method == "GET" else ""
        back = f"?next={quote(path)}" if _OURS.fullmatch(path) and path != "/runs" else ""
        return RedirectResponse(f"/sign-in{back}", 303, headers=HEADERS)

    def _trouble(self, error: DoorError, *, part: bool) -> Response:
        if part:
            return PlainTextResponse(error.message, status_code=503, headers=HEADERS)
        text = f"{error.message}. {error.hint or ''}"
        return self._paper.page("message.html", status=503, title="That did not work", text=text)


def way_back(path: str) -> str:
    """Return a page of ours that somebody wanted to see; any other is none."""
    return path if _OURS.fullmatch(path) else "/runs"


def address_of(request: Request) -> str:
    """Return from where somebody asks: the proxy, where there is one; headers are not believed."""
    return request.client.host if request.client is not None else ""
