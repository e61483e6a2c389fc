"""The shell script that holds a lock on a target's machine, and what its first line says.

It runs under any sh, by the account that runbook logs in with, and needs flock(1) of util-linux or
busybox. It takes the lock on a file that it only opens for reading (another user's file in a sticky
directory may not be opened for writing), then turns into a process that answers each line it is
sent, and ends with its stdin: when runbook dies, sshd closes stdin, and the kernel frees the lock.
Who holds it stands in that process's own arguments, where everybody on the machine may read it.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Seconds for the script's first line: it forks a dozen times on a machine that may be overloaded.
ANSWER_WITHIN_S = 20.0
#: How the holder is known among all processes, together with the lock's file.
MARK = "runbook-lock:"

# A name for this machine's own lock that does not hang on what an inventory calls it: /run/lock
# where every user may write (Debian), or where the administrator has made runbook's folder; else
# /tmp. Which of the two must not hang on who asks, or two users would hold two locks.
#
# The lock belongs to the open file, not to the process that asked for it, so /proc/locks names a
# flock(1) that is gone: the holder is found by its arguments, and before it is ended also by the
# file that it has open.
#
# Whoever takes the lock touches its file. So one whose connection was cut, and who takes it again,
# can tell whether anybody has held it in between.
_SCRIPT = r"""
name=$1 note=$2 end=$3 theirs=$4 dir=$5 since=$6
umask 0
none() { printf 'none %s\n' "$1"; exit 0; }
command -v flock >/dev/null 2>&1 || none "there is no flock(1)"
if [ -z "$dir" ]; then
    dir=/tmp/runbook-locks
    if [ -k /run/lock ] || [ -d /run/lock/runbook ]; then dir=/run/lock/runbook; fi
fi
file=$dir/$name.lock
[ -d "$dir" ] || mkdir -m 1777 "$dir" 2>/dev/null
[ -d "$dir" ] && [ ! -L "$dir" ] || none "$dir cannot be made"
[ -e "$file" ] || (set -C; : >"$file") 2>/dev/null
[ -f "$file" ] && [ ! -L "$file" ] && [ -r "$file" ] || none "$file cannot be made"
exec 9<"$file"
mine() { flock -n 9 9<&9 2>/dev/null; }
argument() { tr '\0' '\n' <"/proc/$1/cmdline" 2>/dev/null | sed -n "$2p"; }
holds() { [ "$(argument "$1" 4)" = "runbook-lock:$file" ]; }
tell() {
    for at in $(grep -laF "runbook-lock:$file" /proc/[0-9]*/cmdline 2>/dev/null); do
        pid=${at#/proc/} pid=${pid%/cmdline}
        holds "$pid" || continue
        account=$(stat -c %U "/proc/$pid" 2>/dev/null)
        printf 'held %s %s %s\n' "$pid" "${account:-?}" "$(argument "$pid" 5)"
        exit 0
    done
}
if ! mine; then
    if [ -n "$end" ]; then
        holds "$end" && [ "$(argument "$end" 5)" = "$theirs" ] \
            && [ "$(readlink "/proc/$end/fd/9")" = "$file" ] && kill -KILL "$end" 2>/dev/null
    else
        tell
    fi
    for again in 1 2 3 4 5 6 7 8 9 10; do
        sleep 0.1 2>/dev/null || sleep 1
        if mine; then break; fi
        tell
        [ "$again" -lt 10 ] || { echo unseen; exit 0; }
    done
fi
stamp() { [ -w "$file" ] && stat -c %y "$file" 2>/dev/null | tr ' ' _; }
if [ -n "$since" ] && [ "$(stamp)" != "$since" ]; then echo changed; exit 0; fi
touch -c "$file" 2>/dev/null
export RUNBOOK_LOCK_STAMP="$(stamp)"
exec sh -c 'echo "mine $RUNBOOK_LOCK_STAMP"; while read -r line; do echo "$line"; done' \
    "runbook-lock:$file" "$note" 9<&9
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """The process on the target that holds a lock."""

    pid: int
    #: The account that it runs as, there.
    account: str
    #: What its run has written about itself: JSON, but from another hand.
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What the script answered: the lock is ours, or why not."""

    mine: bool = False
    #: With `mine`: what the file is marked with until somebody else takes the lock; "" where it
    #: cannot be marked.
    stamp: str = ""
    #: It is free, but somebody has held it since `stamp`.
    changed: bool = False
    #: Held by a process that can be named; None with `unseen`.
    holder: Holder | None = None
    #: Somebody holds it whom this account cannot see.
    unseen: bool = False
    #: There can be no lock there at all, and why.
    none: str = ""


def lock_argv(
    name: str, note: str, end: Holder | None, directory: str, since: str = ""
) -> tuple[str, ...]:
    """Return the argv that takes the lock `name`.

    `end` is a holder that is ended first; with `since`, an earlier stamp, it is only taken if
    nobody else has held it in between.
    """
    ended = (str(end.pid), end.note) if end else ("", "")
    return ("sh", "-c", _SCRIPT, "runbook-lock", name, note, *ended, directory, since)


def read_answer(line: str | None) -> Said:
    """Return what the script's first line means; None is a script that said nothing."""
    word, _, rest = (line or "").partition(" ")
    if word == "mine":
        return Said(mine=True, stamp=rest)
    if word == "changed":
        return Said(changed=True)
    if word == "held":
        pid, _, rest = rest.partition(" ")
        account, _, note = rest.partition(" ")
        if pid.isdigit():
            return Said(holder=Holder(pid=int(pid), account=account, note=note))
    if word == "unseen":
        return Said(unseen=True)
    # A login shell's greeting, or a machine without sh: what it said is told, never guessed at.
    return Said(none=rest if word == "none" else f"its shell said {(line or '')[:200]!r}")
