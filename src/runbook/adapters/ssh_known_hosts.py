"""known_hosts files, read once for all hosts: which key does a host have to show?

Lines are matched here and only then parsed by paramiko: its own reader raises at the first
`@revoked` or `@cert-authority` line, and reads every key of the file for every host.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from runbook.adapters.ssh_errors import Whither, unknown_host_key

if TYPE_CHECKING:
    import paramiko


class KnownHosts:
    """Hands each client the keys of its one host."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}
        self._lock = threading.Lock()

    def trust(self, client: paramiko.SSHClient, whither: Whither, alias: str | None) -> None:
        """Make `client` accept the keys that the files have for this host, and no other.

        A key that is marked `@revoked` is trusted under no name.
        """
        client.set_missing_host_key_policy(_Refuse(whither))
        files = [self._file(path) for path in whither.known_hosts]
        revoked = frozenset[str]().union(*(file.revoked for file in files))
        for file in files:
            for key in file.keys_of(alias or whither.key_name):
                if key.get_base64() not in revoked:
                    client.get_host_keys().add(whither.key_name, key.get_name(), key)

    def _file(self, path: str) -> _File:
        with self._lock:
            if path not in self._files:
                self._files[path] = _read(Path(path))
            return self._files[path]


@dataclass(kw_only=True)
class _File:
    """One file: its lines by plain name, those with hashed names, and the keys it revokes."""

    plain: dict[str, list[str]] = field(default_factory=dict)
    hashed: list[tuple[str, str]] = field(default_factory=list)
    revoked: frozenset[str] = frozenset()

    def keys_of(self, name: str) -> list[paramiko.PKey]:
        """Return the keys that the file has for a name, in its order; broken lines are left out."""
        from paramiko.hostkeys import HostKeyEntry, HostKeys
        from paramiko.ssh_exception import SSHException

        lines = list(self.plain.get(name, ()))
        lines += [line for mark, line in self.hashed if HostKeys.hash_host(name, mark) == mark]
        keys = []
        for line in lines:
            try:
                entry = HostKeyEntry.from_line(line)
            except SSHException:
                continue
            if entry is not None and entry.key is not None:
                keys.append(entry.key)
        return keys


def _read(path: Path) -> _File:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return _File()
    file, revoked = _File(), set()
    for line in text.splitlines():
        fields = line.split()
        if len(fields) > 3 and fields[0] == "@revoked":
            revoked.add(fields[3])
        if len(fields) < 3 or fields[0].startswith(("#", "@")):
            continue
        if fields[0].startswith("|1|"):
            file.hashed.append((fields[0], " ".join(fields)))
            continue
        for name in fields[0].split(","):
            file.plain.setdefault(name, []).append(" ".join(fields))
    file.revoked = frozenset(revoked)
    return file


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
