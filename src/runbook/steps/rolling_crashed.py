"""A host whose restart was under way when the process was lost: looked at before anything is done.

What may be done hangs on what the host says, never on what we meant to do. A restart that was asked
for is asked for again only when the host proves that it never was carried out: the same process
runs, in the same boot, systemd has no job for it, and no command is still on its way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runbook.model.effects import (
    CommandOutcome,
    Drive,
    Observe,
    ReadCommand,
    Say,
    Sleep,
    Together,
    ask,
)
from runbook.model.errors import DoorError
from runbook.model.plan import Crashed
from runbook.model.systemd import Standing
from runbook.steps.draining import look_at
from runbook.steps.rolling_journey import Journey, Trouble, judged, last_seen, now

BOOT_ARGV = ("cat", "/proc/sys/kernel/random/boot_id", "/proc/uptime")
_LOOK_TIMEOUT_S = 15.0
#: Looks that must agree, a second apart, before a restart counts as never made: a command that was
#: sent just before the process was lost needs a moment to reach systemd.
AGREEING_LOOKS = 3
AGREEING_PAUSE_S = 1.0


def boot_look(host: str) -> ReadCommand:
    """Return the look that tells one boot from another, and for how long it has been up."""
    return ReadCommand(host=host, argv=BOOT_ARGV, timeout_s=_LOOK_TIMEOUT_S)


def boot_of(outcome: CommandOutcome | DoorError) -> str:
    """Return the boot's id, or "" when the host does not tell."""
    lines = outcome.stdout.split() if isinstance(outcome, CommandOutcome) else []
    return lines[0] if len(lines) > 1 else ""


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """One look at the host."""

    standing: Standing | DoorError
    boot_id: str
    #: A restart command is still at work on the host.
    on_its_way: bool
    #: Nothing on the host has changed since the restart was meant.
    untouched: bool


def observing(journey: Journey) -> Drive[Trouble | None]:
    """Find out how far an earlier process came; afterwards `made_before` says what is left to do.

    Where no restart was meant, the host begins anew; what was drained is still ours to undrain.
    """
    crashed = journey.crashed
    if crashed is None:
        return None
    notes = crashed.notes
    yield from _still_ours(journey, tuple(notes.get("ours", ())))
    if not _restart_meant(crashed):
        return None
    if "before" not in notes:
        why = "a restart was meant, and what ran before it was not kept"
        return Trouble(status="unknown", why=why)
    _remember(journey, notes)
    text = "a restart was asked for by an earlier process; looking at what came of it"
    yield from ask(Say(stage="observing", text=text))
    return (yield from _find_out(journey))


def _restart_meant(crashed: Crashed) -> bool:
    """Whether a restart was asked for: by what was noted before it, never by a sentence.

    Sentences are kept without their secrets. What a drain notes tells that it came no further;
    a change without any note may have been the restart.
    """
    if not crashed.intended:
        return False  # nothing was, or a person has looked and wants it done again
    notes = crashed.notes
    return bool(notes.get("restart_intended", "before" in notes or "ours" not in notes))


def _still_ours(journey: Journey, drained: tuple[str, ...]) -> Drive[None]:
    """Keep as ours what was drained and is not back: the debt may have been paid meanwhile."""
    rotation = journey.subject.rotation
    if rotation is None or not drained:
        return
    sights = yield from look_at(rotation)
    back = {s.balancer for s in sights if s.place == "in" and rotation.tells(s.balancer)}
    journey.ours = tuple(name for name in drained if name not in back)


def _remember(journey: Journey, notes: dict[str, Any]) -> None:
    journey.before = str(notes["before"])
    journey.boot_id = str(notes.get("boot_id") or "")
    journey.since = notes.get("since")
    journey.first_row = dict(notes.get("first_row") or {})
    journey.asked = journey.answer_lost = journey.in_doubt = True


def _find_out(journey: Journey) -> Drive[Trouble | None]:
    gate_s = journey.subject.settings.gate.deadline
    # A unit that takes its time to stop and start has a job for as long.
    deadline = (yield from now(journey)) + max(gate_s, journey.timeout_s)
    unmoved = 0
    while True:
        seen = yield from _look(journey)
        if isinstance(seen.standing, Standing):
            known = yield from _known(journey, seen, seen.standing)
            if known is not None:
                return known.trouble
            unmoved = unmoved + 1 if seen.untouched and not seen.on_its_way else 0
            if unmoved >= AGREEING_LOOKS:
                return (yield from _never_made(journey))
        if (yield from now(journey)) >= deadline:
            why = f"the restart was asked for, and what came of it is not clear: {_words(seen)}"
            return Trouble(status="unknown", why=why)
        yield from ask(Sleep(seconds=AGREEING_PAUSE_S))


def _look(journey: Journey) -> Drive[_Seen]:
    manager = journey.subject.manager
    looks: tuple[Observe[Any], ...] = (manager.look(), boot_look(journey.subject.host.name))
    at_work = manager.at_work()
    if at_work is not None:
        looks = (*looks, at_work)
    seen, boot, *working = yield from ask(Together(effects=looks))
    boot_id = boot_of(boot)
    if boot_id and journey.boot_id and boot_id != journey.boot_id:
        # Every process is newer than the boot, so the one from before is no measure any more.
        journey.before, journey.rebooted = "", True
    standing = judged(journey, seen)
    return _Seen(
        standing=standing,
        boot_id=boot_id,
        on_its_way=any(isinstance(each, CommandOutcome) and each.ok for each in working),
        untouched=_untouched(journey, seen, standing, boot_id),
    )


def _untouched(journey: Journey, seen: Any, standing: Standing | DoorError, boot_id: str) -> bool:
    """Whether the host proves that the restart has not begun."""
    manager, crashed = journey.subject.manager, journey.crashed
    if isinstance(standing, DoorError) or crashed is None or not manager.unchanged_is_final:
        return False
    if not boot_id or boot_id != journey.boot_id:
        return False
    if standing.verdict == "pending":  # a job that waits or works has not touched the process yet
        return False
    return bool(manager.fingerprint(seen) == crashed.notes.get("fingerprint"))


@dataclass(frozen=True, kw_only=True)
class _Known:
    """It is clear what came of the restart."""

    trouble: Trouble | None = None


def _known(journey: Journey, seen: _Seen, standing: Standing) -> Drive[_Known | None]:
    """Return what is clear already, or None while it is not."""
    if standing.verdict == "up":
        journey.answer_lost, journey.made_before = False, True
        text = "it has restarted since: it is not asked for again"
        if journey.rebooted:
            text = "the host has rebooted since, so its process is newer: no restart is asked for"
        yield from ask(Say(stage="observing", text=text))
        return _Known()
    if standing.verdict == "down" and not seen.untouched:
        rebooted = "the host has rebooted since; " if journey.rebooted else ""
        why = f"the restart was asked for by an earlier process; {rebooted}{standing.text}"
        return _Known(trouble=Trouble(status="failed", why=why))
    return None


def _never_made(journey: Journey) -> Drive[Trouble | None]:
    """The host is as it was before: the one restart that was meant is still to be made."""
    notes = journey.crashed.notes if journey.crashed is not None else {}
    if notes.get("exit_code") == 0:
        why = f"the restart said it was done, but {journey.last_seen.removeprefix('now ')}"
        return Trouble(status="failed", why=why)
    journey.asked = journey.answer_lost = journey.in_doubt = False
    text = "the restart never reached the host: the same process, the same boot, no job"
    yield from ask(Say(stage="observing", text=text))
    return None


def _words(seen: _Seen) -> str:
    on_its_way = "; a restart command is still at work there" if seen.on_its_way else ""
    return last_seen(seen.standing) + on_its_way
