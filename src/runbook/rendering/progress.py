"""Progress while a run works: a live view on a terminal, a plain line log elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

from runbook.model.document import visible
from runbook.model.units import format_duration
from runbook.rendering.consoles import notes

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from runbook.model.events import Event
    from runbook.model.plan import Plan

#: Phases that are worth a permanent line when they end well; looks alone are not.
_TOLD = frozenset({"act", "restart"})
_MARKS = {
    "ok": ("✓", "green"),
    "rehearsed": ("○", "cyan"),
    "skipped": ("-", "dim"),
    "not_exercised": ("-", "dim"),
}


class Progress(Protocol):
    """A watcher that shows what it is told."""

    def notice(self, event: Event) -> None:
        """Take notice of an event."""

    def pause(self) -> None:
        """Leave the screen to a question."""


@contextmanager
def open_progress(plan: Plan, *, quiet: bool) -> Iterator[Progress]:
    """Yield the progress view that fits where stderr goes."""
    if quiet:
        yield _Silence()
    elif _on_terminal():
        view = _LiveView(plan)
        try:
            yield view
        finally:
            with suppress(OSError, SystemExit):
                view.pause()
    else:
        yield _LineLog(plan)


def _on_terminal() -> bool:
    """Whether to draw; rich, which takes 50 ms to load, is asked only where it may say yes."""
    forced = os.environ.keys() & {"FORCE_COLOR", "TTY_COMPATIBLE"}
    return bool(forced or sys.stderr.isatty()) and notes().is_terminal


class _Silence:
    def notice(self, event: Event) -> None:  # noqa: ARG002 - that is what silence is
        return

    def pause(self) -> None:
        return


class _Tasks:
    """What is known of the tasks in flight."""

    def __init__(self, plan: Plan) -> None:
        self._names = {node.key: node.name for node in plan.nodes}
        self._reads = {node.key for node in plan.nodes if not node.changes}
        self.running: dict[str, dict[str, Any]] = {}

    def note(self, event: Event) -> None:
        key = event.task
        if key is None:
            return
        if event.kind == "task_started":
            self.running[key] = {**event.data, "since": event.at, "stage": "", "text": ""}
        elif event.kind == "said" and key in self.running:
            self.running[key].update(event.data)

    def finish(self, event: Event) -> str | None:
        """Return the permanent line for a task that ended, or None when it deserves none."""
        task = self.running.pop(event.task or "", None)
        if task is None:
            return None
        result = event.data["result"]
        status, summary = result["status"], visible(str(result["summary"]))
        # What a rehearsal would do is shown as a whole at its end.
        quiet = status == "rehearsed" or (status in _MARKS and task["phase"] not in _TOLD)
        looked = (event.task or "").split("/", 1)[0] in self._reads and status == "ok"
        if quiet or looked:
            return None
        mark = _MARKS.get(status, ("✗", "red"))[0]
        took = format_duration(event.at - task["since"])
        said = summary or status
        return f"{mark} {self.label(event.task or '', task)}: {said} [{took}]"

    def label(self, key: str, task: dict[str, Any]) -> str:
        phase = task["phase"]
        if phase == "admit":
            return f"batch {key.rsplit('/', 1)[-1]}"
        return visible(str(task["target"]))


class _LineLog:
    """One line for each thing that happens, with the time: reads well in a log a year later."""

    def __init__(self, plan: Plan) -> None:
        self._tasks = _Tasks(plan)
        self._rehearsal = plan.rehearsal
        self._last: dict[str, str] = {}

    def notice(self, event: Event) -> None:
        self._tasks.note(event)
        if event.kind == "said" and event.task in self._tasks.running:
            self._say(event)
        elif event.kind == "task_finished":
            line = self._tasks.finish(event)
            if line:
                self._print(event, line)
        elif event.kind == "intended":
            self._print(event, f"> {visible(event.data['sentence'])}")
        elif (line := _about_lock(event)) is not None:
            self._print(event, line)

    def pause(self) -> None:
        return

    def _say(self, event: Event) -> None:
        """Only a new stage gets a line: a gate asked forty times says so once."""
        key, stage = event.task or "", event.data["stage"]
        acting = self._tasks.running[key]["phase"] in _TOLD
        if self._last.get(key) == stage or (self._rehearsal and acting):
            return
        self._last[key] = stage
        label = self._tasks.label(key, self._tasks.running[key])
        text = visible(str(event.data["text"]))
        self._print(event, f"  {label}: {stage}" + (f": {text}" if text else ""))

    def _print(self, event: Event, line: str) -> None:
        at = time.strftime("%H:%M:%S", time.localtime(event.at))
        print(f"{at} {line}", file=sys.stderr, flush=True)


class _LiveView:
    """Tasks in flight, redrawn in place; what has ended stays above as lines."""

    def __init__(self, plan: Plan) -> None:
        self._tasks = _Tasks(plan)
        self._live: Live | None = None

    def notice(self, event: Event) -> None:
        self._tasks.note(event)
        if event.kind == "task_finished":
            line = self._tasks.finish(event)
            if line:
                self._open().console.print(_styled(line))
        elif (line := _about_lock(event)) is not None:
            self._open().console.print(_styled(line))
        if self._tasks.running:
            self._open()
        elif self._live is not None:
            self.pause()

    def pause(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _open(self) -> Live:
        if self._live is None:
            from rich.live import Live

            self._live = Live(
                console=notes(),
                get_renderable=self._table,
                refresh_per_second=8,
                transient=True,
            )
            self._live.start()
        return self._live

    def _table(self) -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        # Rows beyond a screenful say only how many they are.
        shown = list(self._tasks.running.items())[:12]
        for key, task in shown:
            took = format_duration(max(0.0, time.time() - task["since"]))
            stage = task["stage"] or task["phase"]
            table.add_row(
                Text("…", style="cyan"),
                Text(self._tasks.label(key, task)),
                Text(visible(str(stage)), style="bold"),
                Text(visible(str(task["text"])), style="dim", overflow="ellipsis", no_wrap=True),
                Text(took, style="dim"),
            )
        hidden = len(self._tasks.running) - len(shown)
        if hidden > 0:
            table.add_row(Text("…"), Text(f"and {hidden} more"))
        return table


def _about_lock(event: Event) -> str | None:
    """Return the line for a lock that was not simply taken: stolen, say, or not to be had."""
    if event.kind != "locked" or event.data["how"] == "taken":
        return None
    before = f"; it was held by {event.data['from']}" if event.data.get("from") else ""
    return visible(f"! lock of {event.data['lock']}: {event.data['how']}{before}")


def _styled(line: str) -> Any:
    from rich.text import Text

    colours = dict(_MARKS.values())
    text = Text(line)
    text.stylize(colours.get(line[0], "red"), 0, 1)
    return text
