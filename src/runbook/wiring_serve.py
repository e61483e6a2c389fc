"""Opens what alerts, their answers and their news need: the second half of the wiring."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from runbook import wiring
from runbook.model.errors import InvalidDocument, UsageError

if TYPE_CHECKING:
    from runbook.adapters.browser_sessions import BrowserSessions
    from runbook.adapters.inbox import SqliteInbox
    from runbook.adapters.pagerduty_events import PagerDutyEvents
    from runbook.adapters.telling_store import TellingStore
    from runbook.model.document import Document, Problem
    from runbook.model.fleet import Fleet
    from runbook.model.intake import IncidentReader
    from runbook.model.inventory import Secret
    from runbook.model.ports import Journal
    from runbook.model.serve_config import ServeConfig
    from runbook.model.telling import Sender
    from runbook.telling.teller import Teller


# ---- the configuration --------------------------------------------------------------------------


def find_serve_config(given: str | None) -> Path:
    """Return the path of the configuration of alerts: the one given, else the first that is there.

    Raises:
        UsageError: when none is found; the hint lists where was looked.
    """
    places, found = wiring.find_file(given, "RUNBOOK_SERVE_CONFIG", "serve.yaml")
    if found is not None:
        return found
    raise UsageError(
        "no configuration of alerts found",
        hint=f"looked for {places}; name one with --config FILE or RUNBOOK_SERVE_CONFIG, or start"
        " from serve.example.yaml",
    )


def load_serve_config(given: str | None) -> tuple[ServeConfig, str]:
    """Read and check the configuration of alerts; return it and its path.

    Raises:
        UsageError: when there is none.
        InvalidDocument: with all of its problems.
    """
    from runbook.adapters.yaml_reader import read_document

    path = find_serve_config(given)
    return _serve_config(read_document(path)), str(path)


def _serve_config(document: Document) -> ServeConfig:
    from runbook.model.serve_config import ServeConfig
    from runbook.model.serve_references import check_serve_references
    from runbook.model.validation import validate

    return check_serve_references(validate(ServeConfig, document), document)


def check_serve_config(config: ServeConfig, source: str, fleet: Fleet) -> tuple[Problem, ...]:
    """Check that each rule's run can be planned with this inventory; return what is doubtful.

    `source` is the configuration file; it is read again, for the places of what is told.

    Raises:
        InvalidDocument: with each playbook, target and parameter that leads nowhere.
    """
    from runbook.adapters.yaml_reader import read_document
    from runbook.engine.serve_check import check_rules
    from runbook.model.serve_warnings import serve_warnings

    document = read_document(Path(source))
    problems = check_rules(
        config, document, fleet, lambda name: wiring.load_playbook(serve_playbook(name, source))
    )
    if problems:
        raise InvalidDocument(problems)
    return serve_warnings(config, document)


def serve_playbook(name: str, source: str) -> str:
    """Return what leads to a rule's playbook: its shipped name, or a path from the configuration.

    The path is absolute: it is what a run keeps, to be resumed from anywhere.
    """
    path = Path(name)
    if path.name == name and path.suffix not in {".yaml", ".yml"}:
        return name  # a shipped one, or a mistake that is told with the nearest of them
    return str(Path(source).absolute().parent / name)


def serve_inventory(config: ServeConfig, source: str, given: str | None) -> str | None:
    """Return the inventory for `load_fleet`: -i, else the configuration's, a path from its file."""
    if given is not None or config.inventory is None:
        return given
    return str(Path(source).absolute().parent / config.inventory)


# ---- telling ------------------------------------------------------------------------------------


def open_teller(config: ServeConfig, *, journal: Journal | None = None) -> Teller:
    """Return what tells the outside of runs, with a journal of its own unless one is given.

    Used from one thread; `step` again and again, `close` at the end. A journal that was given
    stays open.

    Raises:
        DoorError: when the journal, or what was told, cannot be opened.
    """
    from runbook.adapters.recipients import senders
    from runbook.adapters.run_locks import RunLocks
    from runbook.adapters.secrets import resolve
    from runbook.engine.history import history_of
    from runbook.telling.case import Links
    from runbook.telling.teller import Ports, Teller

    own = journal is None
    journal = journal or wiring.open_journal()
    return Teller(
        Ports(
            journal=journal,
            history_of=history_of,
            store=open_telling(),
            claims=RunLocks(wiring.state_directory() / "telling.lock"),
            senders=senders(config, resolve),
            links=Links(base=config.listen.url),
            alive=wiring.run_locks().alive,
        ),
        also_close=(journal,) if own else (),
    )


def open_telling() -> TellingStore:
    """Open what was told of this machine's runs, and is to be.

    Raises:
        DoorError: when it cannot be opened.
    """
    from runbook.adapters.telling_store import TellingStore

    return TellingStore(wiring.state_directory() / "telling.db")


def open_events(config: ServeConfig) -> PagerDutyEvents:
    """Return PagerDuty's Events API, for alerts and change events of our own.

    Raises:
        UsageError: where the configuration has no routing key for it.
    """
    from runbook.adapters.pagerduty_events import PagerDutyEvents
    from runbook.adapters.secrets import resolve

    if config.pagerduty is None or config.pagerduty.routing_key is None:
        raise UsageError(
            "the configuration has no pagerduty.routing_key",
            hint="add an Events API v2 integration to a service, and refer to its key there",
        )
    return PagerDutyEvents(config.pagerduty, resolve)


def open_recipient(config: ServeConfig, name: str) -> Sender:
    """Return what sends to a name of `notify`.

    Raises:
        UsageError: when there is none of that name.
    """
    from runbook.adapters.recipients import senders
    from runbook.adapters.secrets import resolve
    from runbook.model.document import nearest

    if name not in config.notify:
        near = nearest(name, list(config.notify))
        known = f"did you mean {near!r}?" if near else f"there are: {', '.join(config.notify)}"
        raise UsageError(
            f"the configuration's `notify` has no {name!r}",
            hint=known if config.notify else "it has no `notify` at all",
        )
    return senders(config, resolve)[name]


def incident_reader(config: ServeConfig) -> IncidentReader | None:
    """Return what reads PagerDuty's incidents; None where the configuration has no account."""
    from runbook.adapters.pagerduty_api import PagerDutyApi
    from runbook.adapters.pagerduty_incident import PagerDutyReader
    from runbook.adapters.secrets import resolve

    if config.pagerduty is None:
        return None
    return PagerDutyReader(PagerDutyApi(config.pagerduty, resolve))


# ---- serving ------------------------------------------------------------------------------------


def only_serve() -> AbstractContextManager[None]:
    """Return the lock that one `serve` has on this state directory.

    Raises (when entered):
        Locked: when another process has it.
        DoorError: when it cannot be taken.
    """
    from runbook.adapters.serving_lock import only_one

    return only_one(wiring.state_directory() / "serve.lock")


def open_inbox(config: ServeConfig) -> SqliteInbox:
    """Open the events that were accepted on this machine.

    Raises:
        DoorError: when it cannot be opened.
    """
    from runbook.adapters.inbox import SqliteInbox

    return SqliteInbox(wiring.state_directory() / "serve.db", limit=config.limits.queue)


def browser_sessions() -> BrowserSessions:
    """Open the sessions of those who have signed in at the pages of `serve`.

    Raises:
        DoorError: when they cannot be opened.
    """
    from runbook.adapters.browser_sessions import BrowserSessions

    return BrowserSessions(wiring.state_directory() / "sessions.db")


def secret(reference: Secret) -> str:
    """Follow a reference to its value, anew each time.

    Raises:
        SecretMissing: when it leads nowhere.
    """
    from runbook.adapters.secrets import resolve

    return resolve(reference)
