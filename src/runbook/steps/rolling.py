"""`rolling`: restart a service host by host, with proof and health gates between."""

from __future__ import annotations

from runbook.model.step import StepType
from runbook.steps.rolling_admit import admit
from runbook.steps.rolling_args import RollingArgs, bound, freeze, targets
from runbook.steps.rolling_host import restart
from runbook.steps.rolling_preflight import preflight
from runbook.steps.rolling_settle import settle

#: Every stage has a deadline of its own, so this only has to be longer than all of them together.
#: At the most that the shipped playbook allows, one host takes 30m to settle and five deadlines of
#: 1h (a lost answer, the new process, a last look, two gates), beside its unit's own timeouts and
#: the drain's deadline, twice.
_DEFAULT_TIMEOUT_S = 24 * 3600.0

ROLLING = StepType(
    verb="rolling",
    summary="restart a service in batches: canary first, each host proved, gates between",
    args=RollingArgs,
    phases={"preflight": preflight, "admit": admit, "restart": restart, "settle": settle},
    changes=lambda _args: True,
    targets=targets,
    after_crash="probe",
    undo="rolling with restore: RUN_ID, for settings; a restart has no inverse",
    flow="rolling",
    lock=lambda args: f"service {args.service}",
    freeze=freeze,
    bound=bound,
    default_timeout_s=_DEFAULT_TIMEOUT_S,
    target_kind="host",
)
