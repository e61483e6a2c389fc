"""Running a program on a server's host as the operating-system user that owns the server."""

from __future__ import annotations

import re

#: Whoever is that user already needs no sudo, and root needs no sudoers rule. `env -u` drops what
#: would bend psql away from what it is told; sudo itself keeps no more than the locale.
_AS_USER = """\
case $(id -un) in
"$0") exec "$@" ;;
root) exec runuser -u "$0" -- "$@" ;;
*) exec sudo -n -u "$0" -- "$@" ;;
esac"""
#: sudo refuses before it reads a byte, so the script is still there to be read without it.
_OR_PLAINLY = """\
case $(id -un) in
"$0") exec "$@" ;;
root) exec runuser -u "$0" -- "$@" ;;
esac
sudo -n -u "$0" -- "$@" || exec "$@"
"""
_BENDING = (
    *("PGOPTIONS", "PGSERVICE", "PGHOSTADDR", "PGTARGETSESSIONATTRS", "PGLOADBALANCEHOSTS"),
    *("PGREQUIREPEER", "PGREQUIREAUTH", "PGCHANNELBINDING", "PGGSSENCMODE", "PGSSLNEGOTIATION"),
    *("PGMINPROTOCOLVERSION", "PGMAXPROTOCOLVERSION", "PGDATESTYLE", "PGTZ", "PGGEQO"),
)
_CLEAN = ("env", *(word for name in _BENDING for word in ("-u", name)))
SHELL = "/bin/sh"

#: What sudo says when it does not let somebody through, and what it says when it cannot be run.
_SUDO_SAYS = re.compile(
    r"^(?:sudo:|.*\bsudo: .*not found|.* is not in the sudoers file|Sorry, user)", re.MULTILINE
)


def as_os_user(os_user: str, argv: tuple[str, ...]) -> tuple[str, ...]:
    """Return an argv that runs `argv` as `os_user`: as it is, by runuser, or by `sudo -n -u`."""
    return (*_CLEAN, "LC_ALL=C", "sh", "-c", _AS_USER, os_user, *argv)


def script_as_os_user(os_user: str, *, or_plainly: bool) -> tuple[str, ...]:
    """Return an argv for a shell as `os_user` that reads its script from stdin.

    With `or_plainly` it runs as the SSH user where sudo refuses: it then sees less.
    """
    way = _OR_PLAINLY if or_plainly else _AS_USER
    return ("env", "LC_ALL=C", "sh", "-c", way, os_user, SHELL, "-s")


def sudo_refusal(stderr: str) -> str:
    """Return what sudo said of its refusal, on one line; "" when it was not sudo that spoke."""
    if not _SUDO_SAYS.search(stderr):
        return ""
    return " ".join(stderr.split())


def sudoers_rule(ssh_user: str | None, os_user: str, *programs: str) -> str:
    """Return the sudoers line that lets the SSH user run programs as `os_user`."""
    who = ssh_user or "SSH_USER"
    return f"{who} ALL=({os_user}) NOPASSWD: {', '.join(programs)}"
