"""The scripts that a server's host runs where no connection is left: to look, and to signal.

They are POSIX sh, go to the host's shell on stdin, and run no program for each process: 5,000
backends are read by a handful of greps. All of a script is read before any of it runs, so that one
that was cut off on its way does nothing. Titles come last and end in NUL, because they may hold
anything: whatever a role is called, it cannot pass for another part of the answer.
"""

from __future__ import annotations

import re
import shlex

#: Off, it leaves titles as they were when it was turned off: `idle`, whatever they do since.
TITLES = "update_process_title"

SETTINGS = (
    "max_connections",
    "superuser_reserved_connections",
    "reserved_connections",
    "max_wal_senders",
    "cluster_name",
    TITLES,
)

#: States of a session that waits for its client, as titles and pg_stat_activity name them.
IDLE = ("idle", "idle in transaction", "idle in transaction (aborted)")
#: The answer's last word: without it something is missing.
END = "\0end of titles\0"

#: Sets `found` to the postmaster that listens on $port, and `how` to what proves it. Several
#: clusters may be on one host, and on one port of it at different addresses. The best proof there
#: is decides, and where it fits two of them nobody is found:
#:   5  postmaster.pid in its working directory (its data directory) has its pid, port and folder
#:   4  its socket's lock file, in the declared folder, has its pid
#:   3  postmaster.pid has its pid and port, and another folder or none
#:   2  it has a socket that listens on the port
#:   1  its arguments name the port
#: Anybody may call a process `postgres`, and write to a lock file's folder (/tmp) or into
#: arguments: what these say counts only of a process of the server's own user.
_FIND = r"""
postmasters() {
    grep -h -e '^[0-9]* (postgres) ' -e '^[0-9]* (postmaster) ' -e '^[0-9]* (edb-postgres) ' \
        /proc/[0-9]*/stat 2>/dev/null </dev/null |
        awk '{ parent[$1] = $4; child[$4] = 1 }
             END { for (pid in parent) if (!(parent[pid] in parent) && pid in child) print pid }'
}
find_postmaster() {
    found= how= ports= blind= count=0 best=0 rivals=0
    locked= owner=$(id -u @OS_USER@ 2>/dev/null)
    if [ -f "$lock" ] && [ -r "$lock" ]; then read -r locked <"$lock"; fi
    listening=$(ss -Hltnp "sport = :$port" 2>/dev/null </dev/null)
    for master in $(postmasters); do
        count=$((count + 1)) rank=0 proof=
        prove
        if [ "$rank" -gt "$best" ]; then
            found=$master how=$proof best=$rank rivals=1
        elif [ "$rank" -gt 0 ] && [ "$rank" = "$best" ]; then
            rivals=$((rivals + 1))
        fi
    done
    if [ "$rivals" -gt 1 ]; then found=; fi
    if [ "$best" = 0 ] && [ "$count" = 1 ] && [ -n "$blind" ]; then found=${blind# } how=only; fi
}
prove() {
    file=/proc/$master/cwd/postmaster.pid pid= listens= folder=
    if [ -r "$file" ]; then
        { read -r pid && read -r _ && read -r _ && read -r listens && read -r folder; } <"$file"
        if [ "$pid" = "$master" ]; then
            ports="$ports $listens"
            if [ "$listens" != "$port" ]; then return; fi
            rank=3 proof=pidfile
            if [ "$folder" = "$socket_dir" ]; then rank=5; return; fi
        fi
    fi
    if [ "$locked" = "$master" ] && of_owner; then rank=4 proof=lock; return; fi
    if [ "$rank" = 3 ]; then return; fi
    case $listening in *"pid=$master,"*) rank=2 proof=socket; return ;; esac
    case " $(tr '\0' ' ' <"/proc/$master/cmdline" 2>/dev/null) " in
    *" -p $port "* | *" -p$port "* | *"port=$port "*)
        if of_owner; then rank=1 proof=arguments; fi ;;
    *) blind="$blind $master" ;;
    esac
}
of_owner() {
    while read -r key _ uid _; do
        if [ "$key" = Uid: ]; then [ -n "$owner" ] && [ "$uid" = "$owner" ]; return; fi
    done 2>/dev/null <"/proc/$master/status"
    return 1
}
# Settings as the server's files and the postmaster's own arguments have them, not as they run.
configured() {
    PGDATA=$(readlink "/proc/$found/cwd") EXE=$(readlink "/proc/$found/exe") NAMES=$1 \
        xargs -0 sh -c '
        shift
        for name in $NAMES; do
            (value=$("$EXE" -C "$name" "$@" </dev/null) && echo "setting $name $value") &
        done
        wait' _ <"/proc/$found/cmdline" 2>/dev/null
}
"""

_LOOK = r"""
main() {
    LC_ALL=C PATH=$PATH:/usr/sbin:/sbin:/usr/bin:/bin port=@PORT@
    socket_dir=@DIR@ lock=@LOCK@
    export LC_ALL PATH
    cd /
    echo "look $(id -un) $(getconf CLK_TCK 2>/dev/null || echo 100) $(now)"
    echo "at $(date -u +%Y-%m-%dT%H:%M:%SZ)"
    find_postmaster
    if [ "$rivals" -gt 1 ]; then echo "rivals $rivals"; return; fi
    if [ -z "$found" ]; then echo "none $count$ports"; return; fi
    echo "postmaster $how $(cat "/proc/$found/stat")"
    children=$(grep -h "^[0-9]* (.*) [A-Za-z] $found " /proc/[0-9]*/stat 2>/dev/null </dev/null)
    printf '%s\n' "$children" | sed 's/^/child /'
    files() { printf '%s\n' "$children" | awk -v name="$1" 'NF { print "/proc/" $1 "/" name }'; }
    grep -H '^voluntary_ctxt_switches' $(files status) /dev/null 2>/dev/null </dev/null
    clients
    settings
    echo titles
    grep -aHzZ -m1 . $(files cmdline) /dev/null 2>/dev/null </dev/null
    printf '@END@'
}
# By the start of a process of our own: in a container /proc/uptime may be the container's.
now() {
    read -r line </proc/self/stat
    set -- ${line##*) }
    shift 19
    echo "$1"
}
clients() {
    if ! command -v ss >/dev/null; then echo "noss"; return; fi
    ss -Htni state established "sport = :$port" 2>/dev/null </dev/null | awk '
        /^[ \t]/ {
            silent = sent = "-"
            for (i = 1; i <= NF; i++) {
                if ($i ~ /^lastrcv:/) silent = substr($i, 9)
                if ($i ~ /^bytes_received:/) sent = substr($i, 16)
            }
            print "client", peer, silent, sent
            next
        }
        { peer = $4 }'
}
settings() {
    exe=$(readlink "/proc/$found/exe" 2>/dev/null)
    [ -x "$exe" ] || return
    echo "version $("$exe" -V 2>/dev/null </dev/null)"
    configured '@SETTINGS@'
    # What a restart waits for is in the files; what the server was started with is here.
    "${exe%/*}/pg_controldata" "$(readlink "/proc/$found/cwd")" 2>/dev/null </dev/null |
        sed -n -e 's/^Database cluster state: */control state /p' \
            -e 's/^\(max_[a-z_]*\) setting: */control \1 /p'
}
main
"""

#: Right before the signal each session is looked at once more, and everything about it must be as
#: it was seen: the process, whose child it is, its state, and that nothing has happened since.
#: Titles that are not kept up tell no state, and then nobody is signalled. While `ss` runs the
#: session might move: a sleeping process without a switch since did not. An idle backend wakes by
#: itself (it hands in its statistics ten seconds after its last word), and on a busy host it may
#: take a while to sleep again: that is waited for, and everything is looked at anew.
_SIGNAL = r"""
main() {
    LC_ALL=C PATH=$PATH:/usr/sbin:/sbin:/usr/bin:/bin port=@PORT@
    socket_dir=@DIR@ lock=@LOCK@
    export LC_ALL PATH
    cd /
    find_postmaster
    echo "signal ${found:-none}"
    signals
    echo end
}
signals() {
    [ -n "$found" ] || return
    titles=$(configured @TITLES@)
    if [ "$titles" != 'setting @TITLES@ on' ]; then echo "titles ${titles##* }"; return; fi
@CALLS@
}
look() {
    { IFS= read -r line <"/proc/$pid/stat"; } 2>/dev/null || return 1
    began= parent= run=
    facts ${line##*) }
    switches= title=
    while read -r key value; do
        [ "$key" = voluntary_ctxt_switches: ] && switches=$value
    done 2>/dev/null <"/proc/$pid/status"
    IFS= read -r title 2>/dev/null <"/proc/$pid/cmdline"
    [ "$began" = "$ticks" ] && [ "$parent" = "$found" ]
}
facts() { run=$1 parent=$2; shift 19; began=$1; }
same_state() { case $title in "postgres: "*" $state") return 0 ;; esac; return 1; }
has_sent() {
    peer=${title% "$state"} peer=${peer##* }
    address=${peer%(*} peer=${peer##*(} peer=${peer%)}
    case $address in *[!0-9a-fA-F:.]*) return 1 ;; *:*) address="[$address]" ;; esac
    case $peer in '' | *[!0-9]*) return 1 ;; esac
    peer="dst = $address:$peer"
    told=$(ss -Htni state established "sport = :$port and $peer" 2>/dev/null </dev/null)
    case "$told " in
        *" bytes_received:$1 "*) return 0 ;;
        *" bytes_received:"*) return 2 ;;
    esac
    return 1
}
one() {
    pid=$1 ticks=$2 mark=$3 number=$4 state=$5
    for try in 1 2 3 4 5 6 7 8; do
        [ "$try" = 1 ] || sleep 0.05 2>/dev/null || sleep 1
        look || { echo "gone $pid"; return; }
        same_state || break
        before=$switches
        if [ "$mark" = received ]; then
            has_sent "$number"
            case $? in 0) ;; 2) break ;; *) continue ;; esac
            look && same_state || break
        else
            before=$number
        fi
        if [ "$run" = S ] && [ "$switches" = "$before" ]; then
            if kill -TERM "$pid" 2>/dev/null; then echo "signalled $pid"
            elif [ -d "/proc/$pid" ]; then echo "denied $pid"
            else echo "gone $pid"; fi
            return
        fi
        [ "$mark" = received ] || break
    done
    echo "moved $pid"
}
main
"""


def look_script(port: int, socket_dir: str, os_user: str) -> str:
    """Return the script that tells the processes of the server of `os_user` on `port`."""
    script = (_FIND + _LOOK).replace("@SETTINGS@", " ".join(SETTINGS))
    return _at(script.replace("@END@", END.replace("\0", r"\0")), port, socket_dir, os_user)


def _at(script: str, port: int, socket_dir: str, os_user: str) -> str:
    """Fill in a script, in one pass: nothing that was filled in is looked at again."""
    words = {
        "PORT": str(port),
        "TITLES": TITLES,
        "OS_USER": shlex.quote(os_user),
        "DIR": shlex.quote(socket_dir),
        "LOCK": shlex.quote(f"{socket_dir}/.s.PGSQL.{port}.lock"),
    }
    return re.sub("@(" + "|".join(words) + ")@", lambda match: words[match[1]], script)


def signal_script(
    port: int, socket_dir: str, os_user: str, calls: list[tuple[int, int, str, int, str]]
) -> str:
    """Return the script that signals sessions: (pid, start ticks, mark, number, state) each.

    Raises:
        ValueError: for a mark or a state that is none; nothing else reaches the shell.
    """
    lines = []
    for pid, ticks, mark, number, state in calls:
        if mark not in {"received", "switches"} or state not in IDLE:
            raise ValueError(f"a session {state!r} by {mark!r} cannot be signalled from the host")
        lines.append(f"    one {pid:d} {ticks:d} {mark} {number:d} '{state}'")
    script = (_FIND + _SIGNAL).replace("@CALLS@", "\n".join(lines))
    return _at(script, port, socket_dir, os_user)
