"""Reports in every form: nothing hostile gets through, nothing is left out, all is bounded."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from runbook.engine.history import history_of
from runbook.model.history import History
from runbook.rendering import report_html, report_junit, report_markdown
from runbook.rendering.report_sections import MOST_OUTPUT, MOST_ROWS
from unit.engine.test_history import HOSTILE, Tape, node, result, whole


def history(status: str = "done", **changed: Any) -> History:
    return history_of(whole().kept(status, **changed))


class Page(HTMLParser):
    """The tags of a page, its text, and everything that it would ask another server for."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.asks: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.depth: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in {"meta", "line", "polygon", "polyline"}:
            self.depth.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "srcset", "action", "data"} or name.startswith("on"):
                self.asks.append((name, value or ""))

    def handle_endtag(self, tag: str) -> None:
        if tag not in {"line", "polygon", "polyline"}:
            assert self.depth.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_a_page_is_whole_and_asks_nobody_for_anything() -> None:
    page = report_html.render(history())
    read = Page(page)
    assert read.depth == []
    assert read.asks == []
    assert "script" not in read.tags
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_what_hosts_said_is_shown_and_not_obeyed() -> None:
    page = report_html.render(history(playbook=HOSTILE, incident=HOSTILE, who=HOSTILE))
    assert "<script" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    text = "".join(Page(page).words)
    assert text.count("<script>alert(1)</script> | `x` \\x1b[31m \\u202e ]]> & \"'") >= 5


@pytest.mark.parametrize(
    "words",
    [
        "INC-1",
        "ana@bastion",
        "bo@bastion",
        "30 of 37",
        "10 of 37",
        "on web-2: x",
        "nobody saw what came of it",
        "undrain",
        "GET http",
        "11, 12",
        "restarting 4.0s",
        "runbook runs verify 20260101-021700-abcd",
    ],
)
def test_every_form_for_people_has_it(words: str) -> None:
    page = "".join(Page(report_html.render(history())).words)
    markdown = report_markdown.render(history()).replace("\u2060", "").replace("\\", "")
    assert words in page
    assert words in markdown


def test_markdown_shows_what_hosts_said_and_is_not_led_astray() -> None:
    said = "``` \n# heading\n```` <b> [x](http://evil) @everyone"
    tape = Tape().begin("roll/act/web-1")
    data = {"stdout": said}
    tape.add("task_finished", "roll/act/web-1", **result("failed", said, data=data))
    markdown = report_markdown.render(history_of(tape.kept("failed")))
    assert "\n`````\n" in markdown  # longer than any fence inside
    lines = markdown.splitlines()
    fences = [index for index, line in enumerate(lines) if line == "`````"]
    assert lines[fences[0] + 1 : fences[1]] == ["``` ", "# heading", *said.splitlines()[2:]]
    outside = "\n".join([*lines[: fences[0]], *lines[fences[1] :]])
    assert "<b>" not in outside
    assert "@everyone" not in outside
    assert "](http" not in outside
    rows = [line for line in lines if line.startswith("| web-1")]
    assert all(line.replace("\\|", "").count("|") == 7 for line in rows)


def cases(tape: Tape, status: str, *nodes: Any, **changed: Any) -> list[tuple[str, str | None]]:
    """Return each test case's name, and what it came to; None is well."""
    whole_ = ET.fromstring(report_junit.render(history_of(tape.kept(status, *nodes, **changed))))
    suite = whole_.find("testsuite")
    assert suite is not None
    found = suite.findall("testcase")
    for tag, count in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        told = sum(case.find(tag) is not None for case in found)
        assert told == int(suite.attrib[count]) == int(whole_.attrib[count])
    assert len(found) == int(suite.attrib["tests"])
    return [(case.attrib["name"], next((e.tag for e in case), None)) for case in found]


def test_junit_has_a_case_for_each_target_of_each_step() -> None:
    tape = Tape().begin("roll/act/web-1")
    tape.add("task_finished", "roll/act/web-1", **result("ok"))
    tape.begin("roll/act/web-2")
    tape.add("task_finished", "roll/act/web-2", **result("unreachable", "gone"))
    tape.add("finished", status="failed", reason="", hint="")
    assert cases(tape, "failed", node(), node("later", targets=("db",))) == [
        ("web-1", None),
        ("web-2", "error"),
        ("db", "skipped"),
    ]


@pytest.mark.parametrize(
    ("status", "tag"),
    [
        ("ok", None),
        ("rehearsed", None),
        ("failed", "failure"),
        ("refused", "failure"),
        ("unreachable", "error"),
        ("unknown", "error"),
        ("skipped", "skipped"),
        ("not_exercised", "skipped"),
    ],
)
def test_junit_tells_every_status(status: str, tag: str | None) -> None:
    tape = Tape().begin("roll/act/web-1")
    tape.add("task_finished", "roll/act/web-1", **result(status, HOSTILE))
    assert cases(tape, "done", node(targets=("web-1",))) == [("web-1", tag)]


def test_a_task_without_an_end_is_an_error_and_never_green() -> None:
    tape = Tape().begin("roll/act/web-1")
    assert cases(tape, "running", node(targets=("web-1",)), ended_at=None) == [("web-1", "error")]


def test_a_run_that_no_step_failed_is_not_green_when_it_did_not_end_well() -> None:
    tape = Tape().add("finished", status="refused", reason="not confirmed", hint="")
    assert ("the run", "error") in cases(tape, "refused")


def test_junit_follows_the_common_schema() -> None:
    """The elements and attributes that readers of it want, Jenkins and GitLab among them."""
    suite = ET.fromstring(report_junit.render(history("failed"))).find("testsuite")
    assert suite is not None
    wanted = {"name", "tests", "failures", "errors", "skipped", "time", "timestamp", "hostname"}
    assert set(suite.attrib) == wanted
    assert suite[0].tag == "properties"
    for case in suite.findall("testcase"):
        assert set(case.attrib) == {"name", "classname", "time"}
        float(case.attrib["time"])
        for told in case:
            assert told.tag in {"failure", "error", "skipped"}
            assert "message" in told.attrib
            assert ("type" in told.attrib) == (told.tag != "skipped")


def test_a_run_of_five_thousand_hosts_is_a_page_that_opens() -> None:
    hosts = tuple(f"web-{n}" for n in range(5000))
    tape = Tape()
    for host in hosts:
        tape.begin(f"roll/act/{host}")
        data = {"stdout": "x" * (MOST_OUTPUT + 100)} if host == "web-0" else {}
        tape.add("task_finished", f"roll/act/{host}", **result("ok", "fine", data=data))
    told = history_of(tape.kept("done", node(targets=hosts)))
    page = report_html.render(told)
    assert f"and {5000 - MOST_ROWS} more" in page
    assert len(page) < 1_000_000
    assert "x" * (MOST_OUTPUT + 1) not in page
    assert len(report_markdown.render(told)) < 300_000
    assert report_junit.render(told).count("<testcase") == 5000


def test_a_report_as_data_can_be_read_back() -> None:
    from dataclasses import asdict

    assert json.loads(json.dumps(asdict(history())))["status"] == "done"
