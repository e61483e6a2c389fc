"""Limits of roles: what is declared is their measure only where hosts keep to it."""

from __future__ import annotations

from runbook.model.inventory import Pool
from runbook.model.role_guards import Guard, GuardedRole, GuardedService, GuardWishes, propose
from runbook.model.role_settings import CONNECTION_LIMIT, NO_LIMIT


def limit(beyond: tuple[str, ...]) -> Guard:
    """Return what is proposed for a role of three hosts with four connections each."""
    service = GuardedService(name="shop", hosts=3, pool=Pool(size=4), beyond=beyond)
    role = GuardedRole(
        name="shop",
        major=16,
        services=(service,),
        sessions=5,
        others=0,
        usable=97,
        current={CONNECTION_LIMIT: NO_LIMIT},
    )
    return next(g for g in propose(role, GuardWishes()) if g.name == CONNECTION_LIMIT)


def test_a_role_is_limited_to_its_budget_and_a_deploy() -> None:
    assert limit(()).value == "16"


def test_hosts_that_are_set_to_more_than_is_declared_would_be_refused_rightful_sessions() -> None:
    left = limit(("web-2 8",))
    assert left.value is None
    assert "web-2 8" in left.why
    assert "runbook pool plan" in left.why
