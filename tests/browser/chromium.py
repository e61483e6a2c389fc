"""Brings a real Chromium in reach, headless; as root on Debian it is installed where it misses."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lab.docker_engine import LabUnavailable, apt_install, is_debian_root, one_at_a_time

if TYPE_CHECKING:
    from playwright.sync_api import Browser

#: It asks nobody outside for anything: no update, no sync, no check of a password.
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def ensure_chromium() -> str:
    """Return the path of a Chromium; raise LabUnavailable with what to do about it."""
    found = _find()
    if found is not None:
        return found
    with one_at_a_time():
        if _find() is None:
            if not is_debian_root():
                raise LabUnavailable(
                    "the browser's tests need Chromium, and there is none in PATH. Install it"
                    " (Debian: apt-get install chromium); as root on Debian they do so themselves"
                )
            # The pages are set in the reader's own sans-serif; a bare Debian has none.
            apt_install("chromium", "fonts-dejavu-core")
    found = _find()
    if found is None:
        raise LabUnavailable("Chromium was installed, and is not in PATH")
    return found


def _find() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def browser() -> Iterator[Browser]:
    """Have a browser, with a fresh profile."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=ensure_chromium(), args=list(_FLAGS))
        try:
            yield started
        finally:
            started.close()


def main() -> int:
    """Make it ready, and say how long it took."""
    begun = time.monotonic()
    try:
        path = ensure_chromium()
    except LabUnavailable as missing:
        print(f"error: {missing}", file=sys.stderr)
        return 1
    print(f"{path}: ready after {time.monotonic() - begun:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
