"""What `serve` says of itself: one line for each thing that happened, JSON unless at a terminal."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO

from runbook.model.document import visible

#: A line that is longer is cut: a journal's line is for eyes and for grep.
_LONGEST = 500


class Log:
    """Writes lines; used from several threads."""

    def __init__(
        self, stream: TextIO, *, as_json: bool, mask: Callable[[str], str] = lambda text: text
    ) -> None:
        """Prepare; `mask` takes secrets out of text."""
        self._stream = stream
        self._as_json = as_json
        self._mask = mask
        self._lock = threading.Lock()

    def say(self, event: str, **said: Any) -> None:
        """Write one line: what happened, and its values; None is left out."""
        values = {key: self._plain(value) for key, value in said.items() if value is not None}
        line = _as_json(event, values) if self._as_json else _as_text(event, values)
        self._write(line)

    def _write(self, line: str) -> None:
        """Write a line; a log that cannot be written stops nothing."""
        with self._lock:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                return

    def _plain(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        # Control characters could fake a line, or colour a terminal.
        return visible(self._mask(str(value)))[:_LONGEST]


def _as_json(event: str, values: dict[str, Any]) -> str:
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time() % 1 * 1000:03.0f}Z"
    return json.dumps({"at": at, "event": event, **values}, ensure_ascii=False)


def _as_text(event: str, values: dict[str, Any]) -> str:
    words = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return " ".join([time.strftime("%H:%M:%S"), event, *words])


class LibraryLog(logging.Handler):
    """Brings what uvicorn has to say into our log, without the texts of requests."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record as one line; of an exception, its type and where it came from."""
        error = record.exc_info[1] if record.exc_info else None
        self._log.say(
            "server",
            level=record.levelname.lower(),
            said=record.getMessage(),
            error=None if error is None else where(error),
        )


def where(error: BaseException) -> str:
    """Return an unexpected exception's type and place: its words might be a request's."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__} at {place}"
