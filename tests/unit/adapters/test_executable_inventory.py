"""Inventories that are programs: run within bounds, never one that others can write to."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from runbook import wiring
from runbook.adapters.executable_inventory import is_program, run_program
from runbook.cli.main import cli
from runbook.model.errors import InvalidDocument

OURS = """\
version: 1
hosts:
  web-1: {address: 10.0.0.1, groups: [web]}
services:
  shop: {hosts: web}
"""
ANSIBLES = {
    "_meta": {
        "hostvars": {
            "web-1": {"ansible_host": "10.0.0.1", "port": 80, "db_password": "never"},
            "elsewhere": {"x": 1},
        }
    },
    "web": {"hosts": ["web-1", "web-2"], "vars": {"tier": "front", "tags": [1]}},
    "prod": {"children": ["web"], "vars": {"tier": "prod", "ansible_user": "deploy"}},
    "solo": ["db-1"],
}


def _program(folder: Path, body: str, *, mode: int = 0o755) -> Path:
    path = folder / "inventory.sh"
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(mode)
    return path


def _prints(folder: Path, text: str) -> Path:
    return _program(folder, f"cat <<'END'\n{text}\nEND")


def _refusal(path: Path, timeout_s: float = 5.0) -> str:
    with pytest.raises(InvalidDocument) as caught:
        run_program(path, timeout_s=timeout_s)
    return str(caught.value)


def test_our_own_shape_as_yaml_and_as_json(tmp_path: Path) -> None:
    fleet = wiring.load_fleet(str(_prints(tmp_path, OURS)))
    assert fleet.service_hosts("shop")[0].address == "10.0.0.1"
    data = {"version": 1, "hosts": {"web-1": {"address": "10.0.0.2"}}}
    for text in (json.dumps(data), json.dumps(data, indent="\t")):
        assert wiring.load_fleet(str(_prints(tmp_path, text))).host("web-1").address == "10.0.0.2"


def test_ansibles_shape(tmp_path: Path) -> None:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "solo.yml").write_text("zone: a\n", encoding="utf-8")
    fleet = wiring.load_fleet(str(_prints(tmp_path, json.dumps(ANSIBLES))))
    assert set(fleet.hosts) == {"web-1", "web-2", "db-1"}
    web = fleet.host("web-1")
    assert (web.address, web.groups, web.ssh.user) == ("10.0.0.1", ("prod", "web"), "deploy")
    assert dict(web.vars) == {"tier": "front", "port": 80}
    assert dict(fleet.host("db-1").vars) == {"zone": "a"}
    assert [remark.what for remark in fleet.remarks] == [
        "tags is a list",
        "db_password looks like a secret",
    ]


def test_validate_tells_what_the_program_said_and_we_could_not_take(tmp_path: Path) -> None:
    path = _prints(tmp_path, json.dumps(ANSIBLES))
    done = CliRunner().invoke(cli, ["inventory", "validate", "-i", str(path)])
    assert done.exit_code == 0
    assert "ok (3 hosts" in done.stdout
    assert "host web-1: db_password looks like a secret" in done.stderr


def test_it_is_asked_for_its_list(tmp_path: Path) -> None:
    path = _program(tmp_path, 'echo "{version: 1, hosts: {\\"h$1\\": {}}}"')
    assert list(wiring.load_fleet(str(path)).hosts) == ["h--list"]


def test_mistakes_in_its_output_have_a_place(tmp_path: Path) -> None:
    path = _prints(tmp_path, "version: 1\nhots: {}")
    with pytest.raises(InvalidDocument) as caught:
        wiring.load_fleet(str(path))
    assert f"{path} (output):2:1: there is no key 'hots' here" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"web": {"hosts": "web-1"}}, "the hosts of web are no list of names"),
        ({"web": {"children": [1]}}, "the children of web are no list of names"),
        ({"web": 5}, "the group 'web' is neither a mapping nor a list"),
        ({"web": {"children": ["web"]}}, "would stand below itself"),
        ({"web": {"vars": []}}, "the vars of web are no mapping"),
        ({"_meta": {"hostvars": {"db-1": []}}}, "_meta.hostvars of db-1 are no mapping"),
    ],
)
def test_mistakes_in_ansibles_shape(
    tmp_path: Path, change: dict[str, object], complaint: str
) -> None:
    assert complaint in _refusal(_prints(tmp_path, json.dumps({**ANSIBLES, **change})))


def test_a_program_that_fails_is_told_with_its_exit_code_and_last_words(tmp_path: Path) -> None:
    said = _refusal(_program(tmp_path, "for n in 1 2 3 4 5 6 7; do echo line $n >&2; done; exit 3"))
    assert "ended with exit code 3, and said last:" in said
    assert "line 3\n  line 4\n  line 5\n  line 6\n  line 7" in said
    assert "line 2" not in said
    assert "run it by hand: " in said
    assert "It said nothing on stderr" in _refusal(_program(tmp_path, "exit 1"))
    assert "was ended by SIGTERM" in _refusal(_program(tmp_path, "kill -TERM $$"))


def test_what_is_printed_before_a_failure_is_not_an_inventory(tmp_path: Path) -> None:
    assert "exit code 1" in _refusal(_program(tmp_path, f"cat <<'END'\n{OURS}END\nexit 1"))


def test_a_program_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = _program(tmp_path, f"(sleep 2; touch {mark}) &\necho half >&2; sleep 60")
    assert "did not end within 0.5s, and said last:\n  half" in _refusal(path, timeout_s=0.5)
    time.sleep(2.5)
    assert not mark.exists()


def test_a_daemon_that_holds_the_output_open_does_not_hold_us(tmp_path: Path) -> None:
    path = _program(tmp_path, f"cat <<'END'\n{OURS}END\nsleep 60 &")
    document, _ = run_program(path, timeout_s=30)
    assert isinstance(document.value, dict)


def test_too_much_output_is_refused(tmp_path: Path) -> None:
    assert "printed more than 16,000,000 bytes" in _refusal(_program(tmp_path, "yes"))


def test_output_that_is_no_text_is_refused(tmp_path: Path) -> None:
    assert "byte 0xFF is not valid UTF-8" in _refusal(_program(tmp_path, "printf '\\377'"))


def test_an_interpreter_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "inventory"
    path.write_text("#!/no/such/interpreter\n", encoding="utf-8")
    path.chmod(0o755)
    assert "cannot be run: No such file" in _refusal(path)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_a_program_that_others_can_write_to_is_not_run(tmp_path: Path, mode: int) -> None:
    mark = tmp_path / "mark"
    path = _program(tmp_path, f"touch {mark}", mode=mode)
    said = _refusal(path)
    assert f"other users can write to (mode {mode:04o}); it was not run" in said
    assert f"chmod go-w {path}" in said
    assert not mark.exists()


def test_a_program_in_a_folder_that_everybody_can_write_to_is_not_run(tmp_path: Path) -> None:
    path = _prints(tmp_path, OURS)
    tmp_path.chmod(0o777)
    try:
        assert "could be anybody's program; it was not run" in _refusal(path)
        tmp_path.chmod(0o1777)  # as /tmp: nobody replaces another's file there
        run_program(path)
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_program_of_somebody_else_is_not_run(tmp_path: Path) -> None:
    path = _prints(tmp_path, OURS)
    os.chown(path, 12345, 12345)
    assert "is a program of uid 12345, not yours; it was not run" in _refusal(path)


def test_what_is_a_program(tmp_path: Path) -> None:
    path = _prints(tmp_path, OURS)
    assert is_program(path)
    path.chmod(0o644)
    assert not is_program(path)
    every_file_is_executable_here = tmp_path / "inventory.yaml"
    every_file_is_executable_here.write_text(OURS, encoding="utf-8")
    every_file_is_executable_here.chmod(0o755)
    assert not is_program(every_file_is_executable_here)
    assert not is_program(tmp_path)
    assert not is_program(tmp_path / "missing")
