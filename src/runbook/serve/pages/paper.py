"""Writes pages: templates that escape everything, and headers that forbid a page all but its own.

What a host, an alert or a playbook has written is shown letter by letter: control characters as
escapes, markup as text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse, Response

from runbook.model.times import stamp, utc, utc_date
from runbook.model.units import format_duration
from runbook.rendering.report_sections import plain
from runbook.rendering.safe import safe

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
#: A form that is sent from a page without a referrer has the origin `null`; hence not no-referrer.
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
#: A report is a page of its own, with its style inside: it may do nothing but be looked at.
_REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'; sandbox"
)


class Paper:
    """The templates."""

    def __init__(self, folder: Path) -> None:
        self._templates = Environment(
            loader=FileSystemLoader(folder),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_shown,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(
            utc=utc, utc_date=utc_date, stamp=stamp, duration=format_duration, plain=plain
        )

    def page(self, name: str, *, status: int = 200, **values: Any) -> Response:
        """Return a page, or a part of one, of a template."""
        text = self._templates.get_template(name).render(**values)
        return HTMLResponse(text, status_code=status, headers=HEADERS)


def report(text: str) -> Response:
    """Return a report's page, which is whole in itself."""
    return HTMLResponse(text, headers={**HEADERS, "Content-Security-Policy": _REPORT_POLICY})


def _shown(value: Any) -> Any:
    """Return what stands in a page for a value; markup of our own templates stays markup."""
    return safe(value) if isinstance(value, str) and not isinstance(value, Markup) else value
