"""Playbooks, the inventory and `serve`'s configuration as JSON Schema, made from their models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, get_args

from runbook.model.inventory import Closed, Inventory
from runbook.model.playbook import IncludeSpec, Parameter, PlaybookFrame, StepFrame
from runbook.model.serve_config import ServeConfig
from runbook.model.step import StepType

Schema = dict[str, Any]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PLACEHOLDER: Schema = {"type": "string", "pattern": r"\$\{[^{}]+\}"}
#: Keys of a step that includes another playbook; see `reading`.
_NOT_OF_AN_INCLUDE = ("save", "timeout", "for_each", "retry")

#: Exactly one of its keys, as the model's validator has it.
_ONE_KEY: Schema = {"minProperties": 1, "maxProperties": 1}

_INT: Schema = {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": r"^-?\d+$"}]}
_COUNT: Schema = {
    "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^\d+$"}]
}
_DURATION: Schema = {
    "anyOf": [{"const": 0}, {"type": "string", "pattern": r"^(0|(\d+(\.\d+)?(ms|s|m|h))+)$"}]
}
_PERCENTAGE: Schema = {"type": "string", "pattern": r"^(0?0?[1-9]|0?[1-9]\d|100)%$"}
_AMOUNT: Schema = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}
_TEXT: Schema = {"type": "string"}
_NAMED: Schema = {"type": "string", "pattern": r"\S"}


def _or_list(one: Schema) -> Schema:
    """One value, several with commas, or a list."""
    return {"anyOf": [_TEXT, one, {"type": "array", "items": one}]}


#: Parameter type -> what its default may be, and its bounds; see `model.parameters`.
_DEFAULTS: Mapping[str, Schema] = {
    "int": _INT,
    "bool": {"enum": [True, False, "true", "false"]},
    "string": _TEXT,
    "strings": _or_list(_TEXT),
    "enum": _TEXT,
    "hosts": _NAMED,
    "host": _NAMED,
    "service": _NAMED,
    "services": _or_list(_NAMED),
    "database": _NAMED,
    "unit": {"type": "string", "pattern": r"^[A-Za-z0-9_:][A-Za-z0-9:_.@\\-]{0,254}$"},
    "duration": _DURATION,
    "durations": _or_list(_DURATION),
    "percentage": _PERCENTAGE,
    "amount": _AMOUNT,
    "amounts": _or_list(_AMOUNT),
    "pools": _or_list(_TEXT),
}
_BOUNDS: Mapping[str, Schema] = {
    "int": _INT,
    "string": _COUNT,
    "hosts": _COUNT,
    "duration": _DURATION,
    "durations": _DURATION,
    "percentage": _PERCENTAGE,
    "amount": _AMOUNT,
    "amounts": _AMOUNT,
}
_CHOOSE = ("enum", "string", "host", "service", "database", "unit")


def playbook_schema(steps: Mapping[str, StepType]) -> Schema:
    """Return the schema of a whole playbook; each verb's arguments come from its step type."""
    schema = _of(PlaybookFrame)
    definitions: Schema = schema.setdefault("$defs", {})
    definitions["Parameter"] = _parameter(definitions["Parameter"])
    definitions["step"] = _step(steps, definitions, nested=False)
    definitions["nested_step"] = _step(steps, definitions, nested=True)
    properties = schema["properties"]
    properties["steps"] = _listed("step", 500, properties["steps"])
    properties["always"] = _listed("nested_step", 100, properties["always"])
    properties["always"].pop("minItems")
    return _whole(schema, "runbook playbook")


def inventory_schema() -> Schema:
    """Return the schema of an inventory."""
    schema = _of(Inventory)
    definitions: Schema = schema.get("$defs", {})
    definitions["Secret"] |= _ONE_KEY
    return _whole(schema, "runbook inventory")


def serve_schema() -> Schema:
    """Return the schema of the configuration of `runbook serve`."""
    schema = _of(ServeConfig)
    definitions: Schema = schema["$defs"]
    definitions["Secret"] |= _ONE_KEY
    definitions["Person"] |= {"anyOf": _one_of("token", "slack", "pagerduty")}
    definitions["Notify"] |= {
        "oneOf": _one_of("slack", "webhook"),
        "dependentRequired": {"sign_with": ["webhook"]},
    }
    return _whole(_without_inner_defaults(schema), "runbook serve")


def _without_inner_defaults(schema: Any) -> Any:
    """Leave out defaults that are mappings: each of their keys has its own, in a person's words."""
    if isinstance(schema, list):
        return [_without_inner_defaults(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _without_inner_defaults(one)
        for key, one in schema.items()
        if not (key == "default" and isinstance(one, dict))
    }


def _one_of(*keys: str) -> list[Schema]:
    return [{"required": [key]} for key in keys]


def _whole(schema: Schema, title: str) -> Schema:
    return {"$schema": _DIALECT, **_closed(_readable(schema)), "title": title}


def _of(model: type[Closed]) -> Schema:
    return model.model_json_schema(ref_template="#/$defs/{model}")


# ---- parameters ------------------------------------------------------------------------------


def _parameter(schema: Schema) -> Schema:
    """What default, min, max and choices may be hangs on the type."""
    kinds = get_args(Parameter.model_fields["type"].annotation)
    return {
        **schema,
        "allOf": [
            {"if": {"properties": {"type": {"const": kind}}}, "then": _when_of(kind)}
            for kind in kinds
        ]
        + [
            {
                "if": {"properties": {"required": {"const": True}}, "required": ["required"]},
                "then": {"properties": {"default": {"type": "null"}}},
            }
        ],
    }


def _when_of(kind: str) -> Schema:
    bound: Schema | bool = _or_null(_BOUNDS[kind]) if kind in _BOUNDS else {"type": "null"}
    then: Schema = {
        "properties": {"default": _or_null(_DEFAULTS[kind]), "min": bound, "max": bound}
    }
    if kind not in _CHOOSE:
        then["properties"]["choices"] = {"type": "null"}
    if kind == "enum":
        then["required"] = ["choices"]
        then["properties"]["choices"] = {"type": "array"}
    return then


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


# ---- steps -----------------------------------------------------------------------------------


def _listed(definition: str, most: int, old: Mapping[str, Any]) -> Schema:
    described = {"description": old["description"]} if "description" in old else {}
    items = {"$ref": f"#/$defs/{definition}"}
    return {"type": "array", "minItems": 1, "maxItems": most, "items": items, **described}


def _step(steps: Mapping[str, StepType], definitions: Schema, *, nested: bool) -> Schema:
    """One step: its frame, and exactly one verb or an include.

    All verbs stand in one object, so that an editor offers them and complains of one key.
    """
    frame = _of(StepFrame)
    definitions.update(frame.pop("$defs", {}))
    properties: Schema = {**frame["properties"], "on_failure": _on_failure(nested=nested)}
    properties["for_each"] = _for_each(properties["for_each"])
    for verb, step in sorted(steps.items()):
        arguments = _arguments(step, definitions)
        properties[verb] = arguments
    include = _of(IncludeSpec)
    properties["include"] = {**include, "description": IncludeSpec.__doc__}
    one_of = [{"required": [verb]} for verb in (*sorted(steps), "include")]
    barred = {"properties": dict.fromkeys(_NOT_OF_AN_INCLUDE, False)}
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": properties,
        "oneOf": one_of,
        "if": {"required": ["include"]},
        "then": barred,
    }


def _on_failure(*, nested: bool) -> Schema:
    words: Schema = {"enum": ["stop", "continue"]}
    described = {
        "description": StepFrame.model_fields["on_failure"].description,
        "default": "stop",
    }
    if nested:
        return {**words, **described}
    return {"anyOf": [words, _listed("nested_step", 100, {})], **described}


def _for_each(old: Mapping[str, Any]) -> Schema:
    scalars = ["string", "number", "boolean"]
    return {
        "anyOf": [
            {"type": "array", "minItems": 1, "items": {"type": scalars}},
            {"type": "string", "pattern": r"^\$\{\s*params\.[^{}]+\}$"},
            {"type": "null"},
        ],
        "description": old["description"],
    }


def _arguments(step: StepType, definitions: Schema) -> Schema:
    """A verb's arguments, each of which may come from a placeholder."""
    arguments = _of(step.args)
    for name, inner in arguments.pop("$defs", {}).items():
        definitions[name] = _inside(inner)
    arguments = {**_inside(arguments), "description": step.summary}
    if arguments.get("required"):
        return arguments
    return {"anyOf": [arguments, {"type": "null"}], "description": step.summary}


def _placed(schema: Schema) -> Schema:
    """Return a schema that takes `${params.size}` as well."""
    inner = _inside(schema)
    if _takes_any_text(inner) or "$ref" in inner or inner.get("type") == "object":
        return inner
    said: Schema = {
        key: inner.pop(key) for key in ("description", "default", "title") if key in inner
    }
    return {"anyOf": [*_members(inner), _PLACEHOLDER], **said}


def _members(schema: Schema) -> list[Schema]:
    return schema["anyOf"] if list(schema) == ["anyOf"] else [schema]


def _takes_any_text(schema: Mapping[str, Any]) -> bool:
    if not schema.keys() - {"description", "default", "title"}:
        return True
    if any(_takes_any_text(one) for one in schema.get("anyOf", ())):
        return True
    limits = {"pattern", "enum", "const", "minLength", "maxLength", "format"}
    return schema.get("type") == "string" and not limits & schema.keys()


def _inside(schema: Schema) -> Schema:
    """Let everything inside of a schema come from a placeholder."""
    done = dict(schema)
    if "properties" in done:
        done["properties"] = {name: _placed(one) for name, one in done["properties"].items()}
    if "patternProperties" in done:
        named = done["patternProperties"].items()
        done["patternProperties"] = {name: _placed(one) for name, one in named}
    for key in ("items", "additionalProperties"):
        if isinstance(done.get(key), dict):
            done[key] = _placed(done[key])
    if "prefixItems" in done:
        done["prefixItems"] = [_placed(one) for one in done["prefixItems"]]
    for key in ("anyOf", "oneOf"):
        if key in done:
            done[key] = [_inside(one) for one in done[key]]
    return done


# ---- for people ------------------------------------------------------------------------------


def _readable(schema: Any) -> Any:
    """Defaults as a person writes them: a duration is `60s`, not 60.0; no title repeats a key."""
    if isinstance(schema, list):
        return [_readable(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    done = {key: _readable(one) for key, one in schema.items() if not _is_title(key, one)}
    default = done.get("default")
    if isinstance(default, float) and _is_duration(done):
        done["default"] = f"{default:g}s" if default else 0
    return done


def _closed(schema: Any) -> Any:
    """Refuse keys that match none of the patterns of a mapping from names."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    done = {key: _closed(one) for key, one in schema.items()}
    if "patternProperties" in done and "properties" not in done:
        done.setdefault("additionalProperties", False)
    return done


def _is_title(key: str, value: Any) -> bool:
    return key == "title" and isinstance(value, str)


def _is_duration(schema: Mapping[str, Any]) -> bool:
    patterns: Iterable[Any] = (schema, *schema.get("anyOf", ()))
    return any("(ms|s|m|h)" in str(one) for one in patterns)
