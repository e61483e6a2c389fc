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
