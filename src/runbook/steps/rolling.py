"""`rolling`: restart a service host by host, with proof and health gates between."""

from __future__ import annotations

from runbook.model.step import StepType
from runbook.steps.rolling_admit import admit
from runbook.steps.rolling_args import RollingArgs, freeze, targets
from runbook.steps.rolling_host import restart
from runbook.steps.rolling_preflight import preflight

ROLLING = StepType(
    verb="rolling",
    summary="restart a service in batches: canary first, each host proved, gates between",
    args=RollingArgs,
    phases={"preflight": preflight, "admit": admit, "restart": restart},
    changes=lambda _args: True,
    targets=targets,
    after_crash="probe",
    flow="rolling",
    lock=lambda args: f"service {args.service}",
    freeze=freeze,
    # For one host: stop and start timeouts of a slow unit, its settle window and both gates.
    default_timeout_s=1800.0,
)
