"""A report on a run as JUnit XML, for CI: one test case for each target of each step."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from runbook.rendering.report_sections import title
from runbook.rendering.safe import safe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runbook.model.history import History, StepTold, TaskTold
    from runbook.model.plan import Result

    #: The tasks of a step on a target, in order.
    _Tasks = Mapping[tuple[str, str], Sequence[TaskTold]]

#: Status -> the element that says it; what is not here went well. A failure is an answer that is
#: not good; an error is no answer.
_ELEMENTS = {
    "failed": "failure",
    "refused": "failure",
    "unreachable": "error",
    "unknown": "error",
    "no end": "error",
    "skipped": "skipped",
    "not_exercised": "skipped",
    "not reached": "skipped",
}
_COUNTED = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def render(history: History) -> str:
    """Return the XML document."""
    took: dict[tuple[str, str], list[TaskTold]] = {}
    for task in history.tasks:
        took.setdefault((task.node, task.target), []).append(task)
    cases = [case for step in history.steps for case in _cases(history, step, took)]
    if history.status not in {"done", "rehearsed"} and not _told(cases):
        cases.append(_run_case(history))
    suite = ET.Element("testsuite", _suite(history, cases))
    properties = ET.SubElement(suite, "properties")
    for name, value in _properties(history):
        ET.SubElement(properties, "property", {"name": name, "value": safe(value)})
    suite.extend(cases)
    totals = {key: suite.attrib[key] for key in ("tests", "failures", "errors", "skipped", "time")}
    whole = ET.Element("testsuites", {"name": "runbook", **totals})
    whole.append(suite)
    ET.indent(whole)
    return ET.tostring(whole, encoding="unicode", xml_declaration=True) + "\n"


def _suite(history: History, cases: list[ET.Element]) -> dict[str, str]:
    counts = {
        key: str(sum(case.find(tag) is not None for case in cases)) for key, tag in _COUNTED.items()
    }
    return {
        "name": safe(title(history)),
        "tests": str(len(cases)),
        **counts,
        "time": f"{max(0.0, history.end - history.start):.3f}",
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(history.start)),
        "hostname": safe(history.record.who.rpartition("@")[2]),
    }


def _properties(history: History) -> list[tuple[str, str]]:
    record = history.record
    return [
        ("run", record.run_id),
        ("plan", record.plan_hash),
        ("who", record.who),
        ("incident", record.incident or ""),
        ("status", history.status),
    ]


def _cases(history: History, step: StepTold, took: _Tasks) -> list[ET.Element]:
    if step.result is not None and not step.targets:
        return [_case(history, step, step.name, step.result, ())]
    named = dict.fromkeys((*step.planned, *step.targets)) or {step.name: None}
    return [
        _case(history, step, target, step.targets.get(target), took.get((step.key, target), ()))
        for target in named
    ]


def _case(
    history: History, step: StepTold, name: str, result: Result | None, own: Sequence[TaskTold]
) -> ET.Element:
    seconds = sum(max(0.0, task.end - task.start) for task in own)
    case = ET.Element(
        "testcase",
        {
            "name": safe(name),
            "classname": safe(f"{history.record.playbook}.{step.key}"),
            "time": f"{seconds:.3f}",
        },
    )
    unended = any(task.result is None for task in own)
    status = result.status if result is not None else ("no end" if unended else "not reached")
    tag = _ELEMENTS.get(status)
    if tag is not None:
        message = safe(result.summary) if result is not None else f"{status}"
        told = ET.SubElement(case, tag, {"message": message})
        if tag != "skipped":
            told.set("type", status)
            told.text = _body(result)
    return case


def _body(result: Result | None) -> str:
    if result is None:
        return ""
    lines = (result.summary, result.hint, *result.by_hand)
    return "\n".join(safe(line) for line in lines if line)


def _told(cases: list[ET.Element]) -> bool:
    return any(case.find(tag) is not None for case in cases for tag in ("failure", "error"))


def _run_case(history: History) -> ET.Element:
    """A run that did not end well although no step says so (a no, an interrupt) is not green."""
    names = {"name": "the run", "classname": safe(history.record.playbook), "time": "0.000"}
    case = ET.Element("testcase", names)
    told = {"message": safe(history.reason or history.status), "type": history.status}
    ET.SubElement(case, "error", told).text = safe(history.hint)
    return case
