"""Tells the incident of the runs that a command makes, beside them; it never keeps one waiting."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from runbook.model.errors import DoorError, RunbookError, UsageError

if TYPE_CHECKING:
    from runbook.model.intake import Told
    from runbook.model.serve_config import ServeConfig
    from runbook.telling.teller import Teller

#: As `PagerDutyId` in the configuration; spelled out here so that --help loads nothing.
_ID = re.compile(r"[A-Z0-9]{7,14}")
#: Seconds that a command waits at its end for what is left to be told.
_FLUSH_S = 5.0
#: Seconds that one look takes at most before: the end must not wait for one that hangs.
_STEP_S = 4.0
#: Seconds between two tries to tell it then.
_AGAIN_S = 0.25


class Telling:
    """Whom the runs of one command tell, and the thread that does it."""

    def __init__(self, config: ServeConfig, tell: Mapping[str, Any]) -> None:
        self.tell = tell
        self._config = config
        self._runs: list[str] = []
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        #: What is left, in words, once the thread has ended.
        self._left = ""

    def begin(self, run_id: str) -> None:
        """Tell of a run from now on."""
        self._runs.append(run_id)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="telling", daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """Tell what is left, for some seconds; what stays is said on stderr."""
        self._over.set()
        if self._thread is None:
            return
        left = "it hangs"
        with suppress(KeyboardInterrupt):
            self._thread.join(_FLUSH_S + 0.5)
            left = self._left if not self._thread.is_alive() else left
        if left:
            click.echo(
                f"warning: the incident was not told everything yet: {left}. It is kept:"
                " `runbook notify --pending` tells it, and so do `runbook serve` and the next run",
                err=True,
            )

    def _work(self) -> None:
        from runbook import wiring_serve

        try:
            teller = wiring_serve.open_teller(self._config)
        except RunbookError as error:
            self._left = error.message
            return
        try:
            self._tell_until_over(teller)
        except DoorError as error:
            self._left = error.message
        finally:
            with suppress(DoorError):
                teller.close()

    def _tell_until_over(self, teller: Teller) -> None:
        # The runs of this command first; then what earlier ones have left.
        pause = teller.step(self._runs, within_s=_STEP_S)
        while not self._over.wait(pause):
            pause = teller.step(within_s=_STEP_S)
        until = time.monotonic() + _FLUSH_S
        while (within_s := until - time.monotonic()) > 0:
            teller.step(self._runs, within_s=within_s)
            left = [told for told in teller.left() if told.run_id in self._runs]
            self._left = _words(left)
            # What was tried and failed waits for its time: to stay here for it helps nobody.
            if all(told.attempts or teller.is_down(told.recipient) for told in left):
                return
            time.sleep(_AGAIN_S)


def _words(left: Sequence[Told]) -> str:
    whys = dict.fromkeys(told.why for told in left if told.why)
    return f"{', '.join(told.key for told in left)}" + (f" ({'; '.join(whys)})" if whys else "")


@contextmanager
def telling(pd_incident: str | None, config: str | None) -> Iterator[Telling | None]:
    """Read the configuration, and tell the incident while the context lasts; None: nobody is told.

    Raises:
        UsageError: without a configuration, or where that has no PagerDuty.
    """
    if pd_incident is None:
        if config is not None:
            raise click.UsageError(
                "--config goes with --pd-incident: it says how PagerDuty is reached"
            )
        yield None
        return
    from runbook import wiring_serve
    from runbook.model.serve_config import Tell, TellPagerDuty, tell_as_data

    read, source = wiring_serve.load_serve_config(config)
    if read.pagerduty is None:
        raise UsageError(
            f"{source} has no `pagerduty`: incident {pd_incident} cannot be told",
            hint="add pagerduty.token and pagerduty.from",
        )
    tell = tell_as_data(Tell(pagerduty=TellPagerDuty()), pd_incident)
    with _finished(Telling(read, tell)) as told:
        yield told


@contextmanager
def telling_again(tell: Mapping[str, Any] | None) -> Iterator[Telling | None]:
    """Tell of a run that is gone on with, as its request says; without a configuration, nobody."""
    if tell is None:
        yield None
        return
    from runbook import wiring_serve

    try:
        read, _ = wiring_serve.load_serve_config(None)
    except RunbookError as error:
        click.echo(f"warning: nobody is told of this run: {error.message}", err=True)
        yield None
        return
    with _finished(Telling(read, tell)) as told:
        yield told


@contextmanager
def _finished(told: Telling) -> Iterator[Telling]:
    try:
        yield told
    finally:
        told.finish()


def _incident(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not _ID.fullmatch(value):
        raise click.BadParameter(
            f"{value!a} is no id of a PagerDuty incident, such as PT4KHLK or Q0R1T2S3U4V5W6"
        )
    return value


_PD_INCIDENT = click.option(
    "--pd-incident",
    metavar="ID",
    callback=_incident,
    help="Tell this PagerDuty incident: a note at the start, progress, the result.",
)
_CONFIG = click.option(
    "--config",
    metavar="FILE",
    help="How PagerDuty is reached; else RUNBOOK_SERVE_CONFIG, ./serve.yaml, …, /etc/runbook/.",
)


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a command whose runs may tell an incident."""
    return _PD_INCIDENT(_CONFIG(command))
