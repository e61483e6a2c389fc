"""A rolling restart of four lab hosts, one at a time, beside a bare loop and Ansible."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.ansible import ansible_playbook, version
from bench.measure import RUNBOOK, Command, interleave, peak_mb, ratios, walls
from bench.report import Figure, figure, missing
from lab.lab import UNIT, Lab, in_parallel

if TYPE_CHECKING:
    from bench.measure import Sample
    from lab.lab import Host

_PEERS = Path(__file__).parent / "peers"
_HOSTS = 4
_ROUNDS = 4
_MOST = 1.15
#: As the bare loop does it: one host at a time, no settle window, one good answer.
_ROLLING = {
    "batches": [1],
    "settle": "0s",
    "gate": {"successes": 1, "interval": "100ms", "deadline": "30s"},
}


def measure() -> list[Figure]:
    """Return the ratios to the bare loop, with and without the database gate, and Ansible's."""
    lab = Lab.start(app_hosts=_HOSTS, name="bench", owned=True)
    try:
        with tempfile.TemporaryDirectory(prefix="runbook-bench-") as folder:
            return _measure(lab, Path(folder))
    finally:
        lab.stop()


def _measure(lab: Lab, home: Path) -> list[Figure]:
    commands = {
        "loop": _loop(lab),
        "ours": _ours(lab, home, "no-database", database=None),
        "gated": _ours(lab, home, "database"),
    }
    program = ansible_playbook()
    if program is not None:
        commands["ansible"] = _ansible(lab, home, program)
    taken = interleave(commands, _ROUNDS, before=lambda: _forgive(lab))
    loop, ours, gated = taken["loop"], taken["ours"], taken["gated"]
    return [
        figure(
            f"rolling restart of {_HOSTS} hosts / bare loop", "times", ratios(ours, loop), _MOST
        ),
        figure("the same with the database gate / bare loop", "times", ratios(gated, loop), _MOST),
        figure("rolling restart", "s", walls(ours)),
        figure("rolling restart with the database gate", "s", walls(gated)),
        figure("bare loop: ssh, systemctl, curl", "s", walls(loop)),
        figure("peak memory", "MB", [peak_mb(ours)]),
        *_peer(taken.get("ansible"), loop, program),
    ]


def _peer(taken: list[Sample] | None, loop: list[Sample], program: Path | None) -> list[Figure]:
    what = "ansible-playbook / bare loop"
    if taken is None or program is None:
        return [missing(what, "ansible-core is not here and could not be installed")]
    note = f"ansible-core {version(program)} with its default settings"
    return [figure(what, "times", ratios(taken, loop), note=note)]


def _forgive(lab: Lab) -> None:
    """Let systemd forget past starts: five in ten seconds would be refused."""

    def forgive(host: Host) -> None:
        lab.exec(host, ["systemctl", "reset-failed", UNIT])

    in_parallel(forgive, lab.apps)


def _loop(lab: Lab) -> Command:
    ports = (f"{host.ssh_port}:{host.http_port}" for host in lab.apps)
    key, known_hosts = str(lab.folder / "id_ed25519"), str(lab.folder / "known_hosts")
    return Command(argv=(str(_PEERS / "bare_loop.sh"), key, known_hosts, *ports))


def _ours(lab: Lab, home: Path, name: str, **service: object) -> Command:
    inventory = home / f"{name}.yaml"
    shop = {"rolling": _ROLLING, **service}
    inventory.write_text(lab.inventory_yaml(services={"shop": shop}))
    argv = (RUNBOOK, "remediate", "--rolling-restart", "--service", "shop", "--yes")
    return Command(argv=(*argv, "-i", str(inventory)), env={"RUNBOOK_STATE": str(home / "state")})


def _ansible(lab: Lab, home: Path, program: Path) -> Command:
    hosts = {
        host.name: {"ansible_port": host.ssh_port, "health_port": host.http_port}
        for host in lab.apps
    }
    options = f"-o UserKnownHostsFile={lab.folder / 'known_hosts'} -o IdentitiesOnly=yes"
    common = {
        "ansible_host": "127.0.0.1",
        "ansible_user": "oncall",
        "ansible_ssh_private_key_file": str(lab.folder / "id_ed25519"),
        "ansible_ssh_common_args": options,
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    inventory = home / "ansible.json"
    inventory.write_text(json.dumps({"app": {"hosts": hosts, "vars": common}}))
    env = {"ANSIBLE_HOME": str(home / "ansible"), "ANSIBLE_LOCALHOST_WARNING": "false"}
    argv = (str(program), "-i", str(inventory), str(_PEERS / "rolling.yml"))
    return Command(argv=argv, env=env)
