"""The stage between drain and restart that puts new settings on a host, and what it is built on.

A file is written only while it is, to the byte, what preflight saw and people confirmed. What a
later process needs is on disk before the first file is written: which files may be ours. Their
contents are kept nowhere but on the host itself, in the backup.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runbook.model.document import visible
from runbook.model.effects import (
    Change,
    CommandOutcome,
    Drive,
    Interrupted,
    Note,
    Say,
    Sleep,
    Together,
    ask,
)
from runbook.model.errors import (
    CommandFailed,
    ConnectionLost,
    DoorError,
    NotStarted,
    Refused,
    Unreachable,
)
from runbook.model.host_files import MOVED_ON
from runbook.model.plan import Crashed, Status
from runbook.model.setting_text import read_drop_in
from runbook.model.systemd import Unfit
from runbook.steps.rolling_draining import give_back
from runbook.steps.rolling_files import (
    Configuration,
    FileWish,
    Looked,
    OneFile,
    environment_look,
    environment_of,
    file_look,
    forward,
    judged,
    looks,
    reload_units,
    seen_file,
)
from runbook.steps.rolling_journey import Journey, Trouble, now
from runbook.steps.rolling_wanted import Wanted

#: Looks that must agree, a second apart, before a write whose answer was lost counts as not made.
_AGREEING_LOOKS = 3
_PAUSE_S = 1.0


def configuration_of(
    wanted: Wanted | None, prepared: Mapping[str, Any], run_id: str, crashed: Crashed | None
) -> Configuration | None:
    """Return what preflight has shown of a host's settings, and what an earlier process left."""
    if wanted is None:
        return None
    shown = prepared.get("settings") or {}
    notes = crashed.notes if crashed is not None else {}
    written = set((notes.get("settings") or {}).get("written", ()))
    files = [
        OneFile(
            path=file["path"],
            before=file["before"],
            after=file["after"],
            drop_in=file["drop_in"],
            ours=file["path"] in written,
        )
        for file in shown.get("files", ())
    ]
    left_alone = "" if files else f"run {wanted.restore} has not changed its settings: left alone"
    return Configuration(
        wanted=wanted,
        run_id=run_id,
        files=files,
        values=list(shown.get("values", ())),
        left_alone=left_alone,
    )


def shown_settings(looked: Looked) -> dict[str, Any]:
    """Return what preflight keeps of the settings for the restart: digests, never contents."""
    files = [
        {
            "path": wish.path,
            "before": wish.before,
            "after": wish.after,
            "drop_in": wish.place.drop_in,
            "told": wish.told,
        }
        for wish in looked.wishes
    ]
    return {"files": files, "values": list(looked.values), "diff": _diff(looked)}


def _diff(looked: Looked) -> str:
    """Return the values that change, in a diff's form; what else the files hold is not shown."""
    lines: list[str] = []
    for path in dict.fromkeys(value["path"] for value in looked.values):
        changed = [v for v in looked.values if v["path"] == path and v["old"] != v["new"]]
        if not changed:
            continue
        lines += [f"--- {path}", f"+++ {path}"]
        for value in changed:
            lines += [f"-{value['label']}={value['old']}"] if value["old"] is not None else []
            lines += [f"+{value['label']}={value['new']}"] if value["new"] is not None else []
    return "\n".join(lines)


# ---- the stage -----------------------------------------------------------------------------


def configuring(journey: Journey) -> Drive[Trouble | None]:
    """Write what is to be written, if every file is still as it was shown."""
    config = journey.config
    if config is None:
        return None
    if (yield from ask(Interrupted())):
        return (yield from give_back(journey, "somebody wants the run to stop", stopped=True))
    outcomes = yield from ask(Together(effects=looks(config.wanted)))
    looked = judged(config.wanted, outcomes, config.run_id)
    wishes = _still_as_shown(config, looked, outcomes)
    if isinstance(wishes, Trouble):
        return (yield from _given_back(journey, wishes))
    yield from _note(config, wishes)
    for file, wish in wishes:
        trouble = yield from _written(journey, config, file, wish)
        if trouble is not None:
            return (yield from _given_back(journey, trouble))
    config.state = "put" if config.ours else "there already"
    if any(file.drop_in for file in config.ours):
        trouble = yield from _loaded(config, wishes_by_path(looked))
        if trouble is not None:
            return (yield from _given_back(journey, trouble))
    return None


def wishes_by_path(looked: Looked | Unfit) -> dict[str, FileWish]:
    """Return what each file shall be."""
    return {} if isinstance(looked, Unfit) else {wish.path: wish for wish in looked.wishes}


def _still_as_shown(
    config: Configuration, looked: Looked | Unfit, outcomes: tuple[Any, ...]
) -> list[tuple[OneFile, FileWish]] | Trouble:
    """Return what is left to write, or why nothing may be."""
    if isinstance(looked, Unfit):
        lost = next((each for each in outcomes if isinstance(each, Unreachable)), None)
        status: Status = "unreachable" if lost is not None else "failed"
        return Trouble(status=status, why=looked.problem, hint=looked.hint)
    wishes = wishes_by_path(looked)
    found: list[tuple[OneFile, FileWish]] = []
    for file in config.files:
        wish = wishes.get(file.path)
        if wish is None and file.ours and not file.after and file.path in looked.gone:
            continue  # an earlier process has removed it
        if wish is None or wish.after != file.after or wish.before not in {file.before, file.after}:
            return _moved_on(file.path)
        if wish.before == file.after:
            continue
        file.old, file.old_known = wish.old, True
        found.append((file, wish))
    return found


def _moved_on(path: str) -> Trouble:
    return Trouble(
        status="failed",
        why=f"{path} has changed since it was shown",
        hint="somebody else, or an earlier step of this run, has changed it: look at it, then run"
        " this again",
    )


def _note(config: Configuration, wishes: list[tuple[OneFile, FileWish]]) -> Drive[None]:
    for file, _ in wishes:
        file.ours = True
    if not config.ours:
        return
    note = {
        "stage": "configuring",
        "restart_intended": False,
        "reverting": None,
        "settings": {"written": [file.path for file in config.ours]},
        "by_hand": list(config.put_back_by_hand()),
    }
    yield from ask(Note(data=note))


def _given_back(journey: Journey, trouble: Trouble) -> Drive[Trouble]:
    """The host is not restarted: put it back in rotation, where it can be seen to be well."""
    if trouble.status != "failed":
        return Trouble(
            status=trouble.status, why=f"nothing was restarted: {trouble.why}", hint=trouble.hint
        )
    back = yield from give_back(journey, trouble.why, stopped=False)
    return Trouble(status=back.status, why=back.why, hint=trouble.hint, placed=back.placed)


def _written(
    journey: Journey, config: Configuration, file: OneFile, wish: FileWish
) -> Drive[Trouble | None]:
    told = f": {wish.told}" if wish.told else ""
    yield from ask(Say(stage="configuring", text=f"{file.path}{told}"))
    for change in forward(config.wanted, wish, config.run_id):
        trouble = yield from made(journey, config, change, file, file.after)
        if trouble is not None:
            return trouble
    return None


def made(
    journey: Journey,
    config: Configuration,
    change: Change[CommandOutcome],
    file: OneFile,
    wanted_digest: str,
) -> Drive[Trouble | None]:
    """Make a change to a file; return why it was not made, or may not have been."""
    try:
        outcome = yield from ask(change)
    except (Unreachable, NotStarted, Refused) as error:
        status: Status = "unreachable" if isinstance(error, Unreachable) else "failed"
        return Trouble(status=status, why=error.message, hint=error.hint or "")
    except (ConnectionLost, CommandFailed) as error:
        return (yield from _find_out(journey, config, file, wanted_digest, error.message))
    if outcome.exit_code == 0:
        config.touched += sorted(change.footprint(), reverse=True)
        return None
    if outcome.exit_code == MOVED_ON:
        return _moved_on(file.path)
    said = visible(outcome.stderr.strip().rpartition("\n")[2])[:200]
    why = f"{file.path} was not written: {said or f'exit code {outcome.exit_code}'}"
    return Trouble(status="failed", why=why, hint="the file is as it was")


def digest_of(config: Configuration, path: str) -> Drive[str | DoorError | Unfit]:
    """Look at a file; return its digest, "" when it is not there."""
    wanted = config.wanted
    (outcome,) = yield from ask(Together(effects=(file_look(wanted, path),)))
    if isinstance(outcome, DoorError):
        return outcome
    seen = seen_file(outcome, path, sudo=wanted.sudo)
    return seen if isinstance(seen, Unfit) else seen.digest


def _find_out(
    journey: Journey, config: Configuration, file: OneFile, wanted_digest: str, lost: str
) -> Drive[Trouble | None]:
    """The answer to a write was lost: look, until it is clear whether it was made.

    The new content is moved over the old in one go, so the file is one or the other.
    """
    yield from ask(Say(stage="unknown", text=f"{lost}; looking at what happened"))
    deadline = (yield from now(journey)) + journey.subject.settings.gate.deadline
    same = 0
    while True:
        digest = yield from digest_of(config, file.path)
        if digest == wanted_digest:
            return None
        same = same + 1 if isinstance(digest, str) else 0
        if same >= _AGREEING_LOOKS:
            return Trouble(status="failed", why=f"{file.path} was not written: {lost}")
        if (yield from now(journey)) >= deadline:
            why = f"whether {file.path} was written could not be seen: {lost}"
            return Trouble(status="unknown", why=why)
        yield from ask(Sleep(seconds=_PAUSE_S))


# ---- systemd -------------------------------------------------------------------------------


def reloaded(config: Configuration) -> Drive[Trouble | None]:
    """Let systemd read its unit files; asked again when the answer is lost: it does no harm."""
    change = reload_units(config.wanted)
    yield from ask(Say(stage="configuring", text=change.sentence()))
    lost: DoorError | None = None
    for _ in range(2):
        try:
            outcome = yield from ask(change)
        except (ConnectionLost, CommandFailed) as error:
            lost = error
            yield from ask(Sleep(seconds=_PAUSE_S))
            continue
        except (Unreachable, NotStarted, Refused) as error:
            status: Status = "unreachable" if isinstance(error, Unreachable) else "failed"
            return Trouble(status=status, why=error.message, hint=error.hint or "")
        if outcome.ok:
            config.touched += change.footprint()
            return None
        said = visible(" ".join(outcome.stderr.split()))[:200]
        why = f"systemctl daemon-reload exited with {outcome.exit_code}: {said}"
        return Trouble(status="failed", why=why)
    return Trouble(status="unknown", why=lost.message if lost is not None else "")


def _loaded(config: Configuration, wishes: Mapping[str, FileWish]) -> Drive[Trouble | None]:
    """Have systemd read the drop-in, and see that nothing lies over it."""
    trouble = yield from reloaded(config)
    if trouble is not None or config.wanted.restore is not None:
        return trouble
    (outcome,) = yield from ask(Together(effects=(environment_look(config.wanted),)))
    seen = environment_of(outcome)
    if isinstance(seen, Unfit):
        status: Status = "unreachable" if isinstance(outcome, Unreachable) else "failed"
        return Trouble(status=status, why=seen.problem, hint=seen.hint)
    for wish in wishes.values():
        values = read_drop_in(wish.new).values if wish.place.drop_in and wish.new else {}
        over = [key for key, value in values.items() if seen.get(key) != value]
        if over:
            return Trouble(
                status="failed",
                why=f"systemd does not take {', '.join(over)} from {wish.path}",
                hint=f"another drop-in is laid over it: systemctl cat {config.wanted.unit}",
            )
    return None
