"""A real SSH server inside the test process, which runs commands as sshd does and can misbehave."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import paramiko


@dataclass(kw_only=True)
class SshServer:
    """Listens on 127.0.0.1 and lets one key in."""

    host_key: paramiko.PKey
    allowed: paramiko.PKey
    commands: list[str] = field(default_factory=list)
    #: Cut the connection when a command contains this, after it has begun.
    cut_on: str = "\0"
    logins: int = 0
    #: As a jump host it answers this long after it was asked for a way on, and then with a no.
    tunnel_s: float = 0.0
    port: int = 0
    _transports: list[paramiko.Transport] = field(default_factory=list)

    def start(self) -> SshServer:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def stop(self) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Cut every connection that there is."""
        transports, self._transports = self._transports, []
        for transport in transports:
            transport.close()

    def known_hosts_line(self, key: paramiko.PKey | None = None) -> str:
        shown = key or self.host_key
        return f"[127.0.0.1]:{self.port} {shown.get_name()} {shown.get_base64()}\n"

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                transport = paramiko.Transport(client)
                transport.add_server_key(self.host_key)
                self._transports.append(transport)
                with suppress(Exception):
                    transport.start_server(threading.Event(), _Session(self))


class _Session(paramiko.ServerInterface):  # type: ignore[misc] # paramiko ships no types
    def __init__(self, server: SshServer) -> None:
        self._server = server

    def get_allowed_auths(self, username: str) -> str:  # noqa: ARG002
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        if username == "oncall" and key == self._server.allowed:
            self._server.logins += 1
            return int(paramiko.AUTH_SUCCESSFUL)
        return int(paramiko.AUTH_FAILED)

    def check_channel_request(self, kind: str, chanid: int) -> int:  # noqa: ARG002
        return int(paramiko.OPEN_SUCCEEDED)

    def check_channel_direct_tcpip_request(
        self,
        chanid: int,  # noqa: ARG002
        origin: tuple[str, int],  # noqa: ARG002
        destination: tuple[str, int],  # noqa: ARG002
    ) -> int:
        time.sleep(self._server.tunnel_s)
        return int(paramiko.OPEN_FAILED_CONNECT_FAILED)

    def check_channel_exec_request(self, channel: Any, command: bytes) -> bool:
        text = command.decode()
        self._server.commands.append(text)
        threading.Thread(target=self._execute, args=(channel, text), daemon=True).start()
        return True

    def _execute(self, channel: Any, command: str) -> None:
        time.sleep(0.02)  # after the reply that accepts the command, as sshd does it
        if self._server.cut_on in command:
            self._server.cut()
            return
        with suppress(Exception):
            process = subprocess.Popen(
                ["/bin/sh", "-c", command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            threading.Thread(target=_feed, args=(channel, process.stdin), daemon=True).start()
            errors = threading.Thread(
                target=_pump, args=(process.stderr, channel.sendall_stderr), daemon=True
            )
            errors.start()
            _pump(process.stdout, channel.sendall)
            errors.join()
            channel.send_exit_status(process.wait())
            channel.close()


def _pump(stream: Any, send: Any) -> None:
    while data := stream.read1(65536):
        send(data)


def _feed(channel: Any, stdin: Any) -> None:
    with suppress(OSError, ValueError), stdin:
        while data := channel.recv(65536):
            stdin.write(data)
