"""sudo as `sudo -n -l` lists it: is this very command allowed without a password?

`sudo -n -l -- CMD` exits with 0 for a rule that wants a password as soon as the user has any other
NOPASSWD rule (observed on sudo 1.9.13), and then `sudo -n CMD` fails. So the listing is parsed, and
only a NOPASSWD rule for the identical argv is a proof; anything else is "unproven".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

#: In the C locale: sudo translates its listing, and only English can be parsed. `env` stands before
#: sudo, so that no sudoers rule has to allow it.
LIST_ARGV = ("env", "LC_ALL=C", "sudo", "-n", "-l")

_RUNS_AS = re.compile(r"\((?P<users>[^:)]*)(?::[^)]*)?\)\s*")
_TAG = re.compile(r"(?P<tag>[A-Z_]+):\s*")
_OPTION = re.compile(
    r"(ROLE|TYPE|PRIVS|LIMITPRIVS|APPARMOR_PROFILE|CWD|CHROOT|TIMEOUT"
    r"|NOTBEFORE|NOTAFTER)=\S+\s+"
)
_USER = re.compile(r"^User (\S+) may run", re.MULTILINE)
_WILDCARDS = re.compile(r"[*?\[\]]")
_SPECIAL = re.compile(r"([,:=\\])")

_Answer = Literal["yes", "password", "denied", "maybe"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rule:
    """One command of the listing, with what its line says about it."""

    command: str
    nopasswd: bool
    #: Whether it speaks of the user that the command is to run as.
    applies: bool
    negated: bool


def sudo_problem(listing: str, argv: tuple[str, ...], as_user: str = "root") -> str | None:
    """Say why `sudo -n -u AS_USER ARGV` is not proven to work, or None when a rule proves it.

    As in sudoers(5), the last rule that matches decides. A pattern, a regular expression or a
    digest that may match proves nothing, and puts in doubt what an earlier rule had proved.
    """
    defaults, _, rules = listing.partition(" may run the following commands on ")
    if not rules:
        return "sudo lists no command that this user may run"
    if re.search(r"(?<!!)\brequiretty\b", defaults):
        return "sudo wants a terminal (requiretty)"
    if _USER.search(listing) and sudo_user(listing) == "root":
        return None
    password_needed = not re.search(r"!authenticate\b", defaults)
    answer: _Answer | None = None
    for rule in _rules(rules, password_needed, as_user):
        answer = _decide(answer, rule, argv)
    return _PROBLEMS[answer]


_PROBLEMS: dict[_Answer | None, str | None] = {
    "yes": None,
    "password": "sudo would ask for a password, as the rule that matches has no NOPASSWD tag",
    "denied": "a sudoers rule forbids it",
    "maybe": "unproven: only a pattern in sudoers may match it",
    None: "no sudoers rule names it",
}


def sudo_user(listing: str) -> str | None:
    """Return the user that a listing speaks of."""
    found = _USER.search(listing)
    return found[1] if found else None


def sudoers_line(user: str, argv: tuple[str, ...], as_user: str = "root") -> str:
    """Return the sudoers line that allows exactly `argv`, with sudoers' own escapes."""
    words = [argv[0], *(_SPECIAL.sub(r"\\\1", word) for word in argv[1:])]
    return f"{user} ALL=({as_user}) NOPASSWD: {' '.join(words)}"


def _decide(sofar: _Answer | None, rule: _Rule, argv: tuple[str, ...]) -> _Answer | None:
    match = _matches(rule.command, argv) if rule.applies else "no"
    if match == "no":
        return sofar
    says: _Answer = "denied" if rule.negated else "yes" if rule.nopasswd else "password"
    if match == "yes" or says == sofar:
        return says
    return "maybe"


def _matches(command: str, argv: tuple[str, ...]) -> Literal["yes", "no", "maybe"]:
    if command == "ALL":
        return "yes"
    if "^" in command or command.startswith("sha"):
        return "maybe"
    path, _, arguments = command.partition(" ")
    wanted = " ".join(argv[1:])
    if _WILDCARDS.search(path + arguments):
        same = fnmatchcase(argv[0], path) and (not arguments or fnmatchcase(wanted, arguments))
        return "maybe" if same else "no"
    if path.endswith("/"):
        return "yes" if argv[0].startswith(path) and "/" not in argv[0][len(path) :] else "no"
    if path != argv[0]:
        return "no"
    allowed = {"": True, '""': not wanted}.get(arguments, arguments == wanted)
    return "yes" if allowed else "no"


def _rules(text: str, password_needed: bool, as_user: str) -> Iterator[_Rule]:
    for line in _lines(text):
        runs_as = _RUNS_AS.match(line)
        # Without a user in parentheses a rule speaks of root.
        applies = _may_be(as_user, runs_as["users"] if runs_as else "root")
        rest = line[runs_as.end() :] if runs_as else line
        nopasswd = not password_needed
        for part in re.split(r"(?<!\\),\s*", rest):
            # Tags hold until they are taken back, within the line.
            command, nopasswd = _strip_tags(part.strip(), nopasswd)
            plain = command.lstrip("!")
            yield _Rule(
                command=re.sub(r"\\(.)", r"\1", plain),
                nopasswd=nopasswd,
                applies=applies,
                negated=(len(command) - len(plain)) % 2 == 1,
            )


def _strip_tags(part: str, nopasswd: bool) -> tuple[str, bool]:
    while True:
        if option := _OPTION.match(part):
            part = part[option.end() :]
        elif tag := _TAG.match(part):
            nopasswd = {"NOPASSWD": True, "PASSWD": False}.get(tag["tag"], nopasswd)
            part = part[tag.end() :]
        else:
            return part, nopasswd


def _lines(text: str) -> Iterator[str]:
    """Yield one rule line each; sudo folds long ones when it believes to face a terminal."""
    current = ""
    for raw in text.splitlines()[1:]:
        if raw.startswith("    (") or (raw.startswith("    ") and raw[4:5] not in {" ", ""}):
            if current:
                yield current
            current = raw.strip()
        elif raw.startswith("     ") and current:
            current += " " + raw.strip()
        else:
            break
    if current:
        yield current


def _may_be(user: str, users: str) -> bool:
    names = [name.strip() for name in users.split(",")]
    if any(name.startswith("!") for name in names):
        return False
    return any(name in {user, "ALL", *(("#0",) if user == "root" else ())} for name in names)
