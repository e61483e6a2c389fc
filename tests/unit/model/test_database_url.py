"""Where connection strings lead, and that nothing but that is changed in them."""

from __future__ import annotations

import psycopg.conninfo
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.model.database_url import CannotLead, endpoint_of, lead_to, redacted


@pytest.mark.parametrize(
    ("url", "leads_to", "led"),
    [
        ("postgresql://u:p@db:5432/x", "db:5432", "postgresql://u:p@b:6432/x"),
        ("postgres://u@db/x", "db", "postgres://u@b:6432/x"),
        ("postgres://db", "db", "postgres://b:6432"),
        ("postgresql://u:p@db:/x", "db", "postgresql://u:p@b:6432/x"),
        ("postgresql://u:p%40%3A%2F@db:1/x", "db:1", "postgresql://u:p%40%3A%2F@b:6432/x"),
        ("postgresql://u:p@[::1]:5432/x", "[::1]:5432", "postgresql://u:p@b:6432/x"),
        (
            "postgresql+psycopg2://u:p@db:5432/x?sslmode=require&a=%20#f",
            "db:5432",
            "postgresql+psycopg2://u:p@b:6432/x?sslmode=require&a=%20#f",
        ),
        (
            "jdbc:postgresql://db/x?user=u&password=p",
            "db",
            "jdbc:postgresql://b:6432/x?user=u&password=p",
        ),
        ("postgis://u:p@db/x", "db", "postgis://u:p@b:6432/x"),
        (
            "postgresql://u:p@/x?host=db&port=5432",
            "db:5432",
            "postgresql://u:p@/x?host=b&port=6432",
        ),
        ("postgresql:///x?host=db", "db", "postgresql:///x?host=b&port=6432"),
        ("postgresql:///x?host=db:5432&a=b", "db:5432", "postgresql:///x?host=b:6432&a=b"),
        ("postgresql://u@db/x?port=5", "db:5", "postgresql://u@b/x?port=6432"),
        ("host=db port=5432 user=u", "db:5432", "host=b port=6432 user=u"),
        (
            "user=u host = 'db' password='a b\\'c'",
            "db",
            "user=u host = b port=6432 password='a b\\'c'",
        ),
        ("HOST=db", "db", "HOST=b port=6432"),
    ],
)
def test_a_connection_string_is_led_elsewhere(url: str, leads_to: str, led: str) -> None:
    assert str(endpoint_of(url)) == leads_to
    assert lead_to(url, "b", 6432) == led
    assert lead_to(led, "b", 6432) == led


def test_only_the_host_or_only_the_port_may_change() -> None:
    url = "postgresql://u:p@db:5432/x"
    assert lead_to(url, host="b") == "postgresql://u:p@b:5432/x"
    assert lead_to(url, port=6432) == "postgresql://u:p@db:6432/x"
    assert lead_to(url, "fe80::1", 6432) == "postgresql://u:p@[fe80::1]:6432/x"
    assert lead_to("host=db", "[fe80::1]") == "host=fe80::1"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://u:s3cret@a:1,b:2/x", "several hosts (a:1,b:2)"),
        ("postgresql://u:s3cret@/x?host=a,b", "several hosts"),
        ("postgresql://u:s3cret@/x?host=a&host=b", "several hosts"),
        ("host=a,b password=s3cret", "several hosts"),
        ("postgresql://u:s3cret/w@db/x", "percent-encode"),
        ("postgresql://u:s3cret@w@db/x", "percent-encode"),
        ("postgresql://u:s3cret#w@db/x", "percent-encode"),
        ("postgresql://%2Fvar%2Frun%2Fpostgresql/x", "socket directory (/var/run/postgresql)"),
        ("postgresql:///x?host=/var/run", "socket directory"),
        ("host=/tmp password=s3cret", "socket directory"),
        ("postgresql://u:s3cret@/x", "names no host"),
        ("user=u password=s3cret", "names no host"),
        ("jdbc:postgresql:x", "names no host"),
        ("postgresql://u:s3cret@db/x?hostaddr=10.0.0.1", "hostaddr"),
        ("service=shop password=s3cret", "service file"),
        ("postgresql://u:s3cret@a/x?host=b", "twice"),
        ("postgresql://u:s3cret@a:1/x?port=2", "twice"),
        ("host=a host=b", "twice"),
        ("postgresql://u:s3cret@::1/x", "brackets"),
        ("postgresql://u:s3cret@[::1/x", "not closed"),
        ("postgresql://u:s3cret@db:port/x", "no port"),
        ("host=db password='s3cret", "not closed"),
        ("mysql://u:s3cret@db/x", "no connection string of PostgreSQL"),
        ("s3cret", "no connection string of PostgreSQL"),
        ("", "no connection string of PostgreSQL"),
    ],
)
def test_what_drivers_or_people_would_read_differently_is_refused(url: str, says: str) -> None:
    with pytest.raises(CannotLead) as no:
        lead_to(url, "b", 6432)
    assert says in str(no.value)
    assert "s3cret" not in str(no.value)
    assert "s3cret" not in redacted(url)


@pytest.mark.parametrize("host", ["", "-x", "a b", "a/b", "a@b", "a,b", "a?b", "/tmp"])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(CannotLead):
        lead_to("postgresql://u:p@db:5432/x", host, 6432)


def encoded(text: str) -> str:
    """Percent-encode every byte."""
    return "".join(f"%{byte:02X}" for byte in text.encode())


WORDS = st.text(alphabet="ab/@:?#&=% \\'\"é", min_size=1, max_size=8)


@given(user=WORDS, password=WORDS, value=WORDS)
def test_libpq_reads_all_else_as_before(user: str, password: str, value: str) -> None:
    url = f"postgresql://{encoded(user)}:{encoded(password)}@db:5432/x?application_name={encoded(value)}"
    before = psycopg.conninfo.conninfo_to_dict(url)
    after = psycopg.conninfo.conninfo_to_dict(lead_to(url, "bouncer", 6432))
    assert after == {**before, "host": "bouncer", "port": "6432"}
    text = psycopg.conninfo.make_conninfo("", **before)
    assert psycopg.conninfo.conninfo_to_dict(lead_to(text, "bouncer", 6432)) == after


@given(st.text(alphabet="pu:/@?#&=,[] '\\%5x.", max_size=24))
def test_any_text_is_led_where_it_was_meant_to_or_refused(rest: str) -> None:
    for url in (f"postgresql://{rest}", f"host={rest}", rest):
        try:
            led = lead_to(url, "bouncer", 6432)
        except CannotLead:
            continue
        assert str(endpoint_of(led)) == "bouncer:6432"


@given(st.text(alphabet="/@:?#&=, 'x", max_size=6))
def test_a_password_is_never_shown(odd: str) -> None:
    for url in (f"postgres://u:s3cret{odd}@db/x", f"postgres://u:{odd}s3cret@db/x"):
        assert "s3cret" not in redacted(url), url
