"""The rolling flow: batches, canary, thresholds, budget, confirmation; for any world."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from runbook.model.plan import Result, Status, Task
from unit.engine.plans import History, World, plan, result, rolling_node, single_node

BAD = ("failed", "unreachable", "unknown")


def calm(task: Task) -> Result:
    """A world in which everything goes well."""
    touches = (f"restart {task.target}",) if task.phase == "preflight" else ()
    return result(touches=touches, data={"healthy": True})


def failing(*hosts: str, status: Status = "failed") -> World:
    """A world in which the restart of some hosts ends badly."""

    def world(task: Task) -> Result:
        if task.phase == "restart" and task.target in hosts:
            return result(status)
        return calm(task)

    return world


def test_every_host_is_looked_at_before_the_first_is_touched() -> None:
    history = History(plan(rolling_node(4, (1, 2, 1))), calm)
    assert history.play().status == "done"
    assert history.performed == [
        (
            "roll/preflight/web-0",
            "roll/preflight/web-1",
            "roll/preflight/web-2",
            "roll/preflight/web-3",
        ),
        ("roll/admit/1",),
        ("roll/restart/web-0",),
        ("roll/admit/2",),
        ("roll/restart/web-1", "roll/restart/web-2"),
        ("roll/admit/3",),
        ("roll/restart/web-3",),
    ]


def test_what_is_confirmed_is_every_footprint_and_only_these_may_be_touched() -> None:
    seen: dict[str, tuple[str, ...]] = {}

    def world(task: Task) -> Result:
        seen[task.key] = task.shown
        return calm(task)

    history = History(plan(rolling_node(2, (1, 1))), world)
    history.play()
    assert history.asked[0].touches == ("restart web-0", "restart web-1")
    assert seen["roll/restart/web-0"] == ("restart web-0", "restart web-1")
    assert seen["roll/preflight/web-0"] == ()


def test_no_means_no() -> None:
    history = History(plan(rolling_node(2, (1, 1))), calm, answer=False)
    assert history.play().status == "refused"
    assert history.keys("restart") == []


def test_a_failing_canary_halts_whatever_the_threshold() -> None:
    history = History(plan(rolling_node(4, (1, 3), max_failures=3)), failing("web-0"))
    finish = history.play()
    assert finish.status == "halted"
    assert "canary" in finish.reason
    assert finish.not_reached == ("web-1", "web-2", "web-3")


def test_a_canary_that_was_never_touched_has_not_failed_to_come_back() -> None:
    def locked(task: Task) -> Result:
        if task.phase == "restart":
            return Result(status="refused", summary="host web-0 is held by bob")
        return calm(task)

    finish = History(plan(rolling_node(3, (1, 2))), locked).play()
    assert (finish.status, finish.reason) == ("refused", "web-0: host web-0 is held by bob")


def test_a_threshold_is_exceeded_not_equalled() -> None:
    one = History(plan(rolling_node(4, (1, 1, 1, 1), max_failures=1)), failing("web-1"))
    assert one.play().status == "failed"  # it went on, and is still no success
    assert one.keys("restart") == ["web-0", "web-1", "web-2", "web-3"]
    two = History(plan(rolling_node(4, (1, 1, 1, 1), max_failures=1)), failing("web-1", "web-2"))
    finish = two.play()
    assert finish.status == "halted"
    assert finish.not_reached == ("web-3",)


def test_an_unknown_outcome_is_told_as_unknown() -> None:
    history = History(plan(rolling_node(2, (1, 1))), failing("web-0", status="unknown"))
    assert history.play().status == "unknown"


def test_a_host_that_is_down_already_goes_first() -> None:
    def world(task: Task) -> Result:
        down = task.phase == "preflight" and task.target == "web-2"
        return result(data={"healthy": not down}, touches=(f"restart {task.target}",))

    history = History(plan(rolling_node(3, (1, 1, 1))), world)
    history.play()
    assert history.keys("restart") == ["web-2", "web-0", "web-1"]


def test_a_host_that_is_not_fit_stops_everything() -> None:
    def world(task: Task) -> Result:
        return result("refused") if task.target == "web-1" else calm(task)

    history = History(plan(rolling_node(3, (1, 2), max_failures=2)), world)
    assert history.play().status == "refused"
    assert history.keys("restart") == []


def test_unreachable_hosts_count_as_failures_from_the_start() -> None:
    def world(task: Task) -> Result:
        gone = task.phase == "preflight" and task.target == "web-3"
        return result("unreachable") if gone else calm(task)

    strict = History(plan(rolling_node(4, (1, 1, 1, 1))), world)
    assert strict.play().status == "refused"
    lenient = History(plan(rolling_node(4, (1, 1, 1, 1), max_failures=1)), world)
    assert lenient.play().status == "failed"
    assert lenient.keys("restart") == ["web-0", "web-1", "web-2"]


def test_a_host_that_is_away_and_one_that_failed_are_two() -> None:
    def world(task: Task) -> Result:
        if task.key in {"roll/preflight/web-4", "roll/restart/web-1"}:
            return result("unreachable")
        return calm(task)

    history = History(plan(rolling_node(5, (1, 1, 1, 1, 1), max_failures=1)), world)
    finish = history.play()
    assert (finish.status, finish.not_reached) == ("halted", ("web-2", "web-3"))
    assert finish.reason.startswith("2 failed, 1 allowed")


def test_a_batch_that_is_not_admitted_is_not_begun() -> None:
    def world(task: Task) -> Result:
        return result("failed") if task.key == "roll/admit/2" else calm(task)

    history = History(plan(rolling_node(3, (1, 2))), world)
    finish = history.play()
    assert finish.status == "halted"
    assert finish.not_reached == ("web-1", "web-2")


def test_an_interrupt_between_batches_starts_no_further_host() -> None:
    history = History(plan(rolling_node(3, (1, 1, 1))), calm)
    history.interrupt_after = 3  # preflight, admit, canary
    finish = history.play()
    assert finish.status == "interrupted"
    assert finish.not_reached == ("web-1", "web-2")


def test_a_host_that_stopped_for_an_interrupt_has_not_failed_and_none_comes_after_it() -> None:
    def world(task: Task) -> Result:
        if task.key == "roll/restart/web-0":
            return result("failed", data={"interrupted": True})
        return calm(task)

    history = History(plan(rolling_node(3, (1, 1, 1), on_failure="continue")), world)
    finish = history.play()
    assert (finish.status, finish.reason) == ("interrupted", "web-0: it is failed")
    assert finish.not_reached == ("web-1", "web-2")


def test_an_admission_that_stopped_for_an_interrupt_is_no_failure_of_the_batch() -> None:
    def world(task: Task) -> Result:
        if task.key == "roll/admit/2":
            return result("failed", data={"interrupted": True})
        return calm(task)

    history = History(plan(rolling_node(3, (1, 1, 1), on_failure="continue")), world)
    finish = history.play()
    assert finish.status == "interrupted"
    assert finish.not_reached == ("web-1", "web-2")


def test_a_rehearsal_that_is_interrupted_waits_for_no_admission() -> None:
    history = History(plan(rolling_node(3, (1, 1, 1)), rehearsal=True), calm)
    history.interrupt_after = 1
    assert history.play().status == "interrupted"
    assert history.keys("admit") == []


def test_a_rehearsal_looks_at_all_and_shows_all() -> None:
    def world(task: Task) -> Result:
        return result("rehearsed") if task.phase == "restart" else calm(task)

    history = History(plan(rolling_node(3, (1, 1, 1)), rehearsal=True), world)
    assert history.play().status == "rehearsed"
    assert history.asked == []
    assert history.keys("restart") == ["web-0", "web-1", "web-2"]


@st.composite
def rollings(draw: st.DrawFn) -> tuple[int, tuple[int, ...], int, dict[str, Status]]:
    """Hosts, batches that cover them, a threshold, and how each restart ends."""
    hosts = draw(st.integers(1, 12))
    batches: list[int] = []
    while sum(batches) < hosts:
        batches.append(draw(st.integers(1, hosts - sum(batches))))
    ends = draw(st.lists(st.sampled_from(["ok", *BAD]), min_size=hosts, max_size=hosts))
    return (
        hosts,
        tuple(batches),
        draw(st.integers(0, 3)),
        {f"web-{i}": end for i, end in enumerate(ends)},  # type: ignore[misc]
    )


@settings(max_examples=300, deadline=None)
@given(rollings())
def test_whatever_the_world_does(
    case: tuple[int, tuple[int, ...], int, dict[str, Status]],
) -> None:
    """Each host at most once; nothing begins once the threshold is exceeded; all accounted for."""
    hosts, batches, allowed, ends = case

    def world(task: Task) -> Result:
        return result(ends[task.target]) if task.phase == "restart" else calm(task)

    history = History(plan(rolling_node(hosts, batches, max_failures=allowed)), world)
    finish = history.play()
    restarted = history.keys("restart")
    assert len(restarted) == len(set(restarted))
    assert sorted([*restarted, *finish.not_reached]) == sorted(ends)
    failed = [host for host in restarted if ends[host] in BAD]
    before_last = [
        key.split("/")[2]
        for batch in [b for b in history.performed if "/restart/" in b[0]][:-1]
        for key in batch
    ]
    assert sum(ends[host] in BAD for host in before_last) <= allowed
    canary = set(restarted[: batches[0]])
    if any(host in canary for host in failed):
        assert restarted == restarted[: batches[0]]
    assert (finish.status == "done") == (not failed and not finish.not_reached)
    if any(ends[host] == "unknown" for host in failed) and finish.not_reached:
        assert finish.status == "unknown"


def test_a_batch_larger_than_what_runs_at_once_is_judged_in_between() -> None:
    played = replace(plan(rolling_node(9, (1, 8), max_failures=1)), parallel=2)
    history = History(played, failing("web-1", "web-2"))
    finish = history.play()
    assert finish.status == "halted"
    assert history.keys("restart") == ["web-0", "web-1", "web-2"]
    assert len(finish.not_reached) == 6


def test_an_interrupt_within_a_large_batch_starts_no_further_host() -> None:
    played = replace(plan(rolling_node(7, (1, 6))), parallel=2)
    history = History(played, calm)
    history.interrupt_after = 5  # preflight, admit, canary, admit, two hosts
    assert history.play().status == "interrupted"
    assert history.keys("restart") == ["web-0", "web-1", "web-2"]


def test_after_a_change_nothing_is_called_refused() -> None:
    def world(task: Task) -> Result:
        return result("failed") if task.phase == "admit" else calm(task)

    alone = History(plan(rolling_node(2, (1, 1))), world)
    assert alone.play().status == "refused"
    relieved = History(plan(single_node("relieve", changes=True), rolling_node(2, (1, 1))), world)
    assert relieved.play().status == "halted"


def test_one_machine_under_two_names_is_not_restarted_twice() -> None:
    def world(task: Task) -> Result:
        same = {"healthy": True, "baseline": {"InvocationID": "f00d"}}
        return result(data=same) if task.phase == "preflight" else calm(task)

    history = History(plan(rolling_node(2, (1, 1))), world)
    finish = history.play()
    assert finish.status == "refused"
    assert "the same machine" in finish.reason
    assert history.keys("restart") == []
