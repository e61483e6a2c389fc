"""Options that several commands share, in one wording."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

inventory = click.option(
    "-i",
    "--inventory",
    metavar="FILE",
    help="The inventory; else RUNBOOK_INVENTORY, ./, ~/.config/runbook/, /etc/runbook/.",
)
dry_run = click.option(
    "--dry-run",
    is_flag=True,
    help="Look at everything live, show what would be done, change nothing.",
)
yes = click.option("--yes", is_flag=True, help="Do not ask; needed when there is no terminal.")


def _printable(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not value.isprintable():
        raise click.BadParameter("control characters have no place in an incident's id")
    return value


incident = click.option(
    "--incident",
    metavar="ID",
    callback=_printable,
    help="The incident that this is for; recorded.",
)
steal_lock = click.option(
    "--steal-lock",
    is_flag=True,
    help="Take over a target's lock from another run; that one stops before its next change.",
)
limit = click.option(
    "--limit",
    metavar="SELECTOR",
    help="Narrow every selection of hosts to these, as in web-01 or web & zone=a.",
)


def _tags(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, ...]:
    tags = tuple(tag.strip() for tag in (value or "").split(",") if tag.strip())
    if value is not None and not tags:
        raise click.BadParameter("name a tag, as in: drain,restart")
    return tags


tags = click.option(
    "--tags",
    metavar="TAG,TAG",
    callback=_tags,
    help="Run only the steps that have one of these tags.",
)
skip_tags = click.option(
    "--skip-tags",
    metavar="TAG,TAG",
    callback=_tags,
    help="Leave out the steps that have one of these tags.",
)
parameters = click.option(
    "-p",
    "--param",
    "params",
    metavar="NAME=VALUE",
    multiple=True,
    help="A parameter of the playbook; may be given several times.",
)


def output(*formats: str) -> Callable[[CommandT], CommandT]:
    """Return the --format option with these choices; the first is the default."""
    return click.option(
        "--format",
        "output_format",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="How the result is written to stdout.",
    )


def parse_parameters(params: tuple[str, ...]) -> dict[str, str]:
    """Return NAME=VALUE words as a mapping.

    Raises:
        click.BadParameter: for a word without `=` or a name given twice.
    """
    given: dict[str, str] = {}
    for word in params:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{word!r} is not NAME=VALUE", param_hint="-p")
        if not word.isascii() and any("\ud800" <= sign <= "\udfff" for sign in word):
            raise click.BadParameter(f"{word!a} is no UTF-8 text", param_hint="-p")
        if name in given:
            raise click.BadParameter(f"{name} is given twice", param_hint="-p")
        given[name] = value
    return given
