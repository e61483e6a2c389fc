"""A group of commands, each loaded from a module of its own when it is called."""

from __future__ import annotations

from importlib import import_module

import click


class LazyGroup(click.Group):
    """Shows its table of commands without importing them."""

    def __init__(self, *, commands_table: dict[str, tuple[str, str]], **more: object) -> None:
        super().__init__(**more)  # type: ignore[arg-type]
        #: Command -> its module, and the line that --help shows.
        self.table = commands_table

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self.table:
            return None
        command: click.Command = import_module(self.table[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.table.items()])
