"""The `runbook` command: a table of commands, each loaded when it is called, and error output."""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module

import click

from runbook import __version__

#: Command -> the one line that `runbook --help` shows. The module of the same name in `cli/` has
#: the command; it is imported when it is called, so that --help loads nothing but click.
COMMANDS = {
    "diagnose": "Why is this database saturated, and whose connections are those?",
    "remediate": "Rehearse and do the smallest safe thing about it.",
    "run": "Run a playbook, shipped or your own.",
    "playbooks": "List, show, validate playbooks; print their JSON Schema.",
    "doctor": "On a quiet day: would every door open, and what mends it if not?",
    "pool": "The pool budget: declared, observed, usable; plan and apply new sizes.",
    "pgbouncer": "Look through PgBouncers; put one before a database, or take it away.",
    "inventory": "List, show, validate the inventory.",
    "runs": "List and show what was run on this machine.",
    "serve": "Alerts in, runs out: PagerDuty, Alertmanager, Slack; and a page to watch them.",
    "notify": "Tell PagerDuty, a chat or a webhook something; or what was not told yet.",
    "drill": "A throwaway saturated database to practise on.",
}


class _Table(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"runbook.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            ctx.fail(_unknown(name))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _unknown(name: str) -> str:
    from runbook.model.document import nearest

    near = nearest(name, list(COMMANDS))
    return f"there is no command {name!r}." + (f" Did you mean {near!r}?" if near else "")


@click.group(
    cls=_Table,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="At 2:17: runbook diagnose TARGET. To practise: runbook drill saturation --auto.",
)
@click.version_option(__version__, prog_name="runbook")
def cli() -> None:
    """Diagnose a saturated PostgreSQL, rehearse the smallest safe remedy, do it, prove it."""


def run(argv: list[str]) -> int:
    """Run the command line and return the exit code; every error is told, none as a traceback."""
    try:
        code = cli.main(args=argv, prog_name="runbook", standalone_mode=False)
    except click.ClickException as error:
        return _misused(error, argv)
    except click.Abort:
        click.echo("interrupted", err=True)
        return 130
    except SystemExit:
        # click leaves so when the reader of our output (head, less) has gone: it has what it wanted
        return _reader_gone(0)
    except Exception as error:  # noqa: BLE001 - ours are told; any other is raised again
        return _told(error)
    return _flushed(code if isinstance(code, int) else 0)


def _misused(error: click.ClickException, argv: list[str]) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message())
    else:
        error.show()
    # A monitoring system reads 2 as critical; a mistake in the check's own words is unknown.
    return 3 if argv[:1] == ["diagnose"] and "--check" in argv else error.exit_code


def _flushed(code: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _reader_gone(code)
    except OSError as error:
        return _unwritten(error)
    return code


def _unwritten(error: OSError) -> int:
    """Say that what was found could not be written; nothing else may try to write it again."""
    click.echo(f"error: the output could not be written: {error.strerror}", err=True)
    _reader_gone(0)
    return 1


def _reader_gone(code: int) -> int:
    """Python flushes stdout once more at exit; there must be something that takes it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _told(error: Exception) -> int:
    from runbook.model.errors import RunbookError

    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return _unwritten(error)
    if not isinstance(error, RunbookError):
        raise error
    from runbook.rendering.errors import show_error

    show_error(error)
    return error.exit_code
