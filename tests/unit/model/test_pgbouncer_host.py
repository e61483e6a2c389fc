"""What the look at PgBouncer's host prints, on this very machine and as hosts have printed it."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from runbook.model.pgbouncer_host import (
    HostSeen,
    SeenFile,
    look_argv,
    parse_look,
    reach_argv,
    version_in,
)


def look(folder: Path) -> HostSeen:
    files = (str(folder / "pgbouncer.ini"), str(folder / "userlist.txt"), str(folder / "none"))
    argv = look_argv("no-such-unit.service", files, 1, (str(folder / "ca.pem"),))
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    seen = parse_look(done.stdout)
    assert seen is not None, done
    return seen


def test_a_look_at_real_files(tmp_path: Path) -> None:
    text = "[pgbouncer]\n; größer = than\n"
    (tmp_path / "pgbouncer.ini").write_text(text)
    (tmp_path / "pgbouncer.ini").chmod(0o640)
    (tmp_path / "userlist.txt").symlink_to("elsewhere")
    seen = look(tmp_path)
    assert seen.text == text
    assert (seen.config.kind, seen.config.mode) == ("file", "640")
    assert seen.auth.kind == "link"
    assert seen.dropin.kind == "absent"
    assert seen.listener is None
    assert not seen.active
    assert seen.unreadable == (f"{tmp_path / 'ca.pem'} is not there",)


def test_an_answer_that_was_cut_off_is_none() -> None:
    assert parse_look("root=0\nsystemd=/usr/bin/systemctl\n") is None


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("PgBouncer 1.18.0", (1, 18)),
        ("1.24.1-1.pgdg120+1", (1, 24)),
        ("1:1.18.0-1+deb12u1", (1, 18)),
        ("(none)", None),
        ("", None),
    ],
)
def test_versions(text: str, version: tuple[int, int] | None) -> None:
    assert version_in(text) == version


def seen_with(**said: str) -> HostSeen:
    file = SeenFile(kind="file", digest="d", mode="640", owner="postgres:postgres", changed=100.5)
    absent = SeenFile(kind="absent")
    return HostSeen(said=said, config=file, auth=absent, dropin=absent, text="", unreadable=())


def test_a_process_older_than_its_files_is_outdated() -> None:
    assert seen_with(since="100.4").outdated
    assert not seen_with(since="100.6").outdated
    assert seen_with(since="").outdated


def test_whose_port_it_is() -> None:
    line = 'LISTEN 0 128 0.0.0.0:6432 0.0.0.0:* users:(("pgbouncer",pid=812,fd=7))'
    assert seen_with(listens=line).listener == ("pgbouncer", 812)
    assert seen_with(listens="LISTEN 0 5 *:6432 *:*").listener == ("somebody", 0)


def test_the_packages_own_configuration_is_known_by_its_digest() -> None:
    assert seen_with(md5="abc", conffile="abc").pristine
    assert not seen_with(md5="abd", conffile="abc").pristine
    assert not seen_with(md5="abd").pristine


def reached(host: str, port: int, path: str = "/usr/bin:/bin") -> str:
    argv = reach_argv(host, port)
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env={"PATH": path})
    return done.stdout.strip()


def test_a_port_that_refuses_is_told_in_the_systems_words() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert reached("127.0.0.1", port) == "no: Connection refused"


def test_what_speaks_no_postgresql_is_told_apart(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        argv = reach_argv("127.0.0.1", port)
        asking = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        connection, _ = server.accept()
        assert connection.recv(8) == b"\0\0\0\x08\x04\xd2\x16\x2f"
        connection.sendall(b"SSH-2.0")
        connection.close()
        assert asking.communicate()[0].strip() == "open"
        # Without python3, by bash.
        (tmp_path / "bin").mkdir()
        for tool in ("bash", "timeout", "printf", "sh"):
            (tmp_path / "bin" / tool).symlink_to(f"/usr/bin/{tool}")
        asking = subprocess.Popen(
            argv, stdout=subprocess.PIPE, text=True, env={"PATH": str(tmp_path / "bin")}
        )
        connection, _ = server.accept()
        connection.recv(8)
        connection.sendall(b"N")
        assert asking.communicate()[0].strip() == "reached"
        connection.close()
