"""Nothing that a task says, finds or ends with holds a secret; what a resume builds on is whole."""

from __future__ import annotations

from typing import Any

from runbook.engine.drive import World
from runbook.engine.perform import Performer
from runbook.model.effects import CommandOutcome, Drive, Note, Owe, ReadCommand, Say, ask
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from runbook.model.plan import Result, Task
from runbook.model.redaction import redacted
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
    kept = {kind: str(data) for kind, data in told}
    assert S not in kept["said"]
    # A resume pays a debt and looks again by these: they are as the step wrote them.
    assert S in kept["noted"]
    assert S in kept["owed"]
