"""JSON with exact decimals: 18.36 is written 18.36, and 0.0000001 without an exponent.

The encoder of the standard library cannot write a Decimal as a number.
"""

import json.encoder
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from math import isfinite
from typing import TypeAlias

quoted: Callable[[str], str] = json.encoder.encode_basestring
"""A text as JSON has it, every letter that can be as it is: what json.dumps uses, without the way to it."""

JsonValue: TypeAlias = "str | int | float | Decimal | date | Sequence[JsonValue] | Mapping[str, JsonValue] | None"


_WORDS = {None: "null", True: "true", False: "false"}


def dumps(document: JsonValue) -> str:
    """One line of JSON. Dates and moments become ISO 8601 text (UTC as `Z`). Raises ValueError for NaN and infinity."""
    match document:
        case str():
            return quoted(document)
        case None | bool():
            return _WORDS[document]
        case int() | float() | Decimal():
            return _number(document)
        case date():
            return f'"{_moment(document)}"'
        case Mapping():
            return "{" + ", ".join(f"{quoted(str(key))}: {dumps(value)}" for key, value in document.items()) + "}"
        case Sequence():
            return "[" + ", ".join(dumps(value) for value in document) + "]"


def _number(value: float | Decimal) -> str:
    if isinstance(value, int):  # however long
        return repr(value)
    if not (value.is_finite() if isinstance(value, Decimal) else isfinite(value)):
        raise ValueError(f"{value} is no number that JSON can hold")
    if not isinstance(value, Decimal):
        return repr(value)
    digits = format(value, "f")
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return "0" if digits == "-0" else digits


def _moment(value: date) -> str:
    if isinstance(value, datetime) and value.tzinfo is UTC:
        return value.replace(tzinfo=None).isoformat() + "Z"
    return value.isoformat()
