"""The names of events: what each source sends, what is over, what may be our own doing."""

from __future__ import annotations

from collections.abc import Mapping

#: Trouble that is over: only a rule that names such an event holds for it.
OVER = frozenset({"resolved", "incident.resolved"})

#: What our own notes, acknowledgements and the like come back as.
OURS = frozenset(
    {
        "incident.acknowledged",
        "incident.annotated",
        "incident.custom_field_values.updated",
        "incident.resolved",
        "incident.status_update_published",
    }
)

#: PagerDuty's V3 events, as its documentation lists them; more may come.
_V3 = frozenset(
    {
        "incident.triggered",
        "incident.acknowledged",
        "incident.unacknowledged",
        "incident.resolved",
        "incident.reopened",
        "incident.escalated",
        "incident.delegated",
        "incident.reassigned",
        "incident.annotated",
        "incident.priority_updated",
        "incident.service_updated",
        "incident.incident_type.changed",
        "incident.custom_field_values.updated",
        "incident.conference_bridge.updated",
        "incident.responder.added",
        "incident.responder.replied",
        "incident.role.assigned",
        "incident.status_update_published",
        "incident.task.created",
        "incident.task.updated",
        "incident.task.completed",
        "incident.action_invocation.created",
        "incident.action_invocation.updated",
        "incident.action_invocation.terminated",
        "incident.workflow.started",
        "incident.workflow.completed",
        "service.created",
        "service.updated",
        "service.deleted",
        "service.custom_field_values.updated",
    }
)

#: Source -> the events that it is known to send. A Slack command has any name.
KNOWN: Mapping[str, frozenset[str]] = {
    "pagerduty": _V3,
    "pagerduty-action": frozenset({"incident.custom"}),
    "pagerduty-workflow": frozenset({"workflow", "orchestration"}),
    "alertmanager": frozenset({"firing", "resolved"}),
}
