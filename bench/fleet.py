"""A read-only command on 200 SSH targets beside a bare pool of paramiko clients, and its memory."""

from __future__ import annotations

import json
import socket
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.measure import (
    PYTHON,
    RUNBOOK,
    Command,
    NotMeasured,
    interleave,
    peak_mb,
    ratios,
    walls,
)
from bench.report import Figure, figure
from lab.docker_engine import docker, ensure_engine, ensure_image
from lab.lab import LABEL, free_ports, new_key, remove_labelled, tar_of, until

if TYPE_CHECKING:
    from collections.abc import Iterator

_POOL = Path(__file__).parent / "peers" / "paramiko_pool.py"
_TARGETS = 200
_FEW = 20
_ROUNDS = 5
_MOST = 1.2
_MOST_MB_A_HOST = 0.5
#: sshd listens at 16 addresses at most (MAX_LISTEN_SOCKS), so some of them share the work.
_ADDRESSES_EACH = 16
_LAB = "bench-fleet"


@dataclass(frozen=True, kw_only=True)
class _Fleet:
    """SSH targets on this machine's loopback addresses, and how to log in there."""

    folder: Path
    port: int
    addresses: tuple[str, ...]

    @property
    def key(self) -> str:
        return str(self.folder / "id_ed25519")

    @property
    def known_hosts(self) -> str:
        return str(self.folder / "known_hosts")


def measure() -> list[Figure]:
    """Return the ratio to the bare pool, and what each further host adds to peak memory."""
    with (
        tempfile.TemporaryDirectory(prefix="runbook-bench-") as folder,
        _listening(Path(folder)) as fleet,
    ):
        taken = interleave(
            {"ours": _ours(fleet, _TARGETS), "pool": _pool(fleet), "few": _ours(fleet, _FEW)},
            _ROUNDS,
        )
    for sample in taken["ours"]:
        _check(sample.stdout)
    ours, pool = taken["ours"], taken["pool"]
    growth = (peak_mb(ours) - peak_mb(taken["few"])) / (_TARGETS - _FEW)
    return [
        figure(f"`true` on {_TARGETS} hosts / paramiko pool", "times", ratios(ours, pool), _MOST),
        figure("its memory for each further host", "MB", [growth], _MOST_MB_A_HOST),
        figure(f"`true` on {_TARGETS} hosts", "s", walls(ours)),
        figure(f"paramiko, 20 threads, {_TARGETS} hosts", "s", walls(pool)),
        figure(f"its peak memory at {_TARGETS} hosts", "MB", [peak_mb(ours)]),
        figure("the paramiko pool's peak memory", "MB", [peak_mb(pool)]),
    ]


def _check(stdout: str) -> None:
    (step,) = json.loads(stdout)["steps"]
    good = sum(target["status"] == "ok" for target in step["targets"].values())
    if good != _TARGETS:
        raise NotMeasured(f"the command ran well on {good} of {_TARGETS} hosts")


def _ours(fleet: _Fleet, count: int) -> Command:
    inventory, playbook = fleet.folder / f"{count}.yaml", fleet.folder / "true.yaml"
    inventory.write_text(_inventory(fleet, fleet.addresses[:count]))
    playbook.write_text(_PLAYBOOK)
    argv = (RUNBOOK, "run", str(playbook), "-i", str(inventory), "--format", "json")
    return Command(argv=argv, env={"RUNBOOK_STATE": str(fleet.folder / "state")})


def _pool(fleet: _Fleet) -> Command:
    targets = (f"{address}:{fleet.port}" for address in fleet.addresses)
    return Command(argv=(PYTHON, str(_POOL), fleet.key, fleet.known_hosts, "oncall", *targets))


_PLAYBOOK = """\
version: 1
name: everywhere
steps:
  - name: everywhere
    command: {hosts: all, argv: ["true"], read_only: true}
"""


def _inventory(fleet: _Fleet, addresses: tuple[str, ...]) -> str:
    """As a person writes it: block style, one flow mapping a host."""
    hosts = "".join(
        f"  web-{n:03}: {{address: {address}, groups: [web, prod], vars: {{health_port: 8000}}}}\n"
        for n, address in enumerate(addresses, start=1)
    )
    return (
        "version: 1\ndefaults:\n"
        f"  ssh: {{user: oncall, port: {fleet.port}, identity_file: {fleet.key},"
        f" known_hosts: {fleet.known_hosts}}}\n"
        f"hosts:\n{hosts}"
    )


# ---- the targets ---------------------------------------------------------------------------


@contextmanager
def _listening(folder: Path) -> Iterator[_Fleet]:
    """Run the lab image's sshd at 200 loopback addresses, out of reach from other machines."""
    ensure_engine()
    image = ensure_image()
    addresses = tuple(f"127.0.1.{n}" for n in range(1, _TARGETS + 1))
    fleet = _Fleet(folder=folder, port=next(free_ports(1)), addresses=addresses)
    label = f"{LABEL}={_LAB}"
    remove_labelled(label)
    # The machine's own network: a published port would go through a proxy of Docker's.
    options = ("--rm", f"--label={label}", f"--name=runbook-{_LAB}", "--network=host", "--init")
    docker("create", *options, image, "/bin/sh", "/etc/ssh/bench.sh")
    try:
        docker("cp", "-", f"runbook-{_LAB}:/", raw=tar_of(_files(fleet)))
        docker("start", f"runbook-{_LAB}")
        until(lambda: all(_answers(fleet, address) for address in addresses), "sshd")
        yield fleet
    finally:
        remove_labelled(label)


def _answers(fleet: _Fleet, address: str) -> bool:
    with socket.create_connection((address, fleet.port), timeout=2) as connection:
        return connection.recv(4) == b"SSH-"


def _files(fleet: _Fleet) -> dict[str, tuple[str, int]]:
    """Write our side's keys; return the container's files: keys, configurations, what to start."""
    private, public = new_key()
    host_private, host_public = new_key()
    key = Path(fleet.key)
    key.touch(mode=0o600)
    key.write_text(private)
    known = (f"[{address}]:{fleet.port} {host_public}\n" for address in fleet.addresses)
    Path(fleet.known_hosts).write_text("".join(known))
    files = {
        "etc/ssh/bench_host_key": (host_private, 0o600),
        "etc/ssh/bench_authorized_keys": (f"{public}\n", 0o644),
    }
    starts = ["mkdir -p /run/sshd"]
    for first in range(0, len(fleet.addresses), _ADDRESSES_EACH):
        listen = fleet.addresses[first : first + _ADDRESSES_EACH]
        lines = (f"ListenAddress {address}:{fleet.port}\n" for address in listen)
        files[f"etc/ssh/bench-{first}.conf"] = ("".join(lines) + _SSHD, 0o644)
        starts.append(f"/usr/sbin/sshd -f /etc/ssh/bench-{first}.conf")
    files["etc/ssh/bench.sh"] = ("\n".join([*starts, "exec sleep 600", ""]), 0o755)
    return files


_SSHD = """\
HostKey /etc/ssh/bench_host_key
AuthorizedKeysFile /etc/ssh/bench_authorized_keys
AllowUsers oncall
PasswordAuthentication no
UsePAM no
UseDNS no
MaxStartups 200
PidFile none
"""
