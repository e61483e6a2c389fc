"""Signing in with a token, and out again."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from runbook.serve.pages.access import address_of, way_back
from runbook.serve.pages.forms import BadForm, form_token
from runbook.serve.pages.paper import HEADERS

if TYPE_CHECKING:
    from starlette.requests import Request

    from runbook.serve.pages.access import Access
    from runbook.serve.pages.paper import Paper

_UNKNOWN = (
    "Nobody in `people` has this token. Ask whoever keeps the configuration of `runbook serve`."
)
_BLOCKED = "Too many attempts from your address. Try again in a minute."


class SignIn:
    """The page to sign in."""

    def __init__(self, access: Access, paper: Paper) -> None:
        self._access = access
        self._paper = paper
        #: Before there is a session, the form binds to a cookie of its own.
        self._before = f"{access.cookie}-before"

    async def show(self, request: Request) -> Response:
        """Show the form."""
        return self._form(request, way_back(request.query_params.get("next", "")))

    async def enter(self, request: Request) -> Response:
        """Let somebody in who has a token."""
        try:
            form = await self._access.form(request, request.cookies.get(self._before, ""))
        except BadForm as error:
            return self._access.refused(str(error))
        return await run_in_threadpool(self._enter, request, form)

    def _enter(self, request: Request, form: dict[str, str]) -> Response:
        back, address = way_back(form.get("next", "")), address_of(request)
        wait_s = self._access.throttle.wait_s(address)
        if wait_s:
            return self._form(request, back, _BLOCKED, status=429, wait_s=wait_s)
        found = self._access.whose(form.get("token", "").strip())
        if found is None:
            self._access.throttle.failed(address)
            return self._form(request, back, _UNKNOWN, status=403)
        # A key that was there before is not taken over: somebody else may have put it there.
        self._access.leave(request)
        response = RedirectResponse(back, 303, headers=HEADERS)
        self._access.set_cookie(response, self._access.enter(*found))
        response.delete_cookie(self._before, path="/", secure=self._access.secure)
        return response

    async def leave(self, request: Request) -> Response:
        """End the session."""
        try:
            await self._access.form(request, request.cookies.get(self._access.cookie, ""))
        except BadForm as error:
            return self._access.refused(str(error))
        await run_in_threadpool(self._access.leave, request)
        response = RedirectResponse("/sign-in", 303, headers=HEADERS)
        response.delete_cookie(self._access.cookie, path="/", secure=self._access.secure)
        return response

    def _form(
        self, request: Request, back: str, error: str = "", *, status: int = 200, wait_s: float = 0
    ) -> Response:
        key = request.cookies.get(self._before) or secrets.token_urlsafe(32)
        response = self._paper.page(
            "sign-in.html", status=status, form_token=form_token(key), next=back, error=error
        )
        if wait_s:
            response.headers["Retry-After"] = str(int(wait_s) + 1)
        self._access.set_cookie(response, key, name=self._before)
        return response
