"""A real Alertmanager, Debian's, that calls one webhook: for alerts that somebody else words."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .docker_engine import LabUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PACKAGE = "prometheus-alertmanager"
#: Unpacked once for a checkout; nothing is installed, so no service of the machine begins.
UNPACKED = Path(__file__).resolve().parents[2] / ".cache" / "alertmanager"
#: Where Debian's build looks for its templates, whatever its configuration says.
TEMPLATES = Path("/usr/share/prometheus/alertmanager")
READY_WITHIN_S = 30.0


def program() -> Path:
    """Return the program, unpacked from Debian's package when it is not there yet.

    Raises:
        LabUnavailable: when the package cannot be had.
    """
    if installed := shutil.which(PACKAGE):
        return Path(installed)
    found = UNPACKED / "usr" / "bin" / PACKAGE
    UNPACKED.parent.mkdir(parents=True, exist_ok=True)
    with (UNPACKED.parent / "alertmanager.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists() or not TEMPLATES.exists():
            _unpack()
    return found


def _unpack() -> None:
    download = UNPACKED.with_name("alertmanager.download")
    shutil.rmtree(download, ignore_errors=True)
    download.mkdir(parents=True)
    for argv in (["apt-get", "update", "-qq"], ["apt-get", "download", "-qq", PACKAGE]):
        done = subprocess.run(argv, cwd=download, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LabUnavailable(f"{PACKAGE} is not to be had: {done.stderr.strip()[-300:]}")
    (package,) = download.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", str(package), str(UNPACKED)], check=True)
    if not TEMPLATES.exists():
        TEMPLATES.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(UNPACKED / str(TEMPLATES).lstrip("/"), TEMPLATES)
    shutil.rmtree(download)


class Alertmanager:
    """One that runs; see `alertmanager`."""

    def __init__(self, port: int) -> None:
        self._api = f"http://127.0.0.1:{port}"

    def fire(self, labels: Mapping[str, str], summary: str = "", *, resolved: bool = False) -> None:
        """Have an alert fire, or end, as Prometheus would."""
        now = time.time()
        alert = {
            "labels": dict(labels),
            "annotations": {"summary": summary},
            "startsAt": _rfc3339(now - 60),
            "endsAt": _rfc3339(now - 1 if resolved else now + 3600),
        }
        request = urllib.request.Request(
            f"{self._api}/api/v2/alerts",
            data=json.dumps([alert]).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()

    def wait_ready(self) -> None:
        """Wait until it takes alerts."""
        until = time.monotonic() + READY_WITHIN_S
        while True:
            try:
                with urllib.request.urlopen(f"{self._api}/-/ready", timeout=5):
                    return
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)


@contextmanager
def alertmanager(folder: Path, port: int, webhook: str, token: str) -> Iterator[Alertmanager]:
    """Run one on a port, with `folder` for its files, that calls a webhook with a bearer token."""
    folder.mkdir(parents=True, exist_ok=True)
    receiver = {
        "name": "runbook",
        "webhook_configs": [
            {"url": webhook, "http_config": {"authorization": {"credentials": token}}}
        ],
    }
    route = {
        "receiver": "runbook",
        "group_by": ["alertname"],
        "group_wait": "0s",
        "group_interval": "1s",
        "repeat_interval": "1m",
    }
    config = folder / "alertmanager.yml"
    config.write_text(json.dumps({"route": route, "receivers": [receiver]}))
    argv = [
        str(program()),
        f"--config.file={config}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, env={"PATH": os.defpath})
    try:
        running = Alertmanager(port)
        running.wait_ready()
        yield running
    finally:
        process.terminate()
        process.wait(10)


def _rfc3339(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
