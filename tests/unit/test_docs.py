"""The documentation holds: its examples are valid, its commands exist, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
import pytest
from pydantic import BaseModel

from runbook.adapters.yaml_reader import read_document
from runbook.cli.main import cli
from runbook.engine.lint import LINTS
from runbook.model import inventory as inventory_model
from runbook.model.inventory import Inventory
from runbook.model.playbook import (
    IncludeSpec,
    Needs,
    Parameter,
    PlaybookFrame,
    RetrySpec,
    StepFrame,
    TargetSpec,
)
from runbook.model.playbook_test import PlaybookTest
from runbook.model.serve_config import ServeConfig
from runbook.model.validation import validate
from runbook.steps import STEPS
from runbook.wiring import load_fleet, load_playbook
from runbook.wiring_serve import check_serve_config, load_serve_config, serve_inventory

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]\[]*\]\(([^)\s]+)\)")
_SPAN = re.compile(r"`(runbook [^`]+)`")
#: `runbook` as a command: at the beginning of a line or a word, with or without a path before it.
_CALL = re.compile(r"(?:^|[\s/(`])(runbook (?=[a-z-])[^`]*)")
_ROW = re.compile(r"^\| `([a-z_]+)` \|", re.MULTILINE)
#: What stands for something that is left to the reader.
_LEFT_OUT = "…"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield Block(page.name, line, match[2], match[3])


BLOCKS = [block for page in PAGES for block in _blocks(page)]
#: A yaml block that begins with `version: 1` is a whole file; any other is a piece of one.
COMPLETE = [b for b in BLOCKS if b.language == "yaml" and b.text.startswith("version: 1\n")]
LINKS = [(page, link) for page in PAGES for link in _LINK.findall(page.read_text("utf-8"))]


# ---- examples ------------------------------------------------------------------------------


def test_there_are_examples_of_both_kinds() -> None:
    playbooks = sum("\nsteps:" in block.text for block in COMPLETE)
    assert 0 < playbooks < len(COMPLETE)


@pytest.mark.parametrize("block", COMPLETE, ids=str)
def test_a_complete_example_is_valid(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "example.yaml"
    file.write_text(block.text, encoding="utf-8")
    if "\nsteps:" in block.text:
        load_playbook(str(file))
    elif "\ncases:" in block.text:
        validate(PlaybookTest, read_document(file, kind="playbook"))
    elif "\nhooks:" in block.text:
        config, source = load_serve_config(str(file))
        fleet = load_fleet(str(ROOT / "inventory.example.yaml"))
        assert check_serve_config(config, source, fleet) == ()
    else:
        load_fleet(str(file))


PIECES = [b for b in BLOCKS if b.page.startswith("alerts") and b.language == "yaml"]


@pytest.mark.parametrize("block", [b for b in PIECES if "hooks:" in b.text], ids=str)
def test_a_piece_of_a_serve_configuration_is_valid(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(f"version: 1\n{block.text.removeprefix('version: 1')}", encoding="utf-8")
    load_serve_config(str(file))


def test_the_example_inventory_is_valid() -> None:
    load_fleet(str(ROOT / "inventory.example.yaml"))


def test_the_example_of_serve_is_valid_and_nothing_in_it_is_doubtful() -> None:
    config, source = load_serve_config(str(ROOT / "serve.example.yaml"))
    fleet = load_fleet(serve_inventory(config, source, None))
    assert check_serve_config(config, source, fleet) == ()


def test_the_example_of_serve_has_every_key() -> None:
    text = (ROOT / "serve.example.yaml").read_text(encoding="utf-8")
    models = _reachable(ServeConfig) - {inventory_model.Secret}
    keys = {field.alias or key for m in models for key, field in m.model_fields.items()}
    assert {key for key in keys if not re.search(rf"\b{key}:", text)} == set()


# ---- command lines -------------------------------------------------------------------------


def _command_lines() -> Iterator[tuple[str, str]]:
    for block in BLOCKS:
        if block.language not in {"", "console"}:
            continue
        for number, line in enumerate(block.text.splitlines(), start=block.line + 1):
            for match in _CALL.finditer(line):
                yield f"{block.page}:{number}", match[1]
    for page in PAGES:
        prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
        for match in _SPAN.finditer(prose):
            yield page.name, match[1]


def _words(line: str) -> list[str]:
    """Return the words of one command line, up to a comment, a pipe, or the end of a `$(…)`."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&()<>")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words: list[str] = []
    for word in lexer:
        if set(word) <= set("|;&()<>"):
            break
        words.append(word)
    return words[1:]


def _check(command: click.Command, words: list[str], context: click.Context) -> None:
    """Follow subcommands; then every option must be one that the command has."""
    if isinstance(command, click.Group):
        if not words or words[0].startswith("-"):
            _check_options(command, words, context)
            return
        for name in words[0].split("|"):
            inner = command.get_command(context, name)
            assert inner is not None, f"there is no command {name!r}"
            _check(inner, words[1:], click.Context(inner, info_name=name, parent=context))
        return
    _check_options(command, words, context)


def _check_options(command: click.Command, words: list[str], context: click.Context) -> None:
    options = {
        name: parameter
        for parameter in command.get_params(context)
        if isinstance(parameter, click.Option)
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    waiting: click.Option | None = None
    arguments = 0
    for word in words:
        if waiting is not None:
            choices = getattr(waiting.type, "choices", None)
            assert choices is None or set(word.split("|")) <= set(choices), f"{word!r}"
            waiting = None
        elif word.startswith("-"):
            assert word in options, f"{command.name} has no option {word}"
            waiting = None if options[word].is_flag else options[word]
        elif word != _LEFT_OUT:
            arguments += 1
    if waiting is not None:
        raise AssertionError(f"{words[-1]} wants a value")
    most = [p.nargs for p in command.get_params(context) if isinstance(p, click.Argument)]
    assert -1 in most or arguments <= sum(most), f"{command.name} takes no {words}"


COMMAND_LINES = sorted(set(_command_lines()))


def test_many_command_lines_are_found() -> None:
    assert len(COMMAND_LINES) > 50


@pytest.mark.parametrize(("where", "line"), COMMAND_LINES)
def test_a_command_line_exists(where: str, line: str) -> None:
    _check(cli, _words(line.replace("[--", "--").replace("]", "")), click.Context(cli))


@pytest.mark.parametrize(
    "line",
    [
        "runbook diagnos x",
        "runbook diagnose x --chek",
        "runbook diagnose x y",
        "runbook runs list --format markdown",
        "runbook diagnose x --format",
    ],
)
def test_a_wrong_command_line_would_be_noticed(line: str) -> None:
    with pytest.raises(AssertionError):
        _check(cli, _words(line), click.Context(cli))


# ---- links ---------------------------------------------------------------------------------


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize(
    ("page", "link"), LINKS, ids=[f"{page.name}->{link}" for page, link in LINKS]
)
def test_a_link_leads_somewhere(page: Path, link: str) -> None:
    if re.match(r"https?://|mailto:", link):
        return
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    assert target.exists()
    assert target.is_relative_to(ROOT)
    if anchor:
        assert anchor in _anchors(target)


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    linked = set(_LINK.findall(index.read_text(encoding="utf-8")))
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {index.name}
    assert pages <= linked


# ---- reference pages -----------------------------------------------------------------------


def _keys(model: type[BaseModel]) -> set[str]:
    return set(model.model_fields)


def _sections(page: str) -> dict[str, str]:
    """Return a page's text by heading, without the sections below it."""
    parts = re.split(r"^#+ (.+)$", (ROOT / "docs" / page).read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _models(kind: Any) -> Iterator[type[BaseModel]]:
    """Yield every model that an annotation holds."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for inner in get_args(kind):
        yield from _models(inner)


def _reachable(model: type[BaseModel]) -> set[type[BaseModel]]:
    found = {model}
    for field in model.model_fields.values():
        for inner in _models(field.annotation):
            found |= _reachable(inner)
    return found


#: The sections of inventory.md, and the models that each documents.
INVENTORY: dict[str, tuple[type[BaseModel], ...]] = {
    "Top": (Inventory,),
    "defaults": (inventory_model.Defaults,),
    "groups": (inventory_model.Group,),
    "hosts": (inventory_model.Host,),
    "ssh": (inventory_model.Ssh,),
    "databases": (inventory_model.Database,),
    "connect": (inventory_model.Connect,),
    "admin and rescue": (inventory_model.Credentials,),
    "local": (inventory_model.LocalSocket,),
    "protect": (inventory_model.Protect,),
    "budget": (inventory_model.DatabaseBudget,),
    "Secrets": (inventory_model.Secret,),
    "services": (inventory_model.Service,),
    "pool": (inventory_model.Pool,),
    "settings": (inventory_model.ServiceSettings, inventory_model.Setting),
    "gates": (
        inventory_model.Gate,
        inventory_model.HttpGate,
        inventory_model.TcpGate,
        inventory_model.SystemdGate,
        inventory_model.CommandGate,
        inventory_model.SqlGate,
        inventory_model.ReleasedGate,
    ),
    "drain": (
        inventory_model.Drain,
        inventory_model.DrainHaproxy,
        inventory_model.DrainCommands,
    ),
    "rolling": (inventory_model.Rolling, inventory_model.GateTiming),
    "manager: services without systemd": (inventory_model.Manager, inventory_model.CommandManager),
    "pgbouncers": (
        inventory_model.PgBouncer,
        inventory_model.BouncerPool,
        inventory_model.BouncerTls,
    ),
}
PLAYBOOK: dict[str, type[BaseModel]] = {
    "Top": PlaybookFrame,
    "target": TargetSpec,
    "parameters": Parameter,
    "needs": Needs,
    "Steps": StepFrame,
    "retry": RetrySpec,
    "include": IncludeSpec,
}


def test_the_inventory_page_covers_every_model() -> None:
    documented = {model for models in INVENTORY.values() for model in models}
    assert documented == _reachable(Inventory)


@pytest.mark.parametrize("section", INVENTORY)
def test_the_inventory_page_names_every_key_and_no_other(section: str) -> None:
    named = _ROW.findall(_sections("inventory.md")[section])
    expected = [key for model in INVENTORY[section] for key in _keys(model)]
    assert sorted(named) == sorted(expected)


@pytest.mark.parametrize("section", PLAYBOOK)
def test_the_playbook_page_names_every_key_of_the_frame(section: str) -> None:
    named = set(_ROW.findall(_sections("playbooks.md")[section].split("| Type | Written |")[0]))
    assert named == _keys(PLAYBOOK[section])


def test_the_playbook_page_names_every_check_of_strict_with_its_reason() -> None:
    section = _sections("playbooks.md")["What you would regret"]
    assert re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE) == [c.code for c in LINTS]
    for check in LINTS:
        assert f"| {check.why} | {check.mend} |" in section


def test_the_playbook_page_names_every_verb() -> None:
    verbs = re.split(
        r"^## ", (ROOT / "docs" / "playbooks.md").read_text("utf-8"), flags=re.MULTILINE
    )
    section = next(part for part in verbs if part.startswith("Verbs\n"))
    assert set(re.findall(r"^### (\w+)$", section, re.MULTILINE)) == set(STEPS)


@pytest.mark.parametrize("verb", STEPS)
def test_the_playbook_page_names_every_argument_and_no_other(verb: str) -> None:
    named = _ROW.findall(_sections("playbooks.md")[verb])
    assert sorted(named) == sorted(_keys(STEPS[verb].args))


@pytest.mark.parametrize("type_", get_args(Parameter.model_fields["type"].annotation))
def test_the_playbook_page_names_every_parameter_type(type_: str) -> None:
    table = _sections("playbooks.md")["parameters"].split("| Type | Written |")[1]
    assert type_ in _ROW.findall(table)
