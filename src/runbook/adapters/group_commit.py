"""One thread that writes to an SQLite file what many ask for, in as few transactions as it can.

A commit waits for the disk; while it does, the next ones gather, and share one wait.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

#: Works that share a transaction at most: the first of them waits for the last.
_TOGETHER = 500

_Work = tuple[Callable[[sqlite3.Connection], Any], "Future[Any]"]


class GroupCommit:
    """Works on one connection, one after the other; each is on disk when `do` returns."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], name: str) -> None:
        """Start the thread; `connect` opens its connection, without implicit transactions.

        Raises:
            sqlite3.Error: when it cannot be opened.
        """
        self._db = connect()
        self._asked: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Have some work done in a transaction, and return what it returns once that is on disk.

        What it raises undoes its own statements, and is raised here.

        Raises:
            sqlite3.Error: when it cannot be written, or the file was closed.
        """
        done: Future[T] = Future()
        with self._closing:
            if self._closed:
                raise sqlite3.ProgrammingError("it was closed")
            self._asked.put((work, done))
        return done.result()

    def close(self) -> None:
        """Write what was asked for, and close the connection; may be called twice."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._asked.put(None)
        self._thread.join()

    def _work(self) -> None:
        goes_on = True
        while goes_on:
            works, goes_on = self._gather()
            if works:
                self._commit(works)
        self._db.close()

    def _gather(self) -> tuple[list[_Work], bool]:
        """Wait for work, and take what has come meanwhile; False: it was the last."""
        works: list[_Work] = []
        asked = self._asked.get()
        while asked is not None:
            works.append(asked)
            if len(works) >= _TOGETHER or self._asked.empty():
                return works, True
            asked = self._asked.get()
        return works, False

    def _commit(self, works: list[_Work]) -> None:
        told: list[Callable[[], None]] = []
        try:
            self._db.execute("BEGIN IMMEDIATE")
            told = [self._one(work, done) for work, done in works]
            self._db.execute("COMMIT")
        except BaseException as error:  # noqa: BLE001 - raised where it was asked for
            self._undo()
            told = [_failing(done, error) for _, done in works]
        for tell in told:
            tell()

    def _one(
        self, work: Callable[[sqlite3.Connection], Any], done: Future[Any]
    ) -> Callable[[], None]:
        """Do one work; return what tells its outcome, once it is on disk."""
        self._db.execute("SAVEPOINT one")
        try:
            result = work(self._db)
        except sqlite3.Error:
            raise  # the file's trouble is everybody's
        except Exception as error:  # noqa: BLE001 - raised where it was asked for
            self._db.execute("ROLLBACK TO one")
            return _failing(done, error)
        finally:
            if self._db.in_transaction:
                self._db.execute("RELEASE one")
        return lambda: done.set_result(result)

    def _undo(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error:
            return  # the next transaction says what is wrong


def _failing(done: Future[Any], error: BaseException) -> Callable[[], None]:
    return lambda: done.set_exception(error)
