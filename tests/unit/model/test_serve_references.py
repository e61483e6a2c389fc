"""The configuration of alerts: every mistake is told at its place, with what was meant."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from runbook.alerts import SOURCES
from runbook.model.errors import InvalidDocument
from runbook.model.serve_config import ServeConfig, SourceName
from runbook.wiring import check_inventory
from runbook.wiring_serve import check_serve_config, load_serve_config, serve_playbook

HEAD = """\
version: 1
hooks:
  pd: {source: pagerduty, secrets: [{env: A}]}
  flow: {source: pagerduty-workflow, secrets: [{env: A}]}
people:
  kim: {role: approver, slack: U2CERLKJA}
  wall: {token: {env: W}}
notify:
  dba: {slack: {env: S}}
"""
RULE = "rules:\n  - {name: r, hook: pd, when: {event: incident.triggered}, run: x, %s}\n"


def load(text: str, folder: Path) -> tuple[ServeConfig, str]:
    file = folder / "serve.yaml"
    file.write_text(text, encoding="utf-8")
    return load_serve_config(str(file))


def said(text: str, folder: Path) -> list[str]:
    with pytest.raises(InvalidDocument) as caught:
        load(text, folder)
    for problem in caught.value.problems:
        assert problem.excerpt
    return _told(caught.value.problems)


def _told(problems: object) -> list[str]:
    assert isinstance(problems, tuple)
    return [f"{p.place.line}:{p.place.column}: {p.message} ({p.hint})" for p in problems]


def test_every_source_of_the_table_may_be_configured() -> None:
    assert get_args(SourceName) == tuple(SOURCES)


@pytest.mark.parametrize(
    ("rest", "complaint"),
    [
        ("target: {lable: x}", "11:77: there is no key 'lable' here (did you mean 'label'?)"),
        ("target: [a]", "11:76: 'target' is text, not ['a'] (None)"),
        ("hours: {frm: '08:00'}", "11:76: there is no key 'frm' here (did you mean 'from'?)"),
        (
            "hours: {after: '08:00'}",
            "11:76: there is no key 'after' here (it may have: days, from, timezone, to)",
        ),
        (
            "hours: {timezone: Europe/Wien}",
            "11:86: there is no time zone named 'Europe/Wien' (did you mean 'Europe/Vienna'?)",
        ),
        ("hours: {timezone: ../x}", "11:86: there is no time zone named '../x' (as in"),
        ("approval: nobody", "11:78: approval: 'nobody' is neither none nor a mapping"),
        ("approval: {by: [kym]}", "11:84: there is no person named 'kym' (did you mean 'kim'?)"),
        ("approval: {by: [wall]}", "11:84: wall is a viewer, and may answer nothing (give wall"),
        ("tell: {to: [dbs]}", "11:80: there is no notify named 'dbs' (did you mean 'dba'?)"),
        ("tell: {pagerduty: {}}", "11:86: nothing can be told to PagerDuty: there is no"),
        ("params: {a: null}", "11:80: a: None is neither text, a number"),
        ("target: {label: l, pattern: '(a+)+'}", "11:96: pattern: '(a+)+' has a repeat or"),
        ("target: {label: l, pattern: '(a'}", "11:96: pattern: '(a' is no regular expression"),
    ],
)
def test_a_mistake_in_a_rule(rest: str, complaint: str, tmp_path: Path) -> None:
    found = said(HEAD + RULE % rest, tmp_path)
    assert [each for each in found if each.startswith(complaint)], found


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "rules: [{name: r, hook: [flow, pg], run: x}]",
            "10:32: there is no hook named 'pg' (there are: pd, flow)",
        ),
        (
            "rules: [{name: r, hook: pd, run: x}, {name: r, hook: flow, run: x}]",
            "10:45: there are two rules named 'r': the record could not tell which (rename one)",
        ),
        (
            "pagerduty: {token: {env: T}, sender: a@b}",
            "10:12: 'from' is missing (None)",
        ),
        ("listen: {url: 'http://x.example.com'}", "10:15: url: 'http://x.example.com' is no https"),
        ("limits: {queue: 0}", "10:17: 'queue' is 1 or more, not 0 (None)"),
    ],
)
def test_a_mistake_elsewhere(text: str, complaint: str, tmp_path: Path) -> None:
    found = said(f"{HEAD}{text}\n", tmp_path)
    assert [each for each in found if each.startswith(complaint)], found


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (
            "{env: A}]}",
            "{env: A}], header: X-A}",
            "3:56: pagerduty signs what it sends: its secret",
        ),
        ("{env: A}]", "{env: A}, {env: A}]", "3:47: this secret is here twice"),
        ("{role: approver, slack: U2CERLKJA}", "{role: approver}", "6:8: kim: nothing tells who"),
        ("{token: {env: W}}", "{slack: U2CERLKJA}", "7:17: kim and wall have the same slack"),
        ("{slack: {env: S}}", "{}", "9:8: dba: it is exactly one of slack and webhook"),
        (
            "{slack: {env: S}}",
            "{slack: {env: S}, sign_with: {env: K}}",
            "9:8: dba: sign_with is for a webhook",
        ),
    ],
)
def test_a_mistake_in_the_head(old: str, new: str, complaint: str, tmp_path: Path) -> None:
    found = said(HEAD.replace(old, new, 1), tmp_path)
    assert [each for each in found if each.startswith(complaint)], found


# ---- with an inventory and playbooks ---------------------------------------------------------

FLEET = check_inventory(
    """\
version: 1
hosts: {web-1: {}}
databases:
  shop-db: {connect: {host: db, user: oncall}}
services:
  shop: {hosts: web-1, database: shop-db}
""",
    "i.yaml",
)


def checked(rules: str, folder: Path, head: str = HEAD) -> list[str]:
    config, source = load(f"{head}rules:\n{rules}", folder)
    try:
        return _told(check_serve_config(config, source, FLEET))
    except InvalidDocument as error:
        return _told(error.problems)


def rule(rest: str, name: str = "r", when: str = "{event: incident.triggered}") -> str:
    return f"  - {{name: {name}, hook: [pd, flow], when: {when}, {rest}}}\n"


SOUND = "run: diagnose-saturation, target: shop-db"


@pytest.mark.parametrize(
    ("rest", "complaint"),
    [
        (SOUND, None),
        ("run: diagnose-saturation, target: {label: x}", None),
        ("run: rolling-restart, target: shop, params: {max_hosts: 3}", None),
        (
            (
                "run: rolling-restart, target: {label: x, of: service},"
                " params: {hosts: {label: h, of: host}}"
            ),
            None,
        ),
        ("run: diagnose-saturatoin, target: shop-db", "there is no playbook 'diagnose-saturatoin'"),
        ("run: mine.yaml", "mine.yaml does not exist"),
        ("run: diagnose-saturation, target: shopdb", "i.yaml has no database named 'shopdb'"),
        ("run: diagnose-saturation", "playbook diagnose-saturation needs a target: a database"),
        (
            "run: diagnose-saturation, target: {label: x, of: service}",
            "playbook diagnose-saturation takes a database, not a service (write of: database)",
        ),
        ("run: doctor, target: {label: x}", "playbook doctor takes"),
        (
            "run: rolling-restart, target: shop, params: {max_host: 3}",
            "has no parameter 'max_host'",
        ),
        ("run: rolling-restart, target: shop, params: {max_hosts: -3}", "parameter max_hosts: "),
        (
            "run: rolling-restart, target: {label: x, of: service}, params: {max_hosts: x}",
            "parameter max_hosts: ",
        ),
    ],
)
def test_what_a_rule_runs_can_be_planned(rest: str, complaint: str | None, tmp_path: Path) -> None:
    found = checked(rule(rest), tmp_path)
    if complaint is None:
        assert found == []
    else:
        assert [complaint in each for each in found] == [True], found


def test_a_playbook_of_ones_own_is_seen_from_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("version: 1\nname: m\nsteps: [{name: x, doctor: {}}]\n")
    assert checked(rule("run: mine.yaml"), tmp_path) == []
    assert serve_playbook("mine.yaml", str(tmp_path / "serve.yaml")) == str(tmp_path / "mine.yaml")
    assert serve_playbook("doctor", "serve.yaml") == "doctor"


def test_the_mistakes_of_a_rules_playbook_are_told_with_their_place(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("version: 1\nname: m\nsteps: [{name: x, dokter: {}}]\n")
    (found,) = checked(rule("run: mine.yaml"), tmp_path)
    assert "mine.yaml:3:19: " in found


# ---- what is doubtful ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "shadowed"),
    [
        ("{event: incident.triggered}", "{event: incident.triggered, priority: P1}", True),
        ("{event: incident.triggered, priority: P1}", "{event: incident.triggered}", False),
        (
            "{event: [incident.triggered, incident.reopened]}",
            "{event: incident.reopened, labels: {a: b}}",
            True,
        ),
        (
            "{event: incident.triggered, labels: {a: [b, c]}}",
            "{event: incident.triggered, labels: {a: b}}",
            True,
        ),
        (
            "{event: incident.triggered, labels: {a: [b, c]}}",
            "{event: incident.triggered, labels: {b: b}}",
            False,
        ),
        ("{urgency: high}", "{event: incident.resolved, urgency: high}", False),
    ],
)
def test_a_rule_that_never_holds_is_told(
    first: str, second: str, shadowed: bool, tmp_path: Path
) -> None:
    found = checked(rule(SOUND, "a", first) + rule(SOUND, "b", second), tmp_path)
    assert ["'b' never holds" in each for each in found].count(True) == int(shadowed), found


@pytest.mark.parametrize(
    ("head", "rules", "doubt"),
    [
        (f"{HEAD}listen: {{address: 0.0.0.0}}\n", rule(SOUND), "10:19: 0.0.0.0 can be reached"),
        (
            f"{HEAD}listen: {{address: 0.0.0.0, url: 'https://r.example.com'}}\n",
            rule(SOUND),
            None,
        ),
        (f"{HEAD}listen: {{address: '::1'}}\n", rule(SOUND), None),
        (HEAD, rule(SOUND).replace("[pd, flow]", "pd"), "4:9: no rule is for hook 'flow'"),
        (HEAD, rule(SOUND, when="{}"), "11:5: rule 'r' is for every event of an incident"),
        (HEAD, rule(SOUND, when="{event: incident.trigered}"), "is not known to send"),
        (
            HEAD.replace("role: approver, ", ""),
            rule(f"{SOUND}, mode: real"),
            "11:5: rule 'r' asks before it changes anything, and people has no approver",
        ),
        (HEAD, rule(f"{SOUND}, mode: real"), None),
        (
            f"{HEAD}pagerduty: {{token: {{env: T}}, from: a@b}}\n",
            rule(SOUND, when="{event: incident.annotated}"),
            "12:47: incident.annotated may be our own doing",
        ),
        (
            f"{HEAD}pagerduty: {{token: {{env: T}}, from: a@b, user: PME0000}}\n",
            rule(SOUND, when="{event: incident.annotated}"),
            None,
        ),
    ],
)
def test_what_is_doubtful_is_told(head: str, rules: str, doubt: str | None, tmp_path: Path) -> None:
    found = checked(rules, tmp_path, head)
    if doubt is None:
        assert found == []
    else:
        assert len(found) == 1, found
        assert doubt in found[0]


def test_a_workflow_says_no_service(tmp_path: Path) -> None:
    text = (
        f"  - {{name: p, hook: pd, when: {{event: incident.triggered}}, {SOUND}}}\n"
        f"  - {{name: w, hook: flow, when: {{service: PF9KMXH}}, {SOUND}}}\n"
    )
    (found,) = checked(text, tmp_path)
    assert found.startswith("12:43: a workflow's call does not say the service")
