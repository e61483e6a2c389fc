"""The screen read at 2:17: complete at any width, and deaf to what clients put into their names."""

from __future__ import annotations

import io
import json

import jsonschema  # type: ignore[import-untyped]
import pytest
from rich.cells import cell_len
from rich.console import Console

from runbook.model.diagnosis import Diagnosis
from runbook.model.errors import DatabaseError, SlotRefused
from runbook.model.sessions import PoolerLook
from runbook.rendering import diagnosis_markdown, diagnosis_text, monitoring
from runbook.rendering.safe import safe
from unit.findings.world import JUDGE, fleet, hidden, many, session, snapshot
from unit.rendering.diagnosis_schema import FILE, schema

EVIL = "\x1b[31mred\x07[bold]|`@all`\u202e\r\nDROP"


def leaked() -> Diagnosis:
    sessions = [
        *many(
            68, application_name="shop-web-03", client_addr="10.0.1.3", state_age_s=400, query=EVIL
        ),
        *many(8),
        *many(9, application_name="shop-web-02", client_addr="10.0.1.2", state="active"),
        *many(12, application_name=EVIL, role=EVIL, client_addr=None, state="idle in transaction"),
    ]
    return JUDGE.diagnose(snapshot(sessions), fleet())


def text(diagnosis: Diagnosis, width: int = 80, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    console = Console(file=stream, width=width, emoji=False, highlight=False, markup=False)
    diagnosis_text.render(diagnosis, console)
    stream.flush()
    return raw.getvalue().decode(encoding)


def test_the_answer_comes_first_and_the_command_last() -> None:
    lines = text(leaked()).splitlines()
    assert lines[0] == "58 leaked sessions: shop on web-03 holds 68, its pool is 10"
    assert lines[-1].strip() == "runbook remediate db --terminate-idle"


def test_everybody_is_accounted_for() -> None:
    shown = text(leaked())
    assert "97 of 97 slots in use (100%)" in shown
    assert "max_connections 100 - 3 reserved for superusers = 97 usable" in shown
    assert "everyone else" in shown


@pytest.mark.parametrize("width", [30, 44, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal_and_no_word_is_lost(width: int) -> None:
    shown = text(leaked(), width)
    *lines, command = shown.splitlines()
    assert all(cell_len(line) <= width for line in lines)
    assert command.strip() == "runbook remediate db --terminate-idle"
    words = "".join(shown.split())
    assert "shoponweb-03:68sessions,58overitspoolof10" in words


@pytest.mark.parametrize("width", [30, 80])
def test_nothing_of_a_name_is_obeyed(width: int) -> None:
    shown = text(leaked(), width)
    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(shown)
    assert "[bold]" in "".join(shown.split())


def test_a_terminal_without_unicode_gets_ascii() -> None:
    assert "=" * 20 in text(leaked(), encoding="ascii")


def test_safe_shows_what_a_terminal_would_obey() -> None:
    assert safe("a\tb\x1b[0m\u202e\u200b\ud800é漢") == r"a\tb\x1b[0m\u202e\u200b\ud800é漢"
    assert safe("e" + "\u0301" * 5).count("\\u0301") == 2


def test_markdown_shows_names_letter_by_letter() -> None:
    shown = diagnosis_markdown.render(leaked())
    assert "\n```\nrunbook remediate db --terminate-idle\n```" in shown
    assert "| shop on web-03 | 68 | 10 | 58 |" in shown
    assert "@all" not in shown
    assert not {"\x1b", "\r", "\u202e"} & set(shown)
    assert r"\|\`@" in shown


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("a|b", r"a\|b"),
        ("<img src=x>", r"\<img src=x\>"),
        ("1. list", r"1\. list"),
        ("- list", r"\- list"),
        ("see www.x.org", "see www\u2060.x.org"),
        ("mail @here", "mail @\u2060here"),
        ("a\nb", r"a\\nb"),
    ],
)
def test_markdown_escapes(raw: str, shown: str) -> None:
    assert diagnosis_markdown.escape(raw) == shown


def test_a_fence_is_longer_than_what_it_holds() -> None:
    assert diagnosis_markdown.code_block("a ``` b").startswith("````\n")


def test_monitoring_is_one_line_with_one_bar() -> None:
    line, code = monitoring.check(leaked(), warning=80, critical=90)
    assert code == monitoring.CRITICAL
    assert line.startswith("RUNBOOK CRITICAL - db: 97 of 97 slots (100%), leaked-sessions")
    assert line.count("|") == 1
    assert "used=97;78;88;0;97 percent=100%;80;90;0;100" in line
    assert "\n" not in line


@pytest.mark.parametrize(("count", "code"), [(10, 0), (79, 1), (90, 2)])
def test_monitoring_thresholds(count: int, code: int) -> None:
    seen = snapshot(many(count, application_name="other"))
    assert monitoring.check(JUDGE.diagnose(seen, fleet()), warning=80, critical=90)[1] == code


def test_a_full_role_is_critical_with_slots_to_spare() -> None:
    limits = {"role-limits": [{"name": "app", "connlimit": 5}]}
    diagnosis = JUDGE.diagnose(snapshot(many(5), extra=limits), fleet())
    assert monitoring.check(diagnosis, warning=80, critical=90)[1] == monitoring.CRITICAL


def test_a_pgbouncer_that_does_not_answer_is_a_warning() -> None:
    silent = PoolerLook(name="bouncer-01", version="", rows={}, error="no answer within 3s")
    diagnosis = JUDGE.diagnose(snapshot(many(3), poolers=(silent,)), fleet())
    assert diagnosis.healthy
    assert diagnosis.finding.confidence != "certain"
    assert diagnosis.silent_poolers == ("bouncer-01",)
    assert monitoring.check(diagnosis, warning=80, critical=90)[1] == monitoring.WARNING


def test_whoever_was_shut_out_at_the_ordinary_door_makes_it_critical() -> None:
    def code(text: str) -> int:
        seen = snapshot(many(3), rung="admin", refusals=(("connect", text),))
        return monitoring.check(JUDGE.diagnose(seen, fleet()), warning=80, critical=90)[1]

    assert code("FATAL: sorry, too many clients already") == monitoring.CRITICAL
    assert code('FATAL: too many connections for role "oncall"') != monitoring.CRITICAL


def test_no_slot_even_to_look_is_critical_and_not_unknown() -> None:
    line, code = monitoring.from_error("db", SlotRefused("sorry, too many clients already"))
    assert code == monitoring.CRITICAL
    assert "percent=100%" in line
    assert monitoring.from_error("db", DatabaseError("down"))[1] == monitoring.UNKNOWN


def test_the_published_schema_is_the_models() -> None:
    assert FILE.read_text("utf-8") == schema(), "run tests/unit/rendering/diagnosis_schema.py"


@pytest.mark.parametrize("diagnosis", [leaked(), JUDGE.diagnose(snapshot(hidden(97)), fleet())])
def test_json_keeps_to_the_schema(diagnosis: Diagnosis) -> None:
    jsonschema.validate(json.loads(diagnosis.model_dump_json()), json.loads(schema()))
    assert Diagnosis.model_validate_json(diagnosis.model_dump_json()) == diagnosis


def test_hidden_states_are_said_and_the_grant_with_them() -> None:
    shown = text(JUDGE.diagnose(snapshot(hidden(97)), fleet({})))
    assert "97 hidden" in shown
    assert 'GRANT pg_monitor TO "oncall";' in " ".join(shown.split())
    assert "from a hidden address" in " ".join(shown.split())


def test_no_sessions_at_all() -> None:
    shown = text(JUDGE.diagnose(snapshot([]), fleet()))
    assert shown.splitlines()[0] == "Healthy: 0 of 97 slots in use (0%), 97 free"
    assert "Whose" not in shown


def test_a_superuser_takes_an_ordinary_slot() -> None:
    shown = text(JUDGE.diagnose(snapshot([session(superuser=True)]), fleet()))
    assert "- 1 held by superusers = 96 usable" in " ".join(shown.split())
