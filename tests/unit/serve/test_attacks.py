"""What an attacker sends to a real server, and what a bad day does to the files that it reads."""

from __future__ import annotations

import re
import resource
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from unit.serve.desk import desk
from unit.serve.house import House, sign

_BODY = b'{"alerts": [{"key": "a"}]}'
_HEAD = (
    b"POST /hooks/small HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"X-Small-Signature: %s\r\n" % sign(_BODY).encode()
)
_HIDDEN = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def _all(line: socket.socket) -> bytes:
    said = b""
    while chunk := line.recv(65536):
        said += chunk
    return said


def test_a_body_whose_end_is_told_in_two_ways_is_refused(tmp_path: Path) -> None:
    """A proxy that believes the length would hand on a second request without looking at it."""
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(_BODY), _BODY)
    lengths = b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n" % len(chunked + _HIDDEN)
    with House(tmp_path).open() as house, house.connect() as line:
        line.sendall(_HEAD + lengths + chunked + _HIDDEN)
        assert re.findall(rb"HTTP/1.1 (\d+)", _all(line)) == [b"400"]
        assert house.inbox.recent() == []


@pytest.mark.parametrize("blank", ["\0" * 32, "\n\n", " ", "\t \n"])
def test_a_blank_secret_lets_nobody_in(tmp_path: Path, blank: str) -> None:
    """A crash leaves zeros in a file, and HMAC takes them for no key: anybody could sign."""
    with House(tmp_path).open() as house:
        house.secret_file.write_text(blank)
        for guess in ("", blank, blank.removesuffix("\n")):
            assert house.post("a", secret=guess).status_code == 503
        assert house.inbox.recent() == []


def test_connections_that_say_nothing_keep_no_event_out(tmp_path: Path) -> None:
    """A process has 1024 files unless it asks for more; and their end would flood the log."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip("this process may not open as many itself")
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        with desk(tmp_path, ("look-here",)) as made:
            resource.setrlimit(resource.RLIMIT_NOFILE, (2048, hard))
            where = urlsplit(made.url)
            address = (str(where.hostname), where.port or 0)
            mute = [socket.create_connection(address, timeout=30) for _ in range(1100)]
            assert made.post("QAMONG01").status_code == 202
            assert made.logged("server") == []
            for line in mute:
                line.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


_FEW_FILES = """
import resource
from runbook.serve.server import connections
resource.setrlimit(resource.RLIMIT_NOFILE, (600, 600))
print(connections())
"""


def test_where_files_are_few_there_are_fewer_connections() -> None:
    """Some are left for databases, secrets and the runs that are begun."""
    said = subprocess.run(
        [sys.executable, "-c", _FEW_FILES], capture_output=True, text=True, check=True
    )
    assert said.stdout == "100\n"
