"""The JSON Schemas say what the readers say: of every shipped file, and of a corpus of mistakes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from runbook.adapters.yaml_reader import parse_document, read_document
from runbook.engine.schema import inventory_schema, playbook_schema, serve_schema
from runbook.model.errors import InvalidDocument
from runbook.model.inventory import Inventory
from runbook.model.validation import validate
from runbook.steps import STEPS
from runbook.wiring import shipped_playbooks
from unit.engine.books import book, read
from unit.engine.language_schema import INVENTORY, PLAYBOOK, ROOT, SERVE, schemas
from unit.engine.test_language import HEADS, MISTAKES
from unit.test_docs import COMPLETE, Block

BOOKS = jsonschema.Draft202012Validator(playbook_schema(STEPS))
FLEETS = jsonschema.Draft202012Validator(inventory_schema())
SERVES = jsonschema.Draft202012Validator(serve_schema())
ECHO = "{hosts: web-0, argv: [echo, hi]}"


def complaints(validator: Any, value: object) -> list[str]:
    """Return what a schema has to say."""
    return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(value)]


@pytest.mark.parametrize(
    "schema", [BOOKS.schema, FLEETS.schema, SERVES.schema], ids=["playbook", "inventory", "serve"]
)
def test_it_is_a_sound_schema_of_2020_12_with_words_for_people(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.dumps(schema).count('"description"') > 50


def test_the_written_schemas_are_current() -> None:
    for file, text in schemas().items():
        run = "PYTHONPATH=tests python -m unit.engine.language_schema"
        assert file.read_text("utf-8") == text, f"{file.name} is old; run: {run}"


@pytest.mark.parametrize("name", shipped_playbooks())
def test_a_shipped_playbook_fits_and_names_the_schema(name: str) -> None:
    file = shipped_playbooks()[name]
    assert complaints(BOOKS, read_document(file).value) == []
    assert _named(file) == PLAYBOOK.resolve()


def test_the_example_inventory_fits_and_names_the_schema() -> None:
    file = ROOT / "inventory.example.yaml"
    assert complaints(FLEETS, read_document(file, kind="inventory").value) == []
    assert _named(file) == INVENTORY


def test_the_example_of_serve_fits_and_names_the_schema() -> None:
    file = ROOT / "serve.example.yaml"
    assert complaints(SERVES, read_document(file).value) == []
    assert _named(file) == SERVE


def _named(file: Path) -> Path:
    first = file.read_text("utf-8").splitlines()[0]
    match = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert match is not None, f"{file.name} begins with no modeline"
    return (file.parent / match[1]).resolve()


@pytest.mark.parametrize("block", [b for b in COMPLETE if "\ncases:" not in b.text], ids=str)
def test_an_example_of_the_docs_fits(block: Block) -> None:
    validator = BOOKS if "\nsteps:" in block.text else FLEETS
    validator = SERVES if "\nhooks:" in block.text else validator
    assert complaints(validator, parse_document(block.text, "doc.yaml").value) == []


SOUND = {
    "placeholders where values are": (
        "- {name: a, query: {database: '${target}', sql: select 1, limit: '${params.n}',"
        " read_only: '${params.flag}', timeout: '${params.wait}'}, timeout: 1m30s}"
    ),
    "a list from a placeholder": "- {name: a, rolling: {service: s, batches: '${params.list}'}}",
    "a list with placeholders": "- {name: a, rolling: {service: s, batches: [1, '${params.n}']}}",
    "a loop over a list": f"- {{name: a, for_each: [a, 1, 2.5, true], command: {ECHO}}}",
    "a loop over a parameter": f"- {{name: a, for_each: '${{params.list}}', command: {ECHO}}}",
    "failure steps": f"- {{name: a, command: {ECHO}, on_failure: [{{name: b, command: {ECHO}}}]}}",
    "all of the frame": (
        "- {name: a, query: {database: db, sql: select 1, read_only: true}, save: aa, tags: [x-1],"
        " retry: {times: 3, delay: 0, until: result.x}, on_failure: continue, when: params.flag}"
    ),
    "no arguments": "- {name: a, doctor: }",
    "a placeholder inside": "- {name: a, check: {http: {url: 'http://${host.name}/'}}}",
}
PARAMETERS = (
    "parameters: {n: {type: int, min: 1, max: '9', default: 3}, flag: {type: bool},"
    " wait: {type: duration, max: 5m}, list: {type: amounts, default: [1, 25%]},"
    " mode: {type: enum, choices: [fast, safe]}}\n"
).replace("{n:", '{"n":')


@pytest.mark.parametrize("name", SOUND)
def test_both_take_it(name: str) -> None:
    text = book(SOUND[name] + "\n", PARAMETERS)
    assert read(text)
    assert complaints(BOOKS, parse_document(text, "b").value) == []


#: What only names, other files or the order can tell: a schema sees one place at a time.
BEYOND = {
    "one name twice",
    "one save twice",
    "an item in no loop",
    "an item in a condition of no loop",
    "a result of nobody",
    "a whole result",
    "a result of a later step",
    "a result of a failure step, afterwards",
    "a loop over an unknown parameter",
    "one item twice",
    "a condition of a retry",
    "a placeholder in a question",
    "an include of nothing",
    "an include by a parameter",
    "needs: {grants: [pg_monitor]}",
    "needs: {hosts: '${params.web}'}",
    "parameters: {x: {type: int, max: 1, default: 2}}",
}
WRONG = {name: book(steps + "\n") for name, (steps, _) in MISTAKES.items() if name not in BEYOND}
WRONG |= {
    head: book(f"- {{name: a, command: {ECHO}}}\n", head + "\n")
    for head in HEADS
    if head not in BEYOND
}
WRONG |= {
    step: book(f"- {{name: a, {step}}}\n")
    for step in (
        "query: {database: db, sql: select 1, limit: 0}",
        "query: {database: db, sql: select 1, limit: many}",
        "query: {database: db, sql: select 1, timeout: 5}",
        "query: {database: db, sql: select 1, timeout: 5 s}",
        "query: {database: 'a b', sql: select 1}",
        "query: {database: db}",
        "query: {database: db, sql: 7}",
        "rolling: {service: shop, batches: [0]}",
        "rolling: {service: shop, batches: ['0%']}",
        "rolling: {service: shop, batches: ['101%']}",
        "rolling: {service: shop, gate: fast}",
        "rolling: {service: shop, gate: {succeses: 3}}",
        "terminate: {database: db, which: idle}",
        "command: {hosts: web, argv: echo hi}",
        "command: {hosts: web, argv: []}",
        "command: {hosts: [web], argv: [echo]}",
        f"command: {ECHO}, timeout: 5",
        f"command: {ECHO}, save: Not-A-Name",
        f"command: {ECHO}, retry: 3",
        f"command: {ECHO}, retry: {{times: 101}}",
        f"command: {ECHO}, tags: drain",
        f"command: {ECHO}, when: true",
        f"command: {ECHO}, for_each: [[a]]",
        f"command: {ECHO}, on_failure: []",
        "include: inner.yaml",
        "include: {playbok: x}",
    )
}
WRONG |= {
    "no version": "name: mine\nsteps: [{name: a, doctor: {}}]\n",
    "another version": "version: 2\nname: mine\nsteps: [{name: a, doctor: {}}]\n",
    "no steps": "version: 1\nname: mine\nsteps: []\n",
    "steps as a mapping": "version: 1\nname: mine\nsteps: {name: a, doctor: {}}\n",
    "a name with capitals": "version: 1\nname: Mine\nsteps: [{name: a, doctor: {}}]\n",
    "a list": "- version: 1\n",
}


@pytest.mark.parametrize("name", WRONG)
def test_both_refuse_it(name: str) -> None:
    with pytest.raises(InvalidDocument):
        read(WRONG[name])
    assert complaints(BOOKS, parse_document(WRONG[name], "b").value) != []


@pytest.mark.parametrize(
    "text",
    [
        "hosts: {web 1: {}}",
        "hosts: {web-1: {adress: x}}",
        "hosts: {web-1: {ssh: {port: 0}}}",
        "hosts: {web-1: {ssh: {port: x}}}",
        "hosts: {web-1: {connection: locally}}",
        "hosts: {web-1: {groups: web}}",
        "databases: {db: {}}",
        "databases: {db: {connect: {host: h, user: u, password: secret}}}",
        "databases: {db: {connect: {host: h, user: u, password: {env: A, file: b}}}}",
        "databases: {db: {connect: {host: h, user: u, password: {}}}}",
        "databases: {db: {connect: {host: h, user: u, connect_timeout: 5}}}",
        "services: {shop: {hosts: [web]}}",
        "services: {shop: {hosts: web, rolling: {min_available: lots}}}",
        "services: {shop: {hosts: web, rolling: {batches: []}}}",
        "services: {shop: {hosts: web, gates: [{http: {}}]}}",
        "host: {}",
    ],
)
def test_both_refuse_an_inventory(text: str) -> None:
    document = parse_document("version: 1\n" + text + "\n", "inventory.yaml")
    with pytest.raises(InvalidDocument):
        validate(Inventory, document)
    assert complaints(FLEETS, document.value) != []


def test_defaults_are_shown_as_a_person_writes_them() -> None:
    query = BOOKS.schema["$defs"]["step"]["properties"]["query"]
    assert query["properties"]["timeout"]["default"] == "10s"
    assert query["properties"]["timeout"]["description"].startswith("how long")
