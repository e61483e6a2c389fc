"""Runs an inventory that is a program, and reads what it prints: ours, or Ansible's `--list`."""

from __future__ import annotations

import json
import os
import selectors
import shlex
import signal
import stat
import subprocess
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING, NoReturn, cast

from runbook.adapters.text_file import MAX_BYTES
from runbook.adapters.yaml_reader import parse_document
from runbook.model.ansible_dynamic import is_dynamic, read_dynamic
from runbook.model.document import Document, Problem, visible
from runbook.model.errors import InvalidDocument

if TYPE_CHECKING:
    from pathlib import Path

    from runbook.model.ansible_inventory import Remark

#: It may ask a cloud or a database that has a bad night; at 2:17 nobody waits for longer.
TIMEOUT_S = 30.0
#: Its last words are what tells why it failed.
_STDERR_BYTES = 4_096
_STDERR_LINES = 5
#: A daemon that it started may hold its output open for good.
_DRAIN_S = 1.0
_CHUNK = 64 * 1024


def is_program(path: Path) -> bool:
    """Tell whether an inventory is to be run: executable, and a script or a binary.

    The bit alone is no proof: on some file systems every file has it.
    """
    try:
        if not (path.is_file() and os.access(path, os.X_OK)):
            return False
        with path.open("rb") as file:
            start = file.read(4)
    except (OSError, ValueError):
        return False  # reading it will say what is wrong
    return start.startswith(b"#!") or start == b"\x7fELF"


def run_program(path: Path, *, timeout_s: float = TIMEOUT_S) -> tuple[Document, tuple[Remark, ...]]:
    """Run an inventory program with `--list`; return what it prints, and what was left out of it.

    Raises:
        InvalidDocument: when others could have changed the program, and it was not run; when it
            fails, takes too long or prints too much; and for what is wrong with its output.
    """
    _refuse_unsafe(path)
    raw = _Run(path, timeout_s).output()
    source = f"{path} (output)"
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _fail(f"{source}: byte 0x{raw[error.start]:02X} is not valid UTF-8", "print UTF-8")
    value = _json(text)
    if not is_dynamic(value):
        # The reader of YAML takes JSON too, but not one that is indented with tabs.
        plain = json.dumps(value, indent=1, ensure_ascii=False) if value and "\t" in text else text
        return parse_document(plain, source), ()
    return _converted(value, source, path.parent)


def _converted(value: object, source: str, folder: Path) -> tuple[Document, tuple[Remark, ...]]:
    """Ansible's output as ours, with the vars that Ansible would read beside the program."""
    from runbook.adapters.ansible_inventory import add_vars_beside
    from runbook.model.ansible_convert import convert, inventory_data

    inventory = read_dynamic(value, source)
    add_vars_beside(inventory, folder)
    imported = convert(inventory)
    return Document(inventory_data(imported), source, "", {}, {}), tuple(imported.remarks)


def _json(text: str) -> object:
    """The value of a JSON text; None for what is none, which the YAML reader will look at."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _refuse_unsafe(path: Path) -> None:
    """What others can write to would be run as us."""
    real = path.resolve()
    status, folder = real.stat(), real.parent.stat()
    shown = shlex.quote(str(real))
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        _fail(
            f"{visible(str(path))} is a program that other users can write to"
            f" (mode {stat.S_IMODE(status.st_mode):04o}); it was not run",
            f"chmod go-w {shown}",
        )
    if status.st_uid not in {0, os.geteuid()}:
        _fail(
            f"{visible(str(path))} is a program of uid {status.st_uid}, not yours; it was not run",
            f"look at it, then make it yours: chown $(id -u) {shown}",
        )
    if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
        _fail(
            f"{visible(str(real.parent))} can be written to by everybody, so"
            f" {visible(real.name)} could be anybody's program; it was not run",
            f"chmod o-w {shlex.quote(str(real.parent))}",
        )


class _Run:
    """One run of the program, its output kept within bounds."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._stdout, self._stderr = bytearray(), bytearray()

    def output(self) -> bytes:
        """Return what it printed, once it has ended well."""
        process = self._start()
        try:
            self._follow(process, time.monotonic() + self._timeout_s)
        finally:
            _kill(process)
            for pipe in (process.stdout, process.stderr):
                cast("IO[bytes]", pipe).close()
        if process.returncode != 0:
            how = (
                f"was ended by {signal.Signals(-process.returncode).name}"
                if process.returncode < 0
                else f"ended with exit code {process.returncode}"
            )
            self._fail(how)
        return bytes(self._stdout)

    def _start(self) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                [str(self._path.absolute()), "--list"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # so that all that it starts can be ended with it
            )
        except OSError as error:
            _fail(
                f"the inventory program {visible(str(self._path))} cannot be run: {error.strerror}",
                "is the interpreter in its first line installed?",
            )

    def _follow(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(cast("IO[bytes]", process.stdout), selectors.EVENT_READ, self._out)
            selector.register(cast("IO[bytes]", process.stderr), selectors.EVENT_READ, self._err)
            ends = deadline
            while selector.get_map():
                if process.poll() is not None:
                    ends = min(ends, time.monotonic() + _DRAIN_S)
                ready = selector.select(min(0.1, max(0.0, ends - time.monotonic())))
                for key, _ in ready:
                    data = os.read(key.fd, _CHUNK)
                    key.data(data)
                    if not data:
                        selector.unregister(key.fileobj)
                if not ready and time.monotonic() >= ends:
                    break
        if process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        if process.poll() is None:
            self._fail(f"did not end within {self._timeout_s:g}s")

    def _out(self, data: bytes) -> None:
        self._stdout += data
        if len(self._stdout) > MAX_BYTES["inventory"]:
            self._fail(f"printed more than {MAX_BYTES['inventory']:,} bytes")

    def _err(self, data: bytes) -> None:
        self._stderr = (self._stderr + data)[-_STDERR_BYTES:]

    def _fail(self, how: str) -> NoReturn:
        lines = self._stderr.decode("utf-8", "replace").strip().splitlines()[-_STDERR_LINES:]
        said = "".join(f"\n  {visible(line)}" for line in lines) or " It said nothing on stderr."
        last = ", and said last:" if lines else "."
        command = f"{shlex.quote(str(self._path.absolute()))} --list"
        _fail(
            f"the inventory program {visible(str(self._path))} {how}{last}{said}",
            f"run it by hand: {visible(command)}",
        )


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the program and what it has started: an inventory has nothing to do after its end."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_DRAIN_S)


def _fail(message: str, hint: str) -> NoReturn:
    raise InvalidDocument([Problem(message, None, hint)])
