"""Every kind of gate asked of real hosts, by a playbook's `check`, by preflight and by a roll."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .lab import DB, UNIT, until

if TYPE_CHECKING:
    from .command import Command, Ran
    from .lab import Lab


LIMITED = "/etc/systemd/system/limited.service"
LIMITED_TEXT = """[Unit]
StartLimitIntervalSec=600
StartLimitBurst=2
[Service]
Type=exec
ExecStart=/bin/sleep infinity
"""


@pytest.fixture
def check(runbook: Command, tmp_path: Path) -> Any:
    """Run a playbook of one check, given as YAML; returns what came of it."""

    def run(step: str, code: int = 0) -> Ran:
        book = tmp_path / "look.yaml"
        lines = "".join(f"      {line}\n" for line in step.strip().splitlines())
        head = "version: 1\nname: look\nsteps:\n  - name: look\n    check:\n"
        book.write_text(head + lines)
        return runbook("run", str(book), code=code)

    return run


def test_all_kinds_at_once_on_healthy_hosts(check: Any) -> None:
    ran = check(f"""
service: shop
http: {{url: "http://127.0.0.1:${{host.vars.health_port}}/healthz", status: 200}}
tcp: {{host: 127.0.0.1, port: "${{host.vars.health_port}}"}}
systemd: {{}}
command: {{argv: [systemctl, is-active, {UNIT}], contains: active}}
sql: {{sql: "SELECT count(*) < 30 FROM pg_stat_activity"}}
pg_released: {{free: 5}}
successes: 2
interval: 50ms
deadline: 20s
""")
    assert "app-3" in ran.said


def test_a_crash_loop_is_seen_though_the_unit_is_active_at_most_looks(lab: Lab, check: Any) -> None:
    first = lab.apps[0]
    lab.spoil(first, "crash_loop")
    lab.exec(first, ["systemctl", "restart", UNIT])
    # It has not crashed yet; whoever has just restarted it watches for a while.
    ran = check("service: shop\nhosts: app-1\nsystemd: {}\ndeadline: 9s\nsettle: 3s", code=1)
    assert "not well within 9.0s" in ran.said
    until(lambda: lab.show(first)["NRestarts"] != "0", "the first crash")
    ran = check("service: shop\nhosts: app-1\nsystemd: {}\ndeadline: 4s\ninterval: 100ms", code=1)
    assert "not well within 4.0s" in ran.said


def test_a_unit_that_is_stopped_and_one_that_is_not_there(lab: Lab, check: Any) -> None:
    lab.exec(lab.apps[1], ["systemctl", "stop", UNIT])
    ran = check(f"hosts: app-1 | app-2\nsystemd: {{unit: {UNIT}}}", code=1)
    assert f"{UNIT} is inactive/dead" in ran.said
    ran = check("hosts: app-1\nsystemd: {unit: shpo.service}\ndeadline: 10m", code=1)
    assert "no unit shpo.service" in ran.said


def test_stable_counts_from_the_last_start(lab: Lab, check: Any) -> None:
    lab.exec(lab.apps[0], ["systemctl", "restart", UNIT])
    ran = check("service: shop\nhosts: app-1\nsystemd: {stable: 10m}", code=1)
    assert "not yet for 10m 00s" in ran.said
    check("service: shop\nhosts: app-1\nsystemd: {stable: 1s}\ndeadline: 20s\ninterval: 200ms")


def test_a_start_limit_that_was_hit(lab: Lab, check: Any) -> None:
    first = lab.apps[0]
    lab.put(first, LIMITED, LIMITED_TEXT)
    try:
        lab.exec(first, ["systemctl", "daemon-reload"])
        for _ in range(3):  # by hand, all of them: the third leaves a healthy unit failed
            lab.exec(first, ["systemctl", "restart", "limited.service"])
        ran = check("hosts: app-1\nsystemd: {unit: limited.service}", code=1)
        assert "has hit its start limit" in ran.said
    finally:
        lab.exec(first, ["rm", LIMITED])
        lab.exec(first, ["systemctl", "reset-failed", "limited.service"])
        lab.exec(first, ["systemctl", "daemon-reload"])


def test_a_program_that_is_not_there(check: Any) -> None:
    ran = check("hosts: app-1\ncommand: {argv: [no-such-probe]}", code=1)
    assert "cannot be asked" in ran.said


def test_an_ssh_banner_from_outside(lab: Lab, check: Any) -> None:
    port = lab.apps[0].ssh_port
    check(f'hosts: app-1\ntcp: {{host: 127.0.0.1, port: {port}, banner: "SSH-2.0"}}')
    ran = check(f"hosts: app-1\ntcp: {{host: 127.0.0.1, port: {port}, banner: SMTP}}", code=1)
    assert "without 'SMTP'" in ran.said


def test_a_service_is_rolled_by_all_its_gates(lab: Lab, runbook: Command) -> None:
    health = lab.inventory()["services"]["shop"]["gates"][0]
    gates = [
        health,
        {"systemd": {"stable": "1s"}},
        {"command": {"argv": ["systemctl", "is-active", UNIT]}},
        {"sql": {"sql": "SELECT count(*) < 35 FROM pg_stat_activity"}},
        {"pg_released": {"free": 1}},
    ]
    runbook.declare_shop(gates=gates)
    before = [lab.invocation_id(host) for host in lab.apps]
    ran = runbook("remediate", DB, "--rolling-restart", "--yes", "--format", "json")
    after = [lab.invocation_id(host) for host in lab.apps]
    assert all(old != new for old, new in zip(before, after, strict=True))
    looks = ran.json()["looks"]["rolling-restart/preflight/app-1"]["data"]["gates"]
    assert [each["kind"] for each in looks] == [next(iter(gate)) for gate in gates]
    assert all(each["good"] for each in looks)


@pytest.mark.parametrize(
    ("gate", "says"),
    [
        ({"systemd": {"unit": "shpo.service"}}, "no unit shpo.service"),
        ({"command": {"argv": ["no-such-probe"]}}, "cannot be asked"),
        ({"command": {"argv": ["true"], "sudo": True}}, "cannot be asked: sudo:"),
        ({"sql": {"sql": "SELECT * FROM no_such_table"}}, "no_such_table"),
    ],
)
def test_a_gate_that_can_never_be_asked_stops_before_anything(
    lab: Lab, runbook: Command, gate: dict[str, Any], says: str
) -> None:
    runbook.declare_shop(gates=[gate])
    before = [lab.invocation_id(host) for host in lab.apps]
    ran = runbook("remediate", DB, "--rolling-restart", "--yes", code=3)
    assert says in ran.said
    assert before == [lab.invocation_id(host) for host in lab.apps]


def test_the_doctor_asks_them_all(lab: Lab, runbook: Command) -> None:
    runbook.declare_shop(gates=[{"systemd": {}}, {"command": {"argv": ["false"]}}])
    ran = runbook("doctor", DB, code=1)
    assert "exited with 1, not 0" in ran.said
