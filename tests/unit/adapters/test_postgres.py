"""The door to PostgreSQL, against a real server with 12 slots."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from runbook.adapters.postgres import PostgresDoor
from runbook.adapters.postgres_errors import classify_refusal, missing_grant, split_refusal
from runbook.adapters.postgres_ladder import application_name
from runbook.adapters.postgres_signal import _run, signal
from runbook.findings.limits import QUESTION as LIMITS
from runbook.model.effects import AskDatabase, ChangeSql, Question, ReadSql, SignalSessions
from runbook.model.errors import (
    ChangeInRehearsal,
    ConnectionLost,
    DatabaseError,
    DatabaseLogin,
    DoorError,
    MissingGrant,
    SecretMissing,
    SlotRefused,
    Unreachable,
)
from runbook.model.sessions import SessionId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from unit.postgres_server import Server

ONE = Question(name="one", sql="SELECT 1 AS one")
OURS = Question(name="ours", sql="SELECT pg_backend_pid() AS pid")
ME = Question(name="me", sql="SELECT current_user::text AS role")
HAS_ROLE = Question(
    name="has", sql="SELECT pg_has_role(current_user, 'pg_monitor', 'USAGE') AS has"
)


@pytest.fixture
def door_of(server: Server) -> Iterator[Callable[..., PostgresDoor]]:
    """Open doors with overridden inventory keys; they are closed at the end."""
    doors = []

    def open_door(*, rehearsal: bool = False, **database: Any) -> PostgresDoor:
        doors.append(PostgresDoor(server.fleet(**database), rehearsal=rehearsal))
        return doors[-1]

    yield open_door
    for door in doors:
        door.close()


def _ask(door: PostgresDoor, *questions: Question) -> Any:
    return door.perform(AskDatabase(database="db", questions=questions))


@contextmanager
def _counting(port: int) -> Iterator[tuple[int, list[int]]]:
    """Pass one connection on to `port`; note the size of each message to the server."""
    trips: list[int] = []

    def pump(source: socket.socket, sink: socket.socket, sizes: list[int]) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(1 << 16):
                sizes.append(len(chunk))
                sink.sendall(chunk)

    def serve() -> None:
        client, _ = listener.accept()
        with client, socket.create_connection(("127.0.0.1", port)) as upstream:
            back = threading.Thread(target=pump, args=(upstream, client, []), daemon=True)
            back.start()
            pump(client, upstream, trips)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1], trips


def _ids(server: Server, role: str = "app") -> list[SessionId]:
    rows = server.admin(
        "SELECT pid, (backend_start AT TIME ZONE 'UTC')::text, state,"
        f" (state_change AT TIME ZONE 'UTC')::text FROM pg_stat_activity WHERE usename = '{role}'"
        " ORDER BY backend_start"
    )
    return [
        SessionId(pid=pid, backend_start=start, state=state, state_change=change)
        for pid, start, state, change in rows
    ]


# ---- questions -----------------------------------------------------------------------------


def test_answers_come_as_json_able_values(door_of: Any) -> None:
    sql = """SELECT 1 AS i, true AS b, 1.5::float8 AS f, 'NaN'::float8 AS nan, 2.50 AS n,
        NULL AS no, 'it''s' AS t, ARRAY[1,NULL,3] AS a, '{}'::int[] AS e, '{"a": [1]}'::jsonb AS j,
        timestamptz '2024-03-01 12:00:00.5+02' AS at -- a comment at the end"""
    answers = _ask(door_of(), Question(name="all", sql=sql), ONE)
    assert answers.rows["one"] == [{"one": 1}]
    assert answers.rows["all"] == [
        {
            "i": 1,
            "b": True,
            "f": 1.5,
            "nan": "NaN",
            "n": 2.5,
            "no": None,
            "t": "it's",
            "a": [1, None, 3],
            "e": [],
            "j": {"a": [1]},
            "at": "2024-03-01 10:00:00.5+00",
        }
    ]
    assert (answers.rung, answers.refusals, answers.failed) == ("connect", (), {})


def test_all_questions_share_one_connection_and_one_round_trip(
    door_of: Any, server: Server
) -> None:
    door = door_of()
    first = _ask(door, OURS, ONE).rows["ours"]
    assert _ask(door, OURS).rows["ours"] == first
    seen = server.admin(
        "SELECT application_name, query FROM pg_stat_activity WHERE usename = 'oncall'"
    )
    assert [name for name, _ in seen] == [application_name()]


def test_a_question_that_fails_does_not_take_the_others_along(door_of: Any) -> None:
    questions = (
        ONE,
        Question(name="denied", sql="SELECT * FROM pg_authid"),
        Question(name="broken", sql="SELECT FROM WHERE"),
        Question(name="zero", sql="SELECT 1/0"),
        ME,
        Question(name="newer", sql="SELECT of_the_future", min_version=990000),
    )
    answers = _ask(door_of(), *questions)
    assert set(answers.rows) == {"one", "me"}
    assert set(answers.failed) == {"denied", "broken", "zero"}
    assert "GRANT SELECT ON pg_authid TO oncall" in answers.failed["denied"]


def test_questions_cannot_change_anything(door_of: Any) -> None:
    answers = _ask(door_of(), Question(name="write", sql="CREATE TABLE t (i int)"), ONE)
    assert "read-only transaction" in answers.failed["write"]


def test_a_connection_that_the_server_closed_is_opened_again(door_of: Any, server: Server) -> None:
    door = door_of()
    _ask(door, ONE)
    server.admin(
        "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE usename = 'oncall'"
    )
    assert _ask(door, ONE).rows["one"] == [{"one": 1}]


def test_a_look_that_is_cut_off_is_repeated_once(door_of: Any, server: Server) -> None:
    door = door_of()
    _ask(door, ONE)
    cut = threading.Timer(
        0.2,
        server.admin,
        ["SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'oncall'"],
    )
    cut.start()
    answers = _ask(door, Question(name="slow", sql="SELECT pg_sleep(0.5)"), ME)
    cut.join()
    assert answers.rows["me"] == [{"role": "oncall"}]


def test_a_door_serves_several_threads(door_of: Any) -> None:
    door = door_of()
    seen: list[Any] = []
    threads = [
        threading.Thread(target=lambda: seen.append(_ask(door, OURS).rows["ours"][0]["pid"]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert len(set(seen)) == 1


def test_a_diagnosis_takes_five_round_trips(door_of: Any, server: Server) -> None:
    """SSLRequest, startup, two for SCRAM, and one for all questions."""
    with _counting(server.port) as (port, trips):
        _ask(door_of(connect={"port": port}), ONE, ME, OURS)
    assert len(trips) == 5


# ---- the ladder ----------------------------------------------------------------------------


def test_without_a_slot_the_superuser_is_let_in(door_of: Any, server: Server) -> None:
    with server.crowd(server.usable):
        answers = _ask(door_of(admin={"user": "postgres"}), ME)
    assert answers.rung == "admin"
    assert answers.rows["me"] == [{"role": "postgres"}]
    assert [rung for rung, _ in answers.refusals] == ["connect"]
    assert "SUPERUSER" in answers.refusals[0][1]


def test_with_every_slot_taken_a_walsender_gets_in_and_terminates(
    door_of: Any, server: Server
) -> None:
    door = door_of(admin={"user": "postgres"}, rescue={"user": "rescue"})
    with server.crowd(server.usable - 1), server.connect("app"):
        ids = _ids(server)
        with server.crowd(2, "postgres"):
            answers = _ask(door, ME, ONE)
            assert answers.rung == "rescue"
            assert [text for _, text in answers.refusals] == ["sorry, too many clients already"] * 2
            signalled = door.perform(SignalSessions(database="db", sessions=tuple(ids[:3])))
            assert signalled == tuple(i.pid for i in ids[:3])
            time.sleep(0.2)
            # The walsender's slot was given back: an ordinary one is free again.
            assert _ask(door, ME).rung == "connect"


def test_when_every_door_refuses_each_is_named(door_of: Any) -> None:
    door = door_of(connect={"user": "crowd"}, admin={"user": "crowd"}, rescue={"user": "oncall"})
    with pytest.raises(SlotRefused) as caught:
        _ask(door, ONE)
    message = caught.value.message
    assert 'connect: too many connections for role "crowd"' in message
    assert "admin: too many connections" in message
    assert "ALTER ROLE oncall REPLICATION" in message
    assert "sudo -u postgres psql" in (caught.value.hint or "")


def test_without_a_rescue_role_the_hint_asks_for_one(door_of: Any) -> None:
    with pytest.raises(SlotRefused) as caught:
        _ask(door_of(connect={"user": "crowd"}), ONE)
    assert "databases.db.rescue" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("connect", "error", "said", "hint"),
    [
        ({"user": "who"}, DatabaseLogin, "password authentication", "databases.db.connect"),
        ({"dbname": "none"}, DatabaseLogin, "does not exist", "psql -l"),
        ({"sslmode": "require"}, Unreachable, "does not support SSL", "sslmode"),
        ({"user": "barred"}, DatabaseLogin, "pg_hba.conf", "hostssl"),
        ({"port": 1}, Unreachable, "127.0.0.1:1", "pg_isready -h 127.0.0.1 -p 1"),
        ({"host": "none.invalid"}, Unreachable, "none.invalid", "DNS"),
        ({"password": {"env": "NOT_SET"}}, SecretMissing, "NOT_SET", "export"),
    ],
)
def test_a_door_that_stays_shut_says_what_to_do(
    door_of: Any, connect: dict[str, Any], error: type[DoorError], said: str, hint: str
) -> None:
    with pytest.raises(error, match=said) as caught:
        _ask(door_of(connect=connect), ONE)
    assert hint in (caught.value.hint or "")


def test_a_server_that_never_answers_is_given_up(door_of: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        started = time.monotonic()
        with pytest.raises(Unreachable, match=r"no answer within 0\.2s"):
            _ask(door_of(connect={"port": port, "connect_timeout": "200ms"}), ONE)
        assert time.monotonic() - started < 2


# ---- terminations --------------------------------------------------------------------------


def test_sessions_as_seen_are_terminated_and_no_other(door_of: Any, server: Server) -> None:
    with server.crowd(4) as crowd:
        ids = _ids(server)
        crowd[1].execute(b"SELECT 1")  # it moved since it was seen
        wrong = SessionId(
            pid=ids[2].pid,
            backend_start="2001-01-01 00:00:00",
            state_change=ids[2].state_change,
            state="idle",
        )
        hidden = SessionId(pid=ids[3].pid, backend_start="", state_change="", state="")
        wanted = (ids[0], ids[1], wrong, hidden)
        signalled = door_of().perform(SignalSessions(database="db", sessions=wanted))
        assert signalled == (ids[0].pid,)
        time.sleep(0.1)
        assert {i.pid for i in _ids(server)} == {i.pid for i in ids[1:]}


def test_a_time_that_names_its_zone_is_understood(door_of: Any, server: Server) -> None:
    with server.crowd(1):
        (seen,) = _ids(server)
        zoned = SessionId(
            pid=seen.pid,
            backend_start=f"{seen.backend_start}+00",
            state_change=f"{seen.state_change}+00",
            state=seen.state,
        )
        effect = SignalSessions(database="db", sessions=(zoned,))
        assert door_of().perform(effect) == (seen.pid,)


def test_a_superusers_session_does_not_hide_the_others(door_of: Any, server: Server) -> None:
    with server.connect("postgres") as boss, server.crowd(2):
        ids = _ids(server)
        pid = boss.info.backend_pid
        (other,) = [i for i in _ids(server, "postgres") if i.pid == pid]
        door = door_of()
        signalled = door.perform(SignalSessions(database="db", sessions=(other, *ids)))
        assert signalled == tuple(i.pid for i in ids)
        with pytest.raises(MissingGrant, match=str(pid)):
            door.perform(SignalSessions(database="db", sessions=(other,)))


def test_a_role_that_may_not_signal_is_told_the_grant(door_of: Any, server: Server) -> None:
    with server.crowd(1):
        effect = SignalSessions(database="db", sessions=tuple(_ids(server)))
        with pytest.raises(MissingGrant) as caught:
            door_of(connect={"user": "sees"}).perform(effect)
        assert "GRANT pg_signal_backend TO sees" in (caught.value.hint or "")
        assert len(_ids(server)) == 1


def test_text_in_a_session_id_is_never_sql(door_of: Any) -> None:
    evil = SessionId(
        pid=1, backend_start="'); SELECT pg_reload_conf(); --", state_change="x", state="'"
    )
    with pytest.raises(ConnectionLost, match="invalid input syntax"):
        door_of().perform(SignalSessions(database="db", sessions=(evil,)))


@pytest.mark.parametrize("rung", ["connect", "admin", "rescue"])
def test_nobody_elses_functions_answer_our_questions(
    door_of: Any, server: Server, rung: str
) -> None:
    users: dict[str, Any] = {"admin": {"user": "postgres"}, "rescue": {"user": "rescue"}}
    shut = {} if rung == "connect" else {"connect": {"user": "crowd"}, rung: users[rung]}
    path = Question(name="path", sql="SELECT current_setting('search_path') AS path")
    with server.trojans():
        answers = _ask(door_of(**shut), HAS_ROLE, LIMITS, path)
        assert answers.rung == rung
        assert answers.failed == {}
        assert answers.rows["path"] == [{"path": "pg_catalog, pg_temp"}]
        one_by_one = _ask(door_of(**shut), HAS_ROLE, Question(name="no", sql="SELECT no"))
        assert set(one_by_one.failed) == {"no"}


@pytest.mark.parametrize("rung", ["connect", "rescue"])
def test_nobody_elses_functions_take_part_in_a_signal(
    door_of: Any, server: Server, rung: str
) -> None:
    shut = {"connect": {"user": "crowd"}, "rescue": {"user": "rescue"}}
    door = door_of(**({} if rung == "connect" else shut))
    with server.trojans(), server.crowd(1):
        (one,) = _ids(server)
        assert door.perform(SignalSessions(database="db", sessions=(one,))) == (one.pid,)


def test_a_roles_own_timeout_does_not_end_a_signal_half_way(door_of: Any, server: Server) -> None:
    talk = door_of()._line("db")._enter().talk
    with server.crowd(1):
        (one,) = _ids(server)
        talk.run(["SET statement_timeout = 1"], 5.0)
        settings = _run(talk, "SELECT current_setting('statement_timeout') AS timeout")
        assert settings == [{"timeout": "5s"}]
        assert signal(talk, [one]) == (one.pid,)
        assert talk.run(["SHOW statement_timeout"], 5.0)[0].rows == [{"statement_timeout": "1ms"}]


BENT = {
    "PGHOSTADDR": "127.0.0.9",
    "PGTARGETSESSIONATTRS": "standby",
    "PGOPTIONS": "-c search_path=nowhere",
    "PGSERVICE": "no-such-service",
}


@pytest.mark.parametrize("name", BENT)
def test_the_environment_leads_nowhere_else(
    door_of: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, BENT[name])
    door = door_of()
    assert _ask(door, ME).rows["me"] == [{"role": "oncall"}]
    assert _read(door, "SHOW search_path").rows == ({"search_path": '"$user", public'},)
    assert os.environ[name] == BENT[name]


def test_closing_does_not_wait_for_a_look_that_was_given_up(door_of: Any, server: Server) -> None:
    door = door_of()
    asleep = Question(name="asleep", sql="SELECT pg_sleep(3)")
    late = threading.Thread(target=_ask, args=(door, asleep))
    late.start()
    asleep_there = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    while not server.admin(asleep_there):
        assert late.is_alive()
        time.sleep(0.01)
    door.close()
    assert late.is_alive()
    late.join()
    # Whoever asks after that enters anew, over a connection of its own.
    assert _ask(door, ONE).rows
    door.close()
    # The late one has hung up by itself.
    deadline = time.monotonic() + 5
    ours = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'runbook %'"
    while server.admin(ours):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_rehearsal_changes_nothing(door_of: Any, server: Server) -> None:
    door = door_of(rehearsal=True)
    with server.crowd(1):
        effect = SignalSessions(database="db", sessions=tuple(_ids(server)))
        with pytest.raises(ChangeInRehearsal):
            door.perform(effect)
        with pytest.raises(ChangeInRehearsal):
            door.perform(ChangeSql(database="db", sql="CREATE TABLE no (i int)"))
        assert len(_ids(server)) == 1


# ---- SQL of playbooks ----------------------------------------------------------------------


def _read(door: PostgresDoor, sql: str, **more: Any) -> Any:
    parameters = tuple(more.pop("parameters", {}).items())
    return door.perform(ReadSql(database="db", sql=sql, parameters=parameters, **more))


def test_no_superuser_runs_a_playbooks_sql(door_of: Any, server: Server) -> None:
    door = door_of(admin={"user": "postgres"})
    with server.crowd(server.usable):
        assert _ask(door, ME).rung == "admin"  # and the connection is kept
        with pytest.raises(SlotRefused):
            _read(door, "SELECT 1")
        with pytest.raises(SlotRefused):
            door.perform(ChangeSql(database="db", sql="CREATE TABLE no (i int)"))
        assert _ask(door, ME).rung == "admin"


def test_a_playbooks_sql_keeps_its_own_search_path(door_of: Any, server: Server) -> None:
    server.admin("CREATE FUNCTION public.ours() RETURNS int LANGUAGE sql AS 'SELECT 7'")
    try:
        assert _read(door_of(), "SELECT ours() AS n").rows == ({"n": 7},)
    finally:
        server.admin("DROP FUNCTION public.ours()")


def test_reading_brings_rows_up_to_the_limit(door_of: Any) -> None:
    rows = _read(door_of(), "SELECT g FROM generate_series(1, 10) g; -- all", limit=3)
    assert rows.rows == ({"g": 1}, {"g": 2}, {"g": 3})
    assert rows.truncated
    assert _read(door_of(), "SHOW max_connections").rows == ({"max_connections": "12"},)
    assert not _read(door_of(), "VALUES (1)", limit=1).truncated


@pytest.mark.parametrize("value", ["x'; DROP TABLE t; --", "a\\", "ü\n%(b)s", "", "$1", "E'\\"])
def test_parameters_arrive_as_they_were(door_of: Any, value: str) -> None:
    rows = _read(door_of(), "SELECT %(v)s::text AS v", parameters={"v": value})
    assert rows.rows == ({"v": value},)


def test_parameters_keep_their_types(door_of: Any) -> None:
    values = {"i": -5, "f": 1.5, "b": False, "n": None}
    sql = "SELECT 1 -%(i)s AS i, %(f)s AS f, %(b)s AS b, %(n)s::int AS n"
    assert _read(door_of(), sql, parameters=values).rows == (
        {"i": 6, "f": 1.5, "b": False, "n": None},
    )


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT pg_reload_conf()",
        "SELECT 1; SELECT 2",
        "CREATE TABLE t (i int)",
        "SELECT 1 INTO t",
        "WITH t AS (DELETE FROM pg_class RETURNING 1) SELECT * FROM t",
        "SELECT %(missing)s",
    ],
)
def test_reading_refuses_what_does_not_only_read(door_of: Any, sql: str) -> None:
    with pytest.raises(DatabaseError):
        _read(door_of(), sql)


def test_reading_has_a_timeout_and_the_connection_goes_on(door_of: Any) -> None:
    door = door_of()
    with pytest.raises(DatabaseError, match="timeout") as caught:
        _read(door, "SELECT pg_sleep(5)", timeout_s=0.1)
    assert caught.value.sqlstate == "57014"
    assert _read(door, "SELECT 1 AS a").rows == ({"a": 1},)


def test_a_change_runs_in_autocommit(door_of: Any, server: Server) -> None:
    door = door_of(connect={"user": "postgres"})
    door.perform(ChangeSql(database="db", sql="CREATE TABLE kept (i int)"))
    rows = door.perform(
        ChangeSql(
            database="db",
            sql="INSERT INTO kept VALUES (%(i)s) RETURNING i;",
            parameters=(("i", 7),),
        )
    )
    assert rows.rows == ({"i": 7},)
    assert server.admin("SELECT i FROM kept") == [(7,)]
    door.perform(ChangeSql(database="db", sql="VACUUM kept"))
    door.perform(ChangeSql(database="db", sql="BEGIN"))
    door.perform(ChangeSql(database="db", sql="DROP TABLE kept"))
    assert server.admin("SELECT to_regclass('kept')::text") == [(None,)]


@pytest.mark.parametrize("sql", ["COPY pg_class TO STDOUT", "SELECT 1; SELECT 2", "DROP TABLE x"])
def test_a_change_that_fails_leaves_a_door_that_works(door_of: Any, sql: str) -> None:
    door = door_of(connect={"user": "postgres"})
    with pytest.raises(DatabaseError):
        door.perform(ChangeSql(database="db", sql=sql))
    assert _ask(door, ONE).rows["one"] == [{"one": 1}]


def test_a_change_that_is_cut_off_is_never_repeated(door_of: Any, server: Server) -> None:
    door = door_of()
    server.admin("CREATE SEQUENCE counter")
    server.admin("GRANT USAGE ON SEQUENCE counter TO oncall")
    cut = threading.Timer(
        0.3,
        server.admin,
        ["SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'oncall'"],
    )
    cut.start()
    sql = "SELECT nextval('counter'), pg_sleep(2)"
    with pytest.raises(ConnectionLost, match="lost"):
        door.perform(ChangeSql(database="db", sql=sql))
    cut.join()
    assert _ask(door, ONE).rows["one"] == [{"one": 1}]
    assert server.admin("SELECT last_value, is_called FROM counter") == [(1, True)]
    server.admin("DROP SEQUENCE counter")


# ---- what the server says ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sqlstate", "kind"),
    [
        ("FATAL: sorry, too many clients already", None, "slots"),
        ("remaining connection slots are reserved for non-replication superuser", None, "slots"),
        ('… for roles with privileges of the "pg_use_reserved_connections" role', "53300", "slots"),
        ("FATAL: désolé, trop de clients sont déjà connectés", "53300", "slots"),
        ("number of requested standby connections exceeds max_wal_senders", None, "slots"),
        ("no more connections allowed (max_client_conn)", "08P01", "slots"),
        ("client connections exceeded (max_db_client_connections)", "08P01", "slots"),
        ('no pg_hba.conf entry for host "10.0.0.1"', "28000", "hba"),
        ('role "x" does not exist', "28000", "role"),
        ("the database system is starting up", "57P03", "starting"),
        ("certificate verify failed", None, "tls"),
        ("server closed the connection unexpectedly", None, "lost"),
        ("something new", None, "unknown"),
    ],
)
def test_refusals_are_told_apart(text: str, sqlstate: str | None, kind: str) -> None:
    assert classify_refusal(text, sqlstate) == kind


def test_the_sqlstate_is_taken_out_of_libpqs_message() -> None:
    text = (
        'connection to server at "::1", port 5432 failed: Connection refused\n'
        'connection to server at "127.0.0.1", port 5432 failed: FATAL:  53300: sorry, too\x1b[31m'
        " many clients already\nLOCATION:  ProcessStartupPacket, postmaster.c:2353\n"
    )
    plain, sqlstate = split_refusal(text)
    assert sqlstate == "53300"
    assert plain.endswith("FATAL: sorry, too\\x1b[31m many clients already")


def test_the_server_is_asked_for_its_sqlstates(door_of: Any) -> None:
    with pytest.raises(DatabaseLogin) as caught:
        _ask(door_of(connect={"user": "who"}), ONE)
    assert caught.value.sqlstate == "28P01"


def test_missing_grants_are_named() -> None:
    assert missing_grant("permission denied for table orders", "On Call") == (
        'GRANT SELECT ON orders TO "On Call"'
    )
    assert missing_grant("permission denied for function pg_ls_waldir", "a") == (
        "GRANT pg_monitor TO a"
    )
    assert missing_grant("permission denied for schema shop", "a") == (
        "GRANT USAGE ON SCHEMA shop TO a"
    )


def test_our_name_is_short_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "jürgen" * 20)
    name = application_name()
    assert name.startswith("runbook j?rgen")
    assert len(name) == 63


def test_a_role_that_reads_backslashes_in_the_old_way_does_not_deceive_the_guard(
    server: Server, door_of: Callable[..., PostgresDoor]
) -> None:
    # In the old reading the literal ends at the second quote, and the rest is run.
    sql = "SELECT '\\'', pg_sleep(0) --' AS text"
    server.admin("ALTER ROLE oncall SET standard_conforming_strings = off")
    try:
        rows = door_of(rehearsal=True).perform(ReadSql(database="db", sql=sql)).rows
    finally:
        server.admin("ALTER ROLE oncall RESET standard_conforming_strings")
    assert rows == ({"text": "\\', pg_sleep(0) --"},)
