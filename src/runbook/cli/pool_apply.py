"""`runbook pool apply TARGET`: new pool sizes on the hosts, proved, and taken back."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from runbook.cli import options

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runbook.cli.running import Request
    from runbook.engine.executor import RunOutcome
    from runbook.model.fleet import Fleet
    from runbook.model.pool_plan import PoolPlan, ServicePlan
    from runbook.model.ports import KeptRun

_APPLY, _UNDO = "tune-pools", "restore-pools"
#: Parameters of both playbooks that `-p` may give.
_PARAMETERS = ("batches", "min_available", "settle")
_NAMES = ("size", "overflow", "processes")


@click.command("apply")
@click.argument("target")
@click.option(
    "--set",
    "given",
    metavar="SERVICE.NAME=N",
    multiple=True,
    help="This instead of what is proposed, as in shop.size=4; may be given several times.",
)
@click.option("--service", metavar="NAME", help="Of what is proposed, only this service.")
@click.option("--reserve", metavar="AMOUNT", help="Usable slots to keep free: 20% or a count.")
@click.option(
    "--window", metavar="DURATION", default="3s", show_default=True, help="How long to look before."
)
@click.option(
    "--watch", metavar="DURATION", default="30s", show_default=True, help="How long to prove it."
)
@click.option("--undo", metavar="RUN", help="Put back what that run has put on the hosts.")
@options.inventory
@options.parameters
@options.dry_run
@options.yes
@options.incident
@options.steal_lock
@options.output("text", "json")
def command(
    target: str,
    given: tuple[str, ...],
    service: str | None,
    reserve: str | None,
    window: str,
    watch: str,
    undo: str | None,
    inventory: str | None,
    params: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    incident: str | None,
    steal_lock: bool,
    output_format: str,
) -> int:
    """Give the pools of the database TARGET the sizes that `pool plan` proposes, and prove it.

    Each size is put where the inventory says that it lives (services.NAME.settings), then the
    service is restarted in batches behind its gates. Services that shrink come first.
    """
    from runbook import wiring
    from runbook.cli.running import Request

    if undo is not None and (given or service or reserve):
        raise click.UsageError("--undo RUN puts back what that run changed: it takes nothing else")
    if given and service:
        raise click.UsageError("--set names the services: leave --service out")
    fleet = wiring.load_fleet(inventory)
    more = _rolling(params)
    request = Request(
        playbook=_APPLY,
        target=target,
        params=more,
        rehearsal=dry_run,
        yes=yes,
        incident=incident,
        steal_lock=steal_lock,
    )
    if undo is not None:
        undoing = {**more, **_undoing(undo, target)}
        return _run(replace(request, playbook=_UNDO, params=undoing), fleet, output_format)
    asked = _Wanted(given=given, service=service, reserve=reserve, window=window)
    tuning = _Tuning.of(fleet, target, asked)
    tuning.tell()
    _check_room(tuning.words, more, fleet)
    _check_apart(tuning.words, target, fleet)
    if not tuning.words:
        return 0
    wanted = {**more, "sizes": list(tuning.words), "watch": watch}
    code = _run(replace(request, params=wanted), fleet, output_format)
    if code == 0 and not dry_run:
        tuning.tell_of_inventory()
    return code


def _rolling(params: tuple[str, ...]) -> dict[str, str]:
    parsed = options.parse_parameters(params)
    for name in parsed:
        if name not in _PARAMETERS:
            raise click.BadParameter(
                f"{name!r}: there are {', '.join(_PARAMETERS)}", param_hint="-p"
            )
    _read(parsed)
    return parsed


def _run(request: Request, fleet: Fleet, output_format: str) -> int:
    from runbook.cli.running import exit_code, run_playbook
    from runbook.rendering.summary import present

    outcome = run_playbook(request, fleet)
    present(outcome, output_format)
    if request.playbook == _APPLY and _acted(outcome):
        from runbook.rendering.consoles import notes

        undo = shlex.join(
            ["runbook", "pool", "apply", str(request.target), "--undo", outcome.run_id]
        )
        notes().print(f"To take it back: `{undo}`", soft_wrap=True)
    return exit_code(outcome)


def _acted(outcome: RunOutcome) -> bool:
    """Whether anything may have been put on a host."""
    return not outcome.plan.rehearsal and any("/restart/" in key for key in outcome.results)


# ---- what shall be -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """What the user asked for."""

    given: tuple[str, ...]
    service: str | None
    reserve: str | None
    window: str


@dataclass(frozen=True, kw_only=True)
class _Tuning:
    """The budget as it is, as it will be, and the new sizes in the order to be done."""

    fleet: Fleet
    before: PoolPlan
    after: PoolPlan
    words: tuple[str, ...]
    #: Proposed, and not to be done from here: why.
    left: tuple[str, ...]

    @classmethod
    def of(cls, fleet: Fleet, target: str, wanted: _Wanted) -> _Tuning:
        """Look at the database, and decide on sizes.

        Raises:
            RunbookError: when it cannot be looked at; Refused, when the sizes would not fit.
        """
        from runbook.cli.pool_plan import Asked, Planner
        from runbook.model.pool_what_if import check_fit, parse

        _check_wanted(fleet, target, wanted)
        planner = Planner(
            Asked.of(target, reserve=wanted.reserve, window=wanted.window), fleet, [target], ()
        )
        before = planner.plan(target)
        words, left = (
            (_given(wanted.given), ()) if wanted.given else _proposed(before, wanted.service, fleet)
        )
        supposed = parse(words, fleet.inventory.services)
        check_fit(supposed, fleet, fleet.same_server(target))
        # What is not written stays on a host as it is there, also where it differs.
        after = planner.suppose(target, supposed, alike=False) if words else before
        words = _in_order(words, before, after)
        _refuse_too_much(before, after)
        return cls(fleet=fleet, before=before, after=after, words=words, left=left)

    def tell(self) -> None:
        """Show the sums before and after, on stderr: what is asked next is about them."""
        from runbook.rendering.consoles import notes
        from runbook.rendering.pool_tuning import show_tuning

        show_tuning(self.before, self.after, self.words, self.left, notes())

    def tell_of_inventory(self) -> None:
        """The inventory declares what was: say which line, as the next plan begins with it."""
        from runbook import wiring
        from runbook.rendering.consoles import notes

        lines = list(_stale(self.words, self.fleet))
        if not lines:
            return
        notes().print("\nThe inventory still declares the old sizes; change", style="bold")
        for service, name, old, new in lines:
            path = ("services", service, "pool", name)
            where = wiring.place_in_inventory(self.fleet, path)
            said = f"  {where}: {'.'.join(path)}: {old} -> {new}"
            notes().print(said, soft_wrap=True)


def _check_wanted(fleet: Fleet, target: str, wanted: _Wanted) -> None:
    from runbook.model.errors import UsageError
    from runbook.model.pool_sizes import parse_sizes

    fleet.database(target)
    if wanted.service is not None:
        uses = fleet.service(wanted.service).database
        if uses is None or uses not in fleet.same_server(target):
            raise UsageError(f"service {wanted.service!r} uses database {uses!r}, not {target!r}")
    if not wanted.given:
        return
    try:
        pools = parse_sizes(_given(wanted.given))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--set") from None
    for pool in pools:
        settings = fleet.service(pool["service"]).settings
        for name in _NAMES:
            if pool[name] is not None and getattr(settings, name) is None:
                raise _lives_nowhere(pool["service"], name)


def _lives_nowhere(service: str, name: str) -> Exception:
    from runbook.model.errors import UsageError

    return UsageError(
        f"services.{service}.settings has no {name}: where its hosts keep it is not declared, and"
        " it is not guessed",
        hint=f"declare it, as in services.{service}.settings.{name}:"
        f" {{env_file: /etc/{service}.env, key: POOL_{name.upper()}}}; or change it by hand, then"
        f" runbook remediate --rolling-restart --service {service}",
    )


def _given(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(part.strip() for word in words for part in word.split(","))


def _proposed(
    plan: PoolPlan, only: str | None, fleet: Fleet
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the sizes that the plan proposes, and why some are not done from here.

    Raises:
        Refused: when nothing fits.
    """
    from runbook.model.errors import Refused

    if not plan.proposal.fits:
        ways = "; ".join(plan.proposal.ways)
        raise Refused(
            f"{plan.target}: nothing fits: the smallest pools take {plan.proposal.together}, and"
            f" {plan.slots.target} are to be had",
            hint=ways or None,
        )
    words: list[str] = []
    left: list[str] = []
    for service in plan.services:
        if service.changed and only in {None, service.name}:
            missing = [n for n, _ in _new(service) if not _lives(fleet, service.name, n)]
            if missing:
                left.append(
                    f"{service.name}: services.{service.name}.settings has no {missing[0]}: change"
                    " it by hand"
                )
            else:
                words += [f"{service.name}.{name}={value}" for name, value in _new(service)]
    return tuple(words), tuple(left)


def _lives(fleet: Fleet, service: str, name: str) -> bool:
    return getattr(fleet.service(service).settings, name) is not None


def _new(service: ServicePlan) -> Iterator[tuple[str, int]]:
    """Yield what is proposed of a service and runs otherwise on some host."""
    for name in ("size", "overflow"):
        value = getattr(service.proposed, name)
        if any(getattr(one, name) != value for one in service.sums):
            yield name, value


def _in_order(words: Sequence[str], before: PoolPlan, after: PoolPlan) -> tuple[str, ...]:
    """Services that shrink come first: no moment takes more than the larger of the two sums."""
    then = {service.name: service.counted for service in after.services}
    grows = {service.name: then[service.name] - service.counted for service in before.services}
    return tuple(sorted(words, key=lambda word: grows.get(word.rpartition(".")[0], 0)))


def _refuse_too_much(before: PoolPlan, after: PoolPlan) -> None:
    """Refuse to grow beyond what is usable; what shrinks helps, though it may not be enough."""
    from runbook.model.errors import Refused

    usable = after.slots.usable
    if after.together > usable and after.together > before.together:
        raise Refused(
            f"{after.target}: with these sizes {after.together} connections may be opened, and"
            f" {usable} are usable: {after.together - usable} too many",
            hint=f"`runbook pool plan {after.target}` proposes sizes that fit",
        )


def _check_room(words: Sequence[str], params: Mapping[str, str], fleet: Fleet) -> None:
    """See to it that no service's batches are larger than may be down at once.

    Its own rolling restart would refuse that only when its turn comes, with others done.

    Raises:
        Refused: when one's are.
    """
    from runbook.model.errors import Refused
    from runbook.model.units import amount_ceil
    from runbook.steps.rolling_args import RollingArgs, batch_sizes, settings

    given = {key: value for key, value in _read(params).items() if key != "settle"}
    for name in dict.fromkeys(word.rpartition("=")[0].rpartition(".")[0] for word in words):
        chosen = settings(
            RollingArgs.model_validate({"service": name, **given}), fleet.service(name)
        )
        total = len(fleet.service_hosts(name))
        floor, most = (
            amount_ceil(chosen.min_available, total),
            max(batch_sizes(chosen.batches, total)),
        )
        if total - most < floor:
            raise Refused(
                f"{name}: a batch of {most} of {total} hosts can never leave {floor} healthy",
                hint="use smaller batches (-p batches=1) or a lower min_available (-p"
                " min_available=0 lets a service go down meanwhile)",
            )


def _check_apart(words: Sequence[str], target: str, fleet: Fleet) -> None:
    """See to it that no two services' new sizes go into one file.

    The first would change it under the second, which would stop there, with the first done.

    Raises:
        Refused: when two services' do.
    """
    from runbook.model.errors import Refused
    from runbook.model.pool_sizes import parse_sizes
    from runbook.steps.rolling_args import RollingArgs, shared_file

    pools = parse_sizes(words) if words else []
    shared = shared_file(
        [
            RollingArgs.model_validate(
                {"service": pool["service"], "put": {name: pool[name] for name in _NAMES}}
            )
            for pool in pools
        ],
        fleet,
    )
    if shared is not None:
        raise Refused(
            f"{shared}: no run can change both",
            hint=f"do one at a time: runbook pool apply {target} --service {pools[0]['service']}"
            " (or --set of that one alone), then the next",
        )


def _read(params: Mapping[str, str]) -> dict[str, Any]:
    """Return what `-p` gave, as the playbook's own parameters are read.

    Raises:
        UsageError: for what is no value of them.
    """
    from runbook.model.parameters import parse
    from runbook.wiring import load_playbook

    declared = load_playbook(_APPLY).frame.parameters
    return {name: parse(name, declared[name], value) for name, value in params.items()}


def _stale(words: Sequence[str], fleet: Fleet) -> Iterator[tuple[str, str, int, int]]:
    """Yield what the inventory declares otherwise: service, name, declared, new."""
    for word in words:
        key, _, number = word.partition("=")
        service, _, name = key.rpartition(".")
        pool = fleet.service(service).pool
        if pool is not None and getattr(pool, name) != int(number):
            yield service, name, getattr(pool, name), int(number)


# ---- undo ----------------------------------------------------------------------------------


def _undoing(given: str, target: str) -> dict[str, Any]:
    """Return the parameters that take a run's changes back.

    Raises:
        UsageError: for a run that put no sizes anywhere, or another database's.
    """
    from runbook import wiring
    from runbook.cli.runs_find import damage_told, find_run

    journal = wiring.open_journal()
    try:
        kept = find_run(journal, given)
        with damage_told(journal, kept):
            return _of_run(kept, target)
    finally:
        journal.close()


def _of_run(kept: KeptRun, target: str) -> dict[str, Any]:
    from runbook.engine.history import history_of
    from runbook.model.errors import UsageError

    record = kept.record
    if record.playbook != _APPLY or record.rehearsal:
        what = "a rehearsal" if record.rehearsal else f"a run of {record.playbook}"
        raise UsageError(
            f"run {record.run_id} is {what}: there is nothing of it to take back here",
            hint=f"`runbook runs list` shows the runs of {_APPLY}",
        )
    if record.target != target:
        raise UsageError(
            f"run {record.run_id} was on {record.target}, not on {target}",
            hint=f"runbook pool apply {record.target} --undo {record.run_id}",
        )
    history = history_of(kept)
    begun = {task.node for task in history.tasks if task.phase == "restart"}
    pools = history.params["sizes"]
    services = [p["service"] for p in pools if f"new-sizes[{_slug(p)}]" in begun]
    if not services:
        raise UsageError(f"run {record.run_id} came to no host: there is nothing to put back")
    # What grew last shrinks first.
    return {"run": record.run_id, "services": services[::-1]}


def _slug(pool: dict[str, Any]) -> str:
    from runbook.engine.names import item_slug

    return item_slug(pool)
