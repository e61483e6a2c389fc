"""Whose sessions they are: told apart where they can be, never guessed where they cannot."""

from __future__ import annotations

from typing import Any

import pytest

from runbook.findings.attribution import Attribution, attribute
from runbook.model.application_name import as_server_keeps
from unit.findings.world import HOSTS, SHOP, fleet, many, session, snapshot

SAME_NAME = {**SHOP, "application_name": "shop"}
BOUNCER = {"host": "web-01", "database": "db", "admin": {"user": "stats"}}


def places(found: Attribution) -> list[tuple[str | None, str | None, int]]:
    return [(h.service, h.host, len(h.sessions)) for h in found.holders]


def test_by_the_name_that_the_template_gives() -> None:
    seen = snapshot([*many(3), session(application_name="shop-web-02", client_addr="10.0.1.2")])
    assert places(attribute(seen, fleet())) == [("shop", "web-01", 3), ("shop", "web-02", 1)]


def test_a_name_is_cut_as_the_server_cuts_it() -> None:
    long = "x" * 70
    services = {"shop": {**SHOP, "application_name": long + "${host.name}"}}
    seen = snapshot([session(application_name="x" * 63, client_addr="10.0.1.2")])
    assert places(attribute(seen, fleet(services))) == [("shop", "web-02", 1)]


def test_names_beyond_ascii_are_spelled_as_the_server_does() -> None:
    assert as_server_keeps("café", 150000) == "caf??"
    assert as_server_keeps("café", 160000) == r"caf\xc3\xa9"


def test_one_name_on_all_hosts_is_told_apart_by_address() -> None:
    seen = snapshot(
        [
            *many(2, application_name="shop"),
            session(application_name="shop", client_addr="10.0.1.3"),
        ]
    )
    assert places(attribute(seen, fleet({"shop": SAME_NAME}))) == [
        ("shop", "web-01", 2),
        ("shop", "web-03", 1),
    ]


def test_behind_nat_the_budget_is_that_of_all_hosts() -> None:
    seen = snapshot(many(25, application_name="shop", client_addr="192.0.2.1"))
    (holder,) = attribute(seen, fleet({"shop": SAME_NAME})).holders
    assert holder.host == "web-01, web-02, web-03"
    assert holder.budget == 30


def test_name_and_address_that_contradict_each_other_prove_nothing() -> None:
    """Two hosts with one configuration, or two behind one address, must not look like a leak."""
    seen = snapshot([*many(10), *many(10, client_addr="10.0.1.2")])
    found = attribute(seen, fleet())
    assert places(found) == [("shop", "web-01", 10), ("shop", "web-02", 10)]
    assert [bool(holder.doubt) for holder in found.holders] == [False, True]
    assert any("come from 10.0.1.2, which is web-02" in note for note in found.notes)


@pytest.mark.parametrize("other", [{"role": "cron"}, {"database": "stats"}])
def test_one_name_of_several_roles_or_databases_proves_nothing(other: dict[str, Any]) -> None:
    (holder,) = attribute(snapshot([*many(3), session(**other)]), fleet()).holders
    assert "a count proves nothing" in holder.doubt
    assert attribute(snapshot(many(3)), fleet()).notes == ()


def test_by_address_alone_one_name_is_one_pool_and_several_are_not() -> None:
    services = {"shop": {"hosts": "web", "database": "db", "pool": {"size": 5}}}
    seen = snapshot([*many(3, application_name="a"), session(application_name="b")])
    (holder,) = attribute(seen, fleet(services)).holders
    assert "several names ('a', 'b')" in holder.doubt
    (holder,) = attribute(snapshot(many(3, application_name="a")), fleet(services)).holders
    assert holder.doubt == ""


def test_an_unknown_machine_with_a_known_name_is_not_held_against_the_pool() -> None:
    seen = snapshot([*many(10), *many(10, client_addr="10.9.9.9")])
    found = attribute(seen, fleet())
    assert [(len(h.sessions), bool(h.doubt)) for h in found.holders] == [(10, False), (10, True)]
    assert any("10.9.9.9" in note for note in found.notes)


@pytest.mark.parametrize(
    ("given", "mapped"),
    [
        ({"role": "app"}, True),
        ({"role": "report"}, False),
        ({"role": "app", "application_name": "psql"}, False),
        ({"role": "app", "client_addr": "10.0.9.9"}, False),
        ({"role": "app", "client_addr": "::ffff:10.0.1.1"}, True),
    ],
)
def test_without_a_declared_name_address_and_role_decide(
    given: dict[str, Any], mapped: bool
) -> None:
    services = {"shop": {"hosts": "web", "database": "db", "role": "app", "pool": {"size": 5}}}
    seen = snapshot([session(**{"application_name": "gunicorn", **given})])
    (holder,) = attribute(seen, fleet(services)).holders
    assert (holder.service == "shop") is mapped


def test_services_that_share_a_name_and_a_host_are_not_told_apart() -> None:
    services = {"shop": SAME_NAME, "admin": SAME_NAME}
    (holder,) = attribute(snapshot(many(15, application_name="shop")), fleet(services)).holders
    assert holder.service is None
    assert holder.budget == 20
    assert "cannot be told apart" in holder.doubt


def test_services_that_share_a_name_are_told_apart_by_role() -> None:
    services = {"shop": {**SAME_NAME, "role": "app"}, "admin": {**SAME_NAME, "role": "boss"}}
    seen = snapshot(many(3, application_name="shop", role="boss"))
    assert places(attribute(seen, fleet(services))) == [("admin", "web-01", 3)]


def test_through_a_pgbouncer_counts_prove_nothing() -> None:
    found = attribute(snapshot(many(30)), fleet(pgbouncers={"bouncer-01": BOUNCER}))
    assert "PgBouncer bouncer-01" in found.holders[0].doubt


def test_what_fits_nobody_stays_in_its_own_words() -> None:
    seen = snapshot(
        [
            session(application_name="", role="cron", client_addr=None),
            *many(2, role="x", application_name="y"),
        ]
    )
    found = attribute(seen, fleet(hosts=HOSTS, services={}))
    assert [h.owner(0).label for h in found.holders] == [
        "y from 10.0.1.1",
        "cron from a local socket",
    ]
