"""Nothing that a task says, finds or ends with holds a secret; what a resume builds on is whole."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from runbook.engine.drive import World
from runbook.engine.perform import Performer
from runbook.engine.resume import result_from_json
from runbook.model.effects import CommandOutcome, Drive, Note, Owe, ReadCommand, Say, ask
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from runbook.model.plan import Result, Task
from runbook.model.redaction import redacted, redacted_result
from runbook.model.step import StepContext, StepType
from unit.engine.fakes import MemoryDoor, TouchArgs

S = "hunter2Hunter2"
FLEET = Fleet(Inventory.model_validate({"version": 1, "hosts": {"web-1": {}}}))


def _act(_args: TouchArgs, ctx: StepContext) -> Drive[Result]:
    yield from ask(Say(stage="looking", text=f"password={S} and plain-{S}"))
    yield from ask(Note(data={"note": f"password={S}"}))
    yield from ask(Owe(key="k", what=f"password={S}"))
    outcome = yield from ask(ReadCommand(host=ctx.target, argv=("env",)))
    # A step sees what came; what is kept of it is another matter.
    assert S in outcome.stdout
    return Result(
        status="ok",
        summary=outcome.stdout,
        data={"stdout": outcome.stdout, "passwd": S},
        by_hand=(f"PGPASSWORD={S} psql",),
    )


STEP = StepType(
    verb="tell",
    summary="",
    args=TouchArgs,
    phases={"act": _act},
    changes=lambda _args: False,
    targets=lambda _args, fleet: fleet.select("all"),
    after_crash="repeat",
)


def test_what_is_kept_and_shown_holds_no_secret() -> None:
    def answer(_effect: Any) -> CommandOutcome:
        return CommandOutcome(exit_code=0, stdout=f"PGPASSWORD={S}", stderr="", seconds=0)

    judge: Any = None
    performer = Performer(
        steps={"tell": STEP},
        world=World(doors={ReadCommand: MemoryDoor(answer)}, rehearsal=False),
        fleet=FLEET,
        judge=judge,
        run_id="r",
        mask=lambda text: redacted(text, (f"plain-{S}",)),
    )
    told: list[tuple[str, dict[str, Any]]] = []
    task = Task(
        key="a/act/web-1",
        node="a",
        verb="tell",
        phase="act",
        target="web-1",
        args={},
        timeout_s=60,
    )
    result = performer.perform(task, lambda kind, data: told.append((kind, data)))
    assert result.status == "ok", result
    assert S not in str(result)
    # And the result says what is not whole any more.
    assert result.masked == ("/summary", "/stdout", "/passwd")
    kept = {kind: str(data) for kind, data in told}
    assert S not in kept["said"]
    # A resume pays a debt and looks again by these: they are as the step wrote them.
    assert S in kept["noted"]
    assert S in kept["owed"]


def test_a_command_to_type_keeps_its_words() -> None:
    by_hand = ("ssh db sudo systemctl restart shop-db-2", f"psql password={S}")
    found = redacted_result(Result(status="ok", by_hand=by_hand), lambda t: redacted(t, ("shop",)))
    assert found.by_hand == (by_hand[0], "psql password=…")


def test_each_hole_is_named_and_nothing_else() -> None:
    rows = [{"n": 1, "a/b": "plain"}, {"n": 2, "a/b": f"token={S}", "c~": ("x", f"token={S}")}]
    found = redacted_result(Result(status="ok", data={"rows": rows, "name": "shop"}), redacted)
    assert found.masked == ("/rows/1/a~1b", "/rows/1/c~0/1")
    # What was taken out before stays named, though this time there is nothing to take out.
    assert redacted_result(found, redacted).masked == found.masked


def test_the_journal_keeps_what_is_not_whole_and_old_ones_know_of_none() -> None:
    found = redacted_result(Result(status="ok", data={"stdout": f"token={S}"}), redacted)
    kept = json.loads(json.dumps(asdict(found)))
    assert result_from_json(kept) == found
    del kept["masked"]
    assert result_from_json(kept).masked == ()


def test_arguments_that_do_not_fit_are_told_without_their_values() -> None:
    judge: Any = None
    world = World(doors={}, rehearsal=False)
    performer = Performer(steps={"tell": STEP}, world=world, fleet=FLEET, judge=judge, run_id="r")
    args = {"word": {"deep": S}}
    task = Task(
        key="k", node="a", verb="tell", phase="act", target="web-1", args=args, timeout_s=60
    )
    result = performer.perform(task, lambda _kind, _data: None)
    assert result.status == "failed"
    assert result.summary.startswith("nothing was done: ")
    assert S not in str(result)
