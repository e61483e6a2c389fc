"""What systemd may answer to a restart, row by row: each on a real systemd, with what helps."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from runbook.engine.drive import drive
from runbook.model.plan import Result, Task
from runbook.model.step import StepContext
from runbook.steps.service import SERVICE, ServiceArgs

from .command import starts
from .lab import SHOP_SUDO, UNIT, Host, Lab, until
from .test_rolling_drives import Rig, first, rig

if TYPE_CHECKING:
    from collections.abc import Callable

DROPIN = f"/etc/systemd/system/{UNIT}.d/lab.conf"
RESTART = f"on app-1: sudo systemctl restart {UNIT}"


def systemctl(lab: Lab, host: Host, *words: str) -> None:
    """Be the operator who works on the host by hand."""
    done = lab.exec(host, ["systemctl", *words])
    assert done.rc == 0, done


def meanwhile(what: Callable[[], None], when: Callable[[], bool]) -> threading.Thread:
    """Do something as soon as something is so, beside the test."""

    def work() -> None:
        until(when, "the moment")
        what()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def starting(lab: Lab, host: Host, before: str) -> Callable[[], bool]:
    """Whether systemd is at the start of a new process."""

    def so() -> bool:
        shown = lab.show(host)
        return shown["ActiveState"] == "activating" and shown["InvocationID"] != before

    return so


# ---- what a restart comes to


@pytest.mark.parametrize(
    ("way", "says", "helps"),
    [
        ("late_crash", ("crash loop", "did not stay"), "journalctl -u shop.service"),
        ("hanging_start", ("exited with 1",), "did not say that it is ready within"),
        ("failed_condition", ("a Condition of the unit does not hold",), "names the Condition"),
        ("missing_binary", ("missing or cannot be executed",), "systemctl cat shop.service"),
        ("gives_up", ("crash loop", "result exit-code", "did not"), ""),
    ],
)
def test_what_is_no_success_is_told_with_what_helps(
    lab: Lab, way: str, says: tuple[str, ...], helps: str
) -> None:
    host = first(lab)
    with rig(lab) as made:
        looked = made.phase("preflight", host.name)
        lab.spoil(host, way)
        result = made.phase("restart", host.name, prepared=looked.data)
    assert result.status == "failed"
    assert any(each in result.summary for each in says), result.summary
    assert helps in result.hint


def test_the_sixth_restart_by_hand_hits_the_start_limit(lab: Lab) -> None:
    host = first(lab)
    # The shop takes its time to start: five starts in the default 10s are too many for it.
    lab.put(host, DROPIN, "[Unit]\nStartLimitIntervalSec=5min\n")
    systemctl(lab, host, "daemon-reload")
    with rig(lab) as made:
        looked = made.phase("preflight", host.name)
        for _ in range(5):
            systemctl(lab, host, "restart", UNIT)
        result = made.phase("restart", host.name, prepared=looked.data)
    assert result.status == "failed"
    assert "start-limit-hit" in result.summary
    assert f"systemctl reset-failed {UNIT}" in result.hint
    assert any(f"systemctl reset-failed {UNIT}" in line for line in result.by_hand)


def test_a_stop_during_the_start_cancels_the_job(lab: Lab) -> None:
    host = first(lab)
    before = lab.invocation_id(host)
    lab.spoil_start(host, "sleep 5")
    with rig(lab) as made:
        begun = starting(lab, host, before)
        thread = meanwhile(lambda: systemctl(lab, host, "stop", UNIT), begun)
        result = made.roll(host.name)
        thread.join(30)
    assert result.status == "failed"
    assert "canceled" in result.summary


def test_somebody_else_restarts_the_unit_while_it_is_watched(lab: Lab) -> None:
    host = first(lab)
    before = lab.invocation_id(host)

    def up() -> bool:
        shown = lab.show(host)
        return shown["ActiveState"] == "active" and shown["InvocationID"] != before

    with rig(lab) as made:
        thread = meanwhile(lambda: systemctl(lab, host, "restart", UNIT), up)
        result = made.roll(host.name)
        thread.join(30)
    assert result.status == "failed"
    assert "somebody else restarted it" in result.summary or "did not stay" in result.summary


def test_a_unit_file_that_changed_is_not_restarted(lab: Lab) -> None:
    host = first(lab)
    before = lab.invocation_id(host)
    lab.put(host, DROPIN, "[Service]\nNice=1\n")
    systemctl(lab, host, "daemon-reload")
    # systemd compares times; a drop-in that it has never read it would not even miss.
    assert lab.exec(host, ["touch", "-d", "+1 minute", DROPIN]).rc == 0
    with rig(lab) as made:
        result = made.phase("preflight", host.name)
    assert result.status == "refused"
    assert "changed on disk" in result.summary
    assert "daemon-reload" in result.hint
    assert lab.invocation_id(host) == before


def test_a_unit_that_must_not_be_stopped_by_hand(lab: Lab) -> None:
    host = first(lab)
    lab.spoil(host, "refuses_stop")
    with rig(lab) as made:
        result = made.phase("preflight", host.name)
    assert result.status == "refused"
    assert "RefuseManualStop=yes" in result.summary


# ---- an earlier process was lost


def left(made: Rig, looked: Result, **notes: Any) -> dict[str, Any]:
    """What the journal has of a process that was killed once its restart was meant."""
    baseline = looked.data["baseline"]["InvocationID"]
    kept = {"before": baseline, "boot_id": looked.data["boot_id"], "exit_code": None, **notes}
    return {"intended": [RESTART], "changed": [], "notes": kept, "result": None}


def attempts(lab: Lab, host: Host) -> dict[str, str]:
    """What every start changes, as the host says it now."""
    shown = lab.show(host)
    return {key: shown[key] for key in ("InvocationID", "ConditionTimestampMonotonic")}


def test_a_restart_that_was_made_is_never_made_again(lab: Lab) -> None:
    host, count = first(lab), starts(lab, first(lab))
    with rig(lab) as made:
        looked = made.phase("preflight", host.name)
        crashed = left(made, looked, fingerprint=attempts(lab, host))
        systemctl(lab, host, "restart", UNIT)
        result = made.phase("restart", host.name, prepared=looked.data, crashed=crashed)
    assert (result.status, starts(lab, host)) == ("ok", count + 1), result.summary


def test_a_restart_that_is_under_way_is_waited_for(lab: Lab) -> None:
    host, count = first(lab), starts(lab, first(lab))
    lab.spoil_start(host, "sleep 5")
    with rig(lab) as made:
        looked = made.phase("preflight", host.name)
        crashed = left(made, looked, fingerprint=attempts(lab, host))
        systemctl(lab, host, "restart", "--no-block", UNIT)
        result = made.phase("restart", host.name, prepared=looked.data, crashed=crashed)
    assert (result.status, starts(lab, host)) == ("ok", count + 1), result.summary


def test_a_restart_that_never_left_is_made_once(lab: Lab) -> None:
    host, count = first(lab), starts(lab, first(lab))
    with rig(lab) as made:
        looked = made.phase("preflight", host.name)
        crashed = left(made, looked, fingerprint=attempts(lab, host))
        result = made.phase("restart", host.name, prepared=looked.data, crashed=crashed)
    assert (result.status, starts(lab, host)) == ("ok", count + 1), result.summary
    assert result.data["stages"][0]["stage"] == "observing"


def test_a_restart_that_sudo_holds_back_is_waited_for(lab: Lab) -> None:
    """The command has left, and has not reached systemd: no job, the same process."""
    host, count = first(lab), starts(lab, first(lab))
    held = f"sleep 6; exec /usr/bin/systemctl restart {UNIT}"
    with rig(lab) as made:
        looked = made.phase("preflight", host.name)
        crashed = left(made, looked, fingerprint=attempts(lab, host))
        thread = threading.Thread(target=lambda: lab.exec(host, ["sh", "-c", held]))
        thread.start()
        until(lambda: lab.exec(host, ["pgrep", "-f", "[s]leep 6"]).rc == 0, "the held command")
        result = made.phase("restart", host.name, prepared=looked.data, crashed=crashed)
        thread.join(30)
    assert (result.status, starts(lab, host)) == ("ok", count + 1), result.summary


def test_a_host_that_rebooted_is_not_restarted(lab: Lab) -> None:
    host = first(lab)
    with rig(lab) as made:
        looked = made.phase("preflight", host.name)
        crashed = left(made, looked, boot_id="another-boot", fingerprint=attempts(lab, host))
        before = lab.invocation_id(host)
        result = made.phase("restart", host.name, prepared=looked.data, crashed=crashed)
    assert result.status == "ok"
    assert "has rebooted since" in result.summary
    assert lab.invocation_id(host) == before


# ---- the verb `service`


def act(made: Rig, phase: str, prepared: Result | None = None, **args: Any) -> Result:
    """Drive one phase of `service` on the first host, as the engine does."""
    given = {"unit": UNIT, "hosts": "app-1", "settle": "1s", **args}
    judge: Any = None
    data = {"prepared": prepared.data} if prepared is not None else {}
    context = StepContext(fleet=made.fleet, judge=judge, target="app-1", given=data)
    task = Task(
        key=f"service/{phase}/app-1",
        node="service",
        verb="service",
        phase=phase,
        target="app-1",
        args={},
        timeout_s=120,
        changes=prepared is not None,
        given=data,
        shown=prepared.touches if prepared is not None else (),
    )
    steps = SERVICE.phases[phase](ServiceArgs.model_validate(given), context)
    return drive(steps, task, made.world, lambda kind, _data: made.notices.append(kind))


def whole(made: Rig, **args: Any) -> Result:
    """Prepare and act."""
    prepared = act(made, "prepare", **args)
    assert prepared.status == "ok", prepared.summary
    return act(made, "act", prepared, **args)


def allow(lab: Lab, host: Host) -> None:
    """Let oncall do more than restart."""
    lab.sudoers(host, *(SHOP_SUDO.replace("restart", a) for a in ("restart", "start", "stop")))


def test_stop_and_start_are_proved_and_done_once(lab: Lab) -> None:
    host, count = first(lab), starts(lab, first(lab))
    allow(lab, host)
    with rig(lab) as made:
        assert whole(made, action="start").summary.startswith("it runs already")
        assert whole(made, action="stop").summary == "it is stopped"
        assert lab.show(host)["ActiveState"] == "inactive"
        assert whole(made, action="stop").summary.startswith("it is stopped already")
        assert made.notices.count("changed") == 1
        started = whole(made, action="start")
    assert "it runs as a new process, stable for 1.0s" in started.summary
    assert starts(lab, host) == count + 1


def test_a_restart_by_service_is_proved(lab: Lab) -> None:
    host, count = first(lab), starts(lab, first(lab))
    with rig(lab) as made:
        result = whole(made, action="restart")
    assert result.status == "ok"
    assert result.data["invocation_after"] == lab.invocation_id(host)
    assert starts(lab, host) == count + 1


def test_a_start_that_systemctl_calls_a_success_is_found_out(lab: Lab) -> None:
    host = first(lab)
    allow(lab, host)
    lab.spoil(host, "dies_at_once")
    systemctl(lab, host, "stop", UNIT)
    with rig(lab) as made:
        result = whole(made, action="start")
    assert result.status == "failed"
    assert "result exit-code" in result.summary


def test_a_reload_needs_execreload_and_sudo(lab: Lab) -> None:
    host = first(lab)
    with rig(lab) as made:
        can = lab.show(host)["CanReload"] == "yes"
        result = act(made, "prepare", action="reload")
        stop = act(made, "prepare", action="stop")
    assert result.status == "refused"
    assert ("sudo for" if can else "has no ExecReload") in result.summary
    assert f"NOPASSWD: /usr/bin/systemctl stop {UNIT}" in stop.hint
