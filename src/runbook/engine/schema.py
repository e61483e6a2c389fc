"""The playbook language as JSON Schema, made from the same models that read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runbook.model.playbook import PlaybookFrame, StepFrame
from runbook.model.step import StepType

_PLACEHOLDER = {"type": "string", "pattern": r"\$\{[^{}]+\}"}


def playbook_schema(steps: Mapping[str, StepType]) -> dict[str, Any]:
    """Return the schema of a whole playbook; each verb's arguments come from its step type."""
    schema = PlaybookFrame.model_json_schema(ref_template="#/$defs/{model}")
    definitions = schema.setdefault("$defs", {})
    frame = StepFrame.model_json_schema(ref_template="#/$defs/{model}")
    variants = []
    for verb, step in sorted(steps.items()):
        arguments = step.args.model_json_schema(ref_template="#/$defs/{model}")
        definitions.update(arguments.pop("$defs", {}))
        definitions[f"step_{verb}"] = _step(frame, verb, step, arguments)
        variants.append({"$ref": f"#/$defs/step_{verb}"})
    schema["properties"]["steps"] = {"type": "array", "minItems": 1, "items": {"oneOf": variants}}
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "runbook playbook"
    return schema


def _step(
    frame: Mapping[str, Any], verb: str, step: StepType, arguments: dict[str, Any]
) -> dict[str, Any]:
    arguments = {
        **arguments,
        "description": step.summary,
        "properties": {
            name: _or_placeholder(spec) for name, spec in arguments.get("properties", {}).items()
        },
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["name", verb],
        "properties": {**frame["properties"], verb: arguments},
    }


def _or_placeholder(spec: Mapping[str, Any]) -> dict[str, Any]:
    """An argument may come from a parameter: `${params.size}`."""
    description = {"description": spec["description"]} if "description" in spec else {}
    return {"anyOf": [dict(spec), _PLACEHOLDER], **description}
