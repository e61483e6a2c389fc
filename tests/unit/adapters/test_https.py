"""https gates against real TLS servers: whose certificate counts, and whose does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook.adapters.http_get import HttpDoor
from runbook.model.effects import HttpGet, HttpReply
from unit.adapters.authorities import Authority, serving_tls


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(folder=tmp_path)


def get(url: str, ca: Path | str | None = None, *, verify: bool = True) -> HttpReply:
    ca_file = None if ca is None else str(ca)
    return HttpDoor().perform(HttpGet(url=url, timeout_s=5, ca_file=ca_file, verify=verify))


def test_an_authority_of_ones_own(authority: Authority) -> None:
    with serving_tls(authority.sign("127.0.0.1")) as url:
        assert get(url, authority.file).status == 200
        refused = get(url)
    assert (refused.status, refused.asked) == (0, False)
    assert "certificate is not trusted: unable to get local issuer" in refused.error


@pytest.mark.parametrize(
    ("name", "days", "own", "says"),
    [
        ("127.0.0.1", -1, False, "certificate has expired"),
        ("shop.example.com", 1, False, "IP address mismatch"),
        ("127.0.0.1", 1, True, "self-signed certificate"),
    ],
)
def test_what_is_not_trusted(
    authority: Authority, name: str, days: int, own: bool, says: str
) -> None:
    with serving_tls(authority.sign(name, days=days, own=own)) as url:
        refused = get(url, authority.file)
        assert get(url, verify=False).status == 200
    assert (refused.status, refused.asked) == (0, False)
    assert says in refused.error


def test_a_name_is_checked_against_the_url(authority: Authority) -> None:
    with serving_tls(authority.sign("localhost")) as url:
        assert get(url.replace("127.0.0.1", "localhost"), authority.file).status == 200
        assert "mismatch" in get(url, authority.file).error


def test_another_authority_does_not_count(authority: Authority, tmp_path: Path) -> None:
    other = Authority(folder=tmp_path, name="another")
    with serving_tls(authority.sign("127.0.0.1")) as url:
        door = HttpDoor()  # one door keeps several: none must stand in for another
        good = HttpGet(url=url, timeout_s=5, ca_file=str(authority.file))
        bad = HttpGet(url=url, timeout_s=5, ca_file=str(other.file))
        assert [door.perform(each).status for each in (good, bad, good)] == [200, 0, 200]


@pytest.mark.parametrize(("text", "says"), [(None, "No such file"), ("nothing", "no certificate")])
def test_a_file_of_authorities_that_is_none(
    authority: Authority, tmp_path: Path, text: str | None, says: str
) -> None:
    file = tmp_path / "authorities.pem"
    if text is not None:
        file.write_text(text)
    with serving_tls(authority.sign("127.0.0.1")) as url:
        refused = get(url, file)
    assert not refused.asked
    assert says in refused.error
    assert str(file) in refused.error


def test_plain_http_where_tls_is_asked() -> None:
    import socket
    import threading

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(4096)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=talk, daemon=True).start()
        reply = get(f"https://127.0.0.1:{listener.getsockname()[1]}/")
    assert (reply.status, reply.asked) == (0, True)
