"""A host on which a PgBouncer is to run, as one look at it tells: package, port, unit, files.

The look is POSIX sh with what Debian and its kin have; it installs nothing, and gets every value as
an argument.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass

from runbook.model.document import visible

PACKAGE = "pgbouncer"

#: $1 unit, $2 pgbouncer.ini, $3 the auth file, $4 the unit's drop-in, $5 the port; then files that
#: the unit's user has to be able to read. Prints key=value lines.
_LOOK = """\
export LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin
unit=$1 config=$2 auth=$3 dropin=$4 port=$5
shift 5
say() { printf '%s=%s\\n' "$1" "$2"; }
prop() { systemctl show --property="$1" --value -- "$unit" 2>/dev/null; }
say root "$(id -u)"
say systemd "$(command -v systemctl)"
say binary "$(command -v pgbouncer)"
say version "$(pgbouncer --version 2>/dev/null | head -n 1)"
if command -v dpkg-query >/dev/null; then
  say apt yes
  say package "$(dpkg-query -W -f='${db:Status-Abbrev}' pgbouncer 2>/dev/null)"
  say conffile "$(dpkg-query -W -f='${Conffiles}\\n' pgbouncer 2>/dev/null \\
    | grep -F " $config " | awk '{print $2}' | head -n 1)"
  if ! command -v pgbouncer >/dev/null; then
    say candidate "$(apt-cache policy pgbouncer 2>/dev/null | sed -n 's/^  Candidate: //p')"
    if said=$(apt-get install --simulate -qq --no-install-recommends pgbouncer 2>&1); then
      say simulated ok
    else
      say simulated "no: $(printf %s "$said" | grep -E '^(E:|W:|dpkg)' | head -n 1)"
    fi
  fi
fi
for name in LoadState ActiveState UnitFileState MainPID InvocationID User FragmentPath; do
  say "$name" "$(prop $name)"
done
up=$(cut -d' ' -f1 /proc/uptime)
mono=$(prop ActiveEnterTimestampMonotonic)
say since "$(date +%s.%N | awk -v u="$up" -v m="${mono:-0}" \\
  '{ if (m > 0) printf "%.2f", $1 - (u - m / 1000000) }')"
say listens "$(ss -Hltnp "sport = :$port" 2>/dev/null | head -n 1)"
for pair in "config $config" "auth $auth" "dropin $dropin"; do
  what=${pair%% *} path=${pair#* }
  if [ -L "$path" ]; then say "$what" "link $(readlink -- "$path")"
  elif [ ! -e "$path" ]; then say "$what" absent
  elif [ ! -f "$path" ]; then say "$what" other
  else say "$what" "file $(stat -c '%a %U:%G %.2Y' -- "$path") $(sha256sum < "$path" | cut -c1-64)"
  fi
done
if [ -f "$config" ]; then
  say md5 "$(md5sum < "$config" | cut -c1-32)"
  say text "$(head -c 262144 -- "$config" | base64 | tr -d '\\n')"
fi
user=$(prop User)
for path in "$@"; do
  if [ ! -e "$path" ]; then say "unreadable" "$path is not there"
  elif command -v runuser >/dev/null && [ "$(id -u)" = 0 ] && [ -n "$user" ] && \\
       ! runuser -u "$user" -- test -r "$path"; then say unreadable "$path is closed to $user"
  fi
done
say end "$?"
"""

_VERSION = re.compile(r"(?:^|[ :])(\d{1,3})\.(\d{1,3})")


def look_argv(
    unit: str, files: tuple[str, str, str], port: int, readable: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the command that looks; `files` are configuration, auth file and drop-in."""
    return ("sh", "-c", _LOOK, "sh", unit, *files, str(port), *readable)


def version_in(text: str) -> tuple[int, int] | None:
    """Return the version in `PgBouncer 1.18.0` or a package's `1.18.0-1+deb12u1`."""
    found = _VERSION.search(text)
    return (int(found[1]), int(found[2])) if found else None


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenFile:
    """A file of the three."""

    #: file, absent, link, other.
    kind: str
    digest: str = ""
    mode: str = ""
    owner: str = ""
    #: Seconds since the epoch.
    changed: float = 0.0

    def is_as(self, digest: str, mode: str, owner: str) -> bool:
        """Whether it is as it shall be."""
        same_mode = self.mode != "" and int(self.mode, 8) == int(mode, 8)
        return self.kind == "file" and self.digest == digest and same_mode and self.owner == owner


@dataclass(frozen=True, kw_only=True, slots=True)
class HostSeen:
    """All that the look told."""

    said: Mapping[str, str]
    config: SeenFile
    auth: SeenFile
    dropin: SeenFile
    text: str
    unreadable: tuple[str, ...]

    @property
    def root(self) -> bool:
        """Whether it was root who looked: others see neither files nor whose a port is."""
        return self.said.get("root") == "0"

    @property
    def installed(self) -> bool:
        """Whether there is a PgBouncer to start."""
        return bool(self.said.get("binary"))

    @property
    def active(self) -> bool:
        """Whether the unit runs."""
        return self.said.get("ActiveState") == "active"

    @property
    def enabled(self) -> bool:
        """Whether it comes back by itself after a reboot."""
        return self.said.get("UnitFileState") == "enabled"

    @property
    def masked(self) -> bool:
        """Whether the unit may not be started at all."""
        return self.said.get("LoadState") == "masked"

    @property
    def owner(self) -> str:
        """Return `user:group` of the files: the unit's user."""
        user = self.said.get("User") or "postgres"
        return f"{user}:{user}"

    @property
    def version(self) -> tuple[int, int] | None:
        """Return the version that is there, or would come; None where neither is known."""
        return version_in(self.said.get("version") or self.said.get("candidate") or "")

    @property
    def pristine(self) -> bool:
        """Whether the configuration is the package's own, as nobody has touched it."""
        own = self.said.get("conffile", "")
        return self.config.kind == "absent" or (own != "" and own == self.said.get("md5"))

    @property
    def listener(self) -> tuple[str, int] | None:
        """Return name and pid of who listens on the port; None when nobody does."""
        line = self.said.get("listens", "")
        if not line:
            return None
        found = re.search(r'users:\(\("([^"]*)",pid=(\d+)', line)
        return (visible(found[1]), int(found[2])) if found else ("somebody", 0)

    @property
    def outdated(self) -> bool:
        """Whether a file was changed after the process had started."""
        since = self.said.get("since") or "0"
        files = (self.config, self.auth, self.dropin)
        return any(file.changed > float(since) for file in files if file.kind == "file")


def parse_look(output: str) -> HostSeen | None:
    """Return what the look printed; None when that is not all of it."""
    said: dict[str, str] = {}
    unreadable = []
    for line in output.splitlines():
        key, _, value = line.partition("=")
        if key == "unreadable":
            unreadable.append(visible(value))
        else:
            said.setdefault(key, value)
    if "end" not in said:
        return None
    return HostSeen(
        said=said,
        config=_file(said.get("config", "")),
        auth=_file(said.get("auth", "")),
        dropin=_file(said.get("dropin", "")),
        text=_decoded(said.get("text", "")),
        unreadable=tuple(unreadable),
    )


def _file(words: str) -> SeenFile:
    kind, *rest = words.split(" ")
    if kind != "file" or len(rest) != 4:
        return SeenFile(kind=kind or "other")
    mode, owner, changed, digest = rest
    return SeenFile(kind="file", mode=mode, owner=owner, changed=float(changed), digest=digest)


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode(errors="replace")
    except (binascii.Error, ValueError):
        return ""


#: $1 address, $2 port. Asks as a PostgreSQL client does whether TLS is spoken: a PostgreSQL or a
#: PgBouncer answers with one letter and no more, anything else does not (`SSH-2.0` begins with one,
#: too). Prints `reached`, `open`, or why not.
REACH = """\
host=$1 port=$2
if command -v python3 >/dev/null; then
  exec python3 - "$host" "$port" <<'END'
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as s:
        s.settimeout(5)
        s.sendall(b"\\0\\0\\0\\10\\4\\322\\26\\57")
        print("reached" if s.recv(16) in (b"S", b"N") else "open")
except socket.timeout:
    print("no: no answer within 5s")
except OSError as error:
    print("no: %s" % (error.strerror or error))
END
fi
if command -v bash >/dev/null; then
  said=$(timeout 5 bash -c 'exec 3<>"/dev/tcp/$0/$1" || exit 1
    printf "\\0\\0\\0\\10\\4\\322\\26\\57" >&3
    IFS= read -r -n 1 -t 4 -u 3 letter
    IFS= read -r -n 1 -t 0.3 -u 3 more; printf %s "$letter$more"' "$host" "$port" 2>&1)
  code=$?
  case "$code $said" in
    "0 S" | "0 N") echo reached ;;
    "124 "*) echo 'no: no answer within 5s' ;;
    "0 "*) echo open ;;
    *) echo "no: ${said##*: }" ;;
  esac
  exit 0
fi
if command -v nc >/dev/null; then
  if nc -z -w 5 "$host" "$port"; then echo open; else echo 'no: nc could not connect'; fi
  exit 0
fi
echo 'unknown: there is no python3, bash or nc'
"""


def reach_argv(address: str, port: int) -> tuple[str, ...]:
    """Return the command by which a host tries a PgBouncer."""
    return ("sh", "-c", REACH, "sh", address, str(port))
