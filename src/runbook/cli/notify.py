"""`runbook notify`: tell PagerDuty, a chat or a webhook something; or what was not told yet."""

from __future__ import annotations

import secrets
import socket
import time
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from runbook.model.intake import Told
    from runbook.model.serve_config import ServeConfig

#: Seconds that it tries.
_WITHIN_S = 20.0
_SEVERITIES = ("critical", "error", "warning", "info")
#: The longest summary and dedup key that PagerDuty takes.
_SUMMARY, _KEY = 1024, 255


@click.command("notify")
@click.option("--summary", metavar="TEXT", help="What is said, in a line.")
@click.option(
    "--severity",
    type=click.Choice(_SEVERITIES),
    default="critical",
    show_default=True,
    help="Of an alert.",
)
@click.option("--source", metavar="NAME", help="What it is about.  [default: this host]")
@click.option("--dedup-key", metavar="KEY", help="Events with the same key are one alert.")
@click.option("--resolve", is_flag=True, help="Resolve the alert of --dedup-key.")
@click.option("--acknowledge", is_flag=True, help="Acknowledge the alert of --dedup-key.")
@click.option("--change", is_flag=True, help="No alert: a change event, for PagerDuty's timeline.")
@click.option("--to", metavar="NAME", help="Not PagerDuty: a name of the configuration's `notify`.")
@click.option("--pending", is_flag=True, help="Tell what runs could not tell until now.")
@click.option(
    "--config",
    metavar="FILE",
    help="The configuration; else RUNBOOK_SERVE_CONFIG, ./serve.yaml, …, /etc/runbook/.",
)
def command(
    summary: str | None,
    severity: str,
    source: str | None,
    dedup_key: str | None,
    resolve: bool,
    acknowledge: bool,
    change: bool,
    to: str | None,
    pending: bool,
    config: str | None,
) -> int:
    """Send an alert, a change event or a message, once: 0 when it was taken, 1 when not.

    Without --to it is an event of PagerDuty's Events API v2.
    """
    from runbook import wiring_serve

    modes = [resolve, acknowledge, change, to is not None, pending]
    if sum(modes) > 1:
        raise click.UsageError("choose one of --resolve, --acknowledge, --change, --to, --pending")
    closing = resolve or acknowledge
    if closing and not dedup_key:
        raise click.UsageError("--resolve and --acknowledge go with the alert's --dedup-key")
    if summary is None and not (closing or pending):
        raise click.UsageError("Missing option '--summary': what is said")
    if dedup_key is not None and len(dedup_key) > _KEY:
        raise click.UsageError(f"--dedup-key: PagerDuty takes {_KEY} characters at most")
    read, _ = wiring_serve.load_serve_config(config)
    if pending:
        return _tell_pending(read)
    said, about = _said(summary), source or socket.gethostname()
    if to is not None:
        _send_to(read, to, said, about)
    elif change:
        _send_change(read, said, about)
    else:
        action = "resolve" if resolve else "acknowledge" if acknowledge else "trigger"
        _send_alert(read, action, said, about, severity, dedup_key)
    return 0


def _said(summary: str | None) -> str:
    from runbook.telling.text import plain

    return plain(summary or "", _SUMMARY)


def _send_alert(
    config: ServeConfig,
    action: str,
    summary: str,
    source: str,
    severity: str,
    dedup_key: str | None,
) -> None:
    from runbook import wiring_serve

    event: dict[str, Any] = {"event_action": action}
    if dedup_key is not None:
        event["dedup_key"] = dedup_key
    if action == "trigger":
        event["client"] = "runbook"
        event["payload"] = {"summary": summary, "source": source, "severity": severity}
    events = wiring_serve.open_events(config)
    try:
        key = events.alert(event, _WITHIN_S)
    finally:
        events.close()
    click.echo(key or "")


def _send_change(config: ServeConfig, summary: str, source: str) -> None:
    from runbook import wiring_serve
    from runbook.model.times import stamp

    now = stamp(time.time())
    events = wiring_serve.open_events(config)
    try:
        events.change({"summary": summary, "source": source, "timestamp": now}, _WITHIN_S)
    finally:
        events.close()


def _send_to(config: ServeConfig, name: str, summary: str, source: str) -> None:
    from runbook import wiring_serve
    from runbook.model.intake import Told
    from runbook.telling.messages import notice

    told = Told(
        run_id="",
        recipient=name,
        key="notice",
        content=notice(secrets.token_hex(8), summary, source),
    )
    sender = wiring_serve.open_recipient(config, name)
    try:
        sender.send(told, _WITHIN_S)
    finally:
        sender.close()


def _tell_pending(config: ServeConfig) -> int:
    """Tell what is due, and say what came of it."""
    from runbook import wiring_serve

    teller = wiring_serve.open_teller(config)
    try:
        before = teller.left()
        teller.step(list(dict.fromkeys(told.run_id for told in before)), at_once=True)
        left = {_name(told): told for told in teller.left()}
        for told in teller.given_up():
            click.echo(f"{_name(told)}: was given up: {told.why}", err=True)
    finally:
        teller.close()
    for told in before:
        now = left.get(_name(told))
        click.echo(f"{_name(told)}: {f'not told: {now.why}' if now is not None else 'settled'}")
    click.echo(f"{len(before)} waited, {len(left)} left", err=True)
    return 1 if left else 0


def _name(told: Told) -> str:
    return f"{told.run_id} {told.recipient} {told.key}"
