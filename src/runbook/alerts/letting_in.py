"""Who may call: signatures and shared secrets, against all that hold, in constant time."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence

from runbook.model.alert import Received, Rejected

_HEX = re.compile(r"[0-9a-f]{64}")
#: PagerDuty sends one signature for each live secret; more than these are no rotation.
_MOST_SIGNATURES = 50


def header(received: Received, name: str) -> str:
    """Return a header's value.

    Raises:
        Rejected: 401 when it is not there.
    """
    value = received.headers.get(name.lower())
    if value is None:
        raise Rejected(401, f"there is no {name}")
    return value


def signatures(value: str, version: str) -> tuple[str, ...]:
    """Return the hexadecimal signatures of one version in `v1=…,v1=…`; others are left out.

    Raises:
        Rejected: 400 when the value has no such form, or has too many.
    """
    pairs = [part.strip().partition("=") for part in value.split(",")]
    if len(pairs) > _MOST_SIGNATURES:
        raise Rejected(400, f"{len(pairs)} signatures")
    if not any(name and given for name, _, given in pairs):
        raise Rejected(400, "the signature's header is malformed")
    return tuple(given for name, _, given in pairs if name == version and _HEX.fullmatch(given))


def check_signature(signed: bytes, given: Sequence[str], secrets: Sequence[str]) -> None:
    """Hold signatures against HMAC-SHA256 under each secret; one match of any is enough.

    Every pair is compared: how long it takes tells nobody which secret was nearest.

    Raises:
        Rejected: 403 when none matches.
    """
    matched = False
    for secret in filter(None, secrets):
        right = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
        for signature in given:
            matched |= hmac.compare_digest(right, signature)
    if not matched:
        raise Rejected(403, "no signature matches a secret")


def check_secret(received: Received, name: str | None, secrets: Sequence[str]) -> None:
    """Hold what a caller shows against each secret: a header of its own, or `Authorization`.

    Without a header's name it is `Authorization: Bearer SECRET`, or `Basic` with the secret as the
    password.

    Raises:
        Rejected: 401 when there is nothing to judge by, 400 when it is malformed, 403 when it is
            wrong.
    """
    shown = _shown(header(received, "Authorization")) if name is None else _own(received, name)
    # Digests are equally long: a comparison of the secrets themselves would tell their length.
    digest = hashlib.sha256(shown).digest()
    matched = False
    for secret in filter(None, secrets):
        matched |= hmac.compare_digest(digest, hashlib.sha256(secret.encode()).digest())
    if not matched:
        raise Rejected(403, "no secret matches")


def _own(received: Received, name: str) -> bytes:
    return _raw(header(received, name).strip())


def _shown(value: str) -> bytes:
    scheme, _, rest = value.strip().partition(" ")
    kind, rest = scheme.lower(), rest.strip()
    if kind == "bearer" and rest:
        return _raw(rest)
    if kind == "basic" and rest:
        return _password(rest)
    raise Rejected(400, "Authorization is neither Bearer nor Basic")


def _password(encoded: str) -> bytes:
    try:
        _, colon, password = base64.b64decode(_raw(encoded), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        raise Rejected(400, "Authorization: Basic is malformed") from None
    if not colon:
        raise Rejected(400, "Authorization: Basic has no password")
    return password


def _raw(value: str) -> bytes:
    """A header's bytes as they came: servers hand them on as latin-1."""
    return value.encode("latin-1", "backslashreplace")
