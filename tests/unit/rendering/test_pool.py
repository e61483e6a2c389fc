"""The pool plan as it is read: the verdict first, a sum that adds up, complete at any width."""

from __future__ import annotations

import io
import json
import re

import jsonschema  # type: ignore[import-untyped]
import pytest
from rich.cells import cell_len
from rich.console import Console

from runbook.model.pool_facts import BouncerUse, OtherUse, ProcessUse
from runbook.model.pool_plan import PoolPlan
from runbook.rendering import pool_check, pool_markdown, pool_text
from unit.model.pool_world import (
    configured,
    facts,
    fleet,
    host_use,
    planned,
    server,
    shop,
    use,
)
from unit.rendering.pool_plan_schema import FILE, schema

EVIL = "\x1b[31mred\x07[bold]|`@all`\u202e\r\nDROP"


def busy_plan(*what_if: str) -> PoolPlan:
    """Return a plan that has something to say in every section."""
    pool = {"processes": 2, "overflow": 5, "threads": 2, "nested": 2, "surge": "50%"}
    services = {"shop": shop(20, pool=pool), "jobs": shop(4), "behind": shop(9), "new": {}}
    processes = tuple(ProcessUse(pid=n, name=EVIL, now=n) for n in range(1, 5))
    seen = facts(
        use("shop", 12, rate_per_s=300.0, hosts=(host_use("web-1", 9, processes=processes),)),
        use("jobs", 2),
        use("new", 3),
        server=server(superuser_reserved=3, reserved=1, superuser_sessions=1, used=20, peak=31),
        others=(OtherUse(label=EVIL, now=1, peak=2),),
        bouncers=(
            BouncerUse(bouncer="b", pool=f"{EVIL}/app", budget=9, now=1, clients=9, waiting=1),
        ),
        behind_bouncer=("behind",),
        configured=(configured("web-2", EVIL),),
        unseen=(EVIL,),
    )
    return planned(fleet(services), seen, *what_if)


def text(plan: PoolPlan, width: int = 80, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    console = Console(file=stream, width=width, emoji=False, highlight=False, markup=False)
    pool_text.render(plan, console)
    stream.flush()
    return raw.getvalue().decode(encoding)


def test_the_verdict_comes_first_and_the_command_last() -> None:
    lines = text(planned(fleet({"shop": shop(100)}))).splitlines()
    assert lines[0] == "db: over budget by 200: 400 connections may be opened, and 200 are usable"
    assert lines[-1].strip() == "runbook pool apply db --set shop.size=40"


def test_the_sum_is_written_as_on_paper() -> None:
    shown = text(planned(fleet({"shop": shop(100), "jobs": shop(5)}, budget={"direct": 7})))
    assert shown.split("\n\n")[1].splitlines() == [
        "The sum",
        "            hosts x processes x (size + overflow)",
        "  shop                          4 x 1 x (100 + 0) = 400",
        "  jobs                          4 x 1 x (  5 + 0) =  20",
        "  direct                                 declared =   7",
        "                                                    ───",
        "  together                                          427",
        "  usable                                            200",
        "                                           227 too many",
        "  max_connections 200 = 200 usable",
        "  213% of usable (70 and more is tight, 90 one incident away)",
    ]


@pytest.mark.parametrize("proposed", [False, True])
def test_what_is_written_adds_up(proposed: bool) -> None:
    title = "Proposed" if proposed else "The sum"
    section = next(part for part in text(busy_plan()).split("\n\n") if part.startswith(title))
    above = section.partition("together")[0]
    terms = [int(number) for number in re.findall(r" = +(\d+)$", above, re.MULTILINE)]
    together = re.search(r"together +(\d+)$", section, re.MULTILINE)
    assert together is not None
    assert sum(terms) == int(together[1])


@pytest.mark.parametrize("width", [30, 44, 60, 80, 120])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_no_line_is_wider_than_the_terminal(width: int, encoding: str) -> None:
    *lines, command = text(busy_plan(), width, encoding).splitlines()
    assert [line for line in lines if cell_len(line) > width] == []
    assert command.strip().startswith("runbook pool apply db --set shop.size=")


@pytest.mark.parametrize("width", [30, 80])
def test_nothing_of_a_name_is_obeyed(width: int) -> None:
    shown = text(busy_plan(), width)
    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(shown)
    assert "@all" not in pool_markdown.render(busy_plan())
    line, _ = pool_check.check(busy_plan())
    assert "\n" not in line


def test_the_chart_tells_what_is_past_the_limit_without_colour() -> None:
    chart = text(planned(fleet({"shop": shop(60)})), encoding="ascii").split("Against the limit")[1]
    bars = {line[2:28].strip(" 0123456789"): line for line in chart.splitlines()[1:6]}
    assert "!" in bars["may be opened"]
    assert bars["may be opened"].index("|") < bars["may be opened"].index("!")
    assert "!" not in bars["proposed"]
    assert "^ 200 usable" in chart


def test_a_bar_far_past_the_limit_is_cut_off_and_says_so() -> None:
    shown = text(planned(fleet({"shop": shop(5000)})))
    assert re.search(r"may be opened +20000 .*▶$", shown, re.MULTILINE)


def test_a_what_if_says_that_it_is_one() -> None:
    shown = text(busy_plan("hosts=8"))
    assert "What if hosts=8: nothing of it is applied" in shown
    assert not shown.splitlines()[-1].strip().startswith("runbook")


def test_where_nothing_fits_the_ways_out_are_listed() -> None:
    inventory = fleet({"shop": shop(1, pool={"processes": 90})})
    for shown in (text(planned(inventory)), pool_markdown.render(planned(inventory))):
        assert "Nothing fits" in shown
        assert "450" in shown  # max_connections that would do


def test_many_services_are_summed_up() -> None:
    plan = planned(fleet({f"s{n:03}": shop(3) for n in range(50)}))
    assert "30 more" in text(plan)


def test_markdown_has_all_of_it() -> None:
    shown = pool_markdown.render(busy_plan())
    assert shown.startswith("### db: over budget by ")
    assert f"| **together** | | **{busy_plan().together}** |" in shown
    assert "\n```\nrunbook pool apply db --set shop.size=" in shown
    assert not {"\x1b", "\r", "\u202e"} & set(shown)


@pytest.mark.parametrize(("size", "code"), [(30, 0), (35, 1), (49, 1), (50, 2), (51, 2)])
def test_a_monitor_gets_one_line_and_an_exit_code(size: int, code: int) -> None:
    line, got = pool_check.check(planned(fleet({"shop": shop(size)})))
    assert got == code
    assert line.count("|") == 1
    assert f"| budget={4 * size};139;199;0;200 used=0;;;0;200" in line


def test_the_json_is_as_its_schema_says_and_the_file_is_current() -> None:
    plan = busy_plan()
    jsonschema.validate(json.loads(plan.model_dump_json()), json.loads(schema()))
    assert PoolPlan.model_validate_json(plan.model_dump_json()) == plan
    assert FILE.read_text("utf-8") == schema(), (
        "run: PYTHONPATH=tests python tests/unit/rendering/pool_plan_schema.py"
    )
