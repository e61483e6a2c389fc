"""PgBouncer has lines of its own when clients wait there, and none when all is well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from runbook.rendering import diagnosis_markdown
from runbook.rendering.poolers import POOLS_SHOWN, pooler_lines
from unit.findings import consoles
from unit.findings.world import JUDGE, fleet, many, session, snapshot
from unit.rendering.test_diagnosis import EVIL, text

if TYPE_CHECKING:
    from runbook.model.diagnosis import Diagnosis


def diagnosis(leaked: int = 0, waiting: int = 4, name: str = "bouncer-01") -> Diagnosis:
    """Return a diagnosis of a full pool of two, besides sessions of shop on web-03."""
    held = [
        session(client_addr="10.0.0.5", client_port=42000 + n, state="active", query_age_s=2.0)
        for n in range(2)
    ]
    servers, clients = consoles.linked(held)
    clients += [consoles.client(f"0xw{n}", state="waiting") for n in range(waiting)]
    pool: dict[str, Any] = {"maxwait": 75} if waiting else {}
    look = consoles.look(servers, clients, pool=pool, database={"pool_size": 2}, name=name)
    direct = many(leaked, application_name="shop-web-03", client_addr="10.0.1.3")
    return JUDGE.diagnose(
        snapshot([*held, *direct], poolers=(look,)),
        fleet(pgbouncers={"bouncer-01": consoles.BOUNCER}),
    )


def test_a_queue_beside_another_cause_is_shown() -> None:
    shown = text(diagnosis(leaked=90), 120)
    assert shown.startswith("80 leaked sessions")
    assert (
        "- bouncer-01, pool shop/app (transaction): 2 of 2 server connections have a client, 2"
        " clients active, 4 waiting for up to 1m 15s; pool_size 2 is reached"
    ) in " ".join(shown.split())
    markdown = diagnosis_markdown.render(diagnosis(leaked=90))
    assert "**PgBouncer**" in markdown
    assert "pool\\_size 2 is reached" in markdown


def test_what_the_finding_says_is_not_said_twice() -> None:
    found = diagnosis()
    assert found.finding.cause == "pooler-exhausted"
    assert "pool shop/app, transaction mode: 2 of 2 server connections" in text(found, 200)
    assert list(pooler_lines(found)) == []


def test_a_pool_that_does_what_it_is_there_for_is_not_mentioned() -> None:
    shown = text(diagnosis(waiting=0))
    assert "PgBouncer" not in shown


def test_many_pools_are_summed_up() -> None:
    found = diagnosis()
    pools = tuple(
        found.poolers[0].model_copy(update={"database": f"db{n}", "cl_waiting": n + 1})
        for n in range(POOLS_SHOWN + 3)
    )
    lines = list(pooler_lines(found.model_copy(update={"poolers": pools})))
    assert len(lines) == POOLS_SHOWN + 1
    assert lines[0].startswith("bouncer-01, pool db7/app")
    assert lines[-1] == "and 3 more pools with 6 waiting (--format json lists all)"


@pytest.mark.parametrize("width", [30, 80])
def test_nothing_of_a_name_is_obeyed(width: int) -> None:
    found = diagnosis(leaked=90)
    pool = found.poolers[0].model_copy(update={"database": EVIL, "user": EVIL})
    shown = text(found.model_copy(update={"poolers": (pool,)}), width)
    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(shown)


def test_through_which_pgbouncer_is_part_of_whose() -> None:
    assert "shop on web-01 through bouncer-01" in text(diagnosis(), 120)
    assert "shop on web-01 through bouncer-01" in text(diagnosis(leaked=90), 120)
