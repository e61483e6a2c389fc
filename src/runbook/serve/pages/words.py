"""What a person says to a run by a button: yes, no, stop, go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.serve import answering
from runbook.serve.answering import Answered

if TYPE_CHECKING:
    from starlette.requests import Request

    from runbook.serve.context import Context
    from runbook.serve.pages.access import Visitor

#: Characters of a comment: a sentence or two, for the record.
_COMMENT = 500


class Words:
    """Each takes a form that was found to be ours; who may what is looked at by `answering`."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def answer(self, request: Request, visitor: Visitor, form: dict[str, str]) -> Answered:
        """Answer a question; what is neither yes nor no is no answer."""
        if form.get("answer") not in {"yes", "no"}:
            return Answered(outcome="changed", message="That was neither a yes nor a no.")
        return answering.answer(
            self._context,
            run_id=request.path_params["run_id"],
            key=form.get("key", ""),
            digest=form.get("digest", ""),
            yes=form.get("answer") == "yes",
            who=visitor.name,
            via="browser",
            comment=" ".join(form.get("comment", "").split())[:_COMMENT],
        )

    def cancel(self, request: Request, visitor: Visitor, _form: dict[str, str]) -> Answered:
        """Ask a run to stop."""
        run_id = request.path_params["run_id"]
        return answering.cancel(self._context, run_id=run_id, who=visitor.name, via="browser")

    def go_on(self, request: Request, visitor: Visitor, _form: dict[str, str]) -> Answered:
        """Have a run taken up."""
        run_id = request.path_params["run_id"]
        return answering.go_on(self._context, run_id=run_id, who=visitor.name, via="browser")
