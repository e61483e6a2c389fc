"""Files on hosts: the scripts that look at one and put one in place, and what the look says.

Both are POSIX sh with coreutils' or busybox's `stat`, `sha256sum`, `mktemp` and `mv -T`; nothing
is installed. They get every value as an argument: no value is ever part of the script.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

#: A file that a person edits in an incident is smaller; and all of it goes into the plan.
LARGEST = 1024 * 1024

#: How a PutFile's script ended, beside 0.
MOVED_ON, CUT_OFF, WOULD_DIFFER = 3, 4, 5

#: $1 is the path, $2 is 1 when a link may be followed, $3 the most bytes. Prints one line about
#: the file, and what is in it.
_LOOK = """\
path=$1
if [ "$2" = 1 ] && [ -L "$path" ]; then
  path=$(readlink -f -- "$path") || { echo dangling; exit 0; }
fi
if [ -L "$path" ]; then
  echo "link $(readlink -- "$path")"; exit 0
fi
folder=$(dirname -- "$path")
if [ ! -e "$path" ]; then
  if [ ! -d "$folder" ]; then echo "nofolder $folder"
  elif [ ! -x "$folder" ]; then echo "closed $folder"
  elif [ ! -w "$folder" ]; then echo "locked $folder"
  else echo absent; fi
  exit 0
fi
if [ ! -f "$path" ]; then echo "other $(stat -c %F -- "$path")"; exit 0; fi
if [ ! -r "$path" ]; then echo unreadable; exit 0; fi
if [ ! -w "$folder" ]; then echo "locked $folder"; exit 0; fi
size=$(stat -c %s -- "$path")
if [ "$size" -gt "$3" ]; then echo "large $size"; exit 0; fi
echo "file $(stat -c '%a %U:%G %h' -- "$path") $(sha256sum < "$path" | cut -c1-64)"
cat -- "$path"
"""

#: $1 path, $2 sha256 of what is replaced ("" for nothing), $3 sha256 of what must arrive, $4 where
#: the old content is kept, $5 mode, $6 owner (each "" for none), $7 1 when a link may be followed.
#:
#: Nobody can read the new content before it has the old one's rights: it begins with 0600. And the
#: last look at what is replaced stands right before the move: no name can be exchanged under a
#: condition, so a moment of microseconds remains.
_PUT = """\
path=$1 expected=$2 arriving=$3 backup=$4 mode=$5 owner=$6
umask 077
fail() { echo "$2" >&2; exit "$1"; }
digest() { sha256sum < "$1" | cut -c1-64; }
new= kept=
trap 'rm -f -- "$new" "$kept"' EXIT
trap 'exit 1' HUP INT TERM
if [ "$7" = 1 ] && [ -L "$path" ]; then path=$(readlink -f -- "$path") || exit 1; fi
same() {
  if [ -L "$path" ]; then fail 3 "$path is a symbolic link"; fi
  if [ ! -e "$path" ]; then
    [ -z "$expected" ] || fail 3 "$path is no longer there"
  elif [ -z "$expected" ]; then fail 3 "$path is there by now"
  elif [ ! -f "$path" ]; then fail 3 "$path is no regular file"
  elif [ "$(digest "$path")" != "$expected" ]; then fail 3 "$path has changed"
  fi
}
same
folder=$(dirname -- "$path")
new=$(mktemp -- "$folder/.runbook.XXXXXXXXXX") || exit 1
cat > "$new" || exit 1
[ "$(digest "$new")" = "$arriving" ] || fail 4 'the content did not arrive whole'
if [ -n "$expected" ]; then
  if cp --attributes-only --preserve=all -- "$path" "$new" 2>/dev/null; then touch -- "$new"
  else
    chown -- "$(stat -c %u:%g -- "$path")" "$new" 2>/dev/null
    chmod -- "$(stat -c %a -- "$path")" "$new" || exit 1
  fi
  if [ -z "$owner" ] && [ "$(stat -c %u:%g -- "$new")" != "$(stat -c %u:%g -- "$path")" ]; then
    fail 5 "$path would come to belong to $(stat -c %U:%G -- "$new")"
  fi
else
  chmod -- "${mode:-644}" "$new" || exit 1
fi
if [ -n "$owner" ]; then chown -- "$owner" "$new" || exit 1; fi
if [ -n "$mode" ]; then chmod -- "$mode" "$new" || exit 1; fi
sync -- "$new" 2>/dev/null
if [ -n "$backup" ] && [ -n "$expected" ] && [ ! -e "$backup" ]; then
  kept=$(mktemp -- "$folder/.runbook.XXXXXXXXXX") || exit 1
  cp -p -- "$path" "$kept" || exit 1
  [ "$(digest "$kept")" = "$expected" ] || fail 3 "$path has changed"
  mv -f -T -- "$kept" "$backup" || exit 1
fi
same
mv -f -T -- "$new" "$path" || exit 1
sync -- "$folder" 2>/dev/null
exit 0
"""

#: $1 path, $2 sha256 of what is removed, $3 where its content is kept ("" for nowhere). A folder
#: that is left empty goes as well.
_REMOVE = """\
path=$1 expected=$2 backup=$3
umask 077
fail() { echo "$2" >&2; exit "$1"; }
digest() { sha256sum < "$1" | cut -c1-64; }
kept=
trap 'rm -f -- "$kept"' EXIT
trap 'exit 1' HUP INT TERM
folder=$(dirname -- "$path")
if [ -L "$path" ]; then fail 3 "$path is a symbolic link"; fi
if [ -e "$path" ]; then
  [ "$(digest "$path")" = "$expected" ] || fail 3 "$path has changed"
  if [ -n "$backup" ] && [ ! -e "$backup" ]; then
    kept=$(mktemp -- "$folder/.runbook.XXXXXXXXXX") || exit 1
    cp -p -- "$path" "$kept" || exit 1
    [ "$(digest "$kept")" = "$expected" ] || fail 3 "$path has changed"
    sync -- "$kept" 2>/dev/null
    mv -f -T -- "$kept" "$backup" || exit 1
  fi
  rm -f -- "$path" || exit 1
fi
if [ -d "$folder" ] && [ -z "$(ls -A -- "$folder")" ]; then rmdir -- "$folder" || exit 1; fi
exit 0
"""


def look_argv(path: str, *, follow: bool = False) -> tuple[str, ...]:
    """Return the command that looks at a file and brings its content."""
    return ("sh", "-c", _LOOK, "sh", path, "1" if follow else "0", str(LARGEST))


def put_argv(  # noqa: PLR0917 - the script's own order
    path: str,
    expected: str,
    content: str,
    backup: str | None,
    mode: str | None,
    owner: str | None,
    *,
    follow: bool,
) -> tuple[str, ...]:
    """Return the command that puts what it reads from stdin in a file's place."""
    given = (expected, sha256(content), backup or "", mode or "", owner or "")
    return ("sh", "-c", _PUT, "sh", path, *given, "1" if follow else "0")


def remove_argv(path: str, expected: str, backup: str | None) -> tuple[str, ...]:
    """Return the command that removes a file which is still as it was shown."""
    return ("sh", "-c", _REMOVE, "sh", path, expected, backup or "")


def folder_argv(folder: str) -> tuple[str, ...]:
    """Return the command that makes a folder which everybody may read."""
    return ("sh", "-c", 'umask 022; mkdir -p -- "$1"', "sh", folder)


def sha256(text: str) -> str:
    """Return the digest of a text as UTF-8, in 64 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSeen:
    """What a look at a path found."""

    kind: Literal["file", "absent", "refused"]
    #: Of a file: its text, its digest, its mode in octal, `user:group`.
    content: str = ""
    digest: str = ""
    mode: str = ""
    owner: str = ""
    #: Why it cannot be replaced, and what to do about it.
    why: str = ""
    hint: str = ""


_WHY = {
    "link": ("is a symbolic link to {}", "name the file itself, or say follow: true"),
    "dangling": ("is a symbolic link that leads nowhere", "name the file itself"),
    "nofolder": ("cannot be there: there is no folder {}", "make the folder first"),
    "closed": ("cannot be seen: {} is closed to this user", "sudo: true looks as root"),
    "locked": ("cannot be replaced: {} may not be written to", "sudo: true writes as root"),
    "other": ("is a {}, no regular file", "only regular files are written"),
    "unreadable": ("may not be read by this user", "sudo: true reads it as root"),
    "large": ("has {} bytes", f"files of up to {LARGEST:,} bytes are written"),
}


def parse_look(output: str, path: str) -> FileSeen | None:
    """Return what the look printed; None when that is no answer of its script."""
    head, _, content = output.partition("\n")
    kind, _, rest = head.partition(" ")
    if kind == "absent":
        return FileSeen(kind="absent")
    if kind in _WHY:
        why, hint = _WHY[kind]
        return FileSeen(kind="refused", why=f"{path} {why.format(rest)}", hint=hint)
    words = rest.split(" ")
    if kind != "file" or len(words) != 4:
        return None
    mode, owner, links, digest = words
    return _file(path, content, digest, mode, owner, int(links))


def _file(  # noqa: PLR0917
    path: str, content: str, digest: str, mode: str, owner: str, links: int
) -> FileSeen:
    if links > 1:
        why, hint = f"{path} has {links} hard links", "replacing it would leave the others behind"
        return FileSeen(kind="refused", why=why, hint=hint)
    if sha256(content) != digest or "\x00" in content:
        why = f"{path} is no UTF-8 text, or changed while it was read"
        return FileSeen(kind="refused", why=why, hint="only text files are written")
    return FileSeen(kind="file", content=content, digest=digest, mode=mode, owner=owner)
