"""The doctor's screen: what is missing first, mends that can be pasted, one verdict at the end."""

from __future__ import annotations

import io
import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from rich.cells import cell_len
from rich.console import Console

from runbook.model.doctor import Check, DoctorReport, report_of
from runbook.rendering.doctor import render
from unit.rendering.doctor_schema import FILE, schema

EVIL = "\x1b[31mred\x07[bold]\u202e\r\nDROP"
RULE = "oncall ALL=(root) NOPASSWD: /usr/bin/systemctl restart a-service-with-a-long-name.service"


def check(**changed: Any) -> Check:
    base = {
        "area": "hosts",
        "name": "login",
        "subject": "web-01",
        "status": "ok",
        "said": "answers",
    }
    return Check.model_validate({**base, **changed})


def rule(host: str, **changed: Any) -> Check:
    given = {"name": "sudo-restart", "subject": host, "status": "missing", "mend": RULE}
    return check(**{**given, "said": "no rule names it", "hint": "with visudo", **changed})


def shown(*checks: Check, width: int = 80, encoding: str = "utf-8", show_all: bool = False) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    console = Console(file=stream, width=width, emoji=False, highlight=False, markup=False)
    render(report_of(None, checks), console, show_all=show_all)
    stream.flush()
    return raw.getvalue().decode(encoding)


def test_what_is_fine_is_one_line_and_the_verdict_is_last() -> None:
    text = shown(check(), check(subject="web-02"), check(area="secrets", name="secret"))
    assert text.splitlines() == [
        "secrets: 1 of 1 lead to a value",
        "hosts: 2 of 2 answer",
        "",
        "Every door would open.",
    ]


def test_what_is_missing_comes_before_what_is_a_warning() -> None:
    warned = check(area="secrets", name="secret", subject="s", status="warning", said="open")
    lines = shown(warned, check(), rule("web-01")).splitlines()
    assert lines.index("hosts") < lines.index("secrets")
    assert lines[-1] == "1 thing to mend, 1 warning."


def test_a_mend_stands_on_a_line_of_its_own_unbroken() -> None:
    lines = shown(rule("web-01", mend=f"{RULE}\nsecond"), width=40).splitlines()
    assert f"          {RULE}" in lines
    assert "          second" in lines
    others = [line for line in lines if RULE not in line]
    assert all(cell_len(line) <= 40 for line in others)


def test_one_fault_of_many_hosts_is_told_once_with_their_names() -> None:
    text = shown(*(rule(f"web-{n:02}") for n in range(1, 51)), width=100)
    assert text.count(RULE) == 1
    assert "web-01, web-02, web-03, web-04, web-05, web-06 and 44 more" in text
    assert "50 things to mend." in text


def test_skipped_checks_are_counted_and_told_when_asked_for() -> None:
    checks = (check(), check(subject="web-02", status="skipped", said="because of that"))
    assert "1 not judged (--all says why)" in shown(*checks)
    every = shown(*checks, show_all=True)
    assert "because of that" in every
    assert "ok  login of web-01" in every


@pytest.mark.parametrize("show_all", [False, True])
def test_nothing_of_what_was_said_is_obeyed(show_all: bool) -> None:
    text = shown(rule("web-01", said=EVIL, hint=EVIL, mend=EVIL), show_all=show_all)
    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(text)


def test_a_terminal_without_unicode_gets_ascii() -> None:
    assert "role: {" in shown(rule("web-01", hint="role: {file: …}"), encoding="ascii")


def test_the_json_is_as_its_schema_says_and_the_file_is_current() -> None:
    report = report_of("db", (rule("web-01"), check(seconds=0.5)))
    jsonschema.validate(json.loads(report.model_dump_json()), json.loads(schema()))
    assert DoctorReport.model_validate_json(report.model_dump_json()) == report
    assert FILE.read_text("utf-8") == schema(), (
        "run: PYTHONPATH=tests python tests/unit/rendering/doctor_schema.py"
    )
