"""Many requests through the sources and the rules: `PYTHONPATH=tests python -m fuzz.alerts`.

Each is let in and read, or rejected with 400, 401 or 403; nobody gets in without the secret; and
nothing is wanted that no rule allows. Ends with 1 when one of that did not hold.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
import traceback
from collections import Counter
from dataclasses import asdict, dataclass

from fuzz.requests import Made, made
from runbook.alerts import SOURCES
from runbook.alerts.rules import Wanted, judge, rule_for
from runbook.model.alert import Alert, Reading, Received, Rejected
from unit.alerts.calls import NOW, SECRET
from unit.alerts.world import FLEET, config

CONFIG = config(
    """\
  - name: triggered
    hook: [pd, button]
    when: {service: PF9KMXH, event: [incident.triggered, incident.custom]}
    run: diagnose-saturation
    target: shop-db
  - {name: flow, hook: flow, run: terminate-idle, target: {label: database}, mode: real}
  - name: am
    hook: am
    when: {event: firing}
    run: diagnose-saturation
    target: {label: instance, pattern: "([a-z-]+):[0-9]+"}
  - name: chat
    hook: chat
    when: {event: /runbook, by: U2CERLKJA, labels: {word1: diagnose}}
    run: diagnose-saturation
    target: {label: word2}
    params: {hosts: false}
"""
)
_RUNS = {rule.run for rule in CONFIG.rules}
_TARGETS = set(FLEET.inventory.databases)
#: Seconds of processor time that one request may take.
_MOST_SECONDS = 1.0
_SHARE = 2000


@dataclass(frozen=True)
class Trial:
    """What came of one request: a status, `ping`, `answer`, `ignored`, `wanted` or `broken`."""

    ended: str
    said: str = ""


def trial(request: Made) -> Trial:
    """Return what came of one request."""
    began = time.process_time()
    try:
        ended = _through(request)
    except Exception:  # noqa: BLE001 - whatever it is, it is what we look for
        return Trial("broken", traceback.format_exc())
    seconds = time.process_time() - began
    return Trial(ended) if seconds < _MOST_SECONDS else Trial("broken", f"took {seconds:.1f}s")


def _through(request: Made) -> str:
    hook = CONFIG.hooks[request.hook]
    source = SOURCES[hook.source]
    received = Received(
        hook=request.hook, headers=request.headers, body=request.body, at=request.at
    )
    try:
        source.authenticate(received, hook, ("an-older-secret", SECRET))
        _check(request.honest, "somebody got in without the secret")
        reading = source.read(received, hook)
    except Rejected as error:
        _check(error.status in {400, 401, 403}, f"status {error.status}")
        _check(error.status == 400 or not request.honest, f"an honest caller: {error.why}")
        return str(error.status)
    return _judged(reading)


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)


def _judged(reading: Reading) -> str:
    if reading.answer is not None:
        assert not reading.alerts
        return "answer"
    ended = "ignored" if reading.alerts else "ping"
    for alert in reading.alerts:
        _check_alert(alert)
        rule = rule_for(alert, CONFIG)
        if rule is None:
            continue
        outcome = judge(alert, rule, None, fleet=FLEET, recent=(), now=NOW, config=CONFIG)
        if isinstance(outcome, Wanted):
            _check_wanted(outcome)
            ended = "wanted"
        else:
            assert outcome.why.isprintable(), outcome.why
    return ended


def _check_alert(alert: Alert) -> None:
    """What is kept of an alert is small, and safe to write and to show."""
    text = json.dumps(asdict(alert), ensure_ascii=False)
    assert text.encode("utf-8").decode().isprintable(), text
    assert len(text) < 100_000
    assert len(alert.key) < 300


def _check_wanted(wanted: Wanted) -> None:
    """No text of the request is in it but the incident's id."""
    assert wanted.rule in {rule.name for rule in CONFIG.rules}
    assert wanted.playbook in _RUNS
    assert wanted.target in _TARGETS
    assert wanted.params in ({}, {"hosts": False})
    incident = wanted.incident
    assert incident is None or (incident.isascii() and incident.isalnum())


def _work(numbers: range) -> tuple[list[tuple[int, Trial]], Counter[str]]:
    trials = [(number, trial(made(number))) for number in numbers]
    broken = [(number, done) for number, done in trials if done.ended == "broken"]
    return broken, Counter(done.ended for _, done in trials)


def main() -> int:
    """Run the trials, and print how they ended."""
    parser = argparse.ArgumentParser(prog="fuzz.alerts", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first request")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    last = asked.first + asked.inputs
    shares = [range(at, min(at + _SHARE, last)) for at in range(asked.first, last, _SHARE)]
    ended: Counter[str] = Counter()
    with multiprocessing.Pool(asked.processes) as pool:
        for broken, counts in pool.imap(_work, shares):
            ended += counts
            for number, done in broken[:5]:
                print(f"--- request {number}: {done.said}", flush=True)
    print(f"{sum(ended.values())} requests: {dict(ended)}")
    return 1 if ended["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
