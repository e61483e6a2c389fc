"""Turns pydantic's complaints about a document into problems with a place and a remedy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from runbook.model.document import Document, DocumentPath, Problem, nearest
from runbook.model.errors import InvalidDocument

ModelT = TypeVar("ModelT", bound=BaseModel)

#: More mistakes than this in one go are no list that anybody reads.
MOST_PROBLEMS = 100

#: pydantic's error types in our words; `{value}` is what the document says.
_WORDS = {
    "missing": "{key!r} is missing",
    "extra_forbidden": "there is no key {key!r} here",
    "int_parsing": "{key!r} is a whole number, not {value!r}",
    "int_type": "{key!r} is a whole number, not {value!r}",
    "int_from_float": "{key!r} is a whole number, not {value!r}",
    "float_parsing": "{key!r} is a number, not {value!r}",
    "bool_parsing": "{key!r} is true or false, not {value!r}",
    "bool_type": "{key!r} is true or false, not {value!r}",
    "string_type": "{key!r} is text, not {value!r}",
    "tuple_type": "{key!r} is a list, not {value!r}",
    "list_type": "{key!r} is a list, not {value!r}",
    "dict_type": "{key!r} is a mapping, not {value!r}",
    "model_type": "{key!r} is a mapping, not {value!r}",
    "model_attributes_type": "{key!r} is a mapping, not {value!r}",
    "too_short": "{key!r} is empty",
    "too_long": "{key!r} has at most {max_length} entries",
    "greater_than_equal": "{key!r} is {ge:g} or more, not {value!r}",
    "greater_than": "{key!r} is more than {gt:g}, not {value!r}",
    "less_than_equal": "{key!r} is {le:g} or less, not {value!r}",
    "literal_error": "{key!r} is {expected}, not {value!r}",
    "string_pattern_mismatch": "{key!r} cannot be {value!r}: it has the form {pattern}",
}


def validate(model: type[ModelT], document: Document) -> ModelT:
    """Return the whole document as `model`.

    Raises:
        InvalidDocument: with every problem, each at its place.
    """
    try:
        return model.model_validate(document.value)
    except ValidationError as error:
        raise InvalidDocument(problems_of(error, model, document)) from None


def problems_of(
    error: ValidationError,
    model: type[BaseModel],
    document: Document,
    prefix: DocumentPath = (),
    *,
    keep: Callable[[str, Any], bool] = lambda _kind, _value: True,
) -> tuple[Problem, ...]:
    """Return pydantic's errors as problems; `prefix` is where `model` stands in the document.

    `keep` is asked with pydantic's kind of error and the value that was complained about. No more
    than `MOST_PROBLEMS` come back: who has more reads the first of them and finds the rest later.
    """
    kept = [item for item in error.errors(include_url=False) if keep(item["type"], item["input"])]
    found = [_problem(item, model, document, prefix) for item in kept[:MOST_PROBLEMS]]
    return tuple(dict.fromkeys(found))


def problem_at(document: Document, path: DocumentPath, message: str, hint: str | None) -> Problem:
    """Return a problem at the value that `path` leads to."""
    place = document.place_of(path)
    return Problem(message, place, hint, document.excerpt(place))


def problem_at_key(
    document: Document, path: DocumentPath, message: str, hint: str | None
) -> Problem:
    """Return a problem at the key that `path` leads to."""
    place = document.key_place_of(path)
    return Problem(message, place, hint, document.excerpt(place))


def _problem(
    item: Any, model: type[BaseModel], document: Document, prefix: DocumentPath
) -> Problem:
    location: DocumentPath = tuple(item["loc"])
    path = _existing(document.value, prefix + location)
    # What a union adds to the location is no key; what is missing stands in no document.
    kind = item["type"]
    key = _key_of(location if kind == "missing" or not path else path)
    words = _WORDS.get(kind)
    told = {**item.get("ctx", {}), "key": key, "value": _short(item["input"])}
    message = words.format(**told) if words else _plain(item, key)
    if kind == "extra_forbidden":
        fields = fields_at(model, location[:-1])
        return problem_at_key(document, path, message, _nearest_hint(str(key), fields))
    if kind == "missing":
        return problem_at(document, path, message, None)
    hint = _hint(kind, item["input"]) or _nearest_word(told)
    return problem_at(document, path, message, hint)


def _plain(item: Any, key: str | int) -> str:
    """pydantic's own sentence, or our validators' (behind 'Value error, ')."""
    text = str(item["msg"]).removeprefix("Value error, ")
    return f"{key}: {text}" if key != "" else text


def _hint(kind: str, value: Any) -> str | None:
    if kind.startswith("bool") and str(value).lower() in {"yes", "no", "on", "off"}:
        return "write true or false"
    if kind == "string_type" and isinstance(value, bool | int | float):
        return f'quote it: "{value}"'
    return None


def _nearest_word(told: dict[str, Any]) -> str | None:
    """The word that was meant, where only some words are allowed."""
    words = re.findall(r"'([^']+)'", str(told.get("expected", "")))
    near = nearest(str(told["value"]), words)
    return f"did you mean {near!r}?" if near else None


def _nearest_hint(key: str, fields: list[str]) -> str:
    near = nearest(key, fields)
    return f"did you mean {near!r}?" if near else f"it may have: {', '.join(fields)}"


def _key_of(location: DocumentPath) -> str | int:
    named = [part for part in location if isinstance(part, str) and part != "[key]"]
    return named[-1] if named else (location[-1] if location else "")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    return text if isinstance(value, str) else _Bare(text)


class _Bare(str):
    """Text whose repr has no quotes: a mapping is shown as one, not as a quoted string."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _existing(value: Any, path: DocumentPath) -> DocumentPath:
    """Return `path` without the parts that pydantic adds (union members, [key])."""
    kept: list[str | int] = []
    for part in path:
        inside = (isinstance(value, dict) and part in value) or (
            isinstance(value, list) and isinstance(part, int) and part < len(value)
        )
        if inside:
            kept.append(part)
            value = value[part]
    return tuple(kept)


def fields_at(model: type[BaseModel], location: DocumentPath) -> list[str]:
    """Return the keys that the model knows at a place inside of it."""
    current: list[Any] = [model]
    for part in location:
        current = [inner for kind in current for inner in _inside(kind, part)]
    return sorted({name for kind in current for m in _models(kind) for name in _fields(m)})


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    """The model's fields by the names that a document has for them."""
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _inside(kind: Any, part: str | int) -> Iterator[Any]:
    for model in _models(kind):
        if part in _fields(model):
            yield _fields(model)[str(part)]
        elif part == model.__name__:
            yield model  # a union member that pydantic names in the location
    origin, args = get_origin(kind), get_args(kind)
    if origin in {dict, tuple, list}:
        yield args[1] if origin is dict else args[0]
    elif origin in {Union, UnionType}:
        for member in args:
            yield from _inside(member, part)
    elif hasattr(kind, "__metadata__"):
        yield from _inside(args[0], part)


def _models(kind: Any) -> Iterator[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    elif get_origin(kind) in {Union, UnionType}:
        for member in get_args(kind):
            yield from _models(member)
