"""`runbook diagnose TARGET`: why is this database saturated, and whose connections are those?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runbook.cli import options, telling

if TYPE_CHECKING:
    from runbook.cli.telling import Telling
    from runbook.model.diagnosis import Diagnosis
    from runbook.model.errors import RunbookError
    from runbook.model.fleet import Fleet
    from runbook.model.leaks import LeakPolicy
    from runbook.model.plan import Result
    from runbook.model.ports import Judge

#: How often a watch looks, in seconds: at most, least, and unless told. A look costs the server
#: some milliseconds.
_INTERVALS_S = (0.5, 3600.0)
_INTERVAL = "2s"


@click.command("diagnose")
@click.argument("target", required=False)
@options.inventory
@options.output("text", "json", "markdown")
@click.option("--no-hosts", is_flag=True, help="Look at nothing over SSH but to get in.")
@click.option(
    "--idle-in-transaction",
    metavar="DURATION",
    help="Silent in a transaction for this long counts as leaked.  [default: 5m]",
)
@click.option("--save", metavar="FILE", help="Keep what was seen, to share or to replay; - stdout.")
@click.option("--force", is_flag=True, help="--save: replace a file that is no capture.")
@click.option("--replay", metavar="FILE", help="Judge what was saved again; nothing is asked.")
@click.option("--watch", is_flag=True, help="Look again and again, until Ctrl-C.")
@click.option("--interval", metavar="DURATION", help="--watch: how often.  [default: 2s]")
@click.option("--check", is_flag=True, help="Answer as a monitoring plugin: one line, exit 0 to 3.")
@click.option("--warning", default=80, show_default=True, help="--check: warn at this % of slots.")
@click.option("--critical", default=90, show_default=True, help="--check: critical at this %.")
@click.option("--alert", is_flag=True, help="--check: tell PagerDuty by itself, when it changes.")
@click.option(
    "--alert-on",
    type=click.Choice(["critical", "warning"]),
    default="critical",
    show_default=True,
    help="--alert: from where on it is triggered.",
)
@options.incident
@telling.options
@click.pass_context
def command(
    context: click.Context,
    target: str | None,
    inventory: str | None,
    output_format: str,
    no_hosts: bool,
    idle_in_transaction: str | None,
    save: str | None,
    force: bool,
    replay: str | None,
    watch: bool,
    interval: str | None,
    check: bool,
    warning: int,
    critical: int,
    alert: bool,
    alert_on: str,
    incident: str | None,
    pd_incident: str | None,
    config: str | None,
) -> int:
    """Say why the database TARGET is out of connections: the cause, the owners, the evidence.

    It opens one connection for a moment, and changes nothing.
    """
    from runbook.model.errors import RunbookError
    from runbook.rendering.monitoring import check as plugin
    from runbook.rendering.monitoring import from_error

    if not 0 < warning <= critical <= 100:
        raise click.BadParameter("0 < --warning <= --critical <= 100", param_hint="--warning")
    _fitting(context)
    policy = _policy(idle_in_transaction)
    if watch:
        from runbook.cli.diagnose_watch import watch as go_on

        return go_on(str(target), inventory, _interval(interval), policy)
    keeper = _Keeper(save, force=force)
    diagnosis: Diagnosis | None = None
    with telling.telling(pd_incident, None if alert else config) as told:
        try:
            if replay is not None:
                diagnosis = _replayed(replay, target, policy)
            else:
                diagnosis = diagnose(
                    keeper.fleet(inventory),
                    str(target),
                    incident or pd_incident,
                    journal=not check,
                    hosts=not (no_hosts or check),
                    idle_in_transaction=idle_in_transaction,
                    judge=keeper.judge,
                    told=told,
                )
        except RunbookError as error:
            if not check:
                raise
            line, code = from_error(target or str(replay), error)
        else:
            if not check:
                return _shown(diagnosis, keeper, output_format, err=save == "-")
            line, code = plugin(diagnosis, warning=warning, critical=critical)
    if alert:
        from runbook.cli.diagnose_alert import told as alerted

        line = alerted(
            line,
            code,
            target=str(target),
            fleet=keeper.read,
            diagnosis=diagnosis,
            config=config,
            warnings=alert_on == "warning",
        )
    click.echo(line)
    return code


def _shown(diagnosis: Diagnosis, keeper: _Keeper, output_format: str, *, err: bool) -> int:
    try:
        show(diagnosis, output_format, err=err)
    finally:
        # A disk that is full must not cost the answer, nor a reader that has gone the capture.
        keeper.keep()
    return 0


#: What does not go together: with the first, none of the others.
_ALONE = {
    "replay": ("inventory", "no_hosts", "save", "watch", "incident", "pd_incident", "alert"),
    "watch": ("check", "save", "output_format", "incident", "pd_incident"),
    "save": ("check",),
    "check": ("pd_incident",),
}
#: What needs another: the second, without which the first says nothing.
_NEEDS = {"force": "save", "interval": "watch", "alert": "check", "alert_on": "alert"}


def _fitting(context: click.Context) -> None:
    """See to it that the options given fit each other.

    Raises:
        click.UsageError: when two of them do not.
    """
    given = {
        name: option
        for name, option in ((str(p.name), p.opts[-1]) for p in context.command.params)
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    for name, others in _ALONE.items():
        for other in others:
            if name in given and other in given:
                raise click.UsageError(f"{given[other]} does not go with {given[name]}")
    for name, needed in _NEEDS.items():
        if name in given and needed not in given:
            raise click.UsageError(f"{given[name]} goes with --{needed}")
    if "target" not in given and "replay" not in given:
        raise click.UsageError("Missing argument 'TARGET': the inventory's name of the database")


def _policy(idle_in_transaction: str | None) -> LeakPolicy:
    from runbook.model.leaks import LeakPolicy

    if idle_in_transaction is None:
        return LeakPolicy()
    return LeakPolicy(
        idle_in_transaction_s=_seconds(idle_in_transaction, "--idle-in-transaction"),
    )


def _interval(text: str | None) -> float:
    seconds = _seconds(text or _INTERVAL, "--interval")
    least, most = _INTERVALS_S
    if not least <= seconds <= most:
        raise click.BadParameter(f"{text}: at least 500ms, at most 1h", param_hint="--interval")
    return seconds


def _seconds(text: str, option: str) -> float:
    from runbook.model.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None


class _Keeper:
    """Keeps what a look saw, where `--save` says so."""

    def __init__(self, name: str | None, *, force: bool) -> None:
        """See to it that it can be kept, before anything is asked.

        Raises:
            UsageError, DoorError: when it cannot.
        """
        from runbook import wiring_looks
        from runbook.doors import KeepingJudge

        self._name = name
        self.read: Fleet | None = None
        self.judge = KeepingJudge()
        if name is not None:
            wiring_looks.check_capture(name, force=force)

    def fleet(self, inventory: str | None) -> Fleet:
        """Return the inventory, of which an excerpt is kept."""
        from runbook import wiring

        self.read = wiring.load_fleet(inventory)
        return self.read

    def keep(self) -> None:
        """Write the capture.

        Raises:
            DoorError: when it cannot be written.
        """
        from runbook import wiring_looks

        if self._name is None or self.read is None or self.judge.seen is None:
            return
        wiring_looks.save_capture(self._name, self.judge.seen, self.read)
        if self._name != "-":
            click.echo(f"saved to {self._name}", err=True)


def _replayed(name: str, target: str | None, policy: LeakPolicy) -> Diagnosis:
    from runbook import wiring_looks
    from runbook.model.errors import UsageError

    diagnosis = wiring_looks.judge_capture(name, policy)
    if target not in {None, diagnosis.target}:
        raise UsageError(
            f"{name} was seen at {diagnosis.target!r}, not at {target!r}",
            hint=f"runbook diagnose --replay {name}",
        )
    source = "stdin" if name == "-" else name
    return diagnosis.model_copy(update={"replayed_from": source})


def diagnose(
    fleet: Fleet,
    target: str,
    incident: str | None,
    *,
    journal: bool = True,
    hosts: bool = True,
    idle_in_transaction: str | None = None,
    judge: Judge | None = None,
    told: Telling | None = None,
) -> Diagnosis:
    """Run the shipped playbook and return its diagnosis, compared with the last one in the journal.

    Raises:
        RunbookError: when no door of the database opens, or the target is none.
    """
    from runbook.cli.running import Request, run_playbook
    from runbook.model.diagnosis import Diagnosis

    params: dict[str, object] = {} if hosts else {"hosts": False}
    if idle_in_transaction is not None:
        params["idle_in_transaction"] = idle_in_transaction
    request = Request(
        playbook="diagnose-saturation",
        target=target,
        params=params,
        incident=incident,
        quiet=True,
        journal=journal,
        judge=judge,
        told=told,
    )
    outcome = run_playbook(request, fleet)
    result = outcome.steps[0].result
    if result is None or not result.good:
        raise _failure(result, outcome.finish.reason)
    diagnosis = Diagnosis.model_validate(result.data["diagnosis"])
    return _compared(diagnosis, fleet, outcome.run_id) if journal else diagnosis


def _compared(diagnosis: Diagnosis, fleet: Fleet, run_id: str) -> Diagnosis:
    """Return a diagnosis with what changed since the last one of this server, if there is one."""
    from runbook import wiring_looks
    from runbook.findings.comparison import compare

    earlier = wiring_looks.earlier_diagnosis(fleet, diagnosis.target, run_id)
    if earlier is None:
        return diagnosis
    since = compare(earlier[1], diagnosis, earlier[0])
    return diagnosis.model_copy(update={"since": since})


def _failure(result: Result | None, reason: str) -> RunbookError:
    """Return what went wrong as an error; a monitoring check tells a full server from others."""
    from runbook.model.errors import SlotRefused, StepFailed

    if result is None:
        return StepFailed("the diagnosis did not come to its end", hint=reason)
    kind = SlotRefused if result.data.get("error") == SlotRefused.__name__ else StepFailed
    return kind(result.summary, hint=result.hint or None)


def show(diagnosis: Diagnosis, output_format: str, *, err: bool = False) -> None:
    """Write a diagnosis to stdout; to stderr, where stdout has a capture."""
    if output_format == "json":
        click.echo(diagnosis.model_dump_json(indent=2), err=err)
    elif output_format == "markdown":
        from runbook.rendering.diagnosis_markdown import render as markdown

        click.echo(markdown(diagnosis), err=err)
    else:
        from runbook.rendering.consoles import notes, results
        from runbook.rendering.diagnosis_text import render as text

        text(diagnosis, notes() if err else results())
