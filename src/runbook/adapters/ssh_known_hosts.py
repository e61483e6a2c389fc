"""known_hosts files, read once for all hosts: which key does a host have to show?"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from runbook.adapters.ssh_errors import Whither, unknown_host_key

if TYPE_CHECKING:
    import paramiko

_REVOKED = "@revoked "


class KnownHosts:
    """Hands each client the keys of its one host; each file is parsed once for all of them."""

    def __init__(self) -> None:
        self._read: dict[str, tuple[paramiko.HostKeys, frozenset[str]]] = {}
        self._lock = threading.Lock()

    def trust(self, client: paramiko.SSHClient, whither: Whither, alias: str | None) -> None:
        """Make `client` accept the keys that the files have for this host, and no other.

        A key that is marked `@revoked` is trusted under no name.
        """
        client.set_missing_host_key_policy(_Refuse(whither))
        files = [self._file(path) for path in whither.known_hosts]
        revoked = frozenset[str]().union(*(bad for _, bad in files))
        for keys, _ in files:
            found = keys.lookup(alias or whither.key_name) or {}
            for kind, key in found.items():
                if key.get_base64() not in revoked:
                    client.get_host_keys().add(whither.key_name, kind, key)

    def _file(self, path: str) -> tuple[paramiko.HostKeys, frozenset[str]]:
        with self._lock:
            if path not in self._read:
                self._read[path] = _load(Path(path))
            return self._read[path]


def _load(path: Path) -> tuple[paramiko.HostKeys, frozenset[str]]:
    import paramiko

    keys = paramiko.HostKeys()
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return keys, frozenset()
    keys.load(str(path))
    revoked = (line.split() for line in lines if line.startswith(_REVOKED))
    return keys, frozenset(fields[3] for fields in revoked if len(fields) > 3)


class _Refuse:
    """A policy for paramiko: a host without a known key is refused, with its fingerprint."""

    def __init__(self, whither: Whither) -> None:
        self._whither = whither

    def missing_host_key(
        self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey
    ) -> None:
        """Refuse; paramiko calls this, by this name."""
        del client, hostname
        raise unknown_host_key(self._whither, key)
