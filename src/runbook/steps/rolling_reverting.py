"""The way back: a host that does not come back healthy with its new settings gets its old ones.

What this run has written is put back, if it still is what this run has written; the service is
restarted once more, unless the process from before still runs; and the host goes through the same
watch and the same gates. It is a failure all the same: nothing goes on after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from runbook.model.effects import Drive, Note, Say, Sleep, Together, UnitState, ask
from runbook.model.errors import DoorError
from runbook.model.systemd import Unfit, parse_span, start_limit_hit
from runbook.steps.database_gate import row_of
from runbook.steps.file_args import backup_of
from runbook.steps.rolling_crashed import boot_look, boot_of
from runbook.steps.rolling_draining import undraining, unwell
from runbook.steps.rolling_files import Configuration, OneFile, back, file_look, seen_file
from runbook.steps.rolling_gating import database_gating, gating
from runbook.steps.rolling_journey import Journey, Trouble
from runbook.steps.rolling_restarting import ask_for_it, stabilising
from runbook.steps.rolling_settings import digest_of, made, reloaded

#: A start limit's interval that is waited out; a longer one is left to a person.
_LONGEST_PAUSE_S = 120.0


def reverting(
    journey: Journey, config: Configuration, failed: Trouble, stage: str
) -> Drive[Trouble]:
    """Put the settings back; return the trouble that the host ends with."""
    paths = config.paths(config.ours)
    yield from ask(Say(stage="reverting", text=f"{failed.why}; putting {paths} back"))
    earlier = noted(journey)
    if earlier is None:
        # What was made before was the restart with the new settings.
        journey.made_before = False
        earlier = {"stage": stage, "before": journey.before, "asked": journey.asked}
        yield from ask(
            Note(data={"stage": "reverting", "reverting": earlier, "restart_intended": False})
        )
    config.state = "not put back"
    trouble = yield from _put_back(journey, config)
    if trouble is not None:
        why = f"{failed.why}; its settings are not put back: {trouble.why}"
        return replace(trouble, why=why)
    config.state = "put back"
    if not earlier["asked"]:
        # Nothing was restarted, so the next try begins anew.
        note = {"reverting": None, "settings": None, "restart_intended": False}
        yield from ask(Note(data=note))
        return replace(failed, why=f"{failed.why}; {paths} is put back as it was")
    again = yield from _restarted(journey, str(earlier["before"]))
    config.healthy_again = again is None
    if again is None:
        why = f"{failed.why}; {paths} is put back as it was, and the host is healthy again"
        return Trouble(status="failed", why=why, hint=_HINT, placed=True)
    why = f"{failed.why}; {paths} is put back as it was, and the host is not healthy: {again.why}"
    return replace(again, why=why, hint=again.hint or failed.hint)


_HINT = "its log says what the new setting did to it: see the commands below"


def noted(journey: Journey) -> dict[str, Any] | None:
    """Return how far an earlier process was when it began to put the settings back."""
    crashed = journey.crashed
    if crashed is None or not crashed.intended:
        return None  # a person has looked, and wants it done again
    noted = crashed.notes.get("reverting")
    return dict(noted) if noted else None


# ---- files ---------------------------------------------------------------------------------


def _put_back(journey: Journey, config: Configuration) -> Drive[Trouble | None]:
    for file in reversed(config.ours):
        trouble = yield from _one_back(journey, config, file)
        if trouble is not None:
            return trouble
    if any(file.drop_in for file in config.ours):
        return (yield from reloaded(config))
    return None


def _one_back(journey: Journey, config: Configuration, file: OneFile) -> Drive[Trouble | None]:
    digest = yield from digest_of(config, file.path)
    if digest == file.before:
        return None
    if digest != file.after:
        return _not_ours(file.path, digest)
    if not file.old_known:
        trouble = yield from _from_backup(config, file)
        if trouble is not None:
            return trouble
    change = back(config.wanted, file.path, file.old, file.after)
    return (yield from made(journey, config, change, file, file.before))


def _not_ours(path: str, digest: str | DoorError | Unfit) -> Trouble:
    if isinstance(digest, str):
        why = f"somebody has changed {path} meanwhile, so it is left as it is"
        return Trouble(status="failed", why=why, hint=f"look at {path}")
    if isinstance(digest, DoorError):
        return Trouble(status="unknown", why=digest.message, hint=digest.hint or "")
    return Trouble(status="failed", why=digest.problem, hint=digest.hint)


def _from_backup(config: Configuration, file: OneFile) -> Drive[Trouble | None]:
    """What the file was is on the host alone: this process has not seen it."""
    if not file.before:
        file.old, file.old_known = None, True
        return None
    backup = backup_of(file.path, config.run_id)
    (outcome,) = yield from ask(Together(effects=(file_look(config.wanted, backup),)))
    if isinstance(outcome, DoorError):
        return Trouble(status="unknown", why=outcome.message, hint=outcome.hint or "")
    seen = seen_file(outcome, backup, sudo=config.wanted.sudo)
    if isinstance(seen, Unfit):
        return Trouble(status="failed", why=seen.problem, hint=seen.hint)
    if seen.digest != file.before:
        why = f"{backup} is not what {file.path} was before this step"
        return Trouble(status="failed", why=why, hint="put it back by hand")
    file.old, file.old_known = seen.content, True
    return None


# ---- the process ---------------------------------------------------------------------------

_AFTER: tuple[Callable[[Journey], Drive[Trouble | None]], ...] = (
    stabilising,
    gating,
    database_gating,
)


def _restarted(journey: Journey, first: str) -> Drive[Trouble | None]:
    """Restart once more, and see it healthy; return why it is not."""
    if not journey.made_before:
        untouched = yield from _still_the_first(journey, first)
        if untouched is not None:
            return untouched.trouble
        trouble = yield from _once_more(journey)
        if trouble is not None:
            return trouble
    for stage in _AFTER:
        trouble = yield from stage(journey)
        if trouble is not None:
            return trouble
    return (yield from undraining(journey))


class _Untouched:
    """The process from before still runs: it never saw the new settings."""

    def __init__(self, trouble: Trouble | None) -> None:
        self.trouble = trouble


def _still_the_first(journey: Journey, first: str) -> Drive[_Untouched | None]:
    manager = journey.subject.manager
    looks = (manager.look(), boot_look(journey.subject.host.name))
    sessions = journey.sessions
    effects = (*looks, sessions.look()) if sessions is not None else looks
    seen, boot, *rows = yield from ask(Together(effects=effects))
    if isinstance(seen, DoorError):
        return _Untouched(Trouble(status="unknown", why=seen.message, hint=seen.hint or ""))
    if first and manager.standing(seen, first).verdict == "unchanged":
        ill = yield from unwell(journey.subject)
        if ill is not None:
            return _Untouched(Trouble(status="failed", why=ill))
        return _Untouched((yield from undraining(journey)))
    journey.seen, journey.before = seen, manager.identity(seen)
    journey.boot_id = boot_of(boot)
    if rows and not isinstance(rows[0], DoorError):
        row = row_of(rows[0])
        journey.since = row.get("now")
    return None


def _once_more(journey: Journey) -> Drive[Trouble | None]:
    pause = _start_limit_pause(journey.seen)
    if pause:
        text = f"systemd's start limit: waiting {pause:g}s before the restart"
        yield from ask(Say(stage="reverting", text=text))
        yield from ask(Sleep(seconds=pause))
    journey.asked = journey.answer_lost = journey.in_doubt = journey.stable = False
    journey.crashed = None
    return (yield from ask_for_it(journey))


def _start_limit_pause(seen: Any) -> float:
    """Seconds after which systemd lets the unit be started again; 0 when it does so now."""
    if not isinstance(seen, UnitState):
        return 0.0
    burst, restarts = seen["StartLimitBurst"], seen["NRestarts"]
    close = burst.isdigit() and restarts.isdigit() and 0 < int(burst) <= int(restarts) + 2
    if not (start_limit_hit(seen) or close):
        return 0.0
    interval = parse_span(seen["StartLimitIntervalUSec"]) or 0.0
    return min(interval, _LONGEST_PAUSE_S)
