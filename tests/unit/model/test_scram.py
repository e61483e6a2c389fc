"""SCRAM-SHA-256 secrets: RFC 7677's own example, and libpq's."""

from __future__ import annotations

import base64

import pytest

from runbook.model.scram import fits, salt_of, verifier

#: RFC 7677, section 3: user "user", password "pencil", 4096 iterations.
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
KNOWN = (
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
    ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)


def test_the_rfcs_example() -> None:
    assert verifier("pencil", SALT) == KNOWN


def test_a_password_is_compared_with_what_a_server_keeps() -> None:
    assert fits("pencil", KNOWN)
    assert not fits("pencils", KNOWN)
    assert not fits("pencil", None)
    assert not fits("pencil", "md5" + "0" * 32)


@pytest.mark.parametrize("password", ["x", "grün\u00a0geheim", "I\u00adX", "\u2168", "\u06271"])
def test_as_libpq_makes_it(password: str) -> None:
    """What SASLprep maps, drops, normalises and forbids."""
    from psycopg import pq

    connection = pq.PGconn.connect_start(b"host=/nowhere")
    made = connection.encrypt_password(password.encode(), b"someone", b"scram-sha-256").decode()
    assert fits(password, made)
    assert not fits(f"{password}?", made)


def test_a_salt_is_one_places_own() -> None:
    assert salt_of("pgbouncer", "a", "b") == salt_of("pgbouncer", "a", "b")
    assert salt_of("pgbouncer", "a", "b") != salt_of("pgbouncer", "ab")
    assert len(salt_of("x")) == 16
