"""What a rolling restart shall make of a host's settings: which file, which value, in what form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from runbook.model.bouncer_place import clients_of, server_for_apps
from runbook.model.database_url import CannotLead, Endpoint, endpoint_of, lead_to, redacted
from runbook.model.errors import UsageError
from runbook.model.fleet import Fleet, ResolvedHost
from runbook.model.inventory import Address, Closed, Name, Service, Setting
from runbook.model.setting_text import (
    CannotSet,
    drop_in_path,
    env_value,
    matched_value,
    read_drop_in,
    with_drop_in,
    with_env,
    with_matched,
)

#: A value of a pool that a host keeps somewhere; and all that one may keep.
PutName = Literal["size", "overflow", "processes"]
SettingName = Literal["size", "overflow", "processes", "url"]
NAMES: tuple[SettingName, ...] = ("size", "overflow", "processes", "url")
#: A number of more digits is none of a pool's.
_MOST_DIGITS = 9
_NO_NUMBER = "what is no number"


class Put(Closed):
    """New values of the service's pool; each goes where `services.NAME.settings` says it lives."""

    size: Annotated[int, Field(ge=1)] | None = None
    overflow: Annotated[int, Field(ge=0)] | None = None
    processes: Annotated[int, Field(ge=1)] | None = None

    @property
    def values(self) -> dict[PutName, int]:
        """What is put: name -> value."""
        pairs = {"size": self.size, "overflow": self.overflow, "processes": self.processes}
        return {name: value for name, value in pairs.items() if value is not None}  # type: ignore[misc]


class LedTo(Closed):
    """Where the connection string is led to; nothing else of it changes."""

    host: Address | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    pgbouncer: Name | None = Field(
        None, description="to where app servers reach this PgBouncer of the inventory"
    )
    behind: Name | None = Field(
        None, description="to the PostgreSQL server behind this PgBouncer of the inventory"
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        plain = self.host is not None or self.port is not None
        if plain + (self.pgbouncer is not None) + (self.behind is not None) > 1:
            raise ValueError("a url is led to one place: host and port, pgbouncer, or behind")
        return self

    @property
    def given(self) -> bool:
        """Whether it says anything."""
        return any(value is not None for value in self.model_dump().values())

    def resolved(self, fleet: Fleet) -> Led:
        """Return it as host and port.

        Raises:
            UsageError: for a PgBouncer that the inventory does not have, or not the place of.
        """
        if self.pgbouncer is not None:
            host, port = clients_of(self.pgbouncer, fleet)
            return Led(host=host, port=port)
        if self.behind is None:
            return Led(host=self.host, port=self.port)
        bouncer, its_port = clients_of(self.behind, fleet)
        try:
            host, port = server_for_apps(self.behind, fleet)
        except UsageError as error:
            # Told by the look at the host: a plan resolves steps, too, that are then left out.
            return Led(host=None, port=None, refused=f"{error.message}; {error.hint}")
        return Led(
            host=host,
            port=port,
            only_from=Endpoint(host=bouncer, port=its_port),
            whose=f"PgBouncer {self.behind}",
        )


@dataclass(frozen=True, kw_only=True)
class Led:
    """Where a connection string is led to; None stays as it is."""

    host: str | None
    port: int | None
    #: Only a string that leads there is led elsewhere: whoever goes another way has a reason.
    only_from: Endpoint | None = None
    whose: str = ""
    #: Why no string can be led there.
    refused: str = ""

    def put_into(self, url: str) -> str:
        """Return the string, led there.

        Raises:
            CannotLead: when it cannot be, or leads somewhere that is not ours to change.
        """
        if self.refused:
            raise CannotLead(self.refused)
        if self.only_from is None:
            return lead_to(url, self.host, self.port)
        now = endpoint_of(url)
        if now.same_as(Endpoint(host=self.host or now.host, port=self.port)):
            return url
        if not now.same_as(self.only_from):
            raise CannotLead(f"it leads to {now}, not to {self.whose} ({self.only_from})")
        return lead_to(url, self.host, self.port)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One value that a host keeps, and what it shall be; `new` None only looks."""

    name: SettingName
    setting: Setting
    new: int | Led | None = None

    @property
    def label(self) -> str:
        """Return the variable's name, else the setting's."""
        return self.setting.key or self.setting.environment or self.name

    def read(self, text: str | None, environment: Mapping[str, str]) -> str | None:
        """Return the value that a text gives; None when it gives none.

        `environment` is what the unit's own `Environment=` says.

        Raises:
            CannotSet: when the text cannot be read as what the inventory says it is.
        """
        setting = self.setting
        if setting.environment is not None:
            own = read_drop_in(text).values if text is not None else {}
            return own.get(setting.environment, environment.get(setting.environment))
        if text is None:
            raise CannotSet("there is no such file")
        if setting.key is not None:
            return env_value(text, setting.key)
        return matched_value(text, setting.match or "")

    def written(self, text: str | None, environment: Mapping[str, str], run_id: str) -> str:
        """Return the text with the new value in it.

        Raises:
            CannotSet: when the text cannot hold it; CannotLead: when a connection string cannot be
                led there.
        """
        return self.put(text, self._value(self.read(text, environment)), run_id)

    def put(self, text: str | None, value: str, run_id: str) -> str:
        """Return the text with this value in it.

        Raises:
            CannotSet: when the text cannot hold it.
        """
        setting = self.setting
        if setting.environment is not None:
            return with_drop_in(text, setting.environment, value, run_id)
        if setting.key is not None:
            return with_env(text or "", setting.key, value)
        return with_matched(text or "", setting.match or "", value)

    def _value(self, old: str | None) -> str:
        if not isinstance(self.new, Led):
            if old and self.shown(old) == _NO_NUMBER:
                raise CannotSet(
                    f"{self.label} holds no whole number there, so it is no place of a {self.name}"
                )
            return str(self.new)
        if old is None:
            raise CannotSet(f"it does not set {self.label}, so there is nothing to lead elsewhere")
        return self.new.put_into(old)

    def shown(self, value: str | None) -> str:
        """Return a value as people may see it: a number, or where a connection string leads."""
        if value is None:
            return "unset"
        if self.name == "url":
            return str(_endpoint(value) or "a place that cannot be read from it")
        number = value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS
        return value if number else _NO_NUMBER

    def told(self, value: str | None) -> str | None:
        """Return a value for the record, a connection string without its secrets."""
        return redacted(value) if self.name == "url" and value is not None else self.shown(value)


def _endpoint(url: str) -> Endpoint | None:
    try:
        return endpoint_of(url)
    except CannotLead:
        return None


@dataclass(frozen=True, kw_only=True)
class Place:
    """One file on a host, with all of a service's values that live in it."""

    path: str
    items: tuple[Item, ...]
    #: Whether it is a drop-in of runbook's own.
    drop_in: bool


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What shall become of one host's settings."""

    service: str
    host: ResolvedHost
    unit: str
    places: tuple[Place, ...]
    sudo: bool
    #: The run whose backups are put back; else the items say what is new.
    restore: str | None = None

    @property
    def drop_in(self) -> bool:
        """Whether systemd has to read its units anew afterwards."""
        return any(place.drop_in for place in self.places)


def wanted_of(  # noqa: PLR0917 - what the arguments and the inventory say, in that order
    name: str,
    service: Service,
    host: ResolvedHost,
    put: Mapping[PutName, int],
    led_to: Led | None,
    restore: str | None,
) -> Wanted:
    """Return what shall become of a host's settings.

    Raises:
        UsageError: for a value that the inventory does not say where to put.
    """
    new: dict[SettingName, int | Led] = dict(put.items())
    if led_to is not None:
        new["url"] = led_to
    unit = service.unit or name
    return Wanted(
        service=name,
        host=host,
        unit=unit,
        places=_places(name, service, unit, new, every=restore is not None),
        sudo=service.settings.sudo,
        restore=restore,
    )


def url_alone(name: str, service: Service, host: ResolvedHost) -> Wanted:
    """Return a host's connection string, to be looked at alone.

    Raises:
        UsageError: when the inventory does not say where it lives.
    """
    setting = service.settings.url
    if setting is None:
        raise _undeclared(name, "url")
    unit, item = service.unit or name, Item(name="url", setting=setting)
    path = _path(name, service, unit, item)
    place = Place(path=path, items=(item,), drop_in=path == drop_in_path(unit))
    sudo = service.settings.sudo
    return Wanted(service=name, host=host, unit=unit, places=(place,), sudo=sudo)


def _places(
    name: str,
    service: Service,
    unit: str,
    new: Mapping[SettingName, int | Led],
    *,
    every: bool,
) -> tuple[Place, ...]:
    declared = {each: getattr(service.settings, each) for each in NAMES}
    missing = next((each for each in new if declared[each] is None), None)
    if missing is not None or not any(declared.values()):
        raise _undeclared(name, missing or "size")
    by_path: dict[str, list[Item]] = {}
    for each, setting in declared.items():
        if setting is not None and (every or each in new):
            item = Item(name=each, setting=setting, new=new.get(each))
            by_path.setdefault(_path(name, service, unit, item), []).append(item)
    drop_in = drop_in_path(unit)
    return tuple(
        Place(path=path, items=tuple(items), drop_in=path == drop_in)
        for path, items in by_path.items()
    )


def _undeclared(service: str, setting: str) -> UsageError:
    key = "DATABASE_URL" if setting == "url" else "POOL_SIZE"
    return UsageError(
        f"services.{service}.settings has no {setting}: where a host keeps it is not declared",
        hint=f"add it to the inventory, as in services.{service}.settings.{setting}:"
        f" {{env_file: /etc/{service}.env, key: {key}}}",
    )


def _path(name: str, service: Service, unit: str, item: Item) -> str:
    setting = item.setting
    path = setting.env_file or setting.file
    if path is not None:
        return path
    if service.manager != "systemd":
        raise UsageError(
            f"services.{name}.settings.{item.name} is a variable of a unit's Environment=, and"
            f" systemd does not run {name}",
            hint="say env_file with key, or file with match",
        )
    return drop_in_path(unit)
