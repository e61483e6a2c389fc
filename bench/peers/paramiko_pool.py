"""The floor for a command on many hosts: paramiko's own client and a pool of 20 threads."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import paramiko

_AT_ONCE = 20


def main() -> int:
    """Run `true` at each `HOST:PORT` after KEY, KNOWN_HOSTS and USER."""
    key_file, known_hosts, user, *targets = sys.argv[1:]
    key = paramiko.Ed25519Key.from_private_key_file(key_file)
    known = paramiko.HostKeys(known_hosts)

    def command(target: str) -> int:
        host, port = target.rsplit(":", 1)
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        for kind, public in (known.lookup(f"[{host}]:{port}") or {}).items():
            client.get_host_keys().add(f"[{host}]:{port}", kind, public)
        client.connect(
            host, int(port), user, pkey=key, allow_agent=False, look_for_keys=False, timeout=10
        )
        try:
            channel = client.get_transport().open_session()
            channel.exec_command("true")
            code: int = channel.recv_exit_status()
            return code
        finally:
            client.close()

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return max(pool.map(command, targets))


if __name__ == "__main__":
    sys.exit(main())
