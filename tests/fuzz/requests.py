"""Requests by number: calls as the sources make them, spoiled, and signed again or not.

`made(7)` is the same on every machine. It is for whatever takes requests: the readers alone, or the
whole of `serve`.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlencode

from unit.alerts import calls
from unit.alerts.calls import FORM, JSON, NOW, SECRET, mac

#: The hooks of `unit.alerts.world`, each with what its source sends.
_BODIES: dict[str, tuple[Callable[[], bytes], ...]] = {
    "pd": (
        lambda: calls.v3().body,
        lambda: calls.PUBLIC_BODY,
        lambda: calls.v3({"event_type": "pagey.ping"}).body,
        lambda: calls.v3(calls.v3_event(event_type="incident.annotated")).body,
    ),
    "button": (
        lambda: calls.action().body,
        lambda: calls.action({"event": calls.v3_event()}).body,
    ),
    "flow": (
        lambda: calls.workflow().body,
        lambda: calls.workflow({"__pd_metadata": {"incident": {"id": "Q3B15VLMF3ASBD"}}}).body,
    ),
    "am": (lambda: calls.alertmanager().body,),
    "chat": (
        lambda: calls.slash().body,
        lambda: calls.press().body,
        lambda: calls.SLACK_BODY,
        lambda: b"ssl_check=1",
    ),
}
HOOKS = tuple(_BODIES)

#: What is found where something else should be.
_NASTY: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    10**30,
    1e308,
    "",
    " ",
    "x" * 5000,
    "\x00",
    "\x1b]0;x\x07",
    "\u202e\u2066",
    "\ud800",
    "../../etc/passwd",
    "$(reboot)",
    "'; DROP TABLE runs; --",
    "${target}",
    "{{ 7 * 7 }}",
    "rolling-restart",
    "other-db",
    "shop-db\n",
    "shop-db:9187",
    "PGR0VU2\n",
    [],
    {},
    [[[[]]]],
    {"id": "PGR0VU2"},
    [{"id": None}] * 3,
    "incident.triggered",
    "9999-12-31T23:59:59.999999+23:59",
    "0001-01-01T00:00:00+23:59",
    "2026-W48-2",
)
_RAW: tuple[bytes, ...] = (
    b"",
    b"\xff\xfe\x00",
    b"\xc3\x28",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"9" * 5000,
    b"[" * 50_000,
    b'{"a":' * 5000,
    b'"\\ud800"',
    b'{"event":1,"event":2}',
    b"\xef\xbb\xbf{}",
    b"%ff&%00=%",
    b"&".join(b"f%d=1" % number for number in range(200)),
)


@dataclass(frozen=True)
class Made:
    """One request, and whether whoever made it knew the secret and meant this very body."""

    hook: str
    headers: dict[str, str]
    body: bytes
    honest: bool
    at: float = NOW


def made(number: int) -> Made:
    """Return the request of a number."""
    chance = random.Random(number)
    hook = chance.choice(HOOKS)
    body = _spoiled(chance, hook, _numbered(number, chance.choice(_BODIES[hook])()))
    headers = _headers(chance, hook, body)
    honest = chance.random() < 0.8
    if not honest:
        headers, body = _forged(chance, hook, headers, body)
    return Made(hook, headers, body, honest, NOW)


def requests(first: int, count: int) -> Iterator[tuple[str, dict[str, str], bytes]]:
    """Yield the hook, the headers and the body of so many requests."""
    for number in range(first, first + count):
        one = made(number)
        yield one.hook, one.headers, one.body


#: What an event is known by when it comes again.
_IDS = (b"01GI0KTE33V5QXBVIJDEVJFUNE", b"69a7ced1-6a3b-4bd2-a8e3-9d8c5d1e7f10", b"b2ca4a2c0e3a1f5d")


def _numbered(number: int, body: bytes) -> bytes:
    """Most are events of their own; one in four is one that came before."""
    if number % 4:
        for each in _IDS:
            body = body.replace(each, b"%026d" % number)
    return body


# ---- bodies ----------------------------------------------------------------------------------


def _spoiled(chance: random.Random, hook: str, body: bytes) -> bytes:
    how = chance.random()
    if how < 0.1:
        return body
    if how < 0.8:
        return _spoiled_value(chance, body, form=hook == "chat")
    if how < 0.93:
        return _spoiled_bytes(chance, body)
    return chance.choice(_RAW)


def _spoiled_value(chance: random.Random, body: bytes, *, form: bool) -> bytes:
    """Change some of what a body says; it stays a body of its kind."""
    if form:
        return _spoiled_form(chance, body)
    value = json.loads(body)
    for _ in range(chance.randint(1, 3)):
        _spoil(chance, value)
    return json.dumps(value, ensure_ascii=chance.random() < 0.8).encode("utf-8", "surrogatepass")


def _spoil(chance: random.Random, value: Any) -> None:
    """Change one place, chosen on a walk from the top."""
    while isinstance(value, dict | list) and value:
        place = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
        if chance.random() < 0.9 and isinstance(value[place], dict | list) and value[place]:
            value = value[place]
            continue
        if chance.random() < 0.2:
            del value[place]
        else:
            # A copy: what is put in may be spoiled further.
            value[place] = deepcopy(chance.choice(_NASTY))
        return


def _spoiled_form(chance: random.Random, body: bytes) -> bytes:
    fields = [part.partition(b"=")[::2] for part in body.split(b"&")]
    pairs = [(name.decode(), "x") for name, _ in fields]
    for index, (name, _) in enumerate(pairs):
        pairs[index] = (name, _field(chance, name))
    if chance.random() < 0.1:
        pairs += pairs[:1]
    return urlencode(pairs, errors="surrogatepass").encode()


def _field(chance: random.Random, name: str) -> str:
    if name == "payload":
        pressed = json.loads(_payload())
        _spoil(chance, pressed)
        return json.dumps(pressed)
    good = {
        "command": "/runbook",
        "user_id": "U2CERLKJA",
        "channel_id": "C061EG9SL",
        "text": f"diagnose {chance.choice(('shop-db', 'other-db', 'web-1', '../x'))}",
    }
    nasty = str(chance.choice(_NASTY))
    return good.get(name, nasty) if chance.random() < 0.8 else nasty


def _payload() -> str:
    return parse_qs(calls.press().body.decode())["payload"][0]


def _spoiled_bytes(chance: random.Random, body: bytes) -> bytes:
    data = bytearray(body)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(data) + 1)
        how = chance.randrange(4)
        if how == 0:
            del data[at : at + chance.randint(1, 20)]
        elif how == 1:
            data[at:at] = bytes(chance.randrange(256) for _ in range(chance.randint(1, 4)))
        elif how == 2:
            data[at:at] = chance.choice(_RAW)[:200]
        else:
            data[at:at] = data[: chance.randint(0, len(data))]
        del data[60_000:]
    return bytes(data)


# ---- headers ---------------------------------------------------------------------------------


def _headers(chance: random.Random, hook: str, body: bytes) -> dict[str, str]:
    """What an honest caller of the hook sends along."""
    if hook == "pd":
        noise = [f"v1={'0' * 64}", "v2=later", "v1=short"]
        signatures = [f"v1={mac(body)}", *chance.sample(noise, chance.randint(0, 3))]
        chance.shuffle(signatures)
        return {"content-type": JSON, "x-pagerduty-signature": ", ".join(signatures)}
    if hook == "chat":
        signed = b"v0:%d:" % int(NOW) + body
        return {
            "content-type": FORM,
            "x-slack-request-timestamp": str(int(NOW)),
            "x-slack-signature": f"v0={mac(signed)}",
        }
    if hook == "button":
        return {"content-type": JSON, "x-runbook-secret": SECRET}
    basic = base64.b64encode(f"am:{SECRET}".encode()).decode()
    shown = chance.choice((f"Bearer {SECRET}", f"Basic {basic}"))
    return {"content-type": JSON, "authorization": shown}


#: What somebody shows who does not know the secret.
_SHOWN = (
    "",
    " ",
    "Bearer",
    "Bearer wrong",
    "Basic !!",
    "Basic OnguZw==",
    "v1=",
    "v1=" + "0" * 64,
    "v0=" + "f" * 64,
    "v1=\u00ff\u20ac",
    "=,=,=",
    ",".join(["v1=" + "a" * 64] * 60),
    "x" * 8000,
)
_OF_SIGNATURES = ("x-pagerduty-signature", "x-slack-signature", "x-runbook-secret", "authorization")


def _forged(
    chance: random.Random, hook: str, headers: dict[str, str], body: bytes
) -> tuple[dict[str, str], bytes]:
    """The request of one who does not know the secret, or has changed what another has signed."""
    (name,) = (name for name in _OF_SIGNATURES if name in headers)
    how = chance.randrange(4)
    if how == 0:
        return {key: value for key, value in headers.items() if key != name}, body
    if how == 1 and hook in {"pd", "chat"}:
        return headers, body + b" "
    if how == 2 and hook == "chat":
        old = str(int(NOW) - 301)
        signature = f"v0={mac(f'v0:{old}:'.encode() + body)}"
        return {**headers, "x-slack-request-timestamp": old, name: signature}, body
    return {**headers, name: chance.choice(_SHOWN)}, body
