"""The SSH door against a real SSH server: commands, bounds, and every way not to get in."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import paramiko
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from runbook.adapters.host_door import KEPT_BYTES
from runbook.adapters.ssh import SshDoor
from runbook.model.effects import ChangeCommand, CommandOutcome, ReadCommand, RestartUnit, ShowUnit
from runbook.model.errors import (
    ChangeInRehearsal,
    CommandFailed,
    ConnectionLost,
    HostKeyRejected,
    LoginRejected,
    Unreachable,
)
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from unit.adapters.ssh_server import SshServer


def new_key(path: Path) -> paramiko.PKey:
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    path.write_bytes(pem)
    path.chmod(0o600)
    return paramiko.Ed25519Key(filename=str(path))


@pytest.fixture(autouse=True)
def _nobodys_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No ~/.ssh/config, key or agent of whoever runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SshServer]:
    started = SshServer(
        host_key=new_key(tmp_path / "host_key"), allowed=new_key(tmp_path / "id")
    ).start()
    (tmp_path / "known").write_text(started.known_hosts_line())
    yield started
    started.stop()


@pytest.fixture
def doors() -> Iterator[list[SshDoor]]:
    opened: list[SshDoor] = []
    yield opened
    for door in opened:
        door.close()
        door.close()


@pytest.fixture
def open_door(server: SshServer, tmp_path: Path, doors: list[SshDoor]) -> Any:
    def door(*, rehearsal: bool = False, **ssh: Any) -> SshDoor:
        settings = {
            "user": "oncall",
            "port": server.port,
            "identity_file": str(tmp_path / "id"),
            "known_hosts": str(tmp_path / "known"),
            "connect_timeout": "3s",
            **ssh,
        }
        given = {key: value for key, value in settings.items() if value is not None}
        document = {
            "version": 1,
            "hosts": {
                "web": {"address": "127.0.0.1", "ssh": given},
                "twin": {"address": "127.0.0.1", "ssh": given, "sudo": False},
            },
        }
        opened = SshDoor(Fleet(Inventory.model_validate(document)), rehearsal=rehearsal)
        doors.append(opened)
        return opened

    return door


def read(*argv: str, timeout_s: float = 10.0, host: str = "web") -> ReadCommand:
    return ReadCommand(host=host, argv=argv, timeout_s=timeout_s)


def shell(line: str, timeout_s: float = 10.0) -> ReadCommand:
    return read("sh", "-c", line, timeout_s=timeout_s)


def run(door: SshDoor, effect: Any) -> CommandOutcome:
    outcome = door.perform(effect)
    assert isinstance(outcome, CommandOutcome)
    return outcome


def test_both_streams_and_the_exit_code_come_back(open_door: Any) -> None:
    outcome = run(open_door(), shell("echo out; echo err >&2; exit 3"))
    assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (3, "out\n", "err\n")


def test_words_stay_words(open_door: Any) -> None:
    odd = "a b; echo $HOME `id` 'x' \"y\" * \\"
    assert run(open_door(), read("printf", "%s", odd)).stdout == odd


def test_one_connection_serves_a_host(open_door: Any, server: SshServer) -> None:
    door = open_door()
    for _ in range(5):
        run(door, read("true"))
    assert server.logins == 1


def test_hosts_side_by_side(open_door: Any, server: SshServer) -> None:
    door = open_door()
    effects = [read("echo", str(n), host=("web", "twin")[n % 2]) for n in range(20)]
    with ThreadPoolExecutor(10) as pool:
        outcomes = list(pool.map(door.perform, effects))
    assert [o.stdout.strip() for o in outcomes] == [str(n) for n in range(20)]
    assert server.logins == 2


def test_output_is_bounded_and_both_streams_flow(open_door: Any) -> None:
    line = "head -c 3000000 /dev/zero | tr '\\0' x >&2; head -c 3000000 /dev/zero"
    outcome = run(open_door(), shell(line))
    assert len(outcome.stdout) < KEPT_BYTES + 100
    assert "more bytes were cut off" in outcome.stderr


def test_bytes_that_are_no_text_are_replaced(open_door: Any) -> None:
    assert run(open_door(), shell("printf '\\377ok'")).stdout == "\ufffdok"


def test_the_restart_is_the_sudoers_rule_to_the_byte(open_door: Any, server: SshServer) -> None:
    door = open_door()
    run(door, RestartUnit(host="web", unit="shop.service", timeout_s=5))
    run(door, RestartUnit(host="twin", unit="shop.service", timeout_s=5))
    assert server.commands == [
        "sudo -n /usr/bin/systemctl restart shop.service",
        "/usr/bin/systemctl restart shop.service",
    ]


def test_a_rehearsal_reads_and_refuses_to_change(open_door: Any, server: SshServer) -> None:
    door = open_door(rehearsal=True)
    assert run(door, read("true")).ok
    for change in (
        RestartUnit(host="web", unit="shop.service", timeout_s=5),
        ChangeCommand(host="web", argv=("true",)),
    ):
        with pytest.raises(ChangeInRehearsal):
            door.perform(change)
    assert server.commands == ["true"]


def test_a_command_that_does_not_end(open_door: Any) -> None:
    door = open_door()
    began = time.monotonic()
    with pytest.raises(CommandFailed, match=r"did not end within 0\.3s") as caught:
        run(door, ChangeCommand(host="web", argv=("sleep", "2"), timeout_s=0.3))
    assert time.monotonic() - began < 1.5
    assert "still be at work" in (caught.value.hint or "")
    assert run(door, read("true")).ok


def test_a_lost_connection_is_opened_anew_for_a_look(open_door: Any, server: SshServer) -> None:
    door = open_door()
    run(door, read("true"))
    server.cut()
    assert run(door, read("true")).ok
    assert server.logins == 2


def test_a_change_that_is_cut_off_is_never_tried_again(open_door: Any, server: SshServer) -> None:
    door = open_door()
    run(door, read("true"))
    server.cut_on = "dangerous"
    with pytest.raises(ConnectionLost, match="dangerous") as caught:
        run(door, ChangeCommand(host="web", argv=("dangerous",)))
    assert "not tried again" in (caught.value.hint or "")
    assert server.commands.count("dangerous") == 1
    assert run(door, read("true")).ok


def test_released_hosts_are_reached_again(open_door: Any, server: SshServer) -> None:
    door = open_door()
    run(door, read("true"))
    door.release("web")
    run(door, read("true"))
    assert server.logins == 2


def test_closing_is_quick(open_door: Any) -> None:
    door = open_door()
    run(door, read("true"))
    began = time.monotonic()
    door.close()
    assert time.monotonic() - began < 0.5


def test_a_closed_door_logs_in_nowhere(open_door: Any, server: SshServer) -> None:
    door = open_door()
    run(door, read("true"))
    door.close()
    with pytest.raises(Unreachable, match="its door was closed"):
        run(door, read("true"))
    assert server.logins == 1


def test_an_unknown_host_key_is_refused_with_its_fingerprint(
    open_door: Any, server: SshServer, tmp_path: Path
) -> None:
    (tmp_path / "known").write_text("")
    with pytest.raises(HostKeyRejected) as caught:
        run(open_door(), read("true"))
    assert server.host_key.fingerprint in caught.value.message
    assert str(tmp_path / "known") in caught.value.message
    assert "ssh-keyscan -p" in (caught.value.hint or "")
    assert (tmp_path / "known").read_text() == ""
    assert not server.commands


def test_a_changed_host_key_is_refused(open_door: Any, server: SshServer, tmp_path: Path) -> None:
    other = new_key(tmp_path / "other")
    (tmp_path / "known").write_text(server.known_hosts_line(other))
    with pytest.raises(HostKeyRejected, match="has changed") as caught:
        run(open_door(), read("true"))
    assert other.fingerprint in caught.value.message
    assert "ssh-keygen -R" in (caught.value.hint or "")


def test_a_revoked_host_key_is_refused(open_door: Any, server: SshServer, tmp_path: Path) -> None:
    line = server.known_hosts_line()
    (tmp_path / "known").write_text(f"{line}@revoked {line}")
    with pytest.raises(HostKeyRejected):
        run(open_door(), read("true"))


def test_hashed_known_hosts_are_read(open_door: Any, server: SshServer, tmp_path: Path) -> None:
    name, rest = server.known_hosts_line().split(" ", 1)
    (tmp_path / "known").write_text(f"{paramiko.HostKeys.hash_host(name)} {rest}")
    assert run(open_door(), read("true")).ok


def test_a_wrong_key_names_the_user_and_what_was_tried(open_door: Any, tmp_path: Path) -> None:
    new_key(tmp_path / "wrong")
    with pytest.raises(LoginRejected) as caught:
        run(open_door(identity_file=str(tmp_path / "wrong")), read("true"))
    assert "oncall@127.0.0.1" in caught.value.message
    assert str(tmp_path / "wrong") in caught.value.message
    assert "ssh -p" in (caught.value.hint or "")


def test_a_missing_key_is_called_missing(open_door: Any, tmp_path: Path) -> None:
    with pytest.raises(LoginRejected, match="there is no such file"):
        run(open_door(identity_file=str(tmp_path / "nowhere")), read("true"))


def test_a_closed_port(open_door: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unreachable, match=f"127.0.0.1:{port}"):
        run(open_door(port=port), read("true"))


def test_a_server_that_says_nothing(open_door: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        began = time.monotonic()
        with pytest.raises(Unreachable):
            run(open_door(port=mute.getsockname()[1], connect_timeout="500ms"), read("true"))
        assert time.monotonic() - began < 5


def test_a_jump_host_that_finds_no_way_on(open_door: Any, server: SshServer) -> None:
    server.tunnel_s = 6
    jump = f"oncall@127.0.0.1:{server.port}"
    door = open_door(port=9, jump=jump, connect_timeout="500ms")
    began = time.monotonic()
    with pytest.raises(Unreachable, match="the jump host did not reach it in time"):
        run(door, read("true"))
    assert time.monotonic() - began < 5


def test_a_server_that_speaks_something_else(open_door: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def greet() -> None:
            client, _ = other.accept()
            client.sendall(b"220 \x1b[31mmail ready\r\n" * 200)
            client.close()

        threading.Thread(target=greet, daemon=True).start()
        with pytest.raises(Unreachable) as caught:
            run(open_door(port=other.getsockname()[1]), read("true"))
        assert "\x1b" not in caught.value.message


def test_ssh_config_is_honoured(open_door: Any, server: SshServer, tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text(
        f"Host 127.0.0.1\n  User oncall\n  Port {server.port}\n"
        f"  IdentityFile {tmp_path}/nowhere\n  IdentityFile {tmp_path}/id\n"
        f"  UserKnownHostsFile {tmp_path}/known\n"
    )
    door = open_door(user=None, port=None, identity_file=None, known_hosts=None)
    assert run(door, read("true")).ok


def test_no_systemd_is_told_as_such(open_door: Any) -> None:
    with pytest.raises(CommandFailed, match="systemctl show") as caught:
        open_door().perform(ShowUnit(host="web", unit="no such.service"))
    assert "manager" in (caught.value.hint or "")


def fed(stdin: str, *argv: str, timeout_s: float = 10.0) -> ReadCommand:
    return ReadCommand(
        host="web", argv=argv, timeout_s=timeout_s, stdin=stdin, keep_bytes=4_000_000
    )


def test_a_command_is_fed_its_input_and_the_input_ends(open_door: Any) -> None:
    text = "zeile ü\n" * 300_000
    assert run(open_door(), fed(text, "cat")).stdout == text


def test_a_command_may_leave_its_input_unread(open_door: Any) -> None:
    door = open_door()
    outcome = run(door, fed("x" * 5_000_000, "sh", "-c", "exec <&-; echo done; exit 5"))
    assert (outcome.exit_code, outcome.stdout) == (5, "done\n")
    assert run(door, read("echo", "again")).stdout == "again\n"


def test_input_that_nobody_takes_ends_with_the_deadline(open_door: Any) -> None:
    door = open_door()
    with pytest.raises(CommandFailed, match=r"within 0\.5s"):
        door.perform(fed("x" * 9_000_000, "sleep", "30", timeout_s=0.5))
    assert run(door, read("echo", "again")).stdout == "again\n"
