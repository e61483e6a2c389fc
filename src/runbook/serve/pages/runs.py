"""All runs: what waits for an answer, what goes on, what lost its process, and what was before."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from runbook.engine.history import history_of
from runbook.model.errors import DoorError
from runbook.model.plan import plan_from_json
from runbook.serve.pages.damage import damage_told
from runbook.serve.pages.paper import HEADERS
from runbook.serve.pages.question import Question, question_of
from runbook.serve.pages.standing import Standing, of_record, standing

if TYPE_CHECKING:
    from starlette.requests import Request

    from runbook.model.ports import RunRecord, RunView
    from runbook.serve.context import Context
    from runbook.serve.pages.access import Visitor
    from runbook.serve.pages.paper import Paper

#: Runs that are over and shown; `runbook runs list` has all.
_BEFORE = 50


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run in the list."""

    record: RunRecord
    standing: Standing
    rule: str = ""
    question: Question | None = None

    @property
    def title(self) -> str:
        """Return what was run."""
        return f"{self.record.playbook} {self.record.target or ''}".strip()


class RunsPage:
    """The list of runs."""

    def __init__(self, context: Context, paper: Paper) -> None:
        self._context = context
        self._paper = paper

    def page(self, _request: Request, visitor: Visitor) -> Response:
        """Show the list."""
        return self._paper.page("runs.html", visitor=visitor, **self._values(visitor))

    def live(self, request: Request, visitor: Visitor) -> Response:
        """Return the parts that change; 204 while they are as the page has them."""
        values = self._values(visitor)
        if request.query_params.get("seen") == values["version"]:
            return Response(status_code=204, headers=HEADERS)
        return self._paper.page("_runs.html", visitor=visitor, **values)

    def data(self, _request: Request, _visitor: Visitor) -> Response:
        """Return the list for a script."""
        runs = [
            {"run": asdict(row.record), "rule": row.rule, "standing": row.standing.word}
            for row in (*self._open(), *self._before())
        ]
        return JSONResponse({"schema_version": 1, "runs": runs}, headers=HEADERS)

    def _values(self, visitor: Visitor) -> dict[str, Any]:
        rows, before = self._open(), self._before()
        asked = [row for row in rows if row.question is not None]
        yours = [row for row in asked if row.question and row.question.is_for(visitor.name)]
        stands = [f"{row.record.run_id}{row.standing.word}" for row in (*rows, *before)]
        return {
            "asked": asked,
            "yours": len(yours) if visitor.may("approver") else 0,
            "lost": [row for row in rows if row.question is None and row.standing.tone == "bad"],
            "going": [row for row in rows if row.question is None and row.standing.tone != "bad"],
            "before": before,
            "version": str(hash((*stands, *(row.standing.sentence for row in rows)))),
        }

    def _open(self) -> list[Row]:
        return [row for view in self._context.runs.list() if (row := self._row(view)) is not None]

    def _row(self, view: RunView) -> Row | None:
        kept = self._context.journal.run(view.record.run_id)
        if kept is None:
            return None
        now = self._context.now()
        try:
            with damage_told(self._context.journal, kept.record.run_id):
                return Row(
                    record=kept.record,
                    standing=standing(kept, view, history_of(kept), now),
                    rule=kept.request.rule if kept.request is not None else "",
                    question=question_of(plan_from_json(kept.plan), view, now),
                )
        except DoorError as error:
            # The others are shown nevertheless.
            damaged = Standing(
                word="damaged", tone="bad", headline="Cannot be read", sentence=error.message
            )
            return Row(record=kept.record, standing=damaged)

    def _before(self) -> list[Row]:
        records = [r for r in self._context.journal.runs(2 * _BEFORE) if r.ended_at is not None]
        return [Row(record=r, standing=of_record(r)) for r in records[:_BEFORE]]
