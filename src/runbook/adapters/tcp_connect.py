"""One TCP connection for a gate: does it open, and what is the first line that comes?

As with HTTP, the deadline covers everything, name lookup included: the talk runs in a thread of its
own that is left behind, with its socket shut, when it is over time. Nothing raises: whatever goes
wrong is an answer about the host's health.
"""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from runbook.model.effects import TcpConnect, TcpReply

#: Bytes of the first line that are read: a banner is shorter, an endless one is none.
BANNER_BYTES = 1024


class TcpDoor:
    """Performs TcpConnect."""

    def perform(self, effect: Any) -> TcpReply:
        """Connect once, and say how it went."""
        if not isinstance(effect, TcpConnect):
            raise TypeError(f"TcpDoor does not perform {type(effect).__name__}")
        return _Talk(effect=effect).perform()

    def close(self) -> None:
        """Nothing is kept open between connections."""


@dataclass(kw_only=True)
class _Talk:
    """One connection and what came of it."""

    effect: TcpConnect
    started: float = field(default_factory=time.monotonic)
    opened: bool = False
    heard: bytes = b""
    error: str = ""
    asked: bool = True
    sock: socket.socket | None = None

    def perform(self) -> TcpReply:
        worker = threading.Thread(target=self._work, name="tcp-connect", daemon=True)
        worker.start()
        worker.join(self.effect.timeout_s)
        if worker.is_alive():
            self.error = f"no answer within {round(self.effect.timeout_s, 1):g}s"
            self._abandon()
        return TcpReply(
            opened=self.opened,
            error=self.error,
            seconds=time.monotonic() - self.started,
            banner=self.heard.decode("utf-8", errors="replace"),
            asked=self.asked,
        )

    def _work(self) -> None:
        try:
            self._talk()
        except socket.gaierror as error:
            self.error, self.asked = f"the name cannot be resolved: {error.strerror}", False
        except TimeoutError:
            self.error = f"no answer within {round(self.effect.timeout_s, 1):g}s"
        except OSError as error:
            self.error = error.strerror or str(error)
        except (ValueError, OverflowError, UnicodeError) as error:
            self.error, self.asked = f"no proper address: {error}", False

    def _talk(self) -> None:
        effect = self.effect
        with socket.create_connection((effect.host, effect.port), effect.timeout_s) as sock:
            self.sock, self.opened = sock, True
            while effect.banner and b"\n" not in self.heard and len(self.heard) < BANNER_BYTES:
                chunk = sock.recv(BANNER_BYTES - len(self.heard))
                if not chunk:
                    self.error = "the other side closed the connection"
                    return
                self.heard += chunk
            self.heard = self.heard.partition(b"\n")[0]

    def _abandon(self) -> None:
        """Shut the socket, so that the thread left behind ends."""
        if self.sock is not None:
            try:
                self.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return
