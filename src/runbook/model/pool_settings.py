"""What hosts' own settings say of a pool: which names frameworks read, and where a value stands.

Nothing here is proof. A variable is what its process was started with, if it was started since the
file was written; and an app may read it, or not. So each value is told with its source.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from runbook.model.database_url import redacted
from runbook.model.document import visible
from runbook.model.setting_text import assignments

#: Which value of a pool it is; see `runbook.model.pool_facts.Configured`.
What = Literal["size", "overflow", "processes", "url", "threads", "max_lifetime"]

#: Variables that set a pool, and what they are in. A line a name.
VARIABLES: Mapping[str, tuple[What, str]] = {
    "SQLALCHEMY_POOL_SIZE": ("size", ""),  # Flask-SQLAlchemy 2, and by convention after
    "SQLALCHEMY_MAX_OVERFLOW": ("overflow", ""),
    "SQLALCHEMY_POOL_RECYCLE": ("max_lifetime", "s"),
    "SQLALCHEMY_DATABASE_URI": ("url", ""),
    "POOL_SIZE": ("size", ""),  # by convention: SQLAlchemy apps, Phoenix's Ecto
    "DB_POOL_SIZE": ("size", ""),
    "MAX_OVERFLOW": ("overflow", ""),
    "DB_MAX_OVERFLOW": ("overflow", ""),
    "DB_POOL": ("size", ""),  # Rails: database.yml, by convention
    "RAILS_MAX_THREADS": ("threads", ""),  # Rails: Puma's threads, and the pool's default size
    "WEB_CONCURRENCY": ("processes", ""),  # Puma's, gunicorn's and uvicorn's workers
    "DB_MAX_OPEN_CONNS": ("size", ""),  # Go: SetMaxOpenConns, by convention
    "DB_CONN_MAX_LIFETIME": ("max_lifetime", ""),
    "SPRING_DATASOURCE_HIKARI_MAXIMUM_POOL_SIZE": ("size", ""),  # Spring Boot, three spellings
    "SPRING_DATASOURCE_HIKARI_MAXIMUMPOOLSIZE": ("size", ""),
    "SPRING_DATASOURCE_HIKARI_MAX_LIFETIME": ("max_lifetime", "ms"),
    "SPRING_DATASOURCE_HIKARI_MAXLIFETIME": ("max_lifetime", "ms"),
    "SPRING_DATASOURCE_URL": ("url", ""),
    "CONN_MAX_AGE": ("max_lifetime", "s"),  # Django, by convention
    "DATABASE_URL": ("url", ""),  # nearly everybody
}
#: Parameters of a connection string that bound its pool.
PARAMETERS: Mapping[str, What] = {
    "connection_limit": "size",  # Prisma
    "pool_max_conns": "size",  # Go: pgxpool
    "pool": "size",  # Rails
}
#: Programs whose options say how many processes and threads there are: options, and a value.
OPTIONS: Mapping[str, Mapping[str, What]] = {
    "gunicorn": {"-w": "processes", "--workers": "processes", "--threads": "threads"},
    "uvicorn": {"--workers": "processes"},
    "puma": {"-w": "processes", "--workers": "processes"},
}
#: In a configuration file of gunicorn's, which is Python: plain numbers alone are read.
_GUNICORN = re.compile(r"(?P<name>workers|threads)\s*=\s*(?P<value>\d{1,6})\s*(?:#.*)?")
_GUNICORN_WHAT: Mapping[str, What] = {"workers": "processes", "threads": "threads"}

_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
_ENV_FILE = re.compile(r"(?P<path>.*) \(ignore_errors=(?P<ignored>yes|no)\)")
_ARGV = re.compile(r"argv\[\]=(?P<argv>.*?) ; ignore_errors=")
#: Characters of a value that are told.
_LONGEST = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """One value that a host has."""

    what: What
    value: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitSettings:
    """What a unit gives its processes."""

    loaded: bool
    environment: tuple[tuple[str, str], ...] = ()
    #: Paths, each with whether it may be missing.
    env_files: tuple[tuple[str, bool], ...] = ()
    argvs: tuple[tuple[str, ...], ...] = ()
    #: Why some of it could not be read; "" when all was.
    problem: str = ""

    @property
    def config_files(self) -> tuple[str, ...]:
        """Return gunicorn's configuration files, as its command line names them."""
        return tuple(
            path
            for argv in self.argvs
            if _program(argv) == "gunicorn"
            for option, path in _options(argv)
            if option in {"-c", "--config"} and path.startswith("/")
        )


#: What is asked of `systemctl show`.
SHOWN = ("LoadState", "Environment", "EnvironmentFiles", "ExecStart")


def parse_unit(text: str) -> UnitSettings:
    """Parse `systemctl show` of a unit; a property may come in several lines."""
    lines = [line.partition("=") for line in text.splitlines() if "=" in line]
    told = [value for key, _, value in lines if key == "Environment"]
    files = [
        match for key, _, value in lines if key == "EnvironmentFiles"
        if (match := _ENV_FILE.fullmatch(value))
    ]  # fmt: skip
    starts = [value for key, _, value in lines if key == "ExecStart"]
    try:
        words, problem = [word for value in told for word in shlex.split(value)], ""
    except ValueError:
        words, problem = [], "the quotes in its Environment cannot be read"
    pairs = (word.partition("=") for word in words)
    return UnitSettings(
        loaded=("LoadState", "=", "loaded") in lines,
        environment=tuple((key, value) for key, equals, value in pairs if equals),
        env_files=tuple((m["path"], m["ignored"] == "yes") for m in files),
        argvs=tuple(_argv(m["argv"]) for value in starts for m in _ARGV.finditer(value)),
        problem=problem,
    )


def _argv(text: str) -> tuple[str, ...]:
    """Return a command line's words; systemd shows them without quotes."""
    try:
        return tuple(shlex.split(text))
    except ValueError:
        return tuple(text.split())


def found(unit: str, settings: UnitSettings, texts: Mapping[str, str]) -> Iterator[Value]:
    """Yield what a unit's processes are started with, as far as frameworks' names tell.

    What outdoes others comes first: options, then gunicorn's file, then variables. A variable that
    is set twice is what systemd makes of it: a file outdoes `Environment=`, a later file an earlier
    one.
    """
    yield from _of_commands(unit, settings.argvs)
    for path in settings.config_files:
        yield from _of_gunicorn(path, texts.get(path, ""))
    effective: dict[str, tuple[str, str]] = {}
    for key, value in settings.environment:
        effective[key] = (value, f"Environment of {unit}, {key}")
    for path, _ in settings.env_files:
        for each in assignments(texts.get(path, "")):
            effective[each.key] = (each.value, f"{path} line {each.line}, {each.key}")
    for variable, (what, unit_of_time) in VARIABLES.items():
        if variable in effective:
            value, source = effective[variable]
            yield from _told(what, value, source, unit_of_time)


def source_of(variable: str, settings: UnitSettings, texts: Mapping[str, str]) -> str | None:
    """Return where a variable's value comes from in the end: a path, or "" for `Environment=`."""
    for path, _ in reversed(settings.env_files):
        if any(each.key == variable for each in assignments(texts.get(path, ""))):
            return path
    return "" if any(key == variable for key, _ in settings.environment) else None


def told(what: What, value: str) -> str | None:
    """Return a value as it is told; None for what is no number where there must be one."""
    if what == "url":
        return _plain(redacted(value))
    if what == "max_lifetime":
        return _plain(value) if re.fullmatch(r"[0-9a-zµ.]{1,20}", value) else None
    return str(int(value)) if _NUMBER.fullmatch(value.strip()) else None


def _told(what: What, value: str, source: str, unit_of_time: str = "") -> Iterator[Value]:
    shown = told(what, value)
    if shown is None:
        return
    suffix = unit_of_time if _NUMBER.fullmatch(shown) else ""
    yield Value(what=what, value=shown + suffix, source=visible(source))
    if what == "url":
        yield from _of_url(value, source)


def _of_url(url: str, source: str) -> Iterator[Value]:
    """Yield what a connection string says of its pool."""
    query = url.partition("?")[2].partition("#")[0]
    for name, _, value in (pair.partition("=") for pair in query.split("&")):
        if name in PARAMETERS and _NUMBER.fullmatch(value):
            yield Value(
                what=PARAMETERS[name],
                value=str(int(value)),
                source=visible(f"{source}, {name} in it"),
            )


def _of_commands(unit: str, argvs: Sequence[Sequence[str]]) -> Iterator[Value]:
    """Yield what the options of a known program say; the last one counts."""
    for argv in argvs:
        options = OPTIONS.get(_program(argv), {})
        last = {options[name]: (name, value) for name, value in _options(argv) if name in options}
        for what, (name, value) in last.items():
            if _NUMBER.fullmatch(value):
                source = f"ExecStart of {unit}, {name}"
                yield Value(what=what, value=str(int(value)), source=source)


def _program(argv: Sequence[str]) -> str:
    """Return the known program of a command line: `python -m gunicorn`, `bundle exec puma` too."""
    words = [word.rpartition("/")[2] for word in argv[:4]]
    return next((word for word in words if word in OPTIONS), "")


def _options(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield `--name value`, `--name=value`, `-n value` and `-nvalue` as pairs."""
    for number, word in enumerate(argv):
        following = argv[number + 1] if number + 1 < len(argv) else ""
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            yield name, value if equals else following
        elif word.startswith("-") and len(word) >= 2:
            yield word[:2], word[2:].removeprefix("=") or following


def _of_gunicorn(path: str, text: str) -> Iterator[Value]:
    for number, line in enumerate(text.split("\n"), start=1):
        match = _GUNICORN.fullmatch(line.rstrip())
        if match is not None:
            yield Value(
                what=_GUNICORN_WHAT[match["name"]],
                value=str(int(match["value"])),
                source=visible(f"{path} line {number}, {match['name']}"),
            )


def _plain(text: str) -> str:
    return visible(text)[:_LONGEST]
