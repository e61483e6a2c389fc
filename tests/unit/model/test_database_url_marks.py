"""A password with an unescaped ? in it, where no path follows: libpq reads on to the @."""

from __future__ import annotations

import pytest

from runbook.model.database_url import CannotLead, lead_to, redacted


@pytest.mark.parametrize("password", ["pa?s=s3cret", "12?s=s3cret", "s3cret:a?x=1", "s3cret,x?k=v"])
def test_a_question_mark_in_a_password(password: str) -> None:
    url = f"postgres://shop:{password}@db.example.com/shop"
    assert password not in redacted(url)
    assert "s3cret" not in redacted(url)
    with pytest.raises(CannotLead, match="percent-encode") as no:
        lead_to(url, "bouncer", 6432)
    assert "s3cret" not in str(no.value)


def test_a_user_with_an_at_sign_in_a_parameter_is_nothing_of_the_kind() -> None:
    url = "postgres://db.example.com/shop?user=shop@db&sslmode=require"
    assert lead_to(url, "bouncer", 6432).startswith("postgres://bouncer:6432/shop?user=shop@db")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("host=h password=a://s3cret", "host=h password=…"),
        ("host=h password='s3cret://b' user=u", "host=h password=… user=u"),
        ("host=h password=a s3cret://b=c", "…"),
        ("url=postgres://u:s3cret@h/db", "…"),
        ("postgres://u:s3cret@h/db?a=b", "postgres://u:…@h/db?a=b"),
    ],
)
def test_a_key_value_string_is_no_uri_for_what_its_password_holds(text: str, shown: str) -> None:
    assert redacted(text) == shown
