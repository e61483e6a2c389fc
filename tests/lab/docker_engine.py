"""Brings a Docker daemon and the hosts' image in reach, or says exactly what is missing."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
#: Keys, passwords, logs and inventories of the labs; never committed.
STATE = HERE.parents[1] / ".lab"
REGISTRY_BASE = "debian:bookworm-slim"
BOOTSTRAPPED_BASE = "runbook-lab-base:bookworm"
DOCKERD_LOG = STATE / "dockerd.log"
DOCKERD_PID = Path("/var/run/docker.pid")
DEBIAN_SOURCES = Path("/etc/apt/sources.list.d/debian.sources")


class LabUnavailable(Exception):
    """The lab cannot be set up on this machine; the message says what to do about it."""


class DockerFailed(Exception):
    """A docker command failed; the message holds the command and what it said."""


def docker(
    *argv: str, text: str | None = None, raw: bytes | None = None, timeout: float = 120
) -> str:
    """Run one docker command and return its stdout."""
    data = text.encode() if text is not None else raw
    done = subprocess.run(
        ["docker", *argv],
        input=data,
        stdin=subprocess.DEVNULL if data is None else None,
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise DockerFailed(f"docker {' '.join(argv)}: exit {done.returncode}: {said}")
    return done.stdout.decode(errors="replace")


def daemon_answers() -> bool:
    """Whether a Docker daemon is in reach of the docker client."""
    try:
        docker("info", "--format", "{{.ServerVersion}}", timeout=20)
    except (OSError, DockerFailed, subprocess.TimeoutExpired):
        return False
    return True


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Let one process of this checkout set things up while the others wait for it."""
    STATE.mkdir(mode=0o700, exist_ok=True)
    with (STATE / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ensure_engine() -> None:
    """Return once a Docker daemon answers; install and start one where that can be done."""
    if daemon_answers():
        return
    with one_at_a_time():
        if daemon_answers():
            return
        if not is_debian_root() or "DOCKER_HOST" in os.environ:
            raise LabUnavailable(
                "the lab needs a Docker daemon, and `docker info` reaches none. Start Docker (or "
                "set DOCKER_HOST to one that runs) and see that this user may use it; as root on "
                "Debian, with DOCKER_HOST unset, the lab installs docker.io by itself"
            )
        if shutil.which("dockerd") is None:
            apt_install("docker.io")
        start_daemon()


def is_debian_root() -> bool:
    """Whether packages can be installed here with apt-get."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def apt_install(*packages: str) -> None:
    """Install Debian packages; raise LabUnavailable with apt's own words if that fails."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ("install", "-y", "-qq", "--no-install-recommends", *packages)
    for arguments in (("update", "-qq"), install):
        done = subprocess.run(
            ["apt-get", "-o", "DPkg::Lock::Timeout=180", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise LabUnavailable(
                f"the lab needs the Debian packages {' '.join(packages)}, and "
                f"`apt-get {arguments[0]}` failed: {done.stderr.strip()[-600:]}"
            )


def start_daemon() -> None:
    """Start dockerd detached, so that it outlives the tests, and wait until it answers."""
    deadline = time.monotonic() + 60
    daemon: subprocess.Popen[bytes] | None = None
    starts = 0
    while not daemon_answers():
        ended = daemon is None or daemon.poll() is not None
        if time.monotonic() > deadline or (ended and starts == 3):
            tail = "\n".join(DOCKERD_LOG.read_text(errors="replace").splitlines()[-5:])
            raise LabUnavailable(f"dockerd did not start; the end of {DOCKERD_LOG}:\n{tail}")
        # Another one may be about to answer, or to end: wait for what comes of it.
        if ended and not another_dockerd_runs():
            daemon, starts = spawn_daemon(), starts + 1
        time.sleep(0.2)


def another_dockerd_runs() -> bool:
    """Whether the process in dockerd's pid file is one; a stale file is removed.

    dockerd refuses to start while *any* process has the number of a predecessor that was killed.
    """
    if not DOCKERD_PID.is_file():
        return False
    try:
        if Path(f"/proc/{int(DOCKERD_PID.read_text())}/comm").read_text().strip() == "dockerd":
            return True
    except (OSError, ValueError):
        pass
    DOCKERD_PID.unlink(missing_ok=True)
    return False


def spawn_daemon() -> subprocess.Popen[bytes]:
    """Start dockerd in a session of its own, with its log in a file."""
    with DOCKERD_LOG.open("ab") as log:
        return subprocess.Popen(
            ["dockerd"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )


def ensure_image() -> str:
    """Return the tag of the hosts' image, built only when what it is made of has changed."""
    tag = f"runbook-lab:{content_hash()}"
    if image_exists(tag):
        return tag
    with one_at_a_time():
        if not image_exists(tag):
            build(tag, ensure_base())
    return tag


def content_hash() -> str:
    """A hash of every file that goes into the image."""
    digest = hashlib.sha256()
    for path in [*sorted((HERE / "image").iterdir()), HERE / "shop.py"]:
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def image_exists(tag: str) -> bool:
    """Whether the daemon has the image."""
    return bool(docker("image", "ls", "--quiet", tag).strip())


def ensure_base() -> str:
    """The base image: one that is there, else from a registry, else made with mmdebstrap."""
    for tag in (os.environ.get("RUNBOOK_LAB_BASE", ""), REGISTRY_BASE, BOOTSTRAPPED_BASE):
        if tag and image_exists(tag):
            return tag
    try:
        docker("pull", "--quiet", REGISTRY_BASE, timeout=180)
    except (DockerFailed, subprocess.TimeoutExpired) as error:
        if not is_debian_root():
            raise LabUnavailable(
                f"the lab's base image {REGISTRY_BASE} cannot be pulled ({error}). Pull or load "
                "it by hand, or name another Debian 12 image in RUNBOOK_LAB_BASE"
            ) from error
        bootstrap_base()
        return BOOTSTRAPPED_BASE
    return REGISTRY_BASE


def bootstrap_base() -> None:
    """Make a minimal Debian 12 image out of Debian's packages, with the host's own sources."""
    if shutil.which("mmdebstrap") is None:
        apt_install("mmdebstrap")
    sources = [str(DEBIAN_SOURCES)] if names_bookworm(DEBIAN_SOURCES) else []
    with subprocess.Popen(
        ["mmdebstrap", "--quiet", "--variant=minbase", "bookworm", "-", *sources],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as bootstrap:
        subprocess.run(
            ["docker", "import", "-", BOOTSTRAPPED_BASE],
            stdin=bootstrap.stdout,
            stdout=subprocess.DEVNULL,
            check=False,
        )
    if bootstrap.returncode != 0 or not image_exists(BOOTSTRAPPED_BASE):
        docker("image", "rm", "--force", BOOTSTRAPPED_BASE)
        raise LabUnavailable(
            "the lab's base image could be neither pulled nor made with mmdebstrap (its message "
            "is above); name a Debian 12 image in RUNBOOK_LAB_BASE"
        )


def names_bookworm(sources: Path) -> bool:
    """Whether apt's sources file is one for Debian 12."""
    return sources.is_file() and "bookworm" in sources.read_text()


def build(tag: str, base: str) -> None:
    """Build the hosts' image on `base`."""
    argv = ["docker", "build", "--quiet", "--network", "host", "--build-arg", f"BASE={base}"]
    argv += ["--tag", tag, "--file", str(HERE / "image" / "Dockerfile"), str(HERE)]
    environment = dict(os.environ)
    if subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False).returncode:
        environment["DOCKER_BUILDKIT"] = "0"  # without buildx only the legacy builder is there
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabUnavailable(f"the lab's image did not build: {done.stderr.strip()[-1500:]}")


def main() -> int:
    """Make the daemon and the image ready, and say how long it took."""
    begun = time.monotonic()
    try:
        ensure_engine()
        print(f"docker daemon: ready after {time.monotonic() - begun:.1f} s")
        tag = ensure_image()
    except LabUnavailable as missing:
        print(f"error: {missing}", file=sys.stderr)
        return 1
    print(f"image {tag}: ready after {time.monotonic() - begun:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
