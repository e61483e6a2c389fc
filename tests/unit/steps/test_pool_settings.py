"""What hosts are configured to: read from real files by the real script, told with its source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from runbook.adapters.local_command import LocalDoor
from runbook.model.effects import CommandOutcome, Together
from runbook.model.errors import Unreachable
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from runbook.steps.pool_settings import Read, configured

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "hunter2-very-secret"
ENV = f"""\
# the shop's
POOL_SIZE="5"
DATABASE_URL=postgresql://shop:{SECRET}@db:5432/shop?connection_limit=7
API_TOKEN={SECRET}
MAX_OVERFLOW=many
"""
CLOSED = CommandOutcome(exit_code=0, stdout="closed\nend\n", stderr="", seconds=0.0)


class Host:
    """This machine as `web-01`, with systemd's words handed to it; `web-02` is dead."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = tmp_path
        self.environment = ""
        self.start = "/usr/bin/gunicorn shop:app"
        self.load = "loaded"
        self.files = [str(self.put("shop.env", ENV))]
        self.service: dict[str, Any] = {"hosts": "all", "unit": "shop.service"}
        self.dead = False
        #: Whether every file is another user's alone.
        self.closed = False

    def put(self, name: str, text: str | bytes, mode: int = 0o644) -> Path:
        path = self.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return path

    def read(self, **settings: Any) -> Read:
        service = {**self.service, "settings": settings} if settings else self.service
        hosts = {"web-01": {"connection": "local"}}
        if self.dead:
            hosts["web-02"] = {"connection": "ssh"}
        fleet = Fleet(
            Inventory.model_validate({"version": 1, "hosts": hosts, "services": {"shop": service}})
        )
        drive, value = configured(("shop",), fleet), None
        try:
            while True:
                value = self._perform(drive.send(value), LocalDoor(fleet, rehearsal=True))
        except StopIteration as end:
            read: Read = end.value
            assert SECRET not in repr(read)
            return read

    def _perform(self, effect: Any, door: LocalDoor) -> Any:
        assert isinstance(effect, Together)
        return tuple(self._one(each, door) for each in effect.effects)

    def _one(self, look: Any, door: LocalDoor) -> Any:
        if look.host == "web-02":
            return Unreachable("web-02 (10.0.0.2): cannot be reached: no route")
        if look.argv[1:2] != ("show",):
            return CLOSED if self.closed else door.perform(look)
        files = "".join(f"EnvironmentFiles={path} (ignore_errors=no)\n" for path in self.files)
        text = (
            f"LoadState={self.load}\nEnvironment={self.environment}\n{files}"
            f"ExecStart={{ path=/usr/bin/x ; argv[]={self.start} ; ignore_errors=no ; pid=0 }}\n"
        )
        return CommandOutcome(exit_code=0, stdout=text, stderr="", seconds=0.0)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def told(read: Read, *, declared: bool | None = None) -> list[tuple[str, str, str]]:
    return [
        (each.name, each.value, each.source)
        for each in read.configured
        if declared is None or each.declared is declared
    ]


def test_what_frameworks_read_is_found_and_nothing_else_leaves(host: Host) -> None:
    path = host.files[0]
    host.start = f"/usr/bin/python3 -m gunicorn -w4 --threads=2 -b :80 {SECRET} shop:app"
    assert told(host.read()) == [
        ("processes", "4", "ExecStart of shop.service, -w"),
        ("threads", "2", "ExecStart of shop.service, --threads"),
        ("size", "5", f"{path} line 2, POOL_SIZE"),
        (
            "url",
            "postgresql://shop:…@db:5432/shop?connection_limit=7",
            f"{path} line 3, DATABASE_URL",
        ),
        ("size", "7", f"{path} line 3, DATABASE_URL, connection_limit in it"),
    ]
    assert not any(each.declared for each in host.read().configured)


def test_what_is_declared_comes_first_and_once(host: Host) -> None:
    path = host.files[0]
    config = host.put("pool.ini", "[pool]\nworkers: 3\n")
    host.environment = '"MAX_OVERFLOW=2" OTHER=x'
    host.files = []
    read = host.read(
        size={"env_file": path, "key": "POOL_SIZE"},
        overflow={"environment": "MAX_OVERFLOW"},
        processes={"file": str(config), "match": r"^workers: (\d+)$"},
        url={"env_file": path, "key": "DATABASE_URL"},
    )
    assert told(read, declared=True) == [
        ("size", "5", f"{path} line 2, POOL_SIZE"),
        ("overflow", "2", "Environment of shop.service, MAX_OVERFLOW"),
        ("processes", "3", f"{config} line 2"),
        (
            "url",
            "postgresql://shop:…@db:5432/shop?connection_limit=7",
            f"{path} line 3, DATABASE_URL",
        ),
    ]
    assert told(read, declared=False) == []
    assert [line for line in read.unseen if "does not read" in line] == [
        f"web-01: services.shop.settings.size: shop.service does not read {path} (EnvironmentFile)",
        f"web-01: services.shop.settings.url: shop.service does not read {path} (EnvironmentFile)",
    ]


def test_what_counts_in_the_end_is_a_later_file(host: Host) -> None:
    host.environment = "POOL_SIZE=1 RAILS_MAX_THREADS=6"
    first, later = host.files[0], str(host.put("later.env", "\n\nPOOL_SIZE=9\n"))
    host.files = [first, later]
    read = host.read(size={"env_file": first, "key": "POOL_SIZE"})
    assert ("size", "5", f"{first} line 2, POOL_SIZE") in told(read, declared=True)
    assert ("size", "9", f"{later} line 3, POOL_SIZE") in told(read, declared=False)
    assert ("threads", "6", "Environment of shop.service, RAILS_MAX_THREADS") in told(read)
    assert any(f"POOL_SIZE is overridden by {later}" in line for line in read.unseen)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"env_file": "{}/none.env", "key": "POOL_SIZE"}, "none.env is not there"),
        ({"env_file": "{}/shop.env", "key": "OTHER"}, "shop.env does not set OTHER"),
        ({"env_file": "{}/shop.env", "key": "MAX_OVERFLOW"}, "MAX_OVERFLOW holds no whole number"),
        ({"env_file": "{}/exported.env", "key": "POOL_SIZE"}, "`export POOL_SIZE=`"),
        ({"env_file": "{}/binary.env", "key": "POOL_SIZE"}, "binary.env is no UTF-8 text"),
        ({"env_file": "{}/folder", "key": "POOL_SIZE"}, "folder is no regular file"),
        ({"env_file": "{}/huge.env", "key": "POOL_SIZE"}, "huge.env is too large"),
        ({"environment": "POOL_SIZE"}, "has no POOL_SIZE in its Environment; it is in"),
        ({"file": "{}/shop.env", "match": "^size=(.*)$"}, "size="),
    ],
)
def test_a_declared_place_without_a_value_says_why(
    host: Host, setting: dict[str, str], said: str
) -> None:
    host.put("exported.env", "export POOL_SIZE=5\n")
    host.put("binary.env", b"POOL_SIZE=\xff\n")
    host.put("huge.env", "#" * 300_000)
    (host.folder / "folder").mkdir()
    read = host.read(size={key: text.format(host.folder) for key, text in setting.items()})
    assert told(read, declared=True) == []
    assert any(said in line for line in read.unseen), read.unseen
    # What else there is is found nevertheless.
    assert ("size", "5", f"{host.files[0]} line 2, POOL_SIZE") in told(read)


@pytest.mark.parametrize(
    ("sudo", "said"),
    [(False, "services.shop.settings.sudo: true"), (True, "hosts.web-01.sudo is off")],
)
def test_a_closed_file_says_what_opens_it(host: Host, sudo: bool, said: str) -> None:
    host.closed = True
    read = host.read(size={"env_file": host.files[0], "key": "POOL_SIZE"}, sudo=sudo)
    assert told(read) == []
    assert any("may not be read by this user" in w and said in w for w in read.unseen)


def test_a_dead_host_hides_nothing_else(host: Host) -> None:
    host.dead = True
    read = host.read()
    assert {each.host for each in read.configured} == {"web-01"}
    assert (
        "web-02: what is configured there was not told: cannot be reached: no route" in read.unseen
    )


def test_a_unit_that_is_not_there_is_told(host: Host) -> None:
    host.load, host.files, host.start = "not-found", [], ""
    read = host.read()
    assert told(read) == []
    assert read.unseen == ("web-01: what shop.service is started with: systemd has no such unit",)


def test_without_systemd_only_files_are_read(host: Host) -> None:
    path = host.files[0]
    manager = {"command": {"restart": ["true"], "status": ["true"]}}
    host.service = {**host.service, "manager": manager}
    read = host.read(
        size={"env_file": path, "key": "POOL_SIZE"}, overflow={"environment": "MAX_OVERFLOW"}
    )
    assert told(read) == [("size", "5", f"{path} line 2, POOL_SIZE")]
    assert any("MAX_OVERFLOW is in no systemd unit" in line for line in read.unseen)
