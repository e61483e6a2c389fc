"""What systemd units can do wrong on a restart: one unit file for each way, by name."""

from __future__ import annotations

#: ``Lab.spoil(host, WAY)`` writes one of these over the shop's unit file, or as a new unit.
WAYS_TO_FAIL: dict[str, str] = {
    # `systemctl restart` answers 0, and the process is gone and back every second or so.
    "crash_loop": """
        [Unit]
        StartLimitIntervalSec=0
        [Service]
        Type=simple
        ExecStart=/bin/sh -c 'sleep 0.7; exit 1'
        Restart=always
        RestartSec=0.3
    """,
    # Lives just long enough to be active at the first looks.
    "late_crash": """
        [Unit]
        StartLimitIntervalSec=0
        [Service]
        Type=simple
        ExecStart=/bin/sh -c 'sleep 1.5; exit 1'
        Restart=always
        RestartSec=0.3
    """,
    # Crashes until systemd gives up: Result=start-limit-hit or exit-code, and no start any more.
    "gives_up": """
        [Unit]
        StartLimitIntervalSec=30
        StartLimitBurst=3
        [Service]
        Type=simple
        ExecStart=/bin/sh -c 'sleep 0.1; exit 1'
        Restart=always
        RestartSec=0.1
    """,
    # Nobody stops or restarts it by hand.
    "refuses_stop": """
        [Unit]
        RefuseManualStop=yes
        [Service]
        Type=simple
        ExecStart=/bin/sleep infinity
    """,
    # `systemctl restart` answers 0, and the process is dead at once.
    "dies_at_once": """
        [Service]
        Type=simple
        ExecStart=/bin/false
    """,
    # Active and running, and nothing listens where the health gate asks.
    "deaf": """
        [Service]
        Type=simple
        ExecStart=/bin/sleep infinity
    """,
    # Never says READY=1: the restart blocks until the start timeout, then answers 1.
    "hanging_start": """
        [Service]
        Type=notify
        ExecStart=/bin/sleep infinity
        TimeoutStartSec=5
    """,
    # `systemctl restart` answers 1.
    "missing_binary": """
        [Service]
        Type=exec
        ExecStart=/usr/bin/no-such-binary
    """,
    # `systemctl restart` answers 0, and the unit stays inactive.
    "failed_condition": """
        [Unit]
        ConditionPathExists=/no/such/path
        [Service]
        Type=simple
        ExecStart=/bin/sleep infinity
    """,
}


def unit_text(way: str) -> str:
    """The unit file of one way to fail, as systemd reads it."""
    lines = (line.strip() for line in WAYS_TO_FAIL[way].strip().splitlines())
    return "\n".join([*lines, ""])
