"""What is taken out of text before it is kept, what is left, and how long that takes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.model.plan import Result
from runbook.model.redaction import OUT, redacted, redacted_data, redacted_result, spellings

#: The word that must not be left.
S = "hunter2Hunter2"
#: Each holds S once; what must be left of it stands beside it.
CORPUS = [
    (f"password={S}", "password="),
    (f"PGPASSWORD={S} psql -h db", "psql -h db"),
    (f'PGPASSWORD="{S} and more" psql', " psql"),
    (f"export DB_PASSWD='{S}'; ls", "; ls"),
    (f"pwd: {S}\nnext line", "next line"),
    (f'{{"password": "{S}", "port": 5432}}', '"port": 5432'),
    (f'{{\\"api_key\\": \\"{S}\\", \\"n\\": 1}}', "n"),
    (f'"secret" => "{S}" }}', "}"),
    (f"host=db password={S} dbname=shop", "dbname=shop"),
    (f"host=db password='{S} x' dbname=shop", "dbname=shop"),
    (f"ALTER ROLE app PASSWORD '{S}'; SELECT 1", "SELECT 1"),
    (f"ALTER ROLE app PASSWORD E'{S}'; SELECT 1", "SELECT 1"),
    (f"ALTER ROLE app PASSWORD $${S}$$; SELECT 1", "SELECT 1"),
    (f"CREATE USER MAPPING OPTIONS (user 'a', password '{S}')", "user 'a'"),
    (f"mysqldump --password {S} shop", "shop"),
    (f"tool --auth-token {S} --verbose", "--verbose"),
    (f"tool --token={S} --verbose", "--verbose"),
    (f"postgres://app:{S}@db:5432/shop", "@db:5432/shop"),
    (f"postgresql://app:p@{S}@db/shop", "@db/shop"),
    (f"amqp://:{S}@queue/", "@queue/"),
    (f"Authorization: Basic {S}", "Authorization: "),
    (f"'authorization': 'Token {S}'", "authorization"),
    (f"Set-Cookie: session={S}; HttpOnly\r\nX: y", "X: y"),
    (f"curl -H 'Bearer {S}abcdef'", "curl -H 'Bearer"),
    (f"AWS_SECRET_ACCESS_KEY={S}/abc+def=", "AWS_SECRET_ACCESS_KEY="),
    (f"aws_access_key_id = AKIA{S.upper()[:14]}AB", "aws_access_key_id"),
    (
        f"-----BEGIN OPENSSH PRIVATE KEY-----\n{S}\n-----END OPENSSH PRIVATE KEY-----\nafter",
        "after",
    ),
    (f"-----BEGIN RSA PRIVATE KEY-----\n{S}", "private key"),
    (f"token ghp_{S}{S} is bad", "is bad"),
    (f"xoxb-123-{S} x", " x"),
    (f"eyJhbGciOiJIUzI1NiJ9.{S}{S}.{S} x", " x"),
    (f"rolpassword | SCRAM-SHA-256$4096:{S}==$aa:bb", "rolpassword"),
    ("md5" + "0123456789abcdef" * 2, ""),
]


@pytest.mark.parametrize(("text", "left"), CORPUS)
def test_a_secret_is_taken_out_and_the_rest_is_left(text: str, left: str) -> None:
    once = redacted(text)
    assert S not in once
    assert "0123456789abcdef" not in once
    assert left in once
    assert OUT in once
    assert redacted(once) == once


@pytest.mark.parametrize(
    "text",
    [
        "FATAL: password authentication failed for user app",
        "the token bucket is empty",
        "psql --no-password shop",
        "http://10.0.0.1:8000/healthz answered 503",
        "a secret of success",
        "md5sum: no such file",
        "bearer of good news",
        "oncall ALL=(root) NOPASSWD: /usr/bin/systemctl restart shop.service",
        "passing; passed; passwordless sudo",
        "tcp 10.0.1.1:22 opened",
        "2026-01-01 02:17:00 web-1: restarted",
        "",
    ],
)
def test_what_is_no_secret_is_left(text: str) -> None:
    assert redacted(text) == text


def test_a_known_secret_is_found_wherever_it_stands() -> None:
    known = spellings(["it's \"p@ss/ wörd", "abc", ""])
    assert redacted("x it's \"p@ss/ wörd y", known) == f"x {OUT} y"
    assert redacted("postgres://h/?p=it%27s%20%22p%40ss%2F%20w%C3%B6rd", known).endswith(f"p={OUT}")
    assert "p@ss" not in redacted('{"x": "it\'s \\"p@ss/ w\\u00f6rd"}', known)
    assert redacted("abc", known) == "abc"  # too short: it would tear words apart


def test_a_longer_secret_is_not_left_in_halves() -> None:
    assert redacted("hunter2hunter2-x", spellings(["hunter2", "hunter2hunter2-x"])) == OUT


def test_data_is_masked_by_key_and_by_text() -> None:
    data = {"rows": [{"passwd": S, "n": 1}, {"note": f"password={S}"}], "ok": True, "none": None}
    kept = redacted_data(data, redacted)
    assert S not in str(kept)
    assert kept["rows"][0] == {"passwd": OUT, "n": 1}
    assert (kept["ok"], kept["none"]) == (True, None)


def test_what_a_result_touches_stays_word_for_word() -> None:
    line = f"web-1: deploy --token {S}"
    result = Result(
        status="ok",
        summary=f"token={S}",
        hint=f"token={S}",
        data={"stdout": f"token={S}"},
        touches=(line,),
        by_hand=(f"ssh web-1 deploy --token {S}",),
    )
    kept = redacted_result(result, redacted)
    assert kept.touches == (line,)
    assert S not in f"{kept.summary}{kept.hint}{kept.data}{kept.by_hand}"


@given(
    parts=st.lists(
        st.sampled_from(
            [
                *(
                    "password",
                    "=",
                    ":",
                    " ",
                    "'",
                    '"',
                    "\\",
                    "$$",
                    "$a$",
                    "://",
                    "@",
                    "/",
                    "--",
                    "x",
                ),
                *("token", "Bearer ", "eyJ", ".", "-----BEGIN PRIVATE KEY-----", "\n", "…", "AKIA"),
                *("Authorization: ", "cookie: ", "md5", "ghp_", "a" * 30, "no-", ",", "E"),
            ]
        ),
        max_size=30,
    )
)
def test_doing_it_again_changes_nothing(parts: list[str]) -> None:
    once = redacted("".join(parts))
    assert redacted(once) == once


@contextmanager
def no_longer_than(seconds: int) -> Iterator[None]:
    """A pattern that is not linear would take hours here, not seconds."""

    def stop(*_: object) -> None:
        raise AssertionError(f"still at it after {seconds}s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


HOSTILE = [
    *(
        "password",
        "password ",
        "password=",
        "password='",
        'password="',
        "password $a",
        "password\\",
    ),
    *(
        "password $$",
        "password$",
        "--",
        "--a",
        "--password",
        "--password ",
        "-",
        "://",
        "://a",
        ":",
    ),
    *("://a:", "://a:b", "@", "a", "_", "eyJ", "eyJa.", "eyJaaaaaaaa.", "-----BEGIN ", "$", "$$"),
    *("-----BEGIN PRIVATE KEY-----", "-----BEGIN A", "Bearer ", "bearer\t", "authorization: "),
    *(
        "cookie:",
        "ghp_",
        "SCRAM-SHA-256$1:",
        "md5",
        "\\",
        "'",
        '"',
        " ",
        "token_",
        "secret-",
        "pwd ",
    ),
    *("AKIA", "xoxb-", "glpat-", "é", "\x00", "password:\n", "password \\'", "password E'"),
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_text_takes_no_longer_than_other_text(piece: str) -> None:
    # 64 KiB: what grows faster than the text would take hours at a quarter of what a door keeps.
    whole = (piece * (65_536 // len(piece) + 1))[:65_536]
    with no_longer_than(20):
        redacted(whole)
        redacted(f"password {whole}")
        redacted(f"{whole} password=x://u:p@h eyJ")
