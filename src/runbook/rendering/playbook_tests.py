"""What came of playbooks' tests: as text, as JSON, as JUnit XML for CI."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from runbook.model.document import visible
from runbook.model.errors import InvalidDocument
from runbook.rendering.errors import error_text
from runbook.rendering.safe import safe

if TYPE_CHECKING:
    from runbook.engine.playbook_test import CaseResult

    #: Files in order, each with its cases.
    Played = Sequence[tuple[str, Sequence[CaseResult]]]

#: Grows when a key changes its meaning or goes.
SCHEMA_VERSION = 1


def as_text(played: Played) -> str:
    """Return a line for each case, its failures under it, and the count."""
    lines = []
    for name, cases in played:
        for case in cases:
            mark = "FAILED" if case.failures else "ok"
            lines.append(f"{visible(name)}: {mark}  {visible(case.name)}")
            lines += [error_text(InvalidDocument([f]), "failed") for f in case.failures]
    every = [case for _, cases in played for case in cases]
    failed = sum(bool(case.failures) for case in every)
    plural = "" if len(every) == 1 else "s"
    return "\n".join([*lines, f"{len(every)} case{plural}, {failed} failed"])


def as_json(played: Played) -> str:
    """Return the documented JSON."""
    files = [{"file": name, "cases": [_case(case) for case in cases]} for name, cases in played]
    return json.dumps({"schema_version": SCHEMA_VERSION, "files": files}, indent=2)


def _case(case: CaseResult) -> dict[str, object]:
    failures = [
        {"place": str(f.place), "message": f.message, "hint": f.hint} for f in case.failures
    ]
    return {"name": case.name, "ok": not failures, "failures": failures}


def as_junit(played: Played) -> str:
    """Return one test suite for each file, one test case for each case."""
    from xml.etree import ElementTree as ET

    whole = ET.Element("testsuites", {"name": "runbook playbooks", **_counts(played)})
    for name, cases in played:
        counts = _counts([(name, cases)])
        suite = ET.SubElement(whole, "testsuite", {"name": safe(name), **counts})
        for case in cases:
            names = {"name": safe(case.name), "classname": safe(name), "time": "0.000"}
            element = ET.SubElement(suite, "testcase", names)
            for failure in case.failures:
                told = {"message": safe(failure.message), "type": "failed"}
                body = "\n".join(safe(line) for line in str(failure).splitlines())
                ET.SubElement(element, "failure", told).text = body
    ET.indent(whole)
    return ET.tostring(whole, encoding="unicode", xml_declaration=True)


def _counts(played: Played) -> dict[str, str]:
    cases = [case for _, cases in played for case in cases]
    failed = sum(bool(case.failures) for case in cases)
    return {"tests": str(len(cases)), "failures": str(failed), "errors": "0", "time": "0.000"}
