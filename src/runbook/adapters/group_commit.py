"""Writes to an SQLite file what many threads ask for, in as few transactions as it can.

A commit waits for the disk; while it does, the next works gather, and whoever comes to the
connection first takes all of them along in one transaction.
"""

from __future__ import annotations

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

    def __init__(self, db: sqlite3.Connection) -> None:
        """Take a connection without implicit transactions, to be used from any thread."""
        self._db = db
        self._gathering = threading.Lock()
        self._asked: list[_Work] = []
        self._committing = threading.Lock()

    def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Have some work done in a transaction, and return what it returns once that is on disk.

        What it raises undoes its own statements, and is raised here.

        Raises:
            sqlite3.Error: when it cannot be written, or the connection was closed.
        """
        done: Future[T] = Future()
        with self._gathering:
            self._asked.append((work, done))
        with self._committing:
            while not done.done():
                self._commit(self._gathered())
        return done.result()

    def close(self) -> None:
        """Close the connection, once nobody works on it; may be called twice."""
        with self._committing:
            self._db.close()

    def _gathered(self) -> list[_Work]:
        with self._gathering:
            works, self._asked = self._asked[:_TOGETHER], self._asked[_TOGETHER:]
        return works

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
