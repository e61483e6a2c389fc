"""`runbook drill`: a throwaway saturated database, to practise on before it is 2:17."""

from __future__ import annotations

from pathlib import Path

import click

_state = click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the drill lives; by default the user's state folder.",
)
_SCENARIOS = click.Choice(["saturation"])


@click.group("drill")
def command() -> None:
    """A real PostgreSQL with few slots, four app servers, and one of them leaks."""


@command.command("saturation")
@click.option(
    "--auto", is_flag=True, help="Play the whole incident in front of you, then judge it."
)
@_state
def saturation(auto: bool, state_dir: Path | None) -> int:
    """The database refuses: diagnose, relieve, restart, prove. Without --auto: like `start`."""
    if not auto:
        return _start(state_dir)
    from runbook.drill.errors import require_extra

    require_extra()
    from runbook.drill.auto import run_auto

    return run_auto(state_dir)


@command.command("start")
@click.argument("scenario", type=_SCENARIOS, default="saturation")
@_state
def start(scenario: str, state_dir: Path | None) -> int:  # noqa: ARG001 - there is one so far
    """Start a scenario and leave it running, with an inventory to practise on."""
    return _start(state_dir)


@command.command("stop")
@_state
def stop(state_dir: Path | None) -> None:
    """Stop the drill and remove everything that it made."""
    from runbook.drill.errors import require_extra

    require_extra()
    from runbook.drill import saturation

    removed = saturation.stop(state_dir)
    click.echo("The drill is stopped and removed." if removed else "There is no drill.")


@command.command("status")
@_state
def status(state_dir: Path | None) -> None:
    """Say what there is of a drill, without touching it."""
    from runbook.drill.errors import require_extra

    require_extra()
    from runbook.drill import saturation

    found = saturation.status(state_dir)
    if found.phase == "none":
        click.echo("There is no drill; `runbook drill start saturation` starts one.")
        return
    slots = (
        f"{found.used} of {found.usable} slots in use" if found.used is not None else "no answer"
    )
    click.echo(f"drill      {found.phase}, in {found.state_dir}")
    click.echo(f"database   port {found.db_port}: {slots}; the app's role: {found.app_role}")
    for server in found.servers:
        state = "ready" if server.ready else "running" if server.running else "down"
        click.echo(f"{server.name:<10} port {server.port}: {state}")
    click.echo(f"inventory  {found.inventory}")


def _start(state_dir: Path | None) -> int:
    from runbook.drill.errors import require_extra

    require_extra()
    from runbook.drill import saturation

    drill = saturation.start(state_dir, lambda text: click.echo(f"  {text}", err=True))
    click.echo(f"The database refuses the app: {drill.refusal}")
    click.echo("Practise on it, as at 2:17:\n")
    click.echo(f"  export RUNBOOK_INVENTORY={drill.inventory}")
    click.echo(f"  runbook diagnose {drill.target}")
    click.echo(f"  runbook remediate {drill.target} --dry-run")
    click.echo(f"  runbook remediate {drill.target} --rolling-restart --dry-run\n")
    where = f" --state-dir {state_dir}" if state_dir else ""
    click.echo(f"`runbook drill stop{where}` removes it.")
    return 0
