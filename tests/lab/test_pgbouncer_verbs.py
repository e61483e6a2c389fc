"""The verb `pgbouncer` on a real PgBouncer: what it changes under load, and what it owes."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from .lab import BOUNCER_UNIT, DB, bouncer_text, until
from .test_pgbouncer import BOUNCER, client, clients, declare

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .command import Command, Ran
    from .lab import Lab

#: While it is there, a playbook's wait is over.
GO = "/tmp/lab-go"
COUNT = "SELECT count(*) AS n FROM pg_catalog.pg_stat_activity WHERE usename = 'shop'"
INI = "/etc/lab-pgbouncer/pgbouncer.ini"


@pytest.fixture
def runbook(lab: Lab, runbook: Command) -> Command:
    """The command, with an admin of the PgBouncer of the database's host in its inventory."""
    secret = {"file": str(lab.folder / "bouncer_admin.password")}
    declare(lab, runbook, admin={"user": "bouncer_admin", "password": secret})
    return runbook


class Playbook:
    """Runs steps of the verb, one after the other."""

    def __init__(self, runbook: Command, folder: Path) -> None:
        self.runbook, self._file = runbook, folder / "mine.yaml"

    def words(self, *steps: dict[str, Any]) -> tuple[str, ...]:
        named = [{"name": f"step {number + 1}", **step} for number, step in enumerate(steps)]
        self._file.write_text(
            json.dumps({"version": 1, "name": "mine", "target": {"kind": "none"}, "steps": named})
        )
        return ("run", str(self._file))

    def __call__(self, *steps: dict[str, Any], code: int = 0, dry: bool = False) -> Ran:
        flags = ("--dry-run",) if dry else ("--yes",)
        return self.runbook(*self.words(*steps), *flags, "--format", "json", code=code)


@pytest.fixture
def play(runbook: Command, tmp_path: Path) -> Playbook:
    return Playbook(runbook, tmp_path)


def tell(action: str, **more: Any) -> dict[str, Any]:
    return {"pgbouncer": {"pgbouncer": BOUNCER, "action": action, **more}}


def ini(**settings: Any) -> str:
    """A configuration whose database has a name: one of `*` is listed only while it is in use."""
    return bouncer_text(DB, settings).replace("* =", f"shop = host={DB} port=5432\n* =", 1)


def start(lab: Lab, **settings: Any) -> None:
    """Start a PgBouncer of that configuration on the database's host."""
    lab.start_pgbouncer(lab.db, **settings)
    lab.put(lab.db, INI, ini(**settings))
    lab.bouncer_console(lab.db, "RELOAD")


def column(lab: Lab, name: str, database: str = "shop") -> str:
    """Return a column of SHOW DATABASES; of 1.18 the last two are paused and disabled."""
    rows = [row.split("|") for row in lab.bouncer_console(lab.db, "SHOW DATABASES").splitlines()]
    place = {"paused": -2, "disabled": -1}[name]
    return next(row[place] for row in rows if row[0] == database)


def servers(lab: Lab) -> set[str]:
    """Return the process ids of the server connections."""
    pids = lab.psql("SELECT pid FROM pg_stat_activity WHERE usename = 'shop'")
    return set(pids.split())


class Load:
    """Clients that ask without a pause, and what failed."""

    def __init__(self) -> None:
        self.asked = 0
        self.failed: list[str] = []
        self.over = threading.Event()

    def ask(self, connection: psycopg.Connection[Any]) -> None:
        while not self.over.is_set():
            try:
                connection.execute("SELECT name FROM items WHERE id = 1")
                self.asked += 1
                self.over.wait(0.005)
            except psycopg.Error as error:
                self.failed.append(str(error))
                return


@contextmanager
def load(lab: Lab, number: int = 4) -> Iterator[Load]:
    """Have clients ask through the PgBouncer all the while."""
    asking = Load()
    with clients(lab, lab.db, number, "shop-app-1") as opened:
        threads = [threading.Thread(target=asking.ask, args=(each,)) for each in opened]
        for thread in threads:
            thread.start()
        try:
            until(lambda: asking.asked > number, "the load")
            yield asking
        finally:
            asking.over.set()
            for thread in threads:
                thread.join()


def test_a_pause_under_load_loses_no_request(lab: Lab, play: Playbook) -> None:
    start(lab)
    with load(lab) as asking:
        rehearsed = play(tell("pause", database="shop"), dry=True)
        assert f"PgBouncer {BOUNCER}: PAUSE shop" in rehearsed.said
        assert f"PgBouncer {BOUNCER}: RESUME shop" in rehearsed.said
        assert column(lab, "paused") == "0"
        ran = play(
            tell("pause", database="shop"),
            {"query": {"database": DB, "sql": COUNT, "read_only": True}},
            tell("resume", database="shop"),
        ).json()
        before = asking.asked
        until(lambda: asking.asked > before + 20, "requests after the resume")
    assert asking.failed == []
    assert [step["status"] for step in ran["steps"]] == ["ok", "ok", "ok"]
    assert ran["steps"][1]["targets"][DB]["data"]["rows"] == [{"n": 0}]
    assert ran["steps"][2]["summary"] == f"{BOUNCER}/shop is resumed"
    assert column(lab, "paused") == "0"


def test_what_is_paused_when_the_process_is_lost_is_resumed(lab: Lab, play: Playbook) -> None:
    """Killed while it is paused: the debt is told, and a resume of the run pays it."""
    start(lab)
    lab.exec(lab.db, ["rm", "-f", GO])
    waits = {"hosts": DB, "argv": ["sh", "-c", f"until test -e {GO}; do sleep 0.1; done"]}
    steps = (tell("pause", database="shop"), {"command": {**waits, "read_only": True}})
    with clients(lab, lab.db, 1, "cron"):
        running = play.runbook.start(*play.words(*steps), "--yes")
        until(lambda: column(lab, "paused") == "1", "a pause")
        running.process.kill()
        running.process.wait()
        assert column(lab, "paused") == "1"
        shown = play.runbook("runs", "resume", "--show").said
        assert f"{BOUNCER}/shop was paused: RESUME is owed" in shown
        lab.exec(lab.db, ["touch", GO])
        play.runbook("runs", "resume", "--yes")
        assert column(lab, "paused") == "0"
        # Nothing is owed twice, and an end without a step of its own pays as well.
        ended = play(tell("pause", database="shop"))
        assert f"on PgBouncer {BOUNCER}: RESUME shop" in ended.stderr
        assert column(lab, "paused") == "0"
        # What somebody else has paused is left to them.
        lab.bouncer_console(lab.db, "PAUSE shop")
        refused = play(tell("pause", database="shop"), code=3)
        assert "is paused already: somebody else is at work there" in refused.said
        assert column(lab, "paused") == "1"
        play(tell("resume", database="shop"))
        assert column(lab, "paused") == "0"


def test_a_pause_that_is_cut_off_half_way_is_looked_at_and_not_said_twice(
    lab: Lab, play: Playbook
) -> None:
    start(lab)
    with clients(lab, lab.db, 1, "cron") as (busy,):
        busy.autocommit = False
        busy.execute("SELECT 1")
        words = play.words(
            tell("pause", database="shop", wait="60s"), tell("resume", database="shop")
        )
        running = play.runbook.start(*words, "--yes")
        running.wait_for("clients keep 1 server connection")
        running.process.kill()
        running.process.wait()
        busy.commit()
        play.runbook("runs", "resume", "--yes")
        assert column(lab, "paused") == "0"
    said = lab.exec(lab.db, ["journalctl", "-u", BOUNCER_UNIT, "-o", "cat"]).stdout
    mine = said[said.rindex("process up: PgBouncer") :]
    assert mine.count("PAUSE 'shop' command issued") == 1
    assert mine.count("RESUME 'shop' command issued") == 1


def test_clients_that_keep_their_connection_are_not_made_to_wait_for_ever(
    lab: Lab, runbook: Command, play: Playbook
) -> None:
    start(lab, pool_mode="session")
    pause = tell("pause", database="shop")
    bounded = tell("pause", database="shop", wait="500ms")
    with clients(lab, lab.db, 2, "shop-app-1"):
        assert (
            "pools by session: a PAUSE waits until every client has left"
            in play(pause, code=3).said
        )
        ran = play(bounded, code=1)
        assert "was not paused, and is resumed: after 0.5s clients still keep 2" in ran.said
        assert column(lab, "paused") == "0"
        again = client(lab.db, "shop-app-1")
        again.close()
        nobody = play(tell("pause", database="nope"), code=3)
        assert "has no database 'nope'" in nobody.said
        old = play(tell("kill_client", client="1"), code=3)
        assert "KILL_CLIENT came with 1.24" in old.said
        play(tell("disable", database="shop"), tell("enable", database="shop"))
        assert column(lab, "disabled") == "0"
    declare(lab, runbook)
    refused = play(tell("reload"), code=3)
    assert "lets 'bouncer_stats' look, and change nothing" in refused.said
    assert "admin_users" in refused.said


def test_a_reload_tells_what_became_of_it(lab: Lab, play: Playbook) -> None:
    start(lab)
    same = play(tell("reload")).said
    assert "no setting is different" in same
    assert "journalctl -u pgbouncer.service -n 20 on lab-db" in same
    lab.put(lab.db, INI, ini(default_pool_size=9))
    changed = play(tell("reload", expect={"default_pool_size": "9"}))
    assert "was reloaded: default_pool_size 5 -> 9" in changed.said
    lab.put(lab.db, INI, ini(default_pool_size="many"))
    broken = play(tell("reload", expect={"default_pool_size": "12"}), code=1).said
    assert "default_pool_size is '20' and not '12'; default_pool_size 9 -> 20" in broken
    # Every setting from the mistake on: a client of a driver that sends it would be refused now.
    assert "ignore_startup_parameters fell to the default" in broken
    lab.exec(lab.db, ["rm", INI])
    gone = play(tell("reload", expect={"default_pool_size": "12"}), code=1).said
    assert "no setting is different: its file says what held already, or cannot be read" in gone


def test_server_connections_are_renewed_under_load(lab: Lab, play: Playbook) -> None:
    start(lab)
    with load(lab) as asking:
        old = servers(lab)
        ran = play(tell("reconnect", database="shop"))
        before = asking.asked
        until(lambda: asking.asked > before + 20, "requests after it")
        new = servers(lab)
    assert asking.failed == []
    assert old
    assert not old & new
    assert "are gone, and new ones come as they are needed" in ran.said
    # In session mode a client keeps its own until it leaves: that is told, and breaks nothing.
    start(lab, pool_mode="session")
    with clients(lab, lab.db, 1, "shop-app-1") as (kept,):
        late = play(tell("reconnect", wait="300ms"), code=1)
        assert "1 of 1 server connections of bouncer-01 are the old ones" in late.said
        kept.execute("SELECT 1")
