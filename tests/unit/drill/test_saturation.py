"""The scenario on a real PostgreSQL: refused to the app, open to the on-call, owned by the leak."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import yaml

from runbook.drill import cluster, errors, probe, processes, saturation, state
from runbook.drill.errors import DrillError, DrillRefused
from runbook.model.inventory import Inventory

if TYPE_CHECKING:
    from runbook.drill.saturation import Drill


def _state(drill: Drill) -> state.State:
    found = state.load(drill.state_dir)
    assert found is not None
    return found


def test_the_app_is_refused_with_53300_and_the_on_call_gets_in(drill: Drill) -> None:
    login = probe.log_in(drill.state_dir, drill.db_port)
    assert login.refused
    assert not login.accepted
    log = (Path(_state(drill).home) / "postgres.log").read_text()
    assert "] 53300 shop@shop" in log
    assert probe.log_in(drill.state_dir, drill.db_port, "oncall").accepted


def test_no_login_without_the_password(drill: Drill) -> None:
    with pytest.raises(Exception, match="password authentication failed"):
        cluster.connect(drill.db_port, "oncall", "guessed")


def test_the_leaking_server_exceeds_its_declared_pool_and_no_other_does(drill: Drill) -> None:
    found = probe.sample(drill.state_dir, _state(drill))
    names = list(found.sessions.values())
    assert {name: names.count(name) for name in set(names)} == {
        "shop-app-1": 4,
        "shop-app-2": 4,
        "shop-app-3": 4 + drill.leaked,
        "shop-app-4": 4,
    }
    assert found.used == cluster.USABLE
    assert all(found.ready.values())


def test_the_leaked_sessions_are_the_ones_idle_longest(drill: Drill) -> None:
    assert drill.leaked > 4
    assert probe.leak_is_plain(drill.state_dir, _state(drill))


def test_the_rescue_role_gets_in_without_a_slot(drill: Drill) -> None:
    password = (drill.state_dir / "secrets" / "oncall_rescue").read_text()
    where = f"host=127.0.0.1 port={drill.db_port} user=oncall_rescue password={password}"
    with psycopg.connect(
        f"{where} dbname=postgres replication=database",
        autocommit=True,
        cursor_factory=psycopg.ClientCursor,
    ) as connection:
        row = connection.execute("SELECT count(*) FROM pg_stat_activity").fetchone()
    assert row is not None
    assert row[0] >= cluster.USABLE


def test_status_tells_what_runs(drill: Drill) -> None:
    found = saturation.status(drill.state_dir)
    assert (found.phase, found.app_role, found.used) == ("running", "refused", cluster.USABLE)
    assert found.database_running
    assert found.traffic_running
    assert [server.name for server in found.servers] == list(saturation.APP_NAMES)
    assert all(server.running and server.ready for server in found.servers)


def test_a_second_start_is_refused_and_names_the_way_out(drill: Drill) -> None:
    with pytest.raises(DrillRefused, match="is running") as refusal:
        saturation.start(drill.state_dir)
    assert refusal.value.hint == "runbook drill stop"
    assert saturation.status(drill.state_dir).database_running


def test_the_inventory_is_valid_private_and_complete(drill: Drill) -> None:
    assert drill.inventory.stat().st_mode & 0o777 == 0o600
    read = Inventory.model_validate(yaml.safe_load(drill.inventory.read_text()))
    assert list(read.hosts) == list(saturation.APP_NAMES)
    service = read.services["shop"]
    assert service.pool is not None
    assert service.pool.budget == 4
    assert service.application_name == "shop-${host.name}"
    assert not isinstance(service.manager, str)
    assert service.manager.command.status[-1] == "${host.name}"
    door = read.databases["drill-db"].connect
    assert door.password is not None
    assert Path(door.password.file or "").stat().st_mode & 0o777 == 0o600


def test_no_password_is_in_an_argv_or_a_log(drill: Drill) -> None:
    secrets = [path.read_text() for path in (drill.state_dir / "secrets").iterdir()]
    listed = subprocess.run(
        ["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True
    )
    logs = [path.read_text() for path in (drill.state_dir / "logs").iterdir()]
    logs.append((Path(_state(drill).home) / "postgres.log").read_text())
    assert len(secrets) == 4
    assert not [word for word in secrets if word in listed.stdout or word in "".join(logs)]


def test_without_the_extra_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(errors, "find_spec", lambda _name: None)
    with pytest.raises(DrillError) as error:
        saturation.start(tmp_path / "d")
    assert error.value.hint == "pip install 'runbook[drill]'"
    assert not (tmp_path / "d").exists()


def test_a_start_that_fails_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise DrillError("no roles today")

    monkeypatch.setattr(cluster, "populate", fail)
    with pytest.raises(DrillError, match="no roles today"):
        saturation.start(tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_stop_cleans_up_after_a_starter_that_was_killed(tmp_path: Path) -> None:
    root = tmp_path / "d"
    code = "import sys, pathlib; from runbook.drill import saturation as s"
    code += "; s.start(pathlib.Path(sys.argv[1]), lambda text: print(text, flush=True))"
    starter = subprocess.Popen(
        [sys.executable, "-P", "-c", code, str(root)], stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout is not None
    assert "PostgreSQL" in starter.stdout.readline()
    assert "app servers" in starter.stdout.readline()
    starter.kill()
    starter.communicate()
    found = state.load(root)
    assert found is not None
    alive = processes.is_alive(found.postmaster)
    # A child of the starter holds its lock until it has become another program.
    with pytest.raises(DrillRefused, match=r"half-finished|being started") as refusal:
        saturation.start(root)
    stopped = saturation.stop(root)
    assert (alive, stopped) == (True, True)
    assert "runbook drill stop" in str(refusal.value.hint)
    assert not processes.is_alive(found.postmaster)
    assert not root.exists()
    assert not Path(found.home).exists()
    assert not saturation.stop(root)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another user, and a copy for it")
def test_as_root_programs_that_others_cannot_reach_are_copied(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cluster, "_usable_by_all", lambda _path: False)
    home = cluster.choose_home(tmp_path)
    cluster._make_private(home.path, home.user)
    binaries = cluster._binaries(home)
    done = subprocess.run(
        [binaries / "initdb", "--version"],
        user=home.user,
        group=processes.primary_group("nobody"),
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
    )
    state._remove_entry(home.path)
    assert binaries.is_relative_to(home.path)
    assert done.stdout.startswith("initdb (PostgreSQL)")
