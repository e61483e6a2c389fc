"""Whatever an inventory's file holds, reading it ends in a fleet or in our error, soon and small.

`RUNBOOK_FUZZ=100000 pytest tests/unit/test_inventory_fuzz.py` tries that many inputs a reader.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runbook.adapters.ansible_yaml import parse_ansible
from runbook.model.ansible_convert import convert, inventory_data
from runbook.model.ansible_dynamic import is_dynamic, read_dynamic
from runbook.model.ansible_ini import read_ini
from runbook.model.ansible_inventory import AnsibleInventory
from runbook.model.ansible_yaml import read_yaml
from runbook.model.errors import InvalidDocument
from runbook.model.inventory_text import inventory_text
from runbook.wiring import check_inventory

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
ANSIBLE = Path(__file__).parent / "adapters" / "ansible"
TRIES = int(os.environ.get("RUNBOOK_FUZZ", "150"))

#: Pieces that have been trouble for some reader of YAML, INI or names.
_PIECES = [
    *"{}[]()<>:,&*!|>%@`#'\"\\-?=~$ \t\n\0\x85\u2028\ufeff\U0001f600",
    *("<<: *a", "&a [", "*a", "!!python/object:os.system x", "!vault", "---\n", "...\n", "? "),
    *("%YAML 1.1\n", "~", "0x", "1e999", "-.inf", ".nan", "0755", "1:30", "2026-11-23", "yes"),
    *("9" * 30, "null", "[1:3]", "[01:9]", "[a:z]", "[", "${host.vars.x}", "${", "{{ x }}"),
    *("all", "hosts", "groups", "vars", "children", "ssh", "version: 1", "web & !web", "(" * 60),
    *("[g:vars]\n", "[g:children]\n", "[g]\n", "ansible_group_priority=x", "ansible_port=99999"),
]


def _ours(text: str) -> object:
    return check_inventory(text, "fuzz.yaml")


def _ini(text: str) -> object:
    inventory = AnsibleInventory()
    read_ini(text, "fuzz.ini", inventory)
    return _written(inventory)


def _ansible_yaml(text: str) -> object:
    document = parse_ansible(text, "fuzz.yml")
    if is_dynamic(document.value):
        return _written(read_dynamic(document.value, "fuzz.yml"))
    inventory = AnsibleInventory()
    read_yaml(document, inventory)
    return _written(inventory)


def _written(inventory: AnsibleInventory) -> object:
    """What an import makes of it must always be an inventory of ours."""
    text = inventory_text(inventory_data(convert(inventory)), iter(()))
    try:
        return check_inventory(text, "imported.yaml")
    except InvalidDocument as error:
        raise AssertionError(f"{error}\n{text}") from error


_SEEDS: dict[str, tuple[Callable[[str], object], tuple[Path, ...]]] = {
    "ours": (_ours, (ROOT / "inventory.example.yaml",)),
    "ini": (_ini, (ANSIBLE / "shop" / "hosts.ini", ANSIBLE / "fleet" / "02-more")),
    "yaml": (_ansible_yaml, (ANSIBLE / "fleet" / "01-static.yml", ANSIBLE / "fleet.json")),
}


def _mutated(text: str, chance: random.Random) -> str:
    """Cut, repeat, swap and spoil parts of a text, a few times over."""
    for _ in range(chance.randint(1, 6)):
        lines = text.split("\n")
        at, to = sorted(chance.randint(0, len(text)) for _ in range(2))
        to = min(to, at + 40)
        match chance.randrange(6):
            case 0:
                text = text[:at] + chance.choice(_PIECES) + text[at:]
            case 1:
                text = text[:at] + text[to:]
            case 2:
                text = text[:at] + chance.choice(_PIECES) + text[to:]
            case 3:
                lines.insert(chance.randint(0, len(lines)), chance.choice(lines))
                text = "\n".join(lines)
            case 4:
                chance.shuffle(lines)
                text = "\n".join(lines[: chance.randint(1, len(lines))])
            case _:
                text = text[:at] + text[at:to] * chance.randint(2, 4) + text[to:]
    return text


@pytest.mark.parametrize("kind", _SEEDS)
def test_a_spoilt_inventory_is_read_or_refused(kind: str) -> None:
    read, seeds = _SEEDS[kind]
    texts = [path.read_text("utf-8") for path in seeds]
    refused = 0
    for number in range(TRIES):
        chance = random.Random(f"{kind} {number}")
        text = _mutated(chance.choice(texts), chance)
        try:
            read(text)
        except InvalidDocument as error:
            refused += bool(str(error))
        except Exception as error:
            raise AssertionError(f"{kind} {number}: {text!r}") from error
    assert 0 < refused <= TRIES


#: Small texts that stand for endless ones, or are slow to read.
_BOMBS = {
    "aliases": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefghi")),
    "merged": "all: {vars: &a {k: 1}}\n"
    + "".join(f"g{n}: &b{n} {{<<: *a}}\n" for n in range(3000)),
    "deep": "[" * 100_000,
    "deep mapping": "a: " + "{a: " * 50_000,
    "deep block": "\n".join("  " * n + "a:" for n in range(400)),
    "huge key": "x" * 3_000_000 + ": 1\n",
    "huge value": "version: 1\nx: " + "y" * 3_000_000 + "\n",
    "many keys": "version: 1\nhosts:\n" + "".join(f"  h{n}: {{a: 1}}\n" for n in range(20_000)),
    "many anchors": "".join(f"k{n}: &a{n} 1\n" for n in range(50_000)) + "z: *none\n",
    "many unknown": "version: 1\n" + "".join(f"key{n}: 1\n" for n in range(10_000)),
    "selector": "version: 1\nhosts: {a: {}}\nservices: {s: {hosts: '" + "(" * 200_000 + "'}}\n",
    "pattern": f"version: 1\nhosts: {{{'a' * 200}: {{}}}}\n"
    f"services: {{s: {{hosts: '{'*a' * 5_000}b'}}}}\n",
    "nul": "version: 1\nhosts: {a\0b: {}}\n",
    "ranges": "[web]\n" + "w[0:9]" * 40 + "\n",
    "wide range": "[web]\nw[1:9999999999]\n",
    "literal": "[web]\na x=" + "(" * 9_000 + "\n",
    "chain": "".join(f"[g{n}:children]\ng{n + 1}\n" for n in range(2_000)) + "[g2000]\nh\n",
    "quotes": "[web]\na x=" + "'" * 100_001 + "\n",
}
#: Runs all three readers within the bounds: beyond them the process is killed or out of memory.
_BOUNDED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (700_000_000, 700_000_000))
import test_inventory_fuzz as fuzz
from runbook.model.errors import InvalidDocument
fuzz._ours(fuzz.ROOT.joinpath("inventory.example.yaml").read_text())  # what is imported late
text = fuzz._BOMBS[sys.argv[1]]
for read, _ in fuzz._SEEDS.values():
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = int(used.ru_utime + used.ru_stime) + 3
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))
    try:
        read(text)
    except InvalidDocument:
        pass
print("bounded")
"""


@pytest.mark.parametrize("name", _BOMBS)
def test_a_bomb_is_read_or_refused_within_bounds(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _BOUNDED, name],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "bounded\n", (done.returncode, done.stderr[-1500:])
