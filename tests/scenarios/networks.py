"""App hosts with network stacks and addresses of their own: namespaces, where root may."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from runbook.adapters.local_command import LocalDoor
from runbook.model.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runbook.adapters.host_door import Errand
    from runbook.model.effects import CommandOutcome
    from runbook.model.fleet import Fleet, ResolvedHost

#: Every stage's network is a part of it; pg_hba.conf lets it in.
ALL = "10.213.0.0/16"
_FIRST_HOST = 11


@dataclass(kw_only=True)
class Network:
    """A bridge that the server listens on, and a namespace for each app host on it."""

    number: int
    #: The namespaces by the host's name.
    namespaces: dict[str, str] = field(default_factory=dict)

    @property
    def bridge(self) -> str:
        """The name of the bridge's interface."""
        return f"runbook{self.number}"

    @property
    def server(self) -> str:
        """The address by which the hosts reach the server."""
        return f"10.213.{self.number}.1"

    def address(self, host: str) -> str:
        """Return a host's address, the host made if it is not there yet."""
        self.namespace(host)
        return f"10.213.{self.number}.{_FIRST_HOST + list(self.namespaces).index(host)}"

    def namespace(self, host: str) -> str:
        """Return a host's namespace, made if it is not there yet."""
        if host not in self.namespaces:
            self.namespaces[host] = f"{self.bridge}-{host}"
            self._boot(host)
        return self.namespaces[host]

    def cut_off(self, host: str) -> None:
        """Take a host from the network without a word to anybody, as a power cut does."""
        _ip("link", "delete", self._cable(host))

    def reboot(self, host: str) -> None:
        """Bring a host back under its address, with a network stack that remembers nothing."""
        _ip("netns", "delete", self.namespaces[host])
        self._boot(host)

    def close(self) -> None:
        """Take everything down."""
        for name in self.namespaces.values():
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "delete", name)
        _ip("link", "delete", self.bridge)

    def _boot(self, host: str) -> None:
        name, cable = self.namespaces[host], self._cable(host)
        _ip("netns", "add", name)
        _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", cable, "master", self.bridge, "up")
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "address", "add", f"{self.address(host)}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")

    def _cable(self, host: str) -> str:
        return f"{self.bridge}-{list(self.namespaces).index(host)}"


class NamespaceDoor(LocalDoor):
    """Runs what is for a host in that host's namespace, instead of over SSH."""

    def __init__(self, fleet: Fleet, namespaces: Mapping[str, str]) -> None:
        super().__init__(fleet, rehearsal=True)
        self._namespaces = namespaces

    def _run(self, host: ResolvedHost, errand: Errand) -> CommandOutcome:
        name = self._namespaces.get(host.name)
        if name is None:
            raise Unreachable(f"{host.name}: there is no such host in this scenario")
        # Whoever plays the scenario over SSH is not on that host.
        inside = ("ip", "netns", "exec", name, "env", "-u", "SSH_CONNECTION")
        return super()._run(host, replace(errand, argv=(*inside, *errand.argv)))


@contextmanager
def network() -> Iterator[Network | None]:
    """Hold a network for as long as the context lasts; None where it may not be made."""
    made = _made() if possible() else None
    try:
        yield made
    finally:
        if made is not None:
            made.close()


def possible() -> bool:
    """Whether namespaces can be made here."""
    return os.geteuid() == 0 and shutil.which("ip") is not None and shutil.which("ss") is not None


def _made() -> Network | None:
    """Make the first bridge whose name is free: several versions are played at once."""
    for number in range(1, 250):
        made = Network(number=number)
        with suppress(subprocess.CalledProcessError):
            _ip("link", "add", made.bridge, "type", "bridge")
            _ip("address", "add", f"{made.server}/24", "dev", made.bridge)
            _ip("link", "set", made.bridge, "up")
            return made
    return None


def _ip(*argv: str) -> None:
    subprocess.run(["ip", *argv], check=True, capture_output=True)
