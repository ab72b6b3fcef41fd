"""JSON out of a file that may be damaged: what no program of ours can have written is nothing (null). Pure.

A disk that loses its power writes what it likes, and Python's parser takes more than JSON is: NaN, numbers beyond any
float, halves of UTF-16 pairs. None of that can be reckoned with, or written again.
"""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from math import isfinite

from mbusd.exact_json import JsonValue

MOST_DIGITS = 18  # of an integer: those of 64 bits, nearly
_TOO_MUCH: int = 10**MOST_DIGITS


def loads(text: str) -> JsonValue:
    """What stands there, without what cannot be. Raises ValueError, and RecursionError where it is too deep."""
    document: JsonValue = json.loads(text, parse_int=_integer, parse_constant=_nothing)
    return sound(document)


def sound(value: JsonValue) -> JsonValue:
    """The same without what is no JSON: null instead, and nothing under a key that cannot be written."""
    match value:
        case Mapping():
            return {str(key): sound(one) for key, one in value.items() if _is_text(str(key))}
        case Sequence() if not isinstance(value, str):
            return [sound(one) for one in value]
    return value if _is_sound(value) else None


def _is_sound(value: JsonValue) -> bool:
    if isinstance(value, str):
        return _is_text(value)
    if isinstance(value, int):
        return abs(value) < _TOO_MUCH
    return not isinstance(value, float | Decimal) or isfinite(value)


def _integer(digits: str) -> int | None:
    return int(digits) if len(digits.lstrip("-")) <= MOST_DIGITS else None


def _nothing(_: str) -> None:
    """NaN and the infinities."""


def _is_text(text: str) -> bool:
    """Whether it can be written in UTF-8: it has no half of a pair."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)
