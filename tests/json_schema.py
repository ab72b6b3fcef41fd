"""As much of JSON Schema (2020-12) as the configuration's schema uses; an unknown keyword is an error, not ignored."""

import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"

_SILENT = {"title", "description", "default", "format", "writeOnly", "$defs"}
_TYPES: dict[str, Callable[[object], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "null": lambda value: value is None,
}


def accepts(schema: Mapping[str, Json], value: Json) -> bool:
    """Whether the document fits the schema. Raises ValueError for a schema that uses what is not known here."""
    return _fits(schema, value, schema)


def _fits(schema: Mapping[str, Json], value: Json, root: Mapping[str, Json]) -> bool:
    unknown = set(schema) - _SILENT - set(_KEYWORDS) - {"additionalProperties"}
    if unknown:
        raise ValueError(f"keywords {unknown} are not known here")
    return all(_KEYWORDS[word](schema, value, root) for word in schema if word in _KEYWORDS)


def _properties(schema: Mapping[str, Json], value: Json, root: Mapping[str, Json]) -> bool:
    known = _mapping(schema["properties"])
    if not isinstance(value, dict):
        return True
    if schema.get("additionalProperties", True) is False and not set(value) <= set(known):
        return False
    return all(_fits(_mapping(known[key]), item, root) for key, item in value.items() if key in known)


def _reference(schema: Mapping[str, Json], value: Json, root: Mapping[str, Json]) -> bool:
    target: Json = dict(root)
    for word in str(schema["$ref"]).removeprefix("#/").split("/"):
        target = _mapping(target)[word]
    return _fits(_mapping(target), value, root)


def _items(schema: Mapping[str, Json], value: Json, root: Mapping[str, Json]) -> bool:
    return not isinstance(value, list) or all(_fits(_mapping(schema["items"]), item, root) for item in value)


def _mapping(schema: Json) -> dict[str, Json]:
    assert isinstance(schema, dict)
    return schema


def _list(schema: Json) -> list[Json]:
    assert isinstance(schema, list)
    return schema


def _number(value: Json) -> float:
    assert isinstance(value, int | float)
    return value


_KEYWORDS: dict[str, Callable[[Mapping[str, Json], Json, Mapping[str, Json]], bool]] = {
    "type": lambda schema, value, _: _TYPES[str(schema["type"])](value),
    "anyOf": lambda schema, value, root: any(_fits(_mapping(one), value, root) for one in _list(schema["anyOf"])),
    "$ref": _reference,
    "properties": _properties,
    "required": lambda schema, value, _: (
        not isinstance(value, dict) or set(map(str, _list(schema["required"]))) <= set(value)
    ),
    "items": _items,
    "minItems": lambda schema, value, _: not isinstance(value, list) or len(value) >= _number(schema["minItems"]),
    "enum": lambda schema, value, _: value in _list(schema["enum"]),
    "const": lambda schema, value, _: value == schema["const"],
    "pattern": lambda schema, value, _: not isinstance(value, str) or bool(re.search(str(schema["pattern"]), value)),
    "minimum": lambda schema, value, _: not _TYPES["number"](value) or _number(value) >= _number(schema["minimum"]),
    "maximum": lambda schema, value, _: not _TYPES["number"](value) or _number(value) <= _number(schema["maximum"]),
}
