"""The playbook language: what it unfolds into, and what it refuses, each with its place."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

from runbook import __version__
from runbook.model.errors import UsageError
from runbook.model.plan import Node, Plan, Retry, plan_from_json
from unit.engine.books import book, plan_of, plan_problems, problems, read

LOOK = """\
- name: count
  query: {database: db, sql: select 1 as n, read_only: true}
  save: counted
"""
ECHO = "{hosts: web-0, argv: [echo, hi]}"


def nodes(plan: Plan) -> dict[str, Node]:
    """Return a plan's nodes by key, and see that a journal brings them back as they were."""
    assert plan_from_json(plan.to_json()) == plan
    return {node.key: node for node in plan.nodes}


# ---- for_each --------------------------------------------------------------------------------


def test_a_loop_is_one_node_an_item_with_the_item_filled_in() -> None:
    text = book(
        """\
        - name: Drain caches
          for_each: [Redis 1, 7, 2.5]
          command: {hosts: web-0, argv: [drain, "on ${item}"]}
          when: item != "x"
          confirm: drain ${item}?
        """
    )
    found = nodes(plan_of(text))
    assert list(found) == ["drain-caches[redis-1]", "drain-caches[7]", "drain-caches[2.5]"]
    first, second, _ = found.values()
    assert first.args["argv"] == ["drain", "on Redis 1"]
    assert (first.name, first.loop, first.item) == (
        "Drain caches [Redis 1]",
        "drain-caches",
        "Redis 1",
    )
    assert first.confirm == "drain Redis 1?"
    assert second.item == 7


@pytest.mark.parametrize(
    ("parameter", "given", "items"),
    [
        ("{type: durations, default: [5s, 1m]}", {}, ["5s", "1m"]),
        ("{type: amounts}", {"over": "1,25%"}, ["1", "25%"]),
        ("{type: hosts}", {"over": "web & !web-2"}, ["web-0", "web-1", "web-3"]),
    ],
)
def test_a_loop_over_a_parameter(parameter: str, given: dict[str, Any], items: list[str]) -> None:
    text = book(
        """\
        - name: a
          for_each: ${params.over}
          command: {hosts: web-0, argv: [echo, "${item}"]}
        """,
        head=f"parameters: {{over: {parameter}}}\n",
    )
    assert [node.item for node in plan_of(text, given=given).nodes] == items


def test_a_limit_narrows_what_a_loop_goes_over() -> None:
    text = book(
        """\
        - name: a
          for_each: ${params.over}
          command: {hosts: "${item}", argv: [echo]}
        """,
        head="parameters: {over: {type: hosts, default: web}}\n",
    )
    assert [node.targets for node in plan_of(text, limit="web-1, web-3").nodes] == [
        ("web-1",),
        ("web-3",),
    ]


def test_a_loop_over_nothing_or_over_one_item_twice_is_refused() -> None:
    head = "parameters: {over: {type: amounts}}\n"
    steps = "- {name: a, for_each: '${params.over}', command: " + ECHO + "}\n"
    assert plan_problems(book(steps, head)) == [
        "book.yaml:5:25: the list to loop over is null [give it with -p, or give it a default]"
    ]
    (found,) = plan_problems(book(steps, head), given={"over": "3,3"})
    assert "are one item: both have the key '3'" in found


# ---- retry, confirm, on_failure, always --------------------------------------------------------


def test_retry_is_frozen_with_its_condition() -> None:
    text = book(LOOK + "  retry: {times: 4, delay: 250ms, until: 'result.rows[0].n > 0'}\n")
    (node,) = plan_of(text).nodes
    assert node.retry == Retry(times=4, delay_s=0.25, until="result.rows[0].n > 0")


def test_a_change_is_done_again_only_when_its_verb_says_that_it_may() -> None:
    steps = "- name: a\n  command: {hosts: web-0, argv: [echo]%s}\n  retry: {times: 2}\n"
    (found,) = plan_problems(book(steps % ""))
    assert found.startswith("book.yaml:6:5: 'command' changes something and may not be done again")
    for allowed in (", repeatable: true", ", read_only: true"):
        assert plan_of(book(steps % allowed)).nodes[0].retry is not None


def test_a_look_asks_for_no_confirmation() -> None:
    (found,) = plan_problems(book(LOOK + "  confirm: sure?\n"))
    assert found.startswith("book.yaml:7:5: 'count' only looks: there is nothing to confirm")


def test_failure_steps_stand_behind_their_step_and_always_ones_at_the_end() -> None:
    text = book(
        f"""\
        - name: a
          command: {ECHO}
          on_failure:
            - {{name: tell, command: {ECHO}}}
            - {{name: tell more, command: {ECHO}, on_failure: continue}}
        - name: b
          for_each: [x, z]
          command: {ECHO}
          on_failure: [{{name: mend, command: {ECHO}}}]
        """,
        head=f"always: [{{name: last, command: {ECHO}}}]\n",
    )
    found = nodes(plan_of(text))
    assert [(key, node.role, node.of) for key, node in found.items()] == [
        ("a", "main", None),
        ("tell", "on_failure", "a"),
        ("tell-more", "on_failure", "a"),
        ("b[x]", "main", None),
        ("b[z]", "main", None),
        ("mend", "on_failure", "b"),
        ("last", "always", None),
    ]
    assert found["tell-more"].on_failure == "continue"


# ---- results in arguments ----------------------------------------------------------------------


def test_a_result_in_an_argument_stays_as_it_is_written() -> None:
    text = book(
        LOOK
        + """\
- name: use
  command: {hosts: web-0, argv: [echo, "${steps.counted.rows[0].n}", "${host.name}"]}
"""
    )
    use = nodes(plan_of(text))["use"]
    assert use.args["argv"] == ["echo", "${steps.counted.rows[0].n}", "${host.name}"]
    assert use.targets == ("web-0",)


def test_a_change_may_only_use_looks_that_come_before_the_first_change() -> None:
    use = "- {name: %s, command: {hosts: web-0, argv: [echo, '${steps.%s.status}']}}\n"
    change = f"- {{name: first, command: {ECHO}, save: changed}}\n"
    (late,) = problems(book(change + LOOK + use % ("use", "counted")))
    assert late.startswith("book.yaml:8:54: 'use' changes something, and may only name steps that")
    assert "every change is shown before 'first' is made" in late
    (change_itself,) = problems(book(change + use % ("use", "changed")))
    assert "steps.changed is no such step" in change_itself
    # What only looks may use anything before it.
    looks = "- {name: l, command: {hosts: web-0, argv: [echo, '${steps.changed.status}'], "
    assert plan_of(book(change + looks + "read_only: true}}\n"))


def test_the_order_holds_where_only_the_plan_knows_what_changes() -> None:
    text = book(
        "- {name: a, command: {hosts: web-0, argv: [echo], read_only: '${params.look}'}}\n"
        + LOOK
        + "- {name: use, command: {hosts: web-0, argv: [echo, '${steps.counted.status}']}}\n",
        head="parameters: {look: {type: bool}}\n",
    )
    assert plan_of(text, given={"look": "true"})
    (found,) = plan_problems(text, given={"look": "false"})
    assert "'use' changes something" in found


@pytest.mark.parametrize(
    "steps",
    [
        "- {name: use, query: {database: db, sql: select 1, limit: '${steps.counted.rows[0].n}'}}",
        "- {name: use, query: {database: '${steps.counted.db}', sql: select 1, read_only: true}}",
    ],
)
def test_a_result_cannot_stand_where_the_plan_needs_a_value(steps: str) -> None:
    found = plan_problems(book(LOOK + steps + "\n"))
    assert any("known only when the run has come that far" in line for line in found)


def test_hosts_are_chosen_when_the_plan_is_made() -> None:
    use = "- {name: use, command: {hosts: '${steps.counted.host}', argv: [echo]}}\n"
    with pytest.raises(UsageError, match=r"use: .*'steps"):
        plan_of(book(LOOK + use))


# ---- include -------------------------------------------------------------------------------------

INNER = """\
version: 1
name: inner
target: {kind: service}
parameters: {size: {type: int, max: 9, required: true}}
needs: {grants: [pg_signal_backend]}
steps:
  - name: look
    query: {database: db, sql: select 1, read_only: true}
    save: counted
  - name: roll
    rolling: {service: "${target}"}
    when: params.size > 3 && steps.counted.status == "ok"
    on_failure: [{name: tell, command: {hosts: web-0, argv: [echo, "${params.size}"]}}]
    tags: [deep]
always:
  - name: end
    command: {hosts: web-0, argv: [echo, inner end]}
"""
OUTER = (
    LOOK
    + """\
- name: Relieve it
  include: {playbook: inner.yaml, parameters: {size: "${params.num}"}, target: shop}
  when: steps.counted.status == "ok"
  confirm: roll ${params.num}?
  on_failure: continue
  tags: [wide]
"""
)


def test_an_include_unfolds_in_place_with_a_scope_of_its_own() -> None:
    head = "parameters: {num: {type: int, default: 5}}\n"
    head += f"always: [{{name: end, command: {ECHO}}}]\n"
    plan = plan_of(book(OUTER, head), files={"inner.yaml": INNER})
    found = nodes(plan)
    assert list(found) == [
        "count",
        "relieve-it.needs:grants",
        "relieve-it.look",
        "relieve-it.roll",
        "relieve-it.tell",
        "relieve-it.end",
        "end",
    ]
    roll, tell, end = (found[f"relieve-it.{key}"] for key in ("roll", "tell", "end"))
    assert plan.scopes == {"relieve-it": {"size": 5}}
    assert plan.scope_targets == {"relieve-it": "shop"}
    assert (found["count"].name, roll.name) == ("count", "Relieve it: roll")
    assert (roll.scope, roll.targets) == ("relieve-it", ("web-0", "web-1", "web-2", "web-3"))
    assert roll.when == 'params.size > 3 && steps.counted.status == "ok"'
    assert roll.also_when == (("", 'steps.counted.status == "ok"'),)
    assert roll.also_confirm == (("relieve-it", "roll 5?"),)
    assert roll.tags == ("wide", "deep")
    assert roll.continues == "relieve-it"
    assert (tell.role, tell.of, tell.args["argv"]) == (
        "on_failure",
        "relieve-it.roll",
        ["echo", "5"],
    )
    # What runs at the end of every run is not held back by a question or a failure.
    assert (end.role, end.also_confirm, end.continues) == ("always", (), None)
    assert found["count"].also_when == ()
    assert found["end"].scope == ""


def test_what_an_include_needs_comes_first_when_nothing_holds_it_back() -> None:
    outer = f"- {{name: a, command: {ECHO}}}\n- {{name: b, include: {{playbook: i, target: shop, "
    files = {"i": INNER.replace("required: true", "default: 1")}
    assert plan_of(book(outer + "parameters: {}}}\n"), files=files).nodes[0].key == "b.needs:grants"


def test_failure_steps_of_an_include_follow_all_of_it() -> None:
    inner = "version: 1\nname: i\nsteps: [{name: x, command: %s}, {name: z, command: %s}]\n"
    outer = "- name: a\n  include: {playbook: i}\n  on_failure: [{name: mend, command: %s}]\n"
    found = nodes(plan_of(book(outer % ECHO), files={"i": inner % (ECHO, ECHO)}))
    assert [(key, node.of) for key, node in found.items()] == [
        ("a.x", None),
        ("a.z", None),
        ("mend", "a"),
    ]


def test_mistakes_of_an_included_file_carry_its_own_place() -> None:
    inner = "version: 1\nname: i\nsteps:\n  - name: x\n    comand: {hosts: web}\n"
    outer = "- {name: a, include: {playbook: i.yaml}}\n- {name: b, include: {playbook: i.yaml}}\n"
    found = problems(book(outer + "- {name: c, qery: {}}\n"), {"i.yaml": inner})
    assert [line.split(": ")[0] for line in found] == ["book.yaml:6:15", "i.yaml:5:5"]


def test_arguments_of_an_include_that_do_not_fit_are_told_where_they_stand() -> None:
    outer = "- {name: a, include: {playbook: i, target: %s, parameters: %s}}\n"
    for target, parameters, complaint in [
        ("shop", "{size: 10}", "10 is more than the largest allowed, 9"),
        ("shopp", "{size: 1}", "no service named 'shopp'"),
    ]:
        (found,) = plan_problems(book(outer % (target, parameters)), files={"i": INNER})
        assert found.startswith("book.yaml:4:24: ")
        assert complaint in found
    (found,) = problems(book(outer % ("shop", "{sise: 1, size: 1}")), {"i": INNER})
    assert "has no parameter 'sise' [did you mean 'size'?]" in found
    (found,) = problems(book(outer % ("shop", "{}")), {"i": INNER})
    assert "playbook inner needs the parameter 'size'" in found


def test_a_circle_of_includes_is_refused_and_shown() -> None:
    step = "version: 1\nname: x\nsteps: [{name: s, include: {playbook: %s}}]\n"
    files = {"a": step % "b", "b": step % "a"}
    (found,) = problems(book("- {name: s, include: {playbook: a}}\n"), files)
    assert found == "b:3:39: it would include itself without end: a -> b -> a [None]"


def test_includes_go_only_so_deep_and_plans_only_so_far() -> None:
    step = "version: 1\nname: x\nsteps:\n"
    chain = {
        str(i): step + f"  - {{name: s, include: {{playbook: '{i + 1}'}}}}\n" for i in range(9)
    }
    (found,) = problems(book("- {name: s, include: {playbook: '0'}}\n"), {**chain, "9": step})
    assert "more than 8 deep" in found
    one = "  - {name: s%d, include: {playbook: '%d'}}\n"
    wide = {str(i): step + "".join(one % (n, i + 1) for n in range(100)) for i in range(4)}
    leaf = step + f"  - {{name: x, command: {ECHO}}}\n"
    with pytest.raises(UsageError, match="more than 5,000 steps"):
        plan_of(book("- {name: s, include: {playbook: '0'}}\n"), files={**wide, "4": leaf})


def test_a_file_of_a_step_is_in_the_plan_as_it_is() -> None:
    text = book("- {name: a, script: {hosts: web-0, file: fix.sh}}\n")
    # A script is nobody's template: what looks like a placeholder is the shell's own.
    plan = plan_of(text, files={"fix.sh": "echo ${HOME} ${params.x}\n"})
    assert plan.nodes[0].args["text"] == "echo ${HOME} ${params.x}\n"
    (found,) = problems(text)
    assert found.startswith("book.yaml:4:44: there is no playbook 'fix.sh'")


# ---- needs ---------------------------------------------------------------------------------------


def test_needs_look_before_anything_else() -> None:
    text = book(
        f"- {{name: a, command: {ECHO}}}\n",
        head="target: {kind: service}\nneeds: {hosts: web, grants: [pg_monitor]}\n",
    )
    hosts, grants, _ = plan_of(text, target="shop").nodes
    assert (hosts.key, hosts.verb, hosts.changes) == ("needs:hosts", "command", False)
    assert (hosts.args["argv"], hosts.targets) == (["true"], ("web-0", "web-1", "web-2", "web-3"))
    assert (grants.key, grants.targets, grants.args["roles"]) == (
        "needs:grants",
        ("db",),
        ["pg_monitor"],
    )
    with pytest.raises(UsageError, match="lonely names no database"):
        plan_of(text, target="lonely")


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        (">=0.1", None),
        (f"=={__version__}", None),
        (">=0.0.9, <100", None),
        (">=99", f"this playbook needs runbook >=99; this one is {__version__}"),
        (">=0.1, <0.1", "this playbook needs runbook >=0.1, <0.1"),
        ("0.1", "'0.1' is no version of runbook"),
        (">=0.1 or so", "is no version of runbook"),
    ],
)
def test_the_version_of_runbook_is_compared_by_numbers(wanted: str, complaint: str | None) -> None:
    # What a newer language has is no mistake here: the version alone is told.
    step = (
        f"- {{name: a, command: {ECHO}}}\n" if complaint is None else "- {name: a, levitate: {}}\n"
    )
    text = book(step, head=f'needs: {{runbook: "{wanted}"}}\n')
    if complaint is None:
        assert read(text)
    else:
        (found,) = problems(text)
        assert found.startswith("book.yaml:3:18: ")
        assert complaint in found


def test_ten_is_more_than_nine() -> None:
    from runbook.adapters.yaml_reader import parse_document
    from runbook.engine.needs import too_old

    document = parse_document('needs: {runbook: ">=0.9"}', "b")
    assert too_old(document, "0.10.0rc1") is None
    assert too_old(document, "0.8.99") is not None


# ---- tags ----------------------------------------------------------------------------------------

TAGGED = book(
    LOOK
    + f"""\
  tags: [look, a]
- name: a
  command: {ECHO}
  when: steps.counted.status == "ok"
  on_failure: [{{name: mend, command: {ECHO}}}]
  tags: [a]
- {{name: b, command: {ECHO}, tags: [b]}}
- {{name: plain, command: {ECHO}}}
""",
    head=f"always: [{{name: end, command: {ECHO}}}]\nneeds: {{hosts: web}}\n",
)


@pytest.mark.parametrize(
    ("tags", "skip", "left"),
    [
        ([], [], ["needs:hosts", "count", "a", "mend", "b", "plain", "end"]),
        (["a"], [], ["needs:hosts", "count", "a", "mend", "end"]),
        (["b"], [], ["needs:hosts", "b", "end"]),
        (["a", "b"], [], ["needs:hosts", "count", "a", "mend", "b", "end"]),
        ([], ["b"], ["needs:hosts", "count", "a", "mend", "plain", "end"]),
        ([], ["a"], ["needs:hosts", "b", "plain", "end"]),
        (["a", "b"], ["a"], ["needs:hosts", "b", "end"]),
    ],
)
def test_tags_choose_among_steps(tags: list[str], skip: list[str], left: list[str]) -> None:
    plan = plan_of(TAGGED, tags=tags, skip_tags=skip)
    assert [node.key for node in plan.nodes] == left


@pytest.mark.parametrize(
    ("tags", "skip", "complaint"),
    [
        (["aa"], [], "no step has the tag 'aa'"),
        ([], ["loook"], "no step has the tag 'loook'"),
        ([], ["look"], "'a' uses steps.counted, and the tags leave out 'count', which gives it"),
        (["b"], ["b"], "the tags leave no step to run"),
    ],
)
def test_tags_that_cannot_be_are_refused(tags: list[str], skip: list[str], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint) as caught:
        plan_of(TAGGED, tags=tags, skip_tags=skip)
    assert caught.value.hint


def test_an_argument_that_uses_what_is_left_out_is_refused_too() -> None:
    use = (
        "- {name: a, command: {hosts: web-0, argv: [echo, '${steps.counted.status}']}, tags: [a]}\n"
    )
    with pytest.raises(UsageError, match=r"'a' uses steps.counted"):
        plan_of(book(LOOK + use), tags=["a"])


def test_the_tags_of_an_include_are_those_of_its_steps() -> None:
    head = "parameters: {num: {type: int, default: 5}}\n"
    files = {"inner.yaml": INNER}
    outer = book(OUTER.replace('  when: steps.counted.status == "ok"\n', ""), head)
    wide = plan_of(outer, files=files, tags=["wide"])
    assert [n.key.split(".")[-1] for n in wide.nodes] == [
        "needs:grants",
        "look",
        "roll",
        "tell",
        "end",
    ]
    with pytest.raises(UsageError, match=r"'Relieve it: roll' uses steps.counted"):
        plan_of(outer, files=files, tags=["deep"])
    with pytest.raises(
        UsageError,
        match=r"'Relieve it: needs grants' uses steps.counted, and the tags leave out 'count'",
    ):
        plan_of(book(OUTER, head), files=files, tags=["wide"])


# ---- limit ---------------------------------------------------------------------------------------


def test_a_limit_narrows_targets_and_says_so_when_nothing_is_left() -> None:
    text = book("- {name: a, command: {hosts: web, argv: [echo]}}\n")
    assert plan_of(text, limit="web-1").nodes[0].targets == ("web-1",)
    with pytest.raises(UsageError, match="limit"):
        plan_of(text, limit="db-1")


def test_a_limited_roll_still_counts_the_whole_service() -> None:
    text = book("- {name: a, rolling: {service: shop}}\n")
    (node,) = plan_of(text, limit="web-1").nodes
    assert (node.targets, node.min_available) == (("web-1",), 2)


# ---- mistakes ------------------------------------------------------------------------------------

#: Where the first step of `book` stands without a head: its dash is in column 3.
MISTAKES = {
    "two verbs": (
        f"- {{name: a, command: {ECHO}, query: {{}}}}",
        "4:5: a step has exactly one verb; it has command, query",
    ),
    "an unknown verb beside a known one": (
        f"- {{name: a, command: {ECHO}, tag: [x]}}",
        "4:58: 'tag' is neither a verb nor a key of a step [did you mean 'tags'?]",
    ),
    "no name": (f"- {{command: {ECHO}}}", "4:5: 'name' is missing"),
    "one name twice": (
        f"- {{name: A b, command: {ECHO}}}\n- {{name: a-b, command: {ECHO}}}",
        "5:12: 'a-b' and 'A b' are one name: a-b",
    ),
    "one save twice": (
        f"- {{name: a, command: {ECHO}, save: x}}\n- {{name: b, command: {ECHO}, save: x}}",
        "5:64: two steps save their result as 'x'",
    ),
    "an item in no loop": (
        "- {name: a, command: {hosts: web, argv: ['${item}']}}",
        "4:44: ${item} is not known",
    ),
    "an item in a condition of no loop": (
        f"- {{name: a, command: {ECHO}, when: item == 1}}",
        "undeclared reference to 'item'",
    ),
    "a result of nobody": (
        LOOK + "- {name: a, command: {hosts: web, argv: ['${steps.cuonted.x}']}}",
        "7:44: ${steps.cuonted.x} is not known [did you mean ${steps.counted}?]",
    ),
    "a whole result": (
        LOOK + "- {name: a, command: {hosts: web, argv: ['${steps.counted}']}}",
        "is the whole result of a step [name what of it, as in: ${steps.counted.status}]",
    ),
    "a result of a later step": (
        "- {name: a, command: {hosts: web, argv: ['${steps.counted.x}'], read_only: true}}\n"
        + LOOK,
        "the step that saves 'counted' comes later",
    ),
    "a result of a failure step, afterwards": (
        (
            f"- name: a\n  command: {ECHO}\n  on_failure:\n{textwrap.indent(LOOK, '    ')}"
            "- {name: b, command: {hosts: web, argv: ['${steps.counted.x}'], read_only: true}}"
        ),
        "or may never have run",
    ),
    "an unknown key with a placeholder": (
        "- {name: a, command: {hosts: web, argv: [echo], hots: '${target}'}}",
        "4:51: there is no key 'hots' here [did you mean 'hosts'?]",
    ),
    "a loop over text": (
        f"- {{name: a, command: {ECHO}, for_each: abc}}",
        "'for_each' is a list of texts, numbers, true or false, or ${params.NAME}",
    ),
    "a loop over an empty list": (
        f"- {{name: a, command: {ECHO}, for_each: []}}",
        "'for_each' is a list of texts",
    ),
    "a loop over an unknown parameter": (
        f"- {{name: a, command: {ECHO}, for_each: '${{params.x}}'}}",
        "${params.x} is not known",
    ),
    "one item twice": (
        f"- {{name: a, command: {ECHO}, for_each: [a b, x, a-b]}}",
        "4:77: 'a-b' and 'a b' are one item: both have the key 'a-b'",
    ),
    "a wrong word on failure": (
        f"- {{name: a, command: {ECHO}, on_failure: contine}}",
        "not 'contine' [did you mean 'continue'?]",
    ),
    "failure steps of failure steps": (
        (
            f"- name: a\n  command: {ECHO}\n  on_failure:\n"
            f"    - {{name: b, command: {ECHO}, on_failure: [{{name: c, command: {ECHO}}}]}}"
        ),
        "7:62: what runs after a failure, or always, has no failure steps of its own",
    ),
    "a mistake in a failure step": (
        f"- name: a\n  command: {ECHO}\n  on_failure: [{{name: b, comand: {ECHO}}}]",
        "6:28: 'comand' is neither a verb nor a key of a step [did you mean 'command'?]",
    ),
    "a condition of a retry": (
        f"- {{name: a, command: {ECHO}, retry: {{until: results.x}}}}",
        "undeclared reference to 'results.x'",
    ),
    "a retry of one": (
        f"- {{name: a, command: {ECHO}, retry: {{times: 1}}}}",
        "4:73: 'times' is 2 or more, not 1",
    ),
    "a tag with a blank": (
        f"- {{name: a, command: {ECHO}, tags: [a b]}}",
        "4:65: 'tags' cannot be 'a b'",
    ),
    "a placeholder in a question": (
        f"- {{name: a, command: {ECHO}, confirm: 'on ${{host.name}}?'}}",
        "${host.name} is not known yet where the plan is made",
    ),
    "a saved include": (
        "- {name: a, include: {playbook: x}, save: yy}",
        "4:39: a step that includes a playbook has no 'save'",
    ),
    "an include of nothing": (
        "- {name: a, include: {playbook: x}}",
        "4:35: there is no playbook 'x'",
    ),
    "an include by a parameter": (
        "- {name: a, include: {playbook: '${target}'}}",
        "is a fixed name, of a file beside this one",
    ),
    "arguments as a list": ("- {name: a, command: [echo]}", "'command' takes a mapping"),
    "a step that is text": ("- echo", "4:5: a step is a mapping"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_a_step_is_told_at_its_place(name: str) -> None:
    steps, complaint = MISTAKES[name]
    found = problems(book(steps + "\n"))
    assert any(complaint in line for line in found), found


HEADS = {
    "parameters: {x: {type: enum}}": "3:24: parameter x: enum needs choices",
    "parameters: {x: {type: bool, min: 1}}": "3:35: parameter x: bool has no min",
    "parameters: {x: {type: int, choices: [a]}}": "parameter x: int has no choices",
    "parameters: {x: {type: int, max: 1, default: 2}}": "2 is more than the largest allowed, 1",
    "parameters: {x: {type: int, max: lots}}": "'lots' is no whole number",
    "parameters: {x: {type: int, required: true, default: 2}}": "what is required has no default",
    "parameters: {x: {type: nit}}": "'type' is 'int', 'bool'",
    "parameters: {x: {typ: int}}": "there is no key 'typ' here [did you mean 'type'?]",
    "needs: {grants: [pg_monitor]}": "3:17: grants are looked for on the target's database",
    "needs: {hosts: '${params.web}'}": "${params.web} is not known",
    "target: {kind: hots}": "or 'none', not 'hots' [did you mean 'hosts'?]",
    "always: [{name: x, command: {hosts: web, argv: []}}]": "3:48: 'argv' is empty",
    "nmae: x": "3:1: there is no key 'nmae' here [did you mean 'name'?]",
}


@pytest.mark.parametrize("head", HEADS)
def test_a_mistake_at_the_top_is_told_at_its_place(head: str) -> None:
    found = problems(book(f"- {{name: a, command: {ECHO}}}\n", head=head + "\n"))
    assert any(HEADS[head] in line for line in found), found


def test_every_mistake_is_told_at_once_in_the_order_of_the_file() -> None:
    text = """\
    version: 2
    name: Mine
    parameters: {x: {type: int, default: many}}
    steps:
      - name: a
        comand: {hosts: web}
        when: 1 + 1
      - name: a
        query: {database: db, sql: select 1, limt: 3}
        timeout: 5
      - name: c
        command: {hosts: web, argv: ["${params.y}"]}
    always:
      - name: d
    """
    places = [line.split(": ")[0] for line in problems(text)]
    assert places == [
        f"book.yaml:{place}"
        for place in (
            "1:10",
            "2:7",
            "3:38",
            "6:5",
            "7:11",
            "8:11",
            "9:42",
            "10:14",
            "12:34",
            "14:5",
        )
    ]


def test_thousands_of_mistakes_are_told_as_a_hundred() -> None:
    steps = "".join(f"- {{name: s{i}, nope: {{}}}}\n" for i in range(400))
    assert len(problems(book(steps))) == 100


def test_a_playbook_of_more_values_than_anybody_writes_is_refused() -> None:
    words = ", ".join(["a"] * 20_000)
    (found,) = problems(book(f"- {{name: a, command: {{hosts: web, argv: [{words}]}}}}\n"))
    assert "a playbook has at most 20,000 values; this one has 20,0" in found
