"""`power > 0 and flow_temperature >= 30`: when a meter counts as active, by the values of its last reading. Pure."""

import operator
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final

from mbusd.light import dataclass
from mbusd.model import Value

_COMPARISONS: Final[Mapping[str, Callable[[Decimal, Decimal], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_TERM = re.compile(r"([^\s<>=!]+)\s*([<>=!]+)\s*(\S+)")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_SAMPLE = "a key, one of < <= > >= == !=, and a number, as in `power > 0`"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One value against a number."""

    key: str
    sign: str
    number: Decimal


@dataclass(frozen=True, slots=True)
class Condition:
    """Comparisons that must all be true."""

    comparisons: tuple[Comparison, ...]

    def holds(self, values: Mapping[str, Value]) -> bool:
        """Whether it is true of these values, by key; a value that is not there or no number makes it false."""
        return all(_is_true(one, values.get(one.key)) for one in self.comparisons)

    def unknown(self, values: Mapping[str, Value]) -> list[str]:
        """Its keys that are not there, or hold something else than numbers. A number without a valid value is known."""
        known = (int, Decimal, type(None))
        keys = dict.fromkeys(one.key for one in self.comparisons)
        return [key for key in keys if key not in values or not isinstance(values[key], known)]


def condition_of(text: str) -> Condition:
    """A condition as it is written. Raises ValueError saying what is wrong where."""
    if not text.strip():
        raise ValueError(f"a condition is {_SAMPLE}")
    return Condition(tuple(_comparison(term) for term in re.split(r"\band\b", text.strip())))


def _comparison(text: str) -> Comparison:
    match = _TERM.fullmatch(text.strip())
    if match is None:
        if re.search(r"\bor\b|&&|\|", text):
            raise ValueError(f"'{text.strip()}': only `and` joins comparisons")
        raise ValueError(f"'{text.strip()}' is no comparison: {_SAMPLE}")
    key, sign, number = match.groups()
    if sign not in _COMPARISONS:
        near = "; == is meant?" if sign == "=" else ""
        raise ValueError(f"'{sign}' in '{text.strip()}' is none of {' '.join(_COMPARISONS)}{near}")
    if not _NUMBER.fullmatch(number):
        raise ValueError(f"'{number}' in '{text.strip()}' is no number; one without a unit is needed")
    return Comparison(key, sign, Decimal(number))


def _is_true(one: Comparison, value: Value) -> bool:
    if not isinstance(value, int | Decimal):
        return False
    number = Decimal(value)
    return number.is_finite() and _COMPARISONS[one.sign](number, one.number)
