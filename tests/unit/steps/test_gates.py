"""Every kind of gate: what it asks, what counts as well, and what can never be asked."""

from __future__ import annotations

from typing import Any

import pytest

from runbook.model.effects import (
    CommandOutcome,
    HttpGet,
    HttpReply,
    ReadCommand,
    ReadSql,
    Rows,
    TcpReply,
    UnitState,
)
from runbook.model.errors import (
    CommandFailed,
    DatabaseError,
    DatabaseLogin,
    MissingGrant,
    NotStarted,
    SlotRefused,
    Unreachable,
    UsageError,
)
from runbook.model.inventory import Gate
from runbook.steps.gate import Seat
from runbook.steps.gates import KINDS, Gates, bound, gates_of
from unit.steps.shop_world import ROW, UNIT, answer, fleet, outcome

UPTIME = outcome(0, "5000.00 9000.00\n")


def gates(*declared: dict[str, Any], host: str = "web-1", **service: Any) -> Gates:
    whole = fleet(gates=list(declared), **service)
    return gates_of("shop", whole.service("shop"), whole.host(host), whole)


def problem(gate: dict[str, Any], *outcomes: Any) -> str | None:
    return gates(gate).problem(outcomes)


def remedy(gate: dict[str, Any], *outcomes: Any) -> str | None:
    unfit = gates(gate).unaskable(outcomes)
    return None if unfit is None else f"{unfit.problem} | {unfit.hint}"


def test_every_kind_of_the_inventory_is_in_the_table() -> None:
    assert list(KINDS) == list(Gate.model_fields)


def test_outcomes_go_to_the_gates_that_asked() -> None:
    several = gates(
        {"systemd": {}},
        {"http": {"url": "http://${host.address}/"}},
        {"tcp": {"port": 22}},
        {"pg_released": {}},
    )
    looks = several.looks()
    assert len(looks) == 5  # a systemd gate looks at the clock as well
    well = (UnitState(properties=UNIT), UPTIME, answer(200), opened(), Rows(rows=(ROW,)))
    assert several.problem(well) is None
    assert [each["kind"] for each in several.answers(well)] == [
        "systemd",
        "http",
        "tcp",
        "pg_released",
    ]
    late = (*well[:3], opened(error="refused", opened=False), well[4])
    assert several.problem(late) == "refused (tcp 10.0.1.1:22)"
    assert [each["good"] for each in several.answers(late)] == [True, True, False, True]


def test_no_look_takes_longer_than_is_left() -> None:
    all_kinds = gates(
        {"http": {"url": "http://x/", "timeout": "9s"}},
        {"tcp": {"port": 22, "timeout": "9s"}},
        {"command": {"argv": ["true"], "timeout": "9s"}},
        {"sql": {"sql": "SELECT true", "timeout": "9s"}},
        {"systemd": {}},
    )
    timeouts = [getattr(look, "timeout_s", 2.0) for look in all_kinds.looks(2.0)]
    assert timeouts == [2.0] * 6
    assert all_kinds.looks(0.0)[0] == all_kinds.looks(-5)[0]
    assert all_kinds.looks()[0].timeout_s == 9.0  # type: ignore[attr-defined]


# ---- http ----------------------------------------------------------------------------------

URL = "http://10.0.1.1:8000/healthz"


def reply(status: int = 200, body: str = "", **headers: str) -> HttpReply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpReply(status=status, body=body, error="", seconds=0.01, headers=named)


@pytest.mark.parametrize(
    ("more", "came", "says"),
    [
        ({}, reply(), None),
        ({}, reply(503, "no\x1b[31m slots"), "answered 503, not 200: no"),
        ({"status": 204}, reply(204), None),
        ({"contains": "ready"}, reply(body="all ready"), None),
        ({"contains": "ready"}, reply(body="starting"), "without 'ready' in the body"),
        ({"headers": {"X-Version": "7"}}, reply(x_version="7"), None),
        ({"headers": {"X-Version": "7"}}, reply(x_version="6"), "with X-Version: 6, not 7"),
        ({"headers": {"X-Version": "7"}}, reply(), "without the header X-Version"),
        ({}, Unreachable("no way"), "no way"),
    ],
)
def test_http(more: dict[str, Any], came: Any, says: str | None) -> None:
    found = problem({"http": {"url": URL, **more}}, came)
    assert (found is None) == (says is None), found
    assert says is None or says in str(found)
    assert "\x1b" not in str(found)


def test_http_sends_what_it_is_told_to() -> None:
    sent = {"Host": "${host.name}.example.com", "X-Probe": "1"}
    gate = {"http": {"url": URL, "send": sent, "verify": False, "ca_file": "/ca.pem"}}
    (look,) = gates(gate).looks()
    assert look == HttpGet(
        url=URL,
        timeout_s=5.0,
        headers=(("Host", "web-1.example.com"), ("X-Probe", "1")),
        verify=False,
        ca_file="/ca.pem",
    )


@pytest.mark.parametrize(
    "more",
    [
        {"url": "http://x y/"},
        {"url": "http://${host.vars.nope}/"},
        {"url": URL, "send": {"X": "a\r\nHost: evil"}},
        {"url": URL, "send": {"X Y": "a"}},
        {"url": URL, "headers": {"X:": "a"}},
    ],
)
def test_http_that_cannot_be_sent_is_told_before_anything(more: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        gates({"http": more})


def test_http_that_cannot_be_asked() -> None:
    said = remedy({"http": {"url": URL}}, answer(0, "its certificate is not trusted", asked=False))
    assert "ca_file" in str(said)
    assert remedy({"http": {"url": URL}}, answer(0, "refused")) is None


# ---- tcp -----------------------------------------------------------------------------------


def opened(*, opened: bool = True, banner: str = "", error: str = "", asked: bool = True) -> Any:
    return TcpReply(opened=opened, error=error, seconds=0.01, banner=banner, asked=asked)


@pytest.mark.parametrize(
    ("more", "came", "says"),
    [
        ({}, opened(), None),
        ({}, opened(opened=False, error="Connection refused"), "Connection refused"),
        ({"banner": "SSH-2.0"}, opened(banner="SSH-2.0-x"), None),
        ({"banner": "SSH-2.0"}, opened(banner="220 mail"), "said 220 mail, without 'SSH-2.0'"),
        ({"banner": "SSH-2.0"}, opened(error="no answer within 5s"), "no answer within 5s"),
    ],
)
def test_tcp(more: dict[str, Any], came: TcpReply, says: str | None) -> None:
    found = problem({"tcp": {"port": 22, **more}}, came)
    assert (found is None) == (says is None), found
    assert says is None or says in str(found)


@pytest.mark.parametrize("port", ["0", "65536", "http", "-1", "", "1" * 50, "٢٢"])
def test_a_port_that_is_none_is_told_before_anything(port: str) -> None:
    with pytest.raises(UsageError):
        gates({"tcp": {"port": port}})


def test_a_port_may_come_from_the_host() -> None:
    whole = fleet(gates=[{"tcp": {"port": "${host.vars.nope}"}}])
    with pytest.raises(UsageError, match="not known"):
        gates_of("shop", whole.service("shop"), whole.host("web-1"), whole)


def test_a_name_that_leads_nowhere_stops_a_preflight() -> None:
    assert remedy({"tcp": {"port": 22}}, opened(opened=False, error="no name", asked=False))


# ---- systemd -------------------------------------------------------------------------------


def unit(up_s: float | None = None, **changed: str) -> UnitState:
    entered = (
        {} if up_s is None else {"ActiveEnterTimestampMonotonic": f"{(5000 - up_s) * 1e6:.0f}"}
    )
    return UnitState(properties={**UNIT, **entered, **changed})


LOOP = unit(ActiveState="activating", SubState="auto-restart")


@pytest.mark.parametrize(
    ("more", "state", "says"),
    [
        ({}, unit(), None),
        ({}, LOOP, "is activating/auto-restart"),
        ({}, unit(ActiveState="failed", SubState="failed", Result="exit-code"), "exit-code"),
        ({}, unit(ActiveState="failed", Result="start-limit-hit"), "start limit"),
        # It runs at this look, and systemd had to start it again a moment ago.
        ({}, unit(up_s=1.5, NRestarts="3"), "had to start it again 3 times"),
        ({}, unit(up_s=59, NRestarts="1"), "not yet for 1m 00s"),
        # A crash of last week is no restart loop.
        ({}, unit(up_s=61, NRestarts="1"), None),
        # Its loop is as slow as its pause between starts.
        ({}, unit(up_s=200, NRestarts="1", RestartUSec="2min"), "not yet for 6m 00s"),
        ({}, unit(NRestarts="1"), "cannot be seen"),
        ({"stable": "10s"}, unit(up_s=9), "not yet for 10s"),
        ({"stable": "10s"}, unit(up_s=10), None),
        ({"stable": "10s"}, unit(), "cannot be seen"),
        ({"stable": "10s"}, unit(up_s=-100), "cannot be seen"),
    ],
)
def test_systemd(more: dict[str, Any], state: UnitState, says: str | None) -> None:
    found = problem({"systemd": more}, state, UPTIME)
    assert (found is None) == (says is None), found
    assert says is None or says in str(found)


@pytest.mark.parametrize("clock", [outcome(1), outcome(0, "nonsense"), CommandFailed("slow")])
def test_without_the_clock_no_age_is_believed(clock: Any) -> None:
    assert "cannot be seen" in str(problem({"systemd": {"stable": "1s"}}, unit(up_s=50), clock))
    assert problem({"systemd": {}}, unit(up_s=50), clock) is None


def test_a_unit_that_is_not_there_stops_a_preflight() -> None:
    gate = {"systemd": {"unit": "shpo.service"}}
    assert "no unit shpo.service" in str(remedy(gate, unit(LoadState="not-found"), UPTIME))
    assert remedy(gate, unit(), UPTIME) is None
    assert remedy(gate, unit(LoadState="masked"), UPTIME) is None  # it may well be running


def test_units_that_are_none_are_told_before_anything() -> None:
    with pytest.raises(UsageError, match="one unit"):
        gates({"systemd": {"unit": "*.service"}})
    commands = {"command": {"restart": ["true"], "status": ["true"]}}
    with pytest.raises(UsageError, match="names one"):
        gates({"systemd": {}}, manager=commands)


# ---- command -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "came", "says"),
    [
        ({}, outcome(0, "fine"), None),
        ({}, outcome(1, "", "no\x07 good\nsecond"), "exited with 1, not 0: no"),
        ({"exit_code": 1}, outcome(1), None),
        ({"exit_code": 1}, outcome(0), "exited with 0, not 1"),
        ({"contains": "fine"}, outcome(0, "all fine"), None),
        ({"contains": "fine"}, outcome(0, "", "fine"), "without 'fine'"),
        ({}, CommandFailed("did not end"), "did not end"),
    ],
)
def test_command(more: dict[str, Any], came: Any, says: str | None) -> None:
    found = problem({"command": {"argv": ["probe", "${host.name}"], **more}}, came)
    assert (found is None) == (says is None), found
    assert says is None or says in str(found)
    assert "\x07" not in str(found)


def test_a_command_is_one_argv_on_its_host() -> None:
    gate = {"command": {"argv": ["probe", "${host.name}; rm"], "sudo": True}}
    (look,) = gates(gate).looks()
    assert look == ReadCommand(host="web-1", argv=("probe", "web-1; rm"), timeout_s=15.0, sudo=True)


@pytest.mark.parametrize(
    ("more", "came", "says"),
    [
        ({}, outcome(127, "", "probe: not found"), "not found"),
        ({}, outcome(126), "exited with 126"),
        ({"exit_code": 127}, outcome(127), None),
        ({"sudo": True}, outcome(1, "", "sudo: a password is required"), "sudo -n -l"),
        ({}, outcome(1, "", "sudo: that is what it always says"), None),
        ({}, outcome(1), None),
        ({}, NotStarted("no such program"), "no such program"),
        ({}, CommandFailed("slow"), None),
    ],
)
def test_a_command_that_cannot_be_asked(
    more: dict[str, Any], came: CommandOutcome, says: str | None
) -> None:
    said = remedy({"command": {"argv": ["probe"], **more}}, came)
    assert (said is None) == (says is None), said
    assert says is None or says in str(said)


# ---- sql and pg_released -------------------------------------------------------------------


def rows(*values: Any) -> Rows:
    return Rows(rows=tuple({"answer": value, "more": 0} for value in values))


@pytest.mark.parametrize(
    ("came", "says"),
    [
        (rows(True), None),
        (rows(False), "returned false"),
        (rows(7), None),
        (rows(0), "returned 0"),
        (rows("0.00"), "returned 0.00"),
        (rows("0.01"), None),
        (rows(None), "returned null"),
        (rows(), "no row"),
        (rows("yes"), "returned yes"),
        (SlotRefused("full", sqlstate="53300"), "full"),
    ],
)
def test_sql(came: Any, says: str | None) -> None:
    found = problem({"sql": {"sql": "SELECT ready FROM state"}}, came)
    assert (found is None) == (says is None), found
    assert says is None or says in str(found)


@pytest.mark.parametrize(
    ("came", "never"),
    [
        (rows("yes"), True),
        (rows(None), False),
        (rows(), False),
        (DatabaseError("no such table", sqlstate="42P01"), True),
        (DatabaseError("read only", sqlstate="25006"), True),
        (MissingGrant("denied", sqlstate="42501"), True),
        (DatabaseLogin("wrong password", sqlstate="28P01"), True),
        # A database that is full, slow or away is why one restarts.
        (SlotRefused("full", sqlstate="53300"), False),
        (DatabaseError("too slow", sqlstate="57014"), False),
        (Unreachable("away"), False),
    ],
)
def test_sql_that_can_never_be_answered(came: Any, never: bool) -> None:
    assert (remedy({"sql": {"sql": "SELECT 1"}}, came) is not None) == never


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM orders",
        "SELECT 1; SELECT 2",
        "SELECT pg_terminate_backend(1)",
        "SELECT '${host.name}'",
        "SELECT %(name)s",
        "SELECT ${host.vars.nope}",
        "",
    ],
)
def test_sql_that_does_not_only_read_is_told_before_anything(sql: str) -> None:
    with pytest.raises(UsageError):
        gates({"sql": {"sql": sql}})


def test_a_host_in_sql_is_a_value() -> None:
    sql = "SELECT count(*) = 0 FROM s WHERE app = ${ host.name } OR app = ${host.name}"
    (look,) = gates({"sql": {"sql": sql}}).looks()
    assert isinstance(look, ReadSql)
    assert look.sql == "SELECT count(*) = 0 FROM s WHERE app = %(gate_0)s OR app = %(gate_0)s"
    assert look.parameters == (("gate_0", "web-1"),)


@pytest.mark.parametrize(
    ("free", "used", "says"),
    [
        (1, 36, None),
        (1, 37, "0 of 37 usable slots are free in db, not 1"),
        (1, 40, "0 of 37"),
        ("50%", 18, None),
        ("50%", 19, "18 of 37 usable slots are free in db, not 19"),
    ],
)
def test_pg_released(free: Any, used: int, says: str | None) -> None:
    found = problem({"pg_released": {"free": free}}, Rows(rows=({**ROW, "used": used},)))
    assert (found is None) == (says is None), found
    assert says is None or says in str(found)


def test_pg_released_that_sees_too_little_is_no_pass() -> None:
    blind = Rows(rows=({**ROW, "sees_all": False, "used": 0},))
    assert "does not see" in str(problem({"pg_released": {}}, blind))
    assert 'GRANT pg_monitor TO "oncall"' in str(remedy({"pg_released": {}}, blind))


def test_a_database_must_be_named_and_be_there() -> None:
    with pytest.raises(UsageError, match="names one"):
        gates({"pg_released": {}}, database=None)
    with pytest.raises(UsageError, match="no database named"):
        gates({"sql": {"sql": "SELECT 1", "database": "dbb"}})


# ---- a gate of no host ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "gate",
    [
        {"command": {"argv": ["true"]}},
        {"systemd": {"unit": "a.service"}},
        {"tcp": {"port": 1}},
        {"http": {"url": "http://${host.name}/"}},
    ],
)
def test_without_a_host_some_gates_have_nowhere_to_ask(gate: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        bound((Gate.model_validate(gate),), Seat(fleet=fleet(), host=None))
