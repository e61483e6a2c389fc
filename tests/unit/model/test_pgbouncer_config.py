"""pgbouncer.ini from the budget: worked cases whose answers are known, and who wrote a file."""

from __future__ import annotations

import pytest

from runbook.model.inventory import BouncerTls
from runbook.model.pgbouncer_config import (
    Budget,
    NoRoom,
    Sizes,
    Wish,
    auth_file,
    config_text,
    differences,
    dropin_text,
    mode_in,
    sizes,
    whose,
    written_for,
)


def room(**over: int) -> Budget:
    """100 slots less 3 for superusers, 2 direct, 20 kept free; one database, one role."""
    given = {"usable": 97, "direct": 2, "reserve": 20, "others": 0, "databases": 1, "roles": 1}
    return Budget(**{**given, **over})


def sized(budget: Budget | None = None, **over: object) -> Sizes:
    given: dict[str, object] = {"size": None, "reserve": 0, "clients": None, "declared": [30]}
    return sizes(budget or room(), **{**given, **over})  # type: ignore[arg-type]


def wish(**over: object) -> Wish:
    given: dict[str, object] = {
        "name": "bouncer-01",
        "version": (1, 18),
        "mode": "transaction",
        "databases": ("shop",),
        "upstream": "10.0.0.5",
        "upstream_port": 5432,
        "listen_port": 6432,
        "sizes": sized(),
        "auth_user": "pgb_auth",
        "auth_file": "/etc/pgbouncer/userlist.txt",
        "admin": "pgb_admin",
        "auth_dbname": "shop",
    }
    return Wish(**{**given, **over})  # type: ignore[arg-type]


def settings(text: str) -> dict[str, str]:
    """The file's settings, comments left out; the last word on a key counts, as in PgBouncer."""
    pairs = (line.partition(" = ") for line in text.splitlines() if line[:1] not in {";", "["})
    return {key: value for key, _, value in pairs if key}


def test_the_pool_is_what_the_budget_leaves() -> None:
    # 97 - 2 - 20 - 1 (auth_query's own) = 74 for one pair.
    told = sized()
    assert (told.pool, told.per_database) == (74, 75)
    assert told.because_pool == "97 usable - 2 direct - 20 kept free - 1 for auth_query = 74"


def test_pairs_of_database_and_role_share_it() -> None:
    # 97 - 2 - 20 - 2 = 73 over 2 x 3 pairs is 12 each; with 2 in reserve 10.
    told = sized(room(databases=2, roles=3))
    assert (told.pool, told.per_database) == (12, 37)
    assert sized(room(databases=2, roles=3), reserve=2).pool == 10
    # However many roles come, no database has more than its share.
    assert 2 * told.per_database <= 73 + 2


def test_services_that_stay_outside_keep_their_slots() -> None:
    assert sized(room(others=40)).pool == 34


def test_a_size_of_the_inventory_wins_and_the_cap_stays_the_budgets() -> None:
    told = sized(size=200)
    assert (told.pool, told.per_database) == (200, 75)
    assert "pool.size 200 is more than the budget has for each (74:" in told.warnings[0]
    assert sized(size=10).warnings == ()


def test_no_room_is_told_with_its_arithmetic() -> None:
    with pytest.raises(NoRoom, match=r"97 usable - 2 direct - 20 kept free - 80 services .* = -6"):
        sized(room(others=80))


def test_clients_have_room_for_a_deploy() -> None:
    assert sized(declared=[400]).clients == 850  # 400 x 2 + 20, in fifties
    assert sized(declared=[4]).clients == 100
    assert sized(declared=[400, None]).clients == 1000
    assert sized(clients=5000).clients == 5000
    assert sized(clients=5000).open_files == 5000 + 75 + 100
    assert "LimitNOFILE=5175\n" in dropin_text(sized(clients=5000).open_files)


def test_every_value_has_its_reason_above_it() -> None:
    lines = config_text(wish()).splitlines()
    at = lines.index("[pgbouncer]")
    for before, line in zip(lines[at:], lines[at + 1 :], strict=False):
        if " = " in line and not line.startswith(";"):
            assert before.startswith("; "), line


def test_what_a_version_does_not_know_is_left_out() -> None:
    old, new = settings(config_text(wish())), settings(config_text(wish(version=(1, 21))))
    assert new.keys() - old.keys() == {"auth_dbname", "max_prepared_statements"}
    assert "auth_dbname" in settings(config_text(wish(version=(1, 19))))
    session = settings(config_text(wish(version=(1, 21), mode="session")))
    assert "max_prepared_statements" not in session


def test_tls_on_both_sides() -> None:
    plain = settings(config_text(wish()))
    assert plain["server_tls_sslmode"] == "prefer"
    assert not any(key.startswith("client_tls") for key in plain)
    tls = BouncerTls(mode="require", cert_file="/etc/pgb/c.pem", key_file="/etc/pgb/k.pem")
    sealed = wish(tls=tls, server_tls="verify-full", server_ca="/etc/pgb/ca.pem")
    both = settings(config_text(sealed))
    assert both["client_tls_sslmode"] == "require"
    assert both["client_tls_key_file"] == "/etc/pgb/k.pem"
    assert both["server_tls_sslmode"] == "verify-full"
    assert both["server_tls_ca_file"] == "/etc/pgb/ca.pem"


def test_odd_names_of_databases_are_quoted_and_lines_end_nowhere_else() -> None:
    text = config_text(wish(databases=("shop", 'it"s odd = x')))
    assert '"it""s odd = x" = host=10.0.0.5 port=5432' in text.splitlines()
    with pytest.raises(ValueError, match="several lines"):
        config_text(wish(databases=("shop\n[users]",)))
    with pytest.raises(ValueError, match="several lines"):
        config_text(wish(admin="a\nauth_type = any"))


def test_who_wrote_a_file() -> None:
    ours = config_text(wish())
    assert (whose(ours), written_for(ours), mode_in(ours)) == ("ours", "bouncer-01", "transaction")
    assert whose(ours + "verbose = 1\n") == "edited"
    assert whose(ours.replace("pool_mode = transaction", "pool_mode = session")) == "edited"
    assert whose(ours.partition("\n")[2]) == "foreign"
    assert whose("[pgbouncer]\n") == "foreign"
    # The same wish gives the same file, to the byte.
    assert ours == config_text(wish())


def test_what_differs_is_told_without_the_values_of_connection_strings() -> None:
    theirs = "[databases]\nshop = host=x password=hunter2\nold = host=y\n[pgbouncer]\nverbose=1\n"
    told = differences(theirs, config_text(wish()))
    assert "[databases] shop differs" in told
    assert "[databases] old is there, and not in ours" in told
    assert "[pgbouncer] verbose is there, and not in ours" in told
    assert "hunter2" not in " ".join(told)
    assert differences(config_text(wish()), config_text(wish())) == ()


def test_the_auth_file_holds_marks_and_no_secret() -> None:
    file = auth_file("pgb_auth", 'ad"min')
    assert file.content == '"pgb_auth" "<secret 0>"\n"ad""min" "<secret 1>"\n'
    assert dict(file.marks) == {"<secret 0>": "pgb_auth", "<secret 1>": 'ad"min'}
    assert auth_file("one", "one").content == '"one" "<secret 0>"\n'
