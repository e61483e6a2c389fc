"""Pictures of the pages for the docs: a drill's saturated database, its app servers restarted.

`make screenshots` writes them to docs/images/. What is on them is real; the machine's own paths and
names are not of interest, so the playbook's commands are short.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from browser.chromium import browser
from browser.stage import Stage
from runbook.model.alert import Alert
from runbook.model.intake import Settled

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
#: Of each picture; a page of docs is to open on a phone.
MOST_BYTES = 150_000
DESK = {"width": 1120, "height": 900}
PHONE = {"width": 390, "height": 1000}


def main() -> int:
    """Take them all."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="runbook-") as folder:
        os.environ["RUNBOOK_STATE"] = str(Path(folder) / "state")
        drill = _Drill(Path(folder) / "drill")
        try:
            stage = Stage(Path(folder))
            with stage.serving(), browser() as chromium:
                _take(stage, drill, chromium)
            stage.close()
        finally:
            drill.stop()
    sizes = {path.name: path.stat().st_size for path in sorted(IMAGES.glob("*.webp"))}
    for name, size in sizes.items():
        print(f"docs/images/{name}: {size / 1000:.0f} kB")
    return int(any(size > MOST_BYTES for size in sizes.values()))


def _take(stage: Stage, drill: _Drill, chromium: Browser) -> None:
    asked: dict[str, Any] = {"inventory": drill.inventory, "approvers": ("dana", "otto")}
    looked = stage.submit("diagnose-saturation", "drill-db", rule="look", **asked)
    stage.ended(looked)
    stage.ended(stage.submit(rehearsal=True, **asked))
    _fill_inbox(stage, looked)
    # Slow enough for a picture of a batch in the middle.
    slow = {"settle": "6s", "batches": ["1", "2"]}
    run_id = stage.asking(answer_within_s=1800.0, params=slow, **asked)
    desk = _window(stage, chromium, viewport=DESK)
    phone = _window(stage, chromium, viewport=PHONE, device_scale_factor=2, is_mobile=True)
    dark = _window(stage, chromium, viewport=DESK, color_scheme="dark")
    desk.goto("/runs")
    _shoot(desk, "runs", height=560)
    desk.goto("/inbox")
    _shoot(desk, "inbox", height=420)
    phone.goto(f"/runs/{run_id}")
    _shoot(phone, "waiting-phone")
    dark.goto(f"/runs/{run_id}")
    dark.fill("#comment", "seen the graphs, go")
    dark.get_by_role("button", name="Approve").click()
    dark.locator(".hosts li.tone-good").first.wait_for()
    dark.locator("svg.slots").wait_for()
    dark.locator(".hosts .pill", has_text="stabilising").first.wait_for()
    _shoot(dark, "live-dark", height=1060)
    stage.ended(run_id)


def _window(stage: Stage, chromium: Browser, **window: Any) -> Page:
    page: Page = chromium.new_context(base_url=stage.url, **window).new_page()
    page.goto("/sign-in")
    page.fill("#token", stage.token("dana"))
    page.press("#token", "Enter")
    page.wait_for_url("**/runs")
    return page


def _shoot(page: Page, name: str, *, height: int | None = None) -> None:
    """Take what is seen of a page, as lossy WebP: Chromium makes it by itself."""
    if height is not None:
        page.set_viewport_size({"width": DESK["width"], "height": height})
    session = page.context.new_cdp_session(page)
    shot = session.send("Page.captureScreenshot", {"format": "webp", "quality": 82})
    (IMAGES / f"{name}.webp").write_bytes(base64.b64decode(shot["data"]))


def _fill_inbox(stage: Stage, run_id: str) -> None:
    now = time.time()
    labels = {"alertname": "PostgresConnectionsSaturated", "severity": "page"}
    firing = Alert(
        source="alertmanager", hook="prometheus", key="1", event="firing",
        title="PostgresConnectionsSaturated on drill-db", labels=labels,
    )  # fmt: skip
    triggered = Alert(
        source="pagerduty", hook="pagerduty", key="2", event="incident.triggered", priority="P1",
        incident="Q1ABCDEFGHIJKL", title="drill-db: too many clients already",
    )  # fmt: skip
    again = replace(triggered, key="3", event="incident.reopened")
    stage.inbox.put([firing, triggered, again], now)
    cooling = "cooling down for 9m 12s more"
    look: dict[str, Any] = {"rule": "look", "target": "drill-db", "run_id": run_id}
    restart: dict[str, Any] = {"rule": "restart-shop", "target": "shop", "run_id": run_id}
    stage.inbox.settle(
        [
            Settled(number=0, state="ran", **look),
            Settled(number=1, state="ran", **restart),
            Settled(number=2, state="ignored", why=cooling, rule="restart-shop"),
        ]
    )


class _Drill:
    """A saturated database and app servers that leak; commands as one would have them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._call("drill", "start")
        path = folder / "inventory.yaml"
        found = re.search(r'restart: \["([^"]+)"', path.read_text())
        assert found is not None
        ctl = folder / "shopctl"
        ctl.write_text(
            f'#!/bin/sh\nexec {found.group(1)} -P -m runbook.drill.appctl "$1" --dir {folder}'
            ' --name "$2"\n'
        )
        ctl.chmod(0o755)
        os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
        self.inventory = folder / "shop.yaml"
        short = r'\1: ["shopctl", "\1", "${host.name}"]'
        self.inventory.write_text(re.sub(r"(restart|status): \[.*\]", short, path.read_text()))

    def _call(self, *words: str) -> None:
        argv = [sys.executable, "-m", "runbook", *words, "--state-dir", str(self._folder)]
        subprocess.run(argv, check=True, capture_output=True)

    def stop(self) -> None:
        """End it."""
        self._call("drill", "stop")


if __name__ == "__main__":
    sys.exit(main())
