"""Makes inputs from a number: sound playbooks bent a little, trees gone wrong, bombs, noise."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, get_args

from runbook.adapters.yaml_reader import parse_document
from runbook.model.playbook import Parameter, PlaybookFrame, StepFrame
from runbook.steps import STEPS

ROOT = Path(__file__).parents[2]

#: Sound on their own; between them they use the whole language.
_SEEDS = (
    """\
version: 1
name: everything
summary: all of it
target: {kind: database}
needs: {runbook: ">=0.1", grants: [pg_monitor], hosts: web}
parameters:
  size: {type: int, default: 3, min: 1, max: 10, description: d}
  over: {type: durations, default: [5s, 1m]}
  share: {type: percentage, default: 25%}
  mode: {type: enum, choices: [fast, safe], default: safe}
  where: {type: hosts, default: web, max: 4}
steps:
  - name: count
    query: {database: "${target}", sql: select count(*) as n from pg_stat_activity, read_only: true}
    save: counted
    retry: {times: 3, delay: 1s, until: "result.rows[0].n > 0"}
    tags: [look]
  - name: drain
    for_each: ${params.where}
    when: steps.counted.rows[0].n > params.size && params.mode == "safe"
    command:
      hosts: "${item}"
      argv: [/usr/local/bin/drain, "${host.name}", "${steps.counted.rows[0].n}", "${params.share}"]
      timeout: 30s
    confirm: drain ${item}?
    on_failure:
      - name: undrain
        command: {hosts: web, argv: [undrain]}
    tags: [act]
  - name: relieve
    include: {playbook: terminate-idle, parameters: {headroom: "${params.share}"}, target: db}
    when: has(steps.counted.rows)
    on_failure: continue
always:
  - name: tell
    notify: {message: "${target} is done", webhook: "https://example.com/hook"}
""",
    """\
version: 1
name: roll
target: {kind: service}
steps:
  - name: roll
    rolling: {service: "${target}", batches: [1, "25%"], min_available: 50%, gate: {successes: 2}}
  - name: look
    check: {service: "${target}", http: {url: "http://x/health"}, deadline: 30s}
  - name: shell
    shell: {hosts: web-0, line: "echo $1 | wc -c", args: ["${target}"], timeout: 5s}
  - name: inner
    include: {playbook: other.yaml}
""",
)
#: Files that stand beside the playbook: one that includes itself, one that is sound.
BESIDE = {
    "other.yaml": "version: 1\nname: other\nsteps: [{name: x, doctor: {}}]\n",
    "circle.yaml": "version: 1\nname: c\nsteps: [{name: x, include: {playbook: circle.yaml}}]\n",
    "broken.yaml": "version: 1\nname: [\n",
    "script.sh": "echo ${HOME}\n",
}


def _corpus() -> tuple[str, ...]:
    shipped = sorted((ROOT / "src" / "runbook" / "playbooks").glob("*.yaml"))
    return (*_SEEDS, *(file.read_text("utf-8") for file in shipped))


CORPUS = _corpus()
_TREES = tuple(parse_document(text, "seed").value for text in CORPUS)
_KEYS = sorted(
    {*PlaybookFrame.model_fields, *StepFrame.model_fields, *Parameter.model_fields, *STEPS}
    | {"include", "playbook", "hosts", "argv", "database", "sql", "service", "kind", "target"}
)
_ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 5, 10**15, 10**40, 1.5, 1e308, "", " ", "0", "-", "5s", "1h2x"),
    *("25%", "0%", "999%", "yes", "null", "~", "é☃\u202e", "a" * 300, "x" * 5000, "\t", "a\nb"),
    *("${target}", "${params.size}", "${item}", "${host.name}", "${steps.counted.rows[0].n}"),
    *("${", "${}", "${a b}", "${steps.counted}", "${steps..x}", "${params.size}${params.size}"),
    *("web", "all", "web & !web-0", "(web", "web-0,", "db", "shop", "!", "other.yaml"),
    *("circle.yaml", "broken.yaml", "../x", "/dev/zero", "script.sh", "terminate-idle", "a\\0b"),
    *("steps.counted.status == 'ok'", "1 +", "params.size > 'x'", "has(steps.x.y)", "item[0]"),
    *("true || " * 40 + "true", "(" * 200 + "1" + ")" * 200, "[" * 40, "size([1,2,3].map(x, x*x))"),
    *("SELECT 1; DROP TABLE x", "select %(a)s", "$$", "'", ">=9.9", ">=0.1,<2", "1.2.3.4.5"),
    *([], {}, [[]], [{}], {"name": "x"}, ["a"] * 50, {"a": {"b": {"c": []}}}),
    *get_args(Parameter.model_fields["type"].annotation),
)


def make(number: int) -> bytes:
    """Return the input of that number: the same one every time."""
    rng = Random(number)
    kinds: Sequence[tuple[Callable[[Random], bytes], int]] = (
        (_bent_tree, 60),
        (_bent_text, 30),
        (_grown, 10),
        (_tokens, 5),
        (_noise, 2),
        (_bomb, 1),
        (_large, 1),
    )
    kind = rng.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])[0]
    return kind(rng)


def _text(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _json(value: Any) -> bytes:
    """JSON is YAML, and needs no other writer."""
    return _text(json.dumps(value, ensure_ascii=False, default=str))


# ---- trees -----------------------------------------------------------------------------------


def _bent_tree(rng: Random) -> bytes:
    tree = copy.deepcopy(rng.choice(_TREES))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        _bend(tree, rng)
    return _json(tree)


def _bend(tree: Any, rng: Random) -> None:
    """Change one place of a tree: the value, the key, or what stands beside it."""
    holder, key = _place(tree, rng)
    if holder is None:
        return
    how = rng.randrange(6)
    if how <= 1:
        holder[key] = copy.deepcopy(rng.choice(_ODD))
    elif how == 2:
        other, at = _place(rng.choice(_TREES), rng)
        holder[key] = copy.deepcopy(other[at]) if other is not None else None
    elif how == 3 and isinstance(holder, dict):
        holder[rng.choice(_KEYS)] = holder.pop(key)
    elif how == 4:
        del holder[key]
    elif isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    else:
        holder[rng.choice(_KEYS)] = copy.deepcopy(rng.choice(_ODD))


def _place(tree: Any, rng: Random) -> tuple[Any, Any]:
    """Return a place in a tree: the collection, and the key or index in it."""
    holder, key = None, None
    while isinstance(tree, dict | list) and tree and (holder is None or rng.random() < 0.8):
        holder = tree
        key = rng.choice(list(tree)) if isinstance(tree, dict) else rng.randrange(len(tree))
        tree = holder[key]
    return holder, key


def _grown(rng: Random) -> bytes:
    """A playbook of known keys with anything in them."""
    top = {key: _anything(rng, 0) for key in rng.sample(_KEYS, rng.randrange(6))}
    steps = [_step(rng, 0) for _ in range(rng.randrange(6))]
    return _json({"version": 1, "name": "grown", **top, "steps": steps})


def _step(rng: Random, depth: int) -> Any:
    step: dict[str, Any] = {"name": rng.choice(("a", "b", "c", rng.choice(_ODD)))}
    verb = rng.choice([*STEPS, "include"])
    fields = list(STEPS[verb].args.model_fields) if verb in STEPS else ["playbook", "parameters"]
    step[verb] = {key: _anything(rng, 2) for key in rng.sample(fields, rng.randrange(len(fields)))}
    for key in rng.sample(list(StepFrame.model_fields), rng.randrange(4)):
        step[key] = _anything(rng, 2)
    if depth < 2 and rng.random() < 0.2:
        step["on_failure"] = [_step(rng, depth + 1)]
    return step


def _anything(rng: Random, depth: int) -> Any:
    if depth < 3 and rng.random() < 0.3:
        if rng.random() < 0.5:
            return [_anything(rng, depth + 1) for _ in range(rng.randrange(4))]
        return {rng.choice(_KEYS): _anything(rng, depth + 1) for _ in range(rng.randrange(4))}
    return copy.deepcopy(rng.choice(_ODD))


# ---- text ------------------------------------------------------------------------------------

_PIECES = (
    *("- ", ": ", "{", "}", "[", "]", ",", "\n", "\n  ", "\n    ", "&a ", "*a", "!!str ", "|", ">"),
    *("#", '"', "'", "%YAML 1.2\n", "---\n", "...\n", "? ", "<<: ", "\t", "\r", "\\", "${", "}"),
    *("\x00", "\x85", "\u2028", "\ufeff", "é", "0o17", "017", "yes", "on", "1e3", ".inf", ".nan"),
    *("name: a\n", "steps:\n", "version: 1\n", "when: ", "2026-01-01", "@", "`", "=", "~", "1_000"),
)


def _bent_text(rng: Random) -> bytes:
    text = rng.choice(CORPUS)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        start = rng.randrange(len(text) + 1)
        end = min(len(text), start + rng.choice((0, 0, 1, 3, 20, 200)))
        how = rng.randrange(4)
        piece = rng.choice(_PIECES) if how < 2 else text[start:end] * rng.randrange(3)
        if how == 3:
            other = rng.choice(CORPUS)
            at = rng.randrange(len(other))
            piece = other[at : at + rng.randrange(200)]
        text = text[:start] + piece + text[end:]
    return _text(text)


def _tokens(rng: Random) -> bytes:
    return _text("".join(rng.choice(_PIECES) for _ in range(rng.randrange(120))))


def _noise(rng: Random) -> bytes:
    data = rng.randbytes(rng.randrange(2000))
    return rng.choice((b"", b"version: 1\n", b"\xff\xfe", b"\xef\xbb\xbf")) + data


def _bomb(rng: Random) -> bytes:
    """Aliases that multiply, or a nest that never ends."""
    wide, high = rng.randrange(2, 12), rng.randrange(2, 40)
    if rng.random() < 0.5:
        lines = ["version: 1", "name: bomb", "a0: &a0 [x, x]"]
        for level in range(1, high):
            repeated = ", ".join([f"*a{level - 1}"] * wide)
            lines.append(f"a{level}: &a{level} [{repeated}]")
        return _text("\n".join([*lines, f"steps: *a{high - 1}", ""]))
    deep = rng.choice((50, 70, 1000, 50_000))
    opened, closed = rng.choice((("[", "]"), ("{a: ", "}"), ("- ", ""), ("{? ", "}"), ("${", "}")))
    return _text("version: 1\nname: deep\nsteps: " + opened * deep + "1" + closed * deep)


def _large(rng: Random) -> bytes:
    """Near the size that a playbook may have, and beyond it."""
    count = rng.choice((400, 500, 501, 20_000))
    shape = rng.randrange(6)
    head = "version: 1\nname: large\n"
    if shape == 0:
        body = "summary: " + "x" * rng.choice((900_000, 2_000_000)) + "\nsteps: []\n"
    elif shape == 1:
        steps = (
            f"  - {{name: s{i}, doctor: {{}}, when: steps.a{i}.x > {i}}}\n" for i in range(count)
        )
        body = "steps:\n" + "".join(steps)
    elif shape == 2:
        names = (f"  p{i}: {{type: {rng.choice(_KEYS)}}}\n" for i in range(count))
        body = "parameters:\n" + "".join(names) + "steps: [{name: a, doctor: {}}]\n"
    elif shape == 3:
        items = ", ".join(str(i) for i in range(count))
        body = f"steps: [{{name: a, for_each: [{items}], command: {{hosts: web, argv: [x]}}}}]\n"
    elif shape == 4:
        step = "  - {name: s%d, command: {hosts: web, argv: ['${params.x%d}'], tags: [%s]}}\n"
        body = "steps:\n" + "".join(step % (i, i, "a, " * 20) for i in range(count // 5))
    else:
        step = "  - {name: s%d, query: {database: db, sql: select %d, read_only: true}, save: v%d, "
        step += "when: 'true && \"%s\" != target'}\n"
        body = "steps:\n" + "".join(step % (i, i, i, "y" * 50) for i in range(min(count, 500)))
    return _text(head + body)
