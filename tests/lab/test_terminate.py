"""`remediate --terminate-idle`: leaked sessions go, and no other one."""

from __future__ import annotations

import select
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from .command import Command, Connection, Ran, connect, connections, sessions, wait_settled
from .lab import DB, Lab, until

if TYPE_CHECKING:
    from collections.abc import Iterator

TERMINATE = ("remediate", DB, "--terminate-idle")
NO_WATCH = ("-p", "watch=0s")
#: A pool of one connection: what these tests open themselves is in no process of an app host, so
#: the count alone has to do, and two sessions at either end of the order may be strangers.
SMALL = {"pool": {"processes": 1, "size": 1}}
#: More headroom than can be had: everything that is proved has to go.
ALL = ("-p", "headroom=90%", *NO_WATCH)


def pids(lab: Lab, where: str) -> set[int]:
    """The pids of some sessions."""
    sql = f"SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND {where}"
    return {int(row) for row in lab.psql(sql).splitlines()}


def outcome(ran: Ran) -> Any:
    """Return what the one step of a run came to."""
    return ran.json()["steps"][0]["targets"][DB]["data"]


def shown(ran: Ran) -> list[int]:
    """Return the pids that a rehearsal names, in its order."""
    look = next(iter(ran.json()["looks"].values()))
    return [session["pid"] for session in look["data"]["sessions"]]


def gone(before: dict[str, str], after: dict[str, str]) -> set[int]:
    """Return the pids of sessions that have gone; and see to it that none was touched otherwise."""
    assert after.items() <= before.items(), "sessions began that were not there before"
    return {int(key.split()[0]) for key in before.keys() - after.keys()}


def pid_of(connection: Connection) -> int:
    """Return its backend's pid."""
    return connection.info.backend_pid


def alive(connection: Connection) -> bool:
    """Whether its session still answers."""
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def test_leaked_sessions_go_and_no_other_one_though_every_slot_is_taken(
    lab: Lab, runbook: Command
) -> None:
    healthy, leaky, _ = lab.apps
    runbook.declare(databases={DB: {"protect": {"roles": ["nobody_*"]}}})
    lab.http(healthy, "/warm?n=5", "POST")
    with connections(lab, 2, "psql"), connections(lab, 3, "report", "shop"):
        lab.leak(leaky, 37 - len(sessions(lab)))
        leaked = pids(lab, "application_name = 'shop-app-2'")
        wait_settled(lab, "shop-app-2", len(leaked))
        before = sessions(lab)
        assert len(before) == 37
        ran = runbook(*TERMINATE, "--yes", "--format", "json", *ALL)
        went = gone(before, sessions(lab))
    assert went == set(outcome(ran)["terminated"])
    assert went < leaked
    assert len(leaked) - len(went) == 10  # its pool, to the last one
    assert {look["data"]["rung"] for look in ran.json()["looks"].values()} == {"rescue"}
    told = runbook("runs", "show", "last").said
    assert all(str(pid) in told for pid in went)


def test_guarded_sessions_stay_even_in_a_leaking_group(lab: Lab, runbook: Command) -> None:
    # Two of them are at work, as the pool itself would be.
    runbook.declare_shop(pool={"processes": 1, "size": 3})
    with connections(lab, 18, "shop-app-3") as group:
        lock, listener, writer, worker, *plain = group
        lock.execute("SELECT pg_advisory_lock(42)")
        listener.execute("LISTEN orders")
        writer.autocommit = False
        writer.execute("UPDATE items SET stock = stock WHERE id = 9")
        with busy(worker):
            wait_settled(lab, "shop-app-3", 17)
            before = sessions(lab)
            ran = runbook(*TERMINATE, "--yes", "--format", "json", *ALL)
            went = gone(before, sessions(lab))
        # 18, of which 2 are no part of a pool of 3: 13 are too many, two at either end left alone.
        assert went == {pid_of(connection) for connection in plain[2:11]}
        assert all(alive(c) for c in (lock, listener, writer, *plain[:2], *plain[11:]))
        reasons = {spared["reason"]: spared["pids"] for spared in spared_by(ran)}
        assert reasons["holds an advisory lock"] == [pid_of(lock)]
        assert reasons["LISTENs for notifications"] == [pid_of(listener)]


def spared_by(ran: Ran) -> Any:
    """Return what a run left alone, with its reasons."""
    return next(iter(ran.json()["looks"].values()))["data"]["spared"]


@contextmanager
def busy(connection: Connection) -> Iterator[None]:
    """Keep a session at work on one long statement."""

    def work() -> None:
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(60)")

    thread = threading.Thread(target=work)
    thread.start()
    yield
    connection.cancel()
    thread.join()


def test_it_stops_at_the_cap_and_at_the_headroom(lab: Lab, runbook: Command) -> None:
    lab.leak(lab.apps[0], 30)
    wait_settled(lab, "shop-app-1", 30)
    few = runbook(*TERMINATE, "--yes", "--format", "json", *ALL, "-p", "max_sessions=3")
    assert len(outcome(few)["terminated"]) == 3
    runbook.declare(databases={DB: {"max_terminated": 2}})
    fewer = runbook(*TERMINATE, "--yes", "--format", "json", *ALL, "-p", "max_sessions=50")
    assert len(outcome(fewer)["terminated"]) == 2
    runbook.declare()
    # 25 of 37 are left; a headroom of 50% is 19 free slots, so at most 18 in use.
    half = runbook(*TERMINATE, "--yes", "--format", "json", "-p", "headroom=50%", *NO_WATCH)
    assert len(outcome(half)["terminated"]) == 7
    assert outcome(half)["headroom_reached"] is True
    assert len(sessions(lab)) == 18
    again = runbook(*TERMINATE, "--yes", "-p", "headroom=50%", *NO_WATCH)
    assert "nothing to terminate: 50% of the slots are free already" in again.said
    assert len(sessions(lab)) == 18


def test_a_session_that_wakes_up_between_is_left_alone(lab: Lab, runbook: Command) -> None:
    runbook.declare_shop(**SMALL)
    with connections(lab, 14, "shop-app-1") as group:
        wait_settled(lab, "shop-app-1", 14)
        before = sessions(lab)
        running = runbook.start(*TERMINATE, *ALL, columns=100)
        running.wait_for("[y/N]")
        woken, *others = group[2:11]
        woken.execute("SELECT 1")
        running.answer("y")
        ran = running.finish()
        assert gone(before, sessions(lab)) == {pid_of(connection) for connection in others}
        assert alive(woken)
    assert "8 terminated" in ran.said
    assert "1 left alone: not as shown any more" in ran.said


def test_an_answer_other_than_yes_changes_nothing(lab: Lab, runbook: Command) -> None:
    runbook.declare_shop(**SMALL)
    with connections(lab, 14, "shop-app-1") as group:
        wait_settled(lab, "shop-app-1", 14)
        before = sessions(lab)
        running = runbook.start(*TERMINATE, *ALL, columns=100)
        running.wait_for("[y/N]")
        # Whoever else wants to work on this database meanwhile is told who is at it.
        other = runbook(*TERMINATE, "--yes", code=5)
        assert f"database {DB}" in other.said
        running.answer("")
        said = running.finish(3).said
        nobody = runbook(*TERMINATE, *ALL, code=6)
        assert sessions(lab) == before
        assert all(str(pid_of(connection)) in said for connection in group[2:11])
    assert "nothing was changed" in said
    assert "WAITING for an answer: 9 changes, to be confirmed" in nobody.said


def test_ctrl_c_at_the_question_changes_nothing(lab: Lab, runbook: Command) -> None:
    runbook.declare_shop(**SMALL)
    with connections(lab, 14, "shop-app-1"):
        wait_settled(lab, "shop-app-1", 14)
        before = sessions(lab)
        running = runbook.start(*TERMINATE, *ALL, columns=100)
        running.wait_for("[y/N]")
        running.interrupt()
        ran = running.finish(130)
        assert sessions(lab) == before
    assert "nothing was changed" in ran.said


def test_sessions_that_come_straight_back_are_told(lab: Lab, runbook: Command) -> None:
    runbook.declare_shop(**SMALL)
    with refilling(lab, 16, "shop-app-2") as reopened:
        wait_settled(lab, "shop-app-2", 16)
        before = sessions(lab)
        ran = runbook(
            *TERMINATE, "--yes", "--format", "json", "-p", "headroom=90%", "-p", "watch=1s"
        )
        after = sessions(lab)
    assert len(before.keys() - after.keys()) == 11 == len(reopened)
    found = outcome(ran)
    assert found["verdict"] == "came_back"
    assert found["came_back"] == {"shop on app-2": {"terminated": 11, "came_back": 11}}
    assert "--rolling-restart" in found["advice"]


@contextmanager
def refilling(lab: Lab, count: int, application: str) -> Iterator[list[Connection]]:
    """Keep that many sessions open: each that is ended is opened again at once, as a pool would."""
    over = threading.Event()
    reopened: list[Connection] = []

    def look_after(connection: Connection) -> None:
        while not over.is_set():
            if select.select([connection.fileno()], [], [], 0.05)[0]:
                connection.close()
                connection = connect(lab, application)
                reopened.append(connection)
        connection.close()

    with connections(lab, count, application) as opened, ExitStack() as stack:
        for connection in opened:
            thread = threading.Thread(target=look_after, args=(connection,))
            thread.start()
            stack.callback(thread.join)
        stack.callback(over.set)
        yield reopened


def test_where_nothing_is_leaked_nothing_is_done(lab: Lab, runbook: Command) -> None:
    lab.leak(lab.apps[0], 10)
    with connections(lab, 20, "somebody-else"):
        wait_settled(lab, "somebody-else", 20)
        before = sessions(lab)
        ran = runbook(*TERMINATE, "--yes", *ALL)
        assert sessions(lab) == before
    assert "nothing to terminate: no leaked session is proved" in ran.said


@pytest.mark.parametrize("grant", ["pg_signal_backend", "pg_monitor"])
def test_a_missing_grant_is_named_and_nothing_is_changed(
    lab: Lab, runbook: Command, grant: str
) -> None:
    lab.psql(f"REVOKE {grant} FROM oncall")
    lab.leak(lab.apps[0], 30)
    before = sessions(lab)
    for mode in ("--yes", "--dry-run"):
        ran = runbook(*TERMINATE, mode, *ALL, code=3)
        assert f'GRANT {grant} TO "oncall";' in ran.said
    assert sessions(lab) == before
    assert f'GRANT {grant} TO "oncall";' in " ".join(runbook.diagnose()["unseen"])


def test_a_rehearsal_names_the_very_sessions_that_then_go(lab: Lab, runbook: Command) -> None:
    lab.leak(lab.apps[1], 24)
    wait_settled(lab, "shop-app-2", 24)
    before = sessions(lab)
    text = runbook(*TERMINATE, "--dry-run", *ALL)
    rehearsed = shown(runbook(*TERMINATE, "--dry-run", "--format", "json", *ALL))
    assert sessions(lab) == before
    assert len(rehearsed) == 14
    assert all(str(pid) in text.stdout for pid in rehearsed)
    assert "NOT exercised" in text.stdout
    ran = runbook(*TERMINATE, "--yes", "--format", "json", *ALL)
    assert outcome(ran)["terminated"] == rehearsed
    assert gone(before, sessions(lab)) == set(rehearsed)


def test_silent_transactions_go_but_for_the_floor_and_those_that_wrote(
    lab: Lab, runbook: Command
) -> None:
    silent, writer, _ = lab.apps
    assert lab.leak(silent, 9, "in_transaction") == 9
    assert lab.ask(writer, "/hold", 1) == 1
    wait_settled(lab, "shop-app-1", 9)
    wait_settled(lab, "shop-app-2", 1)
    before = sessions(lab)
    long = runbook(*TERMINATE, "--yes", *ALL)
    assert "nothing to terminate" in long.said  # 5 minutes is the playbook's own measure
    ran = runbook(
        *TERMINATE, "--yes", "--format", "json", *ALL, "-p", "idle_in_transaction_over=4s"
    )
    went = gone(before, sessions(lab))
    assert went == set(outcome(ran)["terminated"])
    assert len(went) == 6  # of 9; a quarter of its pool of 10 is 3, rounded up
    assert lab.sessions() == {"shop-app-1": 3, "shop-app-2": 1}
    reasons = " ".join(spared["reason"] for spared in spared_by(ran))
    assert "has written in its transaction" in reasons
    assert "floor of shop on app-1" in reasons


def test_the_root_of_a_lock_pile_up_goes_and_the_others_go_on(lab: Lab, runbook: Command) -> None:
    holder, waiter, _ = lab.apps
    assert lab.ask(holder, "/hold", 1) == 1
    assert lab.ask(waiter, "/lock", 8) == 8
    waiting = "wait_event_type = 'Lock'"
    until(lambda: len(pids(lab, waiting)) == 8, "8 sessions that wait")
    root = pids(lab, "state = 'idle in transaction'")
    before = sessions(lab)
    blocker = ("remediate", DB, "--terminate-blocker", *NO_WATCH)
    assert shown(runbook(*blocker, "--dry-run", "--format", "json")) == list(root)
    runbook(*blocker, "--yes")
    assert gone(before, sessions(lab)) == root
    until(lambda: not pids(lab, waiting), "the queue to dissolve")


def test_without_a_flag_the_smallest_remedy_is_proposed_and_done(
    lab: Lab, runbook: Command
) -> None:
    lab.leak(lab.apps[0], 36)
    wait_settled(lab, "shop-app-1", 36)
    before = sessions(lab)
    rehearsed = runbook("remediate", DB, "--dry-run")
    assert "The smallest remedy that fits: terminate-idle" in rehearsed.said
    assert sessions(lab) == before
    running = runbook.start("remediate", DB, columns=100)
    running.wait_for("[y/N]")
    assert sessions(lab).keys() >= before.keys()
    running.answer("n")
    running.finish(3)
    assert sessions(lab) == before
