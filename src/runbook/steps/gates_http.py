"""The gate `http`: one GET from this machine; judged by status, headers and body."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from runbook.model.document import visible
from runbook.model.effects import HttpGet, HttpReply
from runbook.model.errors import DoorError, UsageError
from runbook.model.inventory import HttpGate
from runbook.model.systemd import Unfit
from runbook.model.units import format_duration
from runbook.steps.gate import LONGEST_SAID, HostGate, Place, Seat, within

_URL = re.compile(
    r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:(?P<port>\d{1,5}))?([/?][^\s#]*)?",
    re.ASCII,
)
#: RFC 9110, 5.1: a header's name is a token. Its value is a line: no control characters.
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class AskHttp:
    """An http gate of one host."""

    gate: HttpGate
    url: str
    send: tuple[tuple[str, str], ...]
    kind: ClassVar[str] = "http"
    place: ClassVar[Place] = "here"

    def sentence(self) -> str:
        """Return the request line."""
        return f"GET {self.url}"

    def looks(self, at_most_s: float | None = None) -> tuple[HttpGet, ...]:
        """Return the request."""
        return (
            HttpGet(
                url=self.url,
                timeout_s=within(self.gate.timeout, at_most_s),
                headers=self.send,
                verify=self.gate.verify,
                ca_file=self.gate.ca_file,
            ),
        )

    def judge(self, outcomes: Sequence[Any]) -> str | None:
        """Judge status, then headers, then body."""
        (reply,) = outcomes
        if isinstance(reply, DoorError):
            return reply.message
        if reply.status == 0:
            return visible(reply.error)
        if reply.status != self.gate.status:
            said = visible(" ".join(reply.body.split())[:LONGEST_SAID])
            words = f"answered {reply.status}, not {self.gate.status}"
            return words + (f": {said}" if said else "")
        return self._header_problem(reply) or self._body_problem(reply)

    def unaskable(self, outcomes: Sequence[Any]) -> Unfit | None:
        """An unknown name, an untrusted certificate, a file of authorities that is not there."""
        (reply,) = outcomes
        if isinstance(reply, DoorError) or reply.asked:
            return None
        hint = "no restart would mend that: look at the gate's URL"
        if "certificate" in reply.error:
            hint = (
                "no restart would mend that: name the authority with http.ca_file, or renew the"
                " certificate; http.verify: false asks without looking at it"
            )
        return Unfit(problem=visible(reply.error), hint=hint)

    def answer(self, outcomes: Sequence[Any]) -> str:
        """Return the status and how long it took, or why there was none."""
        (reply,) = outcomes
        if isinstance(reply, DoorError):
            return reply.message
        if reply.status == 0:
            return visible(reply.error)
        return f"{reply.status} in {format_duration(reply.seconds)}"

    def by_hand(self) -> str:
        """Return a line of curl."""
        headers = "".join(f" -H '{name}: {value}'" for name, value in self.send)
        insecure = "" if self.gate.verify else " -k"
        authority = f" --cacert '{self.gate.ca_file}'" if self.gate.ca_file else ""
        return f"curl -i{insecure}{authority}{headers} '{self.url}'"

    def _header_problem(self, reply: HttpReply) -> str | None:
        for name, wanted in self.gate.headers.items():
            came = reply.headers.get(name.lower())
            if came is None:
                return f"answered {reply.status}, without the header {name}"
            if came.strip() != wanted.strip():
                said = visible(came[:LONGEST_SAID])
                return f"answered {reply.status} with {name}: {said}, not {wanted}"
        return None

    def _body_problem(self, reply: HttpReply) -> str | None:
        if self.gate.contains is None or self.gate.contains in reply.body:
            return None
        return f"answered {reply.status}, without {self.gate.contains!r} in the body"


def http_gate(gate: HttpGate, seat: Seat) -> HostGate:
    """Return the gate for one host.

    Raises:
        UsageError: for a URL or a header that cannot be sent.
    """
    send = tuple((name, seat.fill(value)) for name, value in gate.send.items())
    for name, value in (*send, *gate.headers.items()):
        if not _HEADER.fullmatch(name) or not _VALUE.fullmatch(value):
            raise UsageError(
                f"the gate's header for {seat.name} cannot be used: {visible(f'{name}: {value}')}",
                hint="a header is a name of letters, digits and dashes, and one line of text",
            )
    return AskHttp(gate=gate, url=_url(gate, seat), send=send)


def _url(gate: HttpGate, seat: Seat) -> str:
    url = seat.fill(gate.url)
    match = _URL.fullmatch(url)
    if match is None or not 0 < int(match["port"] or 80) < 65536:
        raise UsageError(
            f"the gate's URL for {seat.name} cannot be used: {visible(url)!r}",
            hint="write it as http://${host.address}:8000/healthz; an IPv6 address stands in []",
        )
    return url
