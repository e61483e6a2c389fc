"""A capture: one look at a server in a file, with what judging it needs, and no secret in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from runbook.model.inventory import Inventory
from runbook.model.sessions import Snapshot

if TYPE_CHECKING:
    from pydantic import TypeAdapter

#: What stands under `format` in every capture, and under `format_version` in those of today.
FORMAT: Literal["runbook-capture"] = "runbook-capture"
FORMAT_VERSION: Literal[1] = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Capture:
    """A snapshot and the excerpt of the inventory with which it can be judged again.

    `format_version` grows when a key changes its meaning or goes; a key that is not known is left
    unread, so that what a newer runbook adds does not shut out an older one.
    """

    #: The version of runbook that saved it.
    runbook_version: str
    #: When it was saved, by the clock of the machine that did, ISO 8601 in UTC.
    saved_at: str
    snapshot: Snapshot
    #: Hosts, databases, services and PgBouncers as far as findings look at them.
    inventory: Inventory
    format: Literal["runbook-capture"] = FORMAT
    format_version: Literal[1] = FORMAT_VERSION


def to_plain(capture: Capture) -> dict[str, Any]:
    """Return a capture as plain JSON values, what is as by default left out of the inventory."""
    plain: dict[str, Any] = _adapter().dump_python(capture, mode="json")
    plain["inventory"] = capture.inventory.model_dump(mode="json", exclude_defaults=True)
    # First in the file, so that whoever opens it sees what it is.
    first = ("format", "format_version", "runbook_version", "saved_at", "inventory")
    return {**{key: plain[key] for key in first}, "snapshot": plain["snapshot"]}


def from_plain(plain: Any) -> Capture:
    """Return the capture that `to_plain` made.

    Raises:
        pydantic.ValidationError: with each value that is not what a capture has.
    """
    return _adapter().validate_python(plain)


def _adapter() -> TypeAdapter[Capture]:
    from pydantic import TypeAdapter

    return TypeAdapter(Capture)
