"""Where the values of a telegram stand in its bytes, and how all of them are taken out in one go. Pure."""

import struct
from binascii import hexlify
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from operator import truediv
from typing import Final, Protocol

from mbusd.light import dataclass
from mbusd.mbus.errors import DecodeError
from mbusd.mbus.values import bcd
from mbusd.model import Measurement

Text = Callable[[bytes], str]
"""Data of a record to JSON text; raises Unusual for data without a valid value."""

MOST_PLACES = 15
MOST_DIGITS = (15, 14)  # of a number that is divided; of one that is multiplied, by dividing by a fraction

_CODES: Final = {1: "b", 2: "h", 4: "i"}  # of struct, by the bytes of an integer
_TEXTS: Final = {2 * size: f"{2 * size}s" for size in range(1, 9)}  # of BCD in hex digits


class Unusual(ValueError):
    """Data that must be looked at record by record."""


@dataclass(frozen=True, slots=True)
class Scaled:
    """A signed integer of 1, 2, 3, 4 or 6 bytes, or BCD of 7 at most: a number over 10**`places`.

    It has `digits` at most: so few that the float which division gives, the nearest to the true decimal or (below the
    point) the next to it, becomes just that decimal when it is written with so many digits.
    """

    places: int
    digits: int
    is_bcd: bool = False
    forbidden: frozenset[int] = frozenset()  # integers that mean "no value"


class Source(Protocol):
    """Where a slot has its values from."""

    @property
    def way(self) -> Scaled | Text:
        """How data become a value."""

    def called(self, key: str) -> Measurement:
        """The measurement with any value, under this key."""

    def look(self, raw: bytes) -> Measurement:
        """The measurement of data, the slow way. Raises Unusual where they have no valid value."""


Found = tuple[str, Source, int, int, int, Measurement | None, str]
"""One value of a reading as it was found: key, source, from which byte to which of which telegram; and, where these
bytes are to stay as they are, what they say, and the same as text."""


def gap_of(way: Scaled | Text | str) -> str:
    """What stands for such a value in a text that `%` fills in, without needless zeros."""
    if isinstance(way, Scaled):
        return "%d" if way.places == 0 else f"%.{way.digits}g"
    return way.replace("%", "%%") if isinstance(way, str) else "%s"


Gap = tuple[int, int, Scaled | Text | str]
"""From which byte to which of a telegram, and what becomes of them."""


TINY = "e-"  # in a float below 0.0001


def shown(value: float | str, way: Scaled | Text | str) -> str:
    """A value as JSON has it."""
    if isinstance(value, str):
        return value
    text = f"{value:.{way.digits}g}" if isinstance(way, Scaled) else repr(value)
    return format(Decimal(text), "f") if TINY in text else text


def text_of(way: Scaled | Text) -> Text:
    """A way as the text of its data."""
    if not isinstance(way, Scaled):
        return way
    value = _alone(way)
    return lambda raw: shown(value(raw), way)


def _alone(way: Scaled | Text) -> Callable[[bytes], float | str]:
    """A way as the value of its data, which stand alone."""
    return (lambda raw: Part([(0, len(raw), way)], len(raw)).take(raw)[0]) if isinstance(way, Scaled) else way


class Part:
    """The moving values of one telegram: integers that struct knows, other integers, BCD from the end, all others.

    `order`: of the values that are taken, the numbers of their gaps.
    """

    __slots__ = ("_decimals", "_digits", "_divisors", "_forbidden", "_integers", "_numbers", "_odd", "_others",
                 "_powers", "order")  # fmt: skip

    def __init__(self, gaps: Sequence[Gap], length: int) -> None:
        integers, odd, decimals, others = _by_way(gaps)
        self.order = (*integers, *odd, *decimals, *others)
        self._integers = struct.Struct(_format([gaps[at][:2] for at in integers], _CODES))
        self._odd = [gaps[at][:2] for at in odd]
        said = [way for at in (*integers, *odd) if isinstance(way := gaps[at][2], Scaled)]
        self._divisors = [10**way.places for way in said]
        self._forbidden = [way.forbidden for way in said]
        self._numbers = frozenset[int]().union(*self._forbidden)
        self._decimals = [gaps[at][:2] for at in decimals]
        turned = [(2 * (length - end), 2 * (length - start)) for start, end in self._decimals]
        self._digits = struct.Struct(_format(turned, _TEXTS))
        self._powers = [10**way.places for at in decimals if isinstance(way := gaps[at][2], Scaled)]
        self._others = [
            (_alone(way), start, end) for start, end, way in map(gaps.__getitem__, others) if not isinstance(way, str)
        ]

    def take(self, data: bytes) -> list[float | str]:
        """The values in their order. Raises Unusual."""
        integers = self._integers.unpack_from(data)
        if self._odd:
            integers += tuple([int.from_bytes(data[start:end], "little", signed=True) for start, end in self._odd])
        if not self._numbers.isdisjoint(integers):
            self._refuse(integers)
        values: list[float | str] = [*map(truediv, integers, self._divisors)]
        if self._powers:
            try:
                values += map(truediv, map(int, self._digits.unpack_from(hexlify(data[::-1]))), self._powers)
            except ValueError:  # a sign, or no decimal digits
                values[len(integers) :] = self._signed(data)
        if self._others:
            values += [text(data[start:end]) for text, start, end in self._others]
        return values

    def _refuse(self, integers: Iterable[int]) -> None:
        for number, forbidden in zip(integers, self._forbidden, strict=True):
            if number in forbidden:
                raise Unusual

    def _signed(self, data: bytes) -> Iterator[float]:
        for (start, end), power in zip(self._decimals, self._powers, strict=True):
            try:
                yield bcd(data[start:end]) / power
            except DecodeError as error:
                raise Unusual from error


def _by_way(gaps: Sequence[Gap]) -> tuple[list[int], list[int], list[int], list[int]]:
    """The numbers of the gaps: integers that struct knows, other integers, BCD from the end, all others."""
    integers: list[int] = []
    odd: list[int] = []
    decimals: list[int] = []
    others: list[int] = []
    free = 0
    for at, (start, end, way) in enumerate(gaps):
        if isinstance(way, Scaled):
            if start < free:  # not behind the others, as fields of a profile may be
                (others if way.is_bcd else odd).append(at)
                continue
            (decimals if way.is_bcd else integers if end - start in _CODES else odd).append(at)
            free = end
        elif not isinstance(way, str):
            others.append(at)
    return integers, odd, decimals[::-1], others


def _format(spans: Iterable[tuple[int, int]], codes: Mapping[int, str]) -> str:
    """What struct is to take out: from each byte to another, in ascending order, in the code of so many bytes."""
    parts, at = ["<"], 0
    for start, end in spans:
        parts.append(f"{start - at}x{codes[end - start]}")
        at = end
    return "".join(parts)
