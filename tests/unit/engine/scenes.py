"""The scenes of the recorded histories: plans with scripted worlds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from runbook.model.plan import Node, Obligation, Result, Retry, Task
from unit.engine.plans import World, plan, result, rolling_node, single_node
from unit.engine.record_histories import Scene


def scripted(script: Mapping[str, Result] = {}) -> World:
    """Return a world in which all goes well, but for the tasks in the script."""

    def world(task: Task) -> Result:
        if task.key in script:
            return script[task.key]
        touches = {"prepare": f"touch {task.target}", "preflight": f"restart {task.target}"}
        lines = (touches[task.phase],) if task.phase in touches else ()
        return result(touches=lines, data={"healthy": True, "rows": 3})

    return world


def rehearsing(script: Mapping[str, Result] = {}) -> World:
    """Return a world of rehearsals: changes are only shown."""
    calm = scripted(script)

    def world(task: Task) -> Result:
        shown = task.phase == "restart" or (task.phase == "act" and task.node.startswith("x"))
        return result("rehearsed") if shown and task.key not in script else calm(task)

    return world


def _rolling(
    hosts: int = 4, batches: tuple[int, ...] = (1, 2, 1), **more: Any
) -> Callable[[Mapping[str, Result]], Scene]:
    def scene(script: Mapping[str, Result]) -> Scene:
        parallel = more.pop("parallel", 20)
        made = replace(plan(rolling_node(hosts, batches, **more)), parallel=parallel)
        return Scene(plan=made, world=scripted(script))

    return scene


def _down(target: str) -> dict[str, Result]:
    down = result(data={"healthy": False}, touches=(f"restart {target}",))
    return {f"roll/preflight/{target}": down}


def _twins() -> dict[str, Result]:
    same = result(data={"healthy": True, "baseline": {"InvocationID": "f00d"}})
    return {f"roll/preflight/web-{i}": same for i in (1, 2)}


def _everything() -> Scene:
    """Looks, changes, conditions and a rolling restart in one plan."""
    return Scene(
        plan=plan(
            single_node("look", save="look"),
            single_node("relieve", changes=True, save="relieve", when="steps.look.rows > 2"),
            single_node("never", changes=True, when="params.size > 3"),
            rolling_node(5, (1, 4), max_failures=1, when="steps.relieve.status == 'ok'", save="r"),
            single_node("verify", when="has(steps.r.targets)"),
            size=1,
        ),
        world=scripted(
            {
                "roll/preflight/web-4": result("unreachable", hint="ask for access"),
                **_down("web-2"),
            }
        ),
    )


def _hosts(**more: Any) -> Any:
    return single_node("x", changes=True, targets=("h0", "h1", "h2", "h3"), **more)


def _after(key: str, of: str, **more: Any) -> Node:
    return single_node(key, changes=True, role="on_failure", of=of, **more)


def _always(key: str, **more: Any) -> Node:
    return single_node(key, changes=True, role="always", **more)


def _loop(*items: str, **more: Any) -> list[Node]:
    return [single_node(f"l[{i}]", save="l", loop="l", item=i, **more) for i in items]


def _debt(host: str) -> Obligation:
    task = f"roll/restart/{host}"
    return Obligation(
        key=f"undrain {host}", task=task, what=f"undrain {host}", by_hand=(f"undrain {host}",)
    )


def _resumed() -> Scene:
    """A run that lost its process while web-1 was drained: web-0 is done, web-1 owes."""
    world = scripted()
    made = plan(rolling_node(3, (1, 1, 1)), _always("tidy"))
    keys = [f"roll/preflight/web-{i}" for i in range(3)]
    looked = {key: result(touches=(key,), data={"healthy": True}) for key in keys}
    looked["tidy/prepare/db"] = result(touches=("touch db",))
    return Scene(
        plan=made,
        world=world,
        results={**looked, "roll/restart/web-0": result()},
        owed=(_debt("web-1"),),
    )


def _everything_that_a_playbook_can_say() -> Scene:
    """A loop of looks, an include that is left, a retried change, a handler, an end."""
    ask = (("inc", "Go into it?"),)
    more: dict[str, Any] = {"scope": "inc", "continues": "inc", "also_confirm": ask}
    made = plan(
        *_loop("a", "b", when="item != 'c'"),
        single_node("inc.a", save="a", when="params.size == 2", **more),
        single_node("inc.x", changes=True, args={"n": "${steps.a.rows}"}, **more),
        single_node("inc.y", changes=True, **more),
        single_node(
            "x",
            changes=True,
            args={"n": "${steps.l.items.b.rows}"},
            retry=Retry(times=3, delay_s=2.0),
        ),
        rolling_node(3, (1, 2), when="steps.l.status == 'ok'", confirm="Roll?"),
        _after("undo", "roll"),
        _always("tidy"),
        size=1,
    )
    return Scene(
        plan=replace(made, scopes={"inc": {"size": 2}}, scope_targets={"inc": "db"}),
        world=scripted(
            {
                "inc.x/act/db": result("failed"),
                "x/act/db": result("failed"),
                "roll/restart/web-1": result("failed", hint="look at web-1"),
                "roll/settle/web-1": result("failed"),
            }
        ),
        owes={"roll/restart/web-1": _debt("web-1")},
    )


SCENES: dict[str, Callable[[], Scene]] = {
    "looks": lambda: Scene(plan=plan(single_node("a"), single_node("b")), world=scripted()),
    "look-fails": lambda: Scene(
        plan=plan(single_node("a", targets=("db", "dc", "dd")), single_node("b")),
        world=scripted({"a/act/dc": result("failed", hint="h"), "a/act/dd": result("unknown")}),
    ),
    "look-unreachable": lambda: Scene(
        plan=plan(single_node("a")), world=scripted({"a/act/db": result("unreachable")})
    ),
    "changes": lambda: Scene(
        plan=plan(
            single_node("look"), single_node("x", changes=True), single_node("y", changes=True)
        ),
        world=scripted(),
    ),
    "changes-refused-by-preparation": lambda: Scene(
        plan=plan(single_node("x", changes=True), single_node("y", changes=True)),
        world=scripted({"y/prepare/db": result("refused", hint="mend it")}),
    ),
    "changes-not-confirmed": lambda: Scene(
        plan=plan(single_node("x", changes=True)), world=scripted(), answers={"confirm": False}
    ),
    "change-fails-on-one-host": lambda: Scene(
        plan=replace(plan(_hosts(), single_node("y")), parallel=2),
        world=scripted({"x/act/h1": result("failed", hint="look there")}),
    ),
    "change-unknown": lambda: Scene(
        plan=plan(_hosts()), world=scripted({"x/act/h3": result("unknown")})
    ),
    "change-stopped-itself": lambda: Scene(
        plan=plan(_hosts()),
        world=scripted({"x/act/h3": result("failed", data={"interrupted": True})}),
    ),
    "change-refused-after-a-change": lambda: Scene(
        plan=plan(_hosts(), single_node("y", changes=True)),
        world=scripted({"y/act/db": result("refused")}),
    ),
    "change-refused": lambda: Scene(
        plan=plan(_hosts()), world=scripted({"x/act/h0": result("refused")})
    ),
    "nothing-to-touch": lambda: Scene(
        plan=plan(single_node("x", changes=True)), world=lambda _task: result()
    ),
    "conditions": lambda: Scene(
        plan=plan(
            single_node("a", save="a", when="params.size > 3"),
            single_node("b", when="steps.a.status == 'ok'"),
            single_node("c", save="c", when="steps.a.status == 'skipped'"),
            single_node("d", changes=True, when="steps.c.rows == 3 && target == 'db'"),
            size=1,
        ),
        world=scripted(),
    ),
    "condition-cannot-be-decided": lambda: Scene(
        plan=plan(single_node("a", save="a"), single_node("b", when="steps.a.nothing > 3")),
        world=scripted(),
    ),
    "interrupted-between-looks": lambda: Scene(
        plan=plan(single_node("a"), single_node("b")), world=scripted(), interrupt_after=1
    ),
    "interrupted-before-the-question": lambda: Scene(
        plan=plan(single_node("x", changes=True)), world=scripted(), interrupt_after=1
    ),
    "rehearsal": lambda: Scene(
        plan=plan(
            single_node("look", save="look"),
            single_node("x", changes=True, save="x"),
            single_node("y", changes=True, when="steps.x.status == 'ok'"),
            single_node("verify"),
            rehearsal=True,
        ),
        world=rehearsing(),
    ),
    "rehearsal-refused": lambda: Scene(
        plan=plan(single_node("x", changes=True), rehearsal=True),
        world=rehearsing({"x/prepare/db": result("refused")}),
    ),
    "rolling": lambda: _rolling()({}),
    "rolling-canary-fails": lambda: _rolling(max_failures=3)(
        {"roll/restart/web-0": result("failed", hint="look at web-0")}
    ),
    "rolling-canary-unknown": lambda: _rolling()({"roll/restart/web-0": result("unknown")}),
    "rolling-threshold-equalled": lambda: _rolling(max_failures=1)(
        {"roll/restart/web-2": result("failed")}
    ),
    "rolling-threshold-exceeded": lambda: _rolling(max_failures=1)(
        {f"roll/restart/web-{i}": result("unreachable") for i in (1, 2)}
    ),
    "rolling-last-batch-fails": lambda: _rolling()({"roll/restart/web-3": result("failed")}),
    "rolling-down-hosts-first": lambda: _rolling()(_down("web-2") | _down("web-3")),
    "rolling-unfit-host": lambda: _rolling(max_failures=2)(
        {"roll/preflight/web-1": result("refused", hint="reload it")}
    ),
    "rolling-unreachable-too-many": lambda: _rolling()(
        {"roll/preflight/web-3": result("unreachable", hint="is it up?")}
    ),
    "rolling-unreachable-allowed": lambda: _rolling(max_failures=1)(
        {"roll/preflight/web-3": result("unreachable")}
    ),
    "rolling-twins": lambda: _rolling()(_twins()),
    "rolling-not-admitted-at-first": lambda: _rolling()({"roll/admit/1": result("failed")}),
    "rolling-not-admitted-later": lambda: _rolling()(
        {"roll/admit/2": result("failed", hint="mend the rest")}
    ),
    "rolling-not-confirmed": lambda: replace(_rolling()({}), answers={"confirm": False}),
    "rolling-interrupted": lambda: replace(_rolling()({}), interrupt_after=3),
    "rolling-more-than-at-once": lambda: _rolling(9, (1, 8), max_failures=1, parallel=2)(
        {f"roll/restart/web-{i}": result("failed") for i in (1, 2)}
    ),
    "rolling-rehearsal": lambda: Scene(
        plan=plan(rolling_node(3, (1, 2)), single_node("verify"), rehearsal=True),
        world=rehearsing(_down("web-1")),
    ),
    "rolling-rehearsal-not-admitted": lambda: Scene(
        plan=plan(rolling_node(3, (1, 2)), rehearsal=True),
        world=rehearsing({"roll/admit/1": result("failed")}),
    ),
    "rolling-skipped-with-a-host-away": lambda: Scene(
        plan=plan(
            single_node("x", changes=True, save="x"),
            rolling_node(3, (1, 2), max_failures=1, when="steps.x.rows > 3"),
        ),
        world=scripted({"roll/preflight/web-1": result("unreachable")}),
    ),
    "relieve-then-roll": _everything,
    # ---- engine 2 ----
    "rolling-rehearsal-interrupted": lambda: Scene(
        plan=plan(rolling_node(3, (1, 2)), rehearsal=True), world=rehearsing(), interrupt_after=1
    ),
    "rolling-left-out-with-a-host-away": lambda: Scene(
        plan=plan(
            single_node("x", changes=True, save="x"),
            rolling_node(3, (1, 2), max_failures=1, when="steps.x.rows > 3"),
        ),
        world=scripted({"roll/preflight/web-1": result("unreachable")}),
    ),
    "condition-fails-with-a-hint": lambda: Scene(
        plan=plan(single_node("a", save="a"), single_node("b", when="steps.a.nothing > 3")),
        world=scripted(),
    ),
    "rolling-host-stopped-itself": lambda: _rolling(max_failures=1)(
        {"roll/restart/web-2": result("failed", data={"interrupted": True})}
    ),
    "retry": lambda: Scene(
        plan=plan(
            single_node("a", retry=Retry(times=3, delay_s=2.0), targets=("db", "dc")),
            single_node("b", retry=Retry(times=2, delay_s=1.0, until="result.rows == 0")),
        ),
        world=scripted({"a/act/dc": result("failed"), "a/act/dc#2": result("unreachable")}),
    ),
    "retry-ends-with-an-unknown-outcome": lambda: Scene(
        plan=plan(single_node("a", retry=Retry(times=3, delay_s=2.0))),
        world=scripted({"a/act/db": result("failed"), "a/act/db#2": result("unknown")}),
    ),
    "on-failure": lambda: Scene(
        plan=plan(
            single_node("x", changes=True),
            _after("undo", "x"),
            _after("tell", "x"),
            single_node("y", changes=True),
        ),
        world=scripted({"x/act/db": result("failed"), "undo/act/db": result("failed")}),
    ),
    "on-failure-of-a-look": lambda: Scene(
        plan=plan(single_node("a"), _after("tell", "a"), single_node("y", changes=True)),
        world=scripted({"a/act/db": result("unreachable")}),
    ),
    "on-failure-continue": lambda: Scene(
        plan=plan(
            single_node("x", changes=True, on_failure="continue", save="x"),
            single_node("y", changes=True, when="steps.x.status == 'failed'"),
        ),
        world=scripted({"x/act/db": result("failed")}),
    ),
    "always": lambda: Scene(
        plan=plan(single_node("x", changes=True), _always("a"), _after("b", "a"), _always("c")),
        world=scripted({"x/act/db": result("unknown"), "a/act/db": result("failed")}),
    ),
    "always-after-an-interrupt": lambda: Scene(
        plan=plan(single_node("x", changes=True), single_node("y", changes=True), _always("a")),
        world=scripted(),
        interrupt_after=2,
    ),
    "always-in-a-rehearsal": lambda: Scene(
        plan=plan(single_node("x", changes=True), _after("u", "x"), _always("xa"), rehearsal=True),
        world=rehearsing(),
    ),
    "step-question": lambda: Scene(
        plan=plan(single_node("x", changes=True), single_node("y", changes=True, confirm="Go on?")),
        world=scripted(),
        answers={"y/confirm": False},
    ),
    "on-failure-of-an-include": lambda: Scene(
        plan=plan(
            single_node("inc.a", scope="inc"),
            _after("inc.tell", "inc.a", scope="inc"),
            _after("undo", "inc"),
            single_node("x", changes=True),
            _always("tidy"),
        ),
        world=scripted({"inc.a/act/db": result("failed")}),
    ),
    "approval": lambda: Scene(
        plan=plan(
            single_node("ok", flow="approval", args={"prompt": "May it?", "by": ["ada"]}),
            single_node("x", changes=True),
        ),
        world=scripted(),
    ),
    "approval-denied": lambda: Scene(
        plan=plan(
            single_node("ok", flow="approval", args={"prompt": "May it?", "expires": 60.0}),
            single_node("x", changes=True),
        ),
        world=scripted(),
        answers={"ok/approval": False},
    ),
    "obligation-settled-at-the-end": lambda: replace(
        _rolling()({"roll/restart/web-1": result("failed")}),
        owes={"roll/restart/web-1": _debt("web-1")},
    ),
    "obligation-that-stays-open": lambda: replace(
        _rolling(max_failures=1)(
            {"roll/restart/web-1": result("failed"), "roll/settle/web-1": result("failed")}
        ),
        owes={"roll/restart/web-1": _debt("web-1")},
    ),
    "resumed": _resumed,
    "resumed-and-interrupted": lambda: replace(_resumed(), interrupt_after=0),
    "loop": lambda: Scene(
        plan=plan(
            *_loop("a", "b"),
            _after("tell", "l"),
            single_node("c", when="steps.l.items['a'].rows == 3"),
        ),
        world=scripted({"l[b]/act/db": result("failed")}),
    ),
    "arguments-that-cannot-be-filled-in": lambda: Scene(
        plan=plan(
            single_node("a", save="a"),
            single_node("x", changes=True, args={"n": "${steps.a.nothing}"}),
        ),
        world=scripted(),
    ),
    "everything": _everything_that_a_playbook_can_say,
}
