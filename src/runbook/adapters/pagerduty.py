"""PagerDuty's incidents: read, annotated, acknowledged, resolved; a note is posted once.

Addresses are made of constants and of ids that look like ids: no link of an answer is followed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from runbook.adapters.pagerduty_api import PagerDutyApi, codes, refusal, said
from runbook.model.document import visible
from runbook.model.errors import DoorError
from runbook.model.intake import Told
from runbook.model.telling import NotTold

_ID = re.compile(r"[A-Z0-9]{7,14}")
#: A note's content, by PagerDuty's limit.
_NOTE_BYTES = 65_535
#: What PUT answers when the incident is as it should be already.
_ALREADY = {"resolved": {1001}, "acknowledged": {1001, 1002}}


class PagerDutyIncidents:
    """What an incident is told; see `runbook.telling.incident` for the contents."""

    def __init__(self, api: PagerDutyApi) -> None:
        self._api = api
        self._do: Mapping[str, Callable[[str, Told, float], str | None]] = {
            "note": self._note,
            "edit": self._edit,
            "status": self._status,
            "status-update": self._update,
            "custom-field": self._field,
        }

    def send(self, told: Told, within_s: float) -> str | None:
        """Tell the incident one thing; see `Sender`."""
        path = f"/incidents/{incident_id(told.content.get('incident'))}"
        return self._do[str(told.content["do"])](path, told, within_s)

    def close(self) -> None:
        """Close what is open."""
        self._api.close()

    def _note(self, path: str, told: Told, within_s: float) -> str | None:
        """Post a note, unless an earlier attempt has; return its id."""
        until = time.monotonic() + within_s
        if told.attempts:
            there = self._posted(path, str(told.content["marker"]), within_s)
            if there is not None:
                return there
        left = until - time.monotonic()
        reply = self._api.ask("POST", f"{path}/notes", _content(told), within_s=left)
        if reply.status not in {200, 201}:
            raise refusal(reply, "a note")
        note = said(reply).get("note")
        return str(note["id"]) if isinstance(note, dict) and note.get("id") else None

    def _posted(self, path: str, marker: str, within_s: float) -> str | None:
        """Return the id of the note that ends with a marker; None when there is none.

        Raises:
            NotTold: when nobody can say: it is not posted again then.
        """
        reply = self._api.ask("GET", f"{path}/notes", within_s=within_s)
        notes = said(reply).get("notes")
        if reply.status != 200 or not isinstance(notes, list):
            raise refusal(reply, "its notes")
        for note in notes:
            if isinstance(note, dict) and str(note.get("content", "")).rstrip().endswith(marker):
                return str(note.get("id"))
        return None

    def _edit(self, path: str, told: Told, within_s: float) -> str | None:
        note = quote(str(told.content["note"]), safe="")
        reply = self._api.ask("PUT", f"{path}/notes/{note}", _content(told), within_s=within_s)
        if reply.status != 200:
            raise refusal(reply, "the note that is updated")
        return None

    def _status(self, path: str, told: Told, within_s: float) -> str | None:
        status = str(told.content["status"])
        incident = {"type": "incident_reference", "status": status}
        if told.content.get("resolution"):
            incident["resolution"] = str(told.content["resolution"])
        reply = self._api.ask("PUT", path, {"incident": incident}, within_s=within_s)
        if reply.status != 200 and not codes(reply) & _ALREADY[status]:
            raise refusal(reply, f"the incident, to be {status}")
        return None

    def _update(self, path: str, told: Told, within_s: float) -> str | None:
        """Send a status update; one that may have arrived is not sent again: it goes to many."""
        if told.attempts and not told.why:
            raise NotTold(
                "its process was lost while it was sent; it may have arrived", again=False
            )
        body = {"message": str(told.content["message"])}
        try:
            reply = self._api.ask("POST", f"{path}/status_updates", body, within_s=within_s)
            if reply.status not in {200, 201}:
                raise refusal(reply, "a status update")
        except NotTold as error:
            if not error.unclear:
                raise
            raise NotTold(f"{error.message}; it may have arrived", again=False) from None
        return None

    def _field(self, path: str, told: Told, within_s: float) -> str | None:
        field = {"name": str(told.content["name"]), "value": str(told.content["value"])}
        body = {"custom_fields": [field]}
        reply = self._api.ask("PUT", f"{path}/custom_fields/values", body, within_s=within_s)
        if reply.status not in {200, 201}:
            raise refusal(reply, f"the custom field {visible(field['name'])!r}")
        return None


def incident_id(given: Any) -> str:
    """Return an incident's id, if it looks like one.

    Raises:
        DoorError: when it does not; nothing is asked then.
    """
    text = str(given)
    if not _ID.fullmatch(text):
        raise NotTold(f"{visible(text)[:40]!r} is no PagerDuty incident's id", again=False)
    return text


def _content(told: Told) -> dict[str, Any]:
    text = str(told.content["text"])
    if len(text.encode()) > _NOTE_BYTES:
        raise DoorError(f"a note of {len(text.encode())} bytes is more than PagerDuty takes")
    return {"note": {"content": text}}
