"""One POST, to tell somebody something, as a playbook wants it.

Webhooks are mostly on the internet, and bastions mostly behind a proxy: HTTPS_PROXY and its like
hold here, unlike for health gates. A message is sent where the playbook says, or nowhere.
"""

from __future__ import annotations

import time
from typing import Any

from runbook.adapters.http_exchange import Exchanges, NoReply
from runbook.adapters.secrets import resolve
from runbook.model.effects import HttpPost, HttpReply
from runbook.model.errors import ChangeInRehearsal

#: Bytes of the answer that are read: what a service complains about fits in its first lines.
BODY_BYTES = 8 * 1024


class HttpPostDoor:
    """Performs HttpPost; refuses it in a rehearsal."""

    def __init__(self, *, rehearsal: bool) -> None:
        self._rehearsal = rehearsal

    def perform(self, effect: Any) -> HttpReply:
        """Post once, and say how it went.

        Raises:
            SecretMissing: when the reference to the address leads nowhere.
            ChangeInRehearsal: in a rehearsal.
        """
        if not isinstance(effect, HttpPost):
            raise TypeError(f"HttpPostDoor does not perform {type(effect).__name__}")
        if self._rehearsal:
            raise ChangeInRehearsal(
                f"this is a rehearsal, and it was asked to change something: {effect.sentence()}",
                hint="nobody was told; this is a defect of the step: report it",
            )
        url = effect.url if isinstance(effect.url, str) else resolve(effect.url)
        return _post(url.strip(), effect)

    def close(self) -> None:
        """Nothing is kept open between requests."""


def _post(url: str, effect: HttpPost) -> HttpReply:
    """Exchange one request; no error says the address, which is a secret."""
    started = time.monotonic()
    if not url.startswith(("http://", "https://")) or any(map(str.isspace, url)):
        why = "the address is no URL that begins with http:// or https://"
        return HttpReply(status=0, body="", error=why, seconds=0.0, asked=False)
    exchanges = Exchanges()
    try:
        reply = exchanges.exchange(
            "POST",
            url,
            headers={"Content-Type": effect.content_type},
            body=effect.body.encode("utf-8", errors="replace"),
            within_s=effect.timeout_s,
            most=BODY_BYTES,
            cut=True,
        )
    except NoReply as error:
        seconds = time.monotonic() - started
        return HttpReply(status=0, body="", error=error.why, seconds=seconds, asked=error.again)
    finally:
        exchanges.close()
    body = reply.body.decode("utf-8", errors="replace")
    return HttpReply(status=reply.status, body=body, error="", seconds=time.monotonic() - started)
