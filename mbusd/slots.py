"""Where the values of a telegram stand in its bytes, and how all of them are taken out in one go. Pure."""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from operator import truediv
from typing import Final, Protocol

from mbusd.mbus.errors import DecodeError
from mbusd.mbus.values import bcd
from mbusd.model import Measurement

Text = Callable[[bytes], str]
"""Data of a record to JSON text; raises Unusual for data without a valid value."""

MOST_PLACES = 15
MOST_DIGITS = (15, 14)  # of a number that is divided; of one that is multiplied, by dividing by a fraction

_CODES: Final = {1: "b", 2: "h", 4: "i"}  # of struct, by the bytes of an integer


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

    def look(self, raw: bytes) -> Measurement:
        """The measurement of data, the slow way. Raises Unusual where they have no valid value."""


@dataclass(slots=True, eq=False)
class Gap:
    """Where one value stands in the data of a telegram, and how it becomes JSON; None: its source knows."""

    way: Scaled | Text | str | None  # str: the text that it always has
    start: int
    end: int


@dataclass(slots=True, eq=False)
class Slot(Gap):
    """The gap of one measurement; `item` has any value."""

    item: Measurement
    source: Source
    telegram: int

    def settle(self) -> None:
        """Find its way."""
        if self.way is None:
            self.way = self.source.way


TINY = "e-"  # in a float below 0.0001


def shown(value: float | str, way: Scaled | Text | str | None) -> str:
    """A value as JSON has it."""
    if isinstance(value, str):
        return value
    text = f"{value:.{way.digits}g}" if isinstance(way, Scaled) else repr(value)
    return format(Decimal(text), "f") if TINY in text else text


def text_of(way: Scaled | Text) -> Text:
    """A way as the text of its data."""
    if not isinstance(way, Scaled):
        return way

    def text(raw: bytes) -> str:
        (value,) = Part([Gap(way, 0, len(raw))], len(raw)).take(raw)
        return shown(value, way)

    return text


class Part:
    """The moving values of one telegram: integers that struct knows, other integers, BCD, then all others."""

    __slots__ = (
        "_digits",
        "_divisors",
        "_forbidden",
        "_numbers",
        "_odd",
        "_others",
        "_places",
        "_spans",
        "_struct",
        "slots",
    )

    def __init__(self, slots: Iterable[Gap], length: int) -> None:
        moving = sorted((slot for slot in slots if not isinstance(slot.way, str)), key=lambda slot: slot.start)
        scaled = [(slot, slot.way) for slot in moving if isinstance(slot.way, Scaled)]
        integers = [(slot, way) for slot, way in scaled if not way.is_bcd and slot.end - slot.start in _CODES]
        odd = [(slot, way) for slot, way in scaled if not way.is_bcd and slot.end - slot.start not in _CODES]
        decimals = [(slot, way) for slot, way in scaled if way.is_bcd]
        others = [(slot, slot.way) for slot in moving if callable(slot.way)]
        self.slots = [slot for slot, _ in (*integers, *odd, *decimals, *others)]  # in the order of the values
        self._struct = struct.Struct(_format([slot for slot, _ in integers]))
        self._odd = [(slot.start, slot.end) for slot, _ in odd]
        self._divisors = [10**way.places for _, way in (*integers, *odd)]
        self._forbidden = [way.forbidden for _, way in (*integers, *odd)]
        self._numbers = frozenset[int]().union(*self._forbidden)
        self._spans = [(slot.start, slot.end) for slot, _ in decimals]
        self._digits = [slice(2 * (length - slot.end), 2 * (length - slot.start)) for slot, _ in decimals]
        self._places = [10**way.places for _, way in decimals]
        self._others = [(way, slot.start, slot.end) for slot, way in others]

    def take(self, data: bytes) -> list[float | str]:
        """The values in the order of `slots`. Raises Unusual."""
        integers = self._struct.unpack_from(data)
        if self._odd:
            integers += tuple([int.from_bytes(data[start:end], "little", signed=True) for start, end in self._odd])
        if not self._numbers.isdisjoint(integers):
            self._refuse(integers)
        values: list[float | str] = [*map(truediv, integers, self._divisors)]
        if self._digits:
            shown = data[::-1].hex()
            try:
                values += map(truediv, map(int, map(shown.__getitem__, self._digits)), self._places)
            except ValueError:  # a sign, or no decimal digits
                values[len(integers) :] = self._signed(data)
        values += [text(data[start:end]) for text, start, end in self._others]
        return values

    def _refuse(self, integers: Iterable[int]) -> None:
        for number, forbidden in zip(integers, self._forbidden, strict=True):
            if number in forbidden:
                raise Unusual

    def _signed(self, data: bytes) -> Iterator[float]:
        for (start, end), divisor in zip(self._spans, self._places, strict=True):
            try:
                yield bcd(data[start:end]) / divisor
            except DecodeError as error:
                raise Unusual from error


def _format(slots: Sequence[Gap]) -> str:
    parts, at = ["<"], 0
    for slot in slots:
        parts += [f"{slot.start - at}x", _CODES[slot.end - slot.start]]
        at = slot.end
    return "".join(parts)
