"""What Ansible's vars are to runbook: plain vars, how a host is reached, or not to be carried over.

A value is taken as it is written or not at all: templates, encrypted values and what looks like a
secret are left out, and said.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from runbook.model.ansible_inventory import Foreign, Raw
from runbook.model.document import quoted
from runbook.model.inventory import Scalar

#: Where a value goes: `("vars", "http_port")`, `("ssh", "user")`, `("host", "address")`.
Setting = tuple[str, str]

ADDRESS: Setting = ("host", "address")
CONNECTION: Setting = ("host", "connection")
SUDO: Setting = ("host", "sudo")

_SECRET = re.compile(
    r"password|passwd|passphrase|passcode|(^|_)pass(_|$)|(^|_)pw(d)?(_|$)|secret|token|credential"
    r"|(api|access|private|auth|encryption|license)_?key|_psk|htpasswd",
    re.IGNORECASE,
)
#: Their names look like secrets, and their values are paths or switches.
_NO_SECRET = re.compile(
    r"(_file|_path|_dir|_url|_length|_policy|_enabled|_port|_ttl)$", re.IGNORECASE
)
_SECRET_VALUE = re.compile(r"-----BEGIN |^\$ANSIBLE_VAULT|^[a-z][a-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@")
_TEMPLATE = re.compile(r"\{\{|\{%|\{#")
_ADDRESS = re.compile(r"[A-Za-z0-9:\[][A-Za-z0-9.:%_\[\]-]{0,252}")
#: Values that are not single ones.
_KINDS: Mapping[type, str] = {
    type(None): "is null",
    dict: "is a mapping",
    list: "is a list",
    tuple: "is a list",
    set: "is a list",
}
_LONGEST_OPTIONS = 10_000
#: ssh takes `-o ProxyJump=x` and `-o "ProxyJump x"`.
_EQUALS = re.compile(r"\s*=\s*|\s+")
_INTEGERS = range(-(2**63), 2**63)
_TRUE = {"yes", "on", "1", "true", "t", "y", "1.0"}
_FALSE = {"no", "off", "0", "false", "f", "n", "0.0"}
_SSH = {"ssh", "smart", "paramiko", "paramiko_ssh", "ansible.builtin.ssh"}
_LOCAL = {"local", "ansible.builtin.local"}
#: Ansible's names for what runbook knows too; of two for one thing the later wins, as there.
_NAMES: Mapping[str, Setting] = {
    "ansible_host": ADDRESS,
    "ansible_ssh_host": ADDRESS,
    "ansible_port": ("ssh", "port"),
    "ansible_ssh_port": ("ssh", "port"),
    "ansible_user": ("ssh", "user"),
    "ansible_ssh_user": ("ssh", "user"),
    "ansible_private_key_file": ("ssh", "identity_file"),
    "ansible_ssh_private_key_file": ("ssh", "identity_file"),
    "ansible_connection": CONNECTION,
    "ansible_become": SUDO,
}
#: Lines of ssh options. What ansible_user and its like say wins over these.
_OPTIONS = ("ansible_ssh_common_args", "ansible_ssh_extra_args", "ansible_ssh_args")
_CONNECTIVES = {"ansible_become_method": {"sudo"}, "ansible_become_user": {"root"}}
#: Options that say what runbook does anyway, or that only make Ansible faster.
_HARMLESS = {
    "controlmaster", "controlpersist", "controlpath", "batchmode", "serveraliveinterval",
    "serveralivecountmax", "compression", "loglevel", "tcpkeepalive", "forwardagent",
    "identitiesonly", "preferredauthentications",
}  # fmt: skip


@dataclass(slots=True)
class Settings:
    """What some vars came to."""

    values: dict[Setting, Scalar] = field(default_factory=dict)
    #: Why a var is not carried over, by its name.
    reasons: dict[str, str] = field(default_factory=dict)
    #: Vars that only Ansible has a use for.
    ansibles_own: set[str] = field(default_factory=set)
    #: Settings that are given, and could not be carried over.
    lost: set[Setting] = field(default_factory=set)


def settings_of(given: Mapping[str, Raw]) -> Settings:
    """Return what the vars of a host or a group are to runbook."""
    found = Settings()
    for name in (*_NAMES, *_OPTIONS, *_CONNECTIVES):
        if name in given:
            _connection(name, given[name].value, found)
    for name, raw in given.items():
        if not name.startswith("ansible_"):
            reason = why_not(name, raw.value)
            if reason is None:
                found.values["vars", name] = raw.value  # type: ignore[assignment]
            else:
                found.reasons[name] = reason
                found.lost.add(("vars", name))
        elif name not in _NAMES and name not in _OPTIONS and name not in _CONNECTIVES:
            _unknown(name, raw.value, found)
    return found


def why_not(name: str, value: object) -> str | None:
    """Return why a var cannot be carried over, as a clause; None when it can."""
    if isinstance(value, Foreign):
        vault = value.tag.startswith("!vault")
        return "is encrypted by Ansible Vault" if vault else f"has the tag {value.tag}"
    if "\0" in name:
        return "has a NUL character in its name"
    if _looks_secret(name, value):
        return "looks like a secret"
    return _unfit(value)


def _looks_secret(name: str, value: object) -> bool:
    if isinstance(value, bool) or value is None:
        return False
    if isinstance(value, str) and _SECRET_VALUE.search(value):
        return True
    return bool(_SECRET.search(name)) and not _NO_SECRET.search(name)


def _unfit(value: object) -> str | None:
    """Return why no var of runbook's can have this value."""
    match value:
        case str():
            reason = "is a Jinja2 template" if _TEMPLATE.search(value) else None
            return "holds a NUL character" if "\0" in value else reason
        case bool():
            return None
        case int():
            return None if value in _INTEGERS else "is beyond a 64-bit integer"
        case float():
            return None if math.isfinite(value) else "is no finite number"
        case _:
            return _KINDS.get(type(value), f"is a {type(value).__name__}")


def _unknown(name: str, value: object, found: Settings) -> None:
    """A var of Ansible's own that means nothing here; a secret among them is named all the same."""
    reason = why_not(name, value)
    if reason in {"looks like a secret", "is encrypted by Ansible Vault"}:
        found.reasons[name] = reason
    else:
        found.ansibles_own.add(name)


# ---- how a host is reached ---------------------------------------------------------------------


def _connection(name: str, value: object, found: Settings) -> None:
    reason = _unfit(value) if not isinstance(value, Foreign) else why_not(name, value)
    if reason is None:
        if name in _NAMES:
            reason = _named(_NAMES[name], value, found)
        elif name in _OPTIONS:
            reason = _options(str(value), found)
        elif str(value) not in _CONNECTIVES[name]:
            reason = f"is {quoted(str(value))}; changes are made by `sudo -n` as root"
    elif name in _NAMES:
        _lose(_NAMES[name], found)
    if reason is not None:
        found.reasons[name] = reason


def _lose(setting: Setting, found: Settings) -> None:
    found.values.pop(setting, None)
    found.lost.add(setting)


def _named(setting: Setting, value: object, found: Settings) -> str | None:
    """Take the value of one of the names; return why it could not be, as a clause."""
    try:
        found.values[setting] = _CONVERTERS[setting](value)
    except ValueError as error:
        _lose(setting, found)
        return str(error)
    found.lost.discard(setting)
    return None


def _address(value: object) -> Scalar:
    if not _ADDRESS.fullmatch(str(value)):
        raise ValueError(f"is {quoted(str(value))}, neither a host name nor an address")
    return str(value)


def _port(value: object) -> Scalar:
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,5}", text):
        raise ValueError(f"is {quoted(text)}, no port")
    if not 1 <= int(text) <= 65535:
        raise ValueError(f"is {text}, no port from 1 to 65535")
    return int(text)


def _connection_kind(value: object) -> Scalar:
    text = str(value)
    if text in _SSH | _LOCAL:
        return "local" if text in _LOCAL else "ssh"
    raise ValueError(f"is {quoted(text)}; runbook knows ssh and local")


def _sudo(value: object) -> Scalar:
    text = str(value).lower().strip()
    if text not in _TRUE | _FALSE:
        raise ValueError(f"is {quoted(text)}, neither true nor false")
    return text in _TRUE


_CONVERTERS: Mapping[Setting, Callable[[object], Scalar]] = {
    ADDRESS: _address,
    CONNECTION: _connection_kind,
    SUDO: _sudo,
    ("ssh", "port"): _port,
    ("ssh", "user"): str,
    ("ssh", "identity_file"): str,
}


# ---- ssh's options -----------------------------------------------------------------------------


def _options(line: str, found: Settings) -> str | None:
    """Take what is understood of a line of ssh options; return what is not, as a clause."""
    if len(line) > _LONGEST_OPTIONS:
        return f"has {len(line):,} characters, and is left out"
    try:
        words = shlex.split(line)
    except ValueError as error:
        return f"cannot be read: {error}"
    left = []
    for option, value in _pairs(words):
        if not _option(option, value, found):
            left.append(f"{option} {value}".strip())
    return f"has {quoted(', '.join(left))}, which is left out" if left else None


def _pairs(words: list[str]) -> Iterator[tuple[str, str]]:
    """Each option with its value: `-o ProxyJump=x` and `-J x` alike."""
    takes_value = {"-J": "proxyjump", "-p": "port", "-l": "user", "-i": "identityfile"}
    waiting = iter(words)
    for word in waiting:
        if word.startswith("-o"):
            pair = word[2:] or next(waiting, "")
            key, *value = _EQUALS.split(pair.strip(), maxsplit=1)
            yield key, "".join(value)
        elif word[:2] in takes_value:
            yield takes_value[word[:2]], word[2:] or next(waiting, "")
        elif word not in {"-C", "-q", "-A", "-4", "-6", "-T"}:
            yield word, ""


def _option(option: str, value: str, found: Settings) -> bool:
    """Take one option; False when it means something that is not carried over."""
    name = option.lower()
    if name in _HARMLESS or (name == "stricthostkeychecking" and value.lower() == "yes"):
        return True
    if name not in _OPTION_KEYS:
        return False
    key, read = _OPTION_KEYS[name]
    taken = read(value)
    if taken is None:
        return False
    found.values.setdefault(("ssh", key), taken)
    return True


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,5}", text) else None


def _option_port(text: str) -> Scalar | None:
    number = _number(text)
    return number if number is not None and 1 <= number <= 65535 else None


def _seconds(text: str) -> Scalar | None:
    return None if _number(text) is None else f"{_number(text)}s"


def _one_file(text: str) -> Scalar | None:
    """One file of known hosts. /dev/null stands for no check at all: that is not carried over."""
    return None if text in {"", "none", "/dev/null"} or " " in text else text


def _jump(command: str) -> str | None:
    """The jump host of `ssh -W %h:%p user@bastion`, the old way to write ProxyJump."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    forward, port, user, host = False, "", "", ""
    waiting = iter(words[1:])
    for word in waiting:
        if word == "-W":
            forward = next(waiting, "") in {"%h:%p", "[%h]:%p"}
        elif word == "-p":
            port = next(waiting, "")
        elif word == "-l":
            user = next(waiting, "")
        elif word.startswith("-"):
            if word not in {"-q", "-A", "-T", "-x", "-4", "-6"}:
                return None
        elif host:
            return None
        else:
            host = word
    if words[:1] not in (["ssh"], ["/usr/bin/ssh"]) or not forward or not host:
        return None
    host = f"{user}@{host}" if user and "@" not in host else host
    return f"{host}:{port}" if port else host


#: ssh's options, in small letters: the key that each becomes, and how its value is read.
_OPTION_KEYS: Mapping[str, tuple[str, Callable[[str], Scalar | None]]] = {
    "proxyjump": ("jump", lambda text: text or None),
    "proxycommand": ("jump", _jump),
    "userknownhostsfile": ("known_hosts", _one_file),
    "connecttimeout": ("connect_timeout", _seconds),
    "port": ("port", _option_port),
    "user": ("user", lambda text: text or None),
    "identityfile": ("identity_file", lambda text: text or None),
}
