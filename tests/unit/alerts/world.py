"""A configuration with a hook of each source, and the inventory that its rules know."""

from __future__ import annotations

from typing import Any

from runbook.adapters.yaml_reader import parse_document
from runbook.model.fleet import Fleet
from runbook.model.intake import Entry, IncidentNow
from runbook.model.inventory import Inventory
from runbook.model.serve_config import Rule, ServeConfig
from runbook.model.validation import validate
from unit.alerts.calls import NOW

HOOKS = """\
version: 1
hooks:
  pd: {source: pagerduty, secrets: [{env: A}]}
  button: {source: pagerduty-action, secrets: [{env: A}]}
  flow: {source: pagerduty-workflow, secrets: [{env: A}]}
  am: {source: alertmanager, secrets: [{env: A}]}
  chat: {source: slack, secrets: [{env: A}]}
"""

FLEET = Fleet(
    validate(
        Inventory,
        parse_document(
            """\
version: 1
hosts: {web-1: {}, web-2: {}}
databases:
  shop-db: {connect: {host: db, user: oncall}}
  other-db: {connect: {host: db2, user: oncall}}
services:
  shop: {hosts: "web-1, web-2", database: shop-db}
""",
            "i.yaml",
        ),
    )
)


def config(rules: str = "", rest: str = "") -> ServeConfig:
    """The configuration with these rules: YAML, a list of flow mappings, one a line."""
    text = f"{HOOKS}{rest}\nrules:\n{rules}" if rules else f"{HOOKS}{rest}"
    return validate(ServeConfig, parse_document(text, "serve.yaml"))


def rule(text: str, rest: str = "") -> tuple[Rule, ServeConfig]:
    """One rule, and the configuration that holds it alone."""
    made = config(f"  - {{name: r, {text}}}\n", rest)
    return made.rules[0], made


def entry(alert: Any, ago: float, **named: Any) -> Entry:
    """An event that led to a run a while ago."""
    return Entry(number=1, alert=alert, received_at=NOW - ago, state="ran", **named)


def incident(**changed: Any) -> IncidentNow:
    """The incident as it stands."""
    said: dict[str, Any] = {
        "id": "Q3B15VLMF3ASBD",
        "status": "triggered",
        "service": "PF9KMXH",
        "priority": "P1",
        "urgency": "high",
        "title": "FATAL: sorry, too many clients already",
        **changed,
    }
    return IncidentNow(**said)
