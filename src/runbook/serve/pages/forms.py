"""Reads a form that a browser sends, and looks whether it was sent from a page of ours."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import anyio

if TYPE_CHECKING:
    from starlette.requests import Request

#: Bytes, fields and seconds: a form of ours has a comment at most.
_MOST_BYTES, _MOST_FIELDS, _WITHIN_S = 16_384, 20, 10.0
_FORM = "application/x-www-form-urlencoded"


class BadForm(Exception):
    """What was sent is no form of ours."""


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a form.

    Raises:
        BadForm: when it is none, or too large, or comes too slowly.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise BadForm("not a form")
    body = b""
    with anyio.move_on_after(_WITHIN_S) as scope:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MOST_BYTES:
                raise BadForm("too large")
    if scope.cancelled_caught:
        raise BadForm("too slow")
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS,
            errors="strict",
        )  # fmt: skip
    except ValueError as error:
        raise BadForm("malformed") from error
    return dict(pairs)


def from_ours(request: Request, url: str | None) -> bool:
    """Whether a browser says that a request comes from a page of ours; `url` is how we are reached.

    Every browser of these years sends `Origin` with a POST; most send `Sec-Fetch-Site` as well.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if (site or "same-origin") != "same-origin":
        return False
    if origin is None:
        return site is not None
    ours = {request.headers.get("host", "").lower()}
    if url is not None:
        ours.add(urlsplit(url).netloc.lower())
    parts = urlsplit(origin)
    return parts.scheme in {"http", "https"} and parts.netloc.lower() in ours


def form_token(key: str) -> str:
    """Return what every form has that is sent under a cookie; no other page knows it."""
    return hashlib.sha256(f"form {key}".encode()).hexdigest()[:40]


def has_token(form: dict[str, str], key: str) -> bool:
    """Whether a form was made for this cookie."""
    given = form.get("form_token", "")
    return hmac.compare_digest(given.encode(errors="replace"), form_token(key).encode())
