"""SCRAM-SHA-256 secrets, made and compared here: a server never needs the password itself.

What a server keeps is `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>` (RFC 5802, RFC
7677, as PostgreSQL and PgBouncer write it).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import stringprep
import unicodedata

#: PostgreSQL's own default; RFC 7677 asks for no less.
ITERATIONS = 4096
_SALT_BYTES = 16
_VERIFIER = re.compile(r"SCRAM-SHA-256\$(\d{1,9}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):\S+")


def verifier(password: str, salt: bytes, iterations: int = ITERATIONS) -> str:
    """Return what a server keeps in the place of a password."""
    salted = hashlib.pbkdf2_hmac("sha256", _prepared(password), salt, iterations)
    stored = hashlib.sha256(_keyed(salted, b"Client Key")).digest()
    server = _keyed(salted, b"Server Key")
    return f"SCRAM-SHA-256${iterations}:{_text(salt)}${_text(stored)}:{_text(server)}"


def salt_of(*names: str) -> bytes:
    """Return a salt that is one place's own: the same names give the same file again.

    A salt is no secret. It is not made from the password: that would make guessing cheaper.
    """
    return hashlib.sha256("\0".join(names).encode()).digest()[:_SALT_BYTES]


def fits(password: str, kept: str | None) -> bool:
    """Whether a server that keeps `kept` lets this password in; False for what is no SCRAM."""
    found = _VERIFIER.fullmatch(kept or "")
    if found is None:
        return False
    try:
        salt = base64.b64decode(found[2], validate=True)
    except binascii.Error:
        return False
    return hmac.compare_digest(verifier(password, salt, int(found[1])), str(kept))


def _keyed(key: bytes, what: bytes) -> bytes:
    return hmac.new(key, what, hashlib.sha256).digest()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _prepared(password: str) -> bytes:
    """Return a password by SASLprep (RFC 4013); as it is where that refuses, as PostgreSQL does."""
    if password.isascii():
        return password.encode()
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char
        for char in password
        if not stringprep.in_table_b1(char)
    )
    normal = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    return (password if not normal or _prohibited(normal) else normal).encode()


_FORBIDDEN = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_a1,
)


def _prohibited(text: str) -> bool:
    if any(table(char) for char in text for table in _FORBIDDEN):
        return True
    right = [stringprep.in_table_d1(char) for char in text]
    if not any(right):
        return False
    mixed = any(stringprep.in_table_d2(char) for char in text)
    return mixed or not (right[0] and right[-1])
