"""One run: its page, the parts of it that change, its report, and all of it for scripts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, RedirectResponse, Response

from runbook.engine.history import history_of
from runbook.model.plan import plan_from_json
from runbook.rendering.event_lines import line_of
from runbook.serve.pages.damage import damage_told
from runbook.serve.pages.drawing import slot_chart, timeline_rows
from runbook.serve.pages.hosts import host_steps
from runbook.serve.pages.paper import HEADERS, report
from runbook.serve.pages.question import last_answer, question_of
from runbook.serve.pages.standing import Standing, standing

if TYPE_CHECKING:
    from starlette.requests import Request

    from runbook.model.history import History
    from runbook.model.plan import Plan
    from runbook.model.ports import KeptRun, RunView
    from runbook.serve.answering import Answered, Outcome
    from runbook.serve.context import Context
    from runbook.serve.pages.access import Visitor
    from runbook.serve.pages.paper import Paper

#: Lines of the log, and gates, that a page shows; the report has more.
_LINES, _GATES = 80, 100
_STATUS: dict[Outcome, int] = {
    "done": 200,
    "not-yours": 403,
    "no-run": 404,
    "changed": 409,
    "over": 409,
    "failed": 503,
}


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """A run at a moment."""

    kept: KeptRun
    view: RunView
    plan: Plan
    history: History
    standing: Standing
    now: float
    #: The last lines of the log, the newest first: when, which task, what.
    lines: tuple[tuple[float, str, str], ...]

    @property
    def version(self) -> str:
        """Return what is another one once the page would say something else."""
        stands = self.standing.word.replace(" ", "-")
        return f"{len(self.kept.events)}-{stands}-{int(self.view.alive)}"


class RunPages:
    """The pages of a run."""

    def __init__(self, context: Context, paper: Paper) -> None:
        self._context = context
        self._paper = paper

    def page(self, request: Request, visitor: Visitor) -> Response:
        """Show a run; the parts that change are fetched anew by the page's own script."""
        seen = self._see(request)
        return self._missing(request) if seen is None else self._whole(seen, visitor)

    def live(self, request: Request, visitor: Visitor) -> Response:
        """Return the parts that change; 204 while they are as the page has them."""
        seen = self._see(request)
        if seen is None:
            return self._missing(request)
        if request.query_params.get("seen") == seen.version:
            return Response(status_code=204, headers=HEADERS)
        return self._paper.page("_run.html", **_values(seen, visitor))

    def report(self, request: Request, _visitor: Visitor) -> Response:
        """Return the run written up, as `runbook runs report --format html` does."""
        from dataclasses import replace

        from runbook.rendering.report_html import render

        seen = self._see(request)
        if seen is None:
            return self._missing(request)
        over = seen.kept.record.ended_at is not None
        history = seen.history if over else replace(seen.history, status=seen.standing.word)
        return report(render(history))

    def data(self, request: Request, _visitor: Visitor) -> Response:
        """Return all of a run for a script."""
        seen = self._see(request)
        if seen is None:
            return JSONResponse({"error": "no such run"}, status_code=404, headers=HEADERS)
        asked = seen.kept.request
        whole: dict[str, Any] = {
            "schema_version": 1,
            "run": asdict(seen.kept.record),
            "rule": asked.rule if asked is not None else "",
            "standing": seen.standing.word,
            "alive": seen.view.alive,
            "waiting": dict(seen.view.waiting) if seen.view.waiting is not None else None,
            "plan": seen.kept.plan,
            "events": [asdict(event) for event in seen.kept.events],
        }
        return JSONResponse(whole, headers=HEADERS)

    def after(self, request: Request, visitor: Visitor, answered: Answered) -> Response:
        """Show the run after a word to it; what did not count is said, with what is asked now."""
        run_id = request.path_params["run_id"]
        if answered.done:
            return RedirectResponse(f"/runs/{run_id}", 303, headers=HEADERS)
        seen = self._see(request)
        if seen is None:
            return self._missing(request)
        return self._whole(seen, visitor, notice=answered.message, status=_STATUS[answered.outcome])

    def _whole(
        self, seen: _Seen, visitor: Visitor, *, notice: str = "", status: int = 200
    ) -> Response:
        values = _values(seen, visitor)
        return self._paper.page("run.html", status=status, notice=notice, **values)

    def _missing(self, request: Request) -> Response:
        text = f"There is no run {request.path_params['run_id']}. It may have been pruned."
        return self._paper.page("message.html", status=404, title="No such run", text=text)

    def _see(self, request: Request) -> _Seen | None:
        run_id, now = request.path_params["run_id"], self._context.now()
        kept = self._context.journal.run(run_id)
        if kept is None:
            return None
        with damage_told(self._context.journal, run_id):
            view, history = self._context.runs.view(run_id), history_of(kept)
            return _Seen(
                kept=kept,
                view=view,
                plan=plan_from_json(kept.plan),
                history=history,
                standing=standing(kept, view, history, now),
                now=now,
                lines=tuple(_log(kept)),
            )


def _values(seen: _Seen, visitor: Visitor) -> dict[str, Any]:
    """Return all that the templates of a run show."""
    record, asked = seen.kept.record, seen.kept.request
    return {
        "visitor": visitor,
        "run": record,
        "title": f"{record.playbook} {record.target or ''}".strip(),
        "rule": asked.rule if asked is not None else "",
        "standing": seen.standing,
        "version": seen.version,
        "history": seen.history,
        "question": question_of(seen.plan, seen.view, seen.now),
        "answered": last_answer(seen.history),
        "steps": host_steps(seen.plan, seen.history, alive=seen.view.alive),
        "chart": slot_chart(seen.history),
        "timeline": timeline_rows(seen.history),
        "gates": _gates(seen.history),
        "lines": seen.lines,
        "more_lines": max(0, len(seen.kept.events) - _LINES),
    }


def _log(kept: KeptRun) -> Iterator[tuple[float, str, str]]:
    """Yield the last lines of the log, the newest first: when, which task, what."""
    for event in reversed(kept.events[-_LINES:]):
        line = line_of(event)
        if line is not None:
            yield event.at, event.task or "", line


def _gates(history: History) -> list[tuple[str, str, bool, str]]:
    """Return each gate of each target as it was answered last: target, gate, whether well, how."""
    last: dict[tuple[str, str], tuple[str, str, bool, str]] = {}
    for task in history.tasks:
        for gate in task.gates:
            asked = str(gate.get("asked", ""))
            good, answer = bool(gate.get("good")), str(gate.get("answer", ""))
            last[task.target, asked] = (task.target, asked, good, answer)
    return list(last.values())[-_GATES:]
