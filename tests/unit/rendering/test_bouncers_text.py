"""The status of PgBouncers on the screen: verdict first, a table, what to do next."""

from __future__ import annotations

import io
import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from rich.cells import cell_len
from rich.console import Console

from runbook.model.bouncer_status import (
    BouncersReport,
    BouncerStatus,
    ClientGroup,
    PoolStatus,
    SeenSessions,
    Trouble,
    report_of,
)
from runbook.rendering.bouncers import render
from unit.rendering.bouncers_schema import FILE, schema

EVIL = "\x1b[31mred\x07[bold]\u202e\r\nDROP"
COMMAND = "psql -h 10.0.0.5 -p 6432 -U stats -d pgbouncer -c 'RESUME a_database_with_a_long_name'"


def pool(name: str = "shop", **given: Any) -> PoolStatus:
    base = {
        "database": name,
        "user": "app",
        "mode": "transaction",
        "cl_active": 4,
        "cl_idle": 2,
        "cl_waiting": 0,
        "maxwait_s": 0.0,
        "sv_active": 2,
        "sv_idle": 1,
        "servers": 3,
        "pool_size": 5,
        "pool_size_setting": "default_pool_size",
        "reserve": 0,
        "max_db_connections": 0,
        "max_user_connections": 0,
        "most": 5,
        "most_setting": "default_pool_size",
        "clients": (ClientGroup(label="shop on web-01", clients=4, waiting=0, idle=2),),
        "in_postgresql": SeenSessions(
            active=2, idle=1, idle_in_transaction=0, other=0, pids=(1, 2, 3), missing=1
        ),
    }
    return PoolStatus.model_validate({**base, **given})


def bouncer(*pools: PoolStatus, **given: Any) -> BouncerStatus:
    base = {"name": "bouncer-01", "database": "db", "where": "10.0.0.5:6432", "answers": True}
    return BouncerStatus.model_validate({**base, "version": "1.18.0", "pools": pools, **given})


def shown(report: BouncersReport, width: int = 80) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, emoji=False, highlight=False, markup=False)
    render(report, console)
    return stream.getvalue()


def trouble(said: str = "3 clients wait", **given: Any) -> Trouble:
    base = {"kind": "stuck", "pgbouncer": "bouncer-01", "said": said, "hint": "look"}
    return Trouble.model_validate({**base, "command": COMMAND, **given})


def test_all_is_well() -> None:
    lines = shown(report_of(None, (bouncer(pool()),), (), (), ())).splitlines()
    assert lines[0] == "bouncer-01: nobody waits; 1 pool"
    assert " ".join(lines[4].split()) == "pool clients idle waiting maxwait servers busy most"
    assert " ".join(lines[5].split()) == "shop/app 4 2 0 - 3 2 5"
    text = " ".join(" ".join(lines).split())
    assert "PostgreSQL sees 3 of them: 2 active, 1 idle; 1 of its server connections" in text
    assert "Next" not in text


def test_the_longest_queue_comes_first_and_the_rest_is_counted() -> None:
    pools = (*(pool(f"d{n}") for n in range(30)), pool("slow", cl_waiting=3, maxwait_s=12.0))
    text = shown(report_of(None, (bouncer(*pools),), (trouble(),), (), ()))
    assert text.index("slow/app") < text.index("d0/app")
    assert "and 11 more pools (--format json lists all)" in text


@pytest.mark.parametrize("width", [40, 80])
def test_a_command_stands_unbroken_and_all_else_fits(width: int) -> None:
    down = bouncer(name="bouncer-02", answers=False)
    report = report_of(
        None, (bouncer(pool()), down), (trouble(), trouble("more")), ("a b " * 40,), ("c " * 60,)
    )
    lines = shown(report, width).splitlines()
    assert f"      {COMMAND}" in lines
    assert all(cell_len(line) <= width for line in lines if COMMAND not in line)


def test_nothing_of_what_was_said_is_obeyed() -> None:
    evil = bouncer(
        pool(EVIL, mode=EVIL, clients=(ClientGroup(label=EVIL, clients=1, waiting=0, idle=0),)),
        version=EVIL,
        remarks=(EVIL,),
    )
    troubles = (trouble(EVIL, hint=EVIL, command=EVIL),)
    text = shown(report_of(None, (evil,), troubles, (EVIL,), (EVIL,)))
    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(text)


def test_the_json_is_as_its_schema_says_and_the_file_is_current() -> None:
    report = report_of("db", (bouncer(pool()),), (trouble(),), ("x",), ())
    jsonschema.validate(json.loads(report.model_dump_json()), json.loads(schema()))
    assert BouncersReport.model_validate_json(report.model_dump_json()) == report
    assert FILE.read_text("utf-8") == schema(), (
        "run: PYTHONPATH=tests python tests/unit/rendering/bouncers_schema.py"
    )
