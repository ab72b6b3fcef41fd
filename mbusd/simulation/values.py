"""What simulated meters send: data records as bytes, and values that move (EN 13757-3 cl. 6).

Values are functions of the time since the start. A counter is the exact integral of the power or flow that is shown
beside it, so it never falls and agrees with it.
"""

import math
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate, pairwise

from mbusd.simulation.behaviour import Moment, Pages

HOUR = 3600.0
DAY = 24 * HOUR

Raw = int | float | str | datetime
"""What a record carries, before DIF and VIF give it width and unit."""

_BINARY = {1: 1, 2: 2, 3: 3, 4: 4, 6: 6, 7: 8}  # data field → bytes (EN 13757-3 cl. 6.3)
_BCD = {9: 1, 0xA: 2, 0xB: 3, 0xC: 4, 0xE: 6}


@dataclass(frozen=True, slots=True)
class Record:
    """One data record: DIB and VIB, and what it carries at a moment. Without a head, the bytes of `fixed`."""

    head: bytes
    value: Callable[[Moment], Raw] = lambda _: 0
    fixed: bytes = b""

    def to_bytes(self, moment: Moment) -> bytes:
        """The record as it is sent. Raises ValueError where its data field cannot carry its value."""
        return self.head + encode_value(self.head[0], self.value(moment)) if self.head else self.fixed


def encode_value(dif: int, value: Raw) -> bytes:
    """The data of a record (EN 13757-3 annex A). Whole numbers roll over like a counter that is full.

    Raises ValueError where the data field of `dif` cannot carry such a value.
    """
    data_field = dif & 0x0F
    match value:
        case datetime() if data_field in (2, 4):
            year = value.year % 100
            date = bytes([value.day | (year & 7) << 5, value.month | (year >> 3) << 4])
            return date if data_field == 2 else bytes([value.minute, value.hour | 0x20]) + date
        case str() if data_field == 0xD and value.isascii() and len(value) <= 0xBF:
            return bytes([len(value)]) + value.encode("ascii")[::-1]
        case int() if data_field in _BINARY:
            size = _BINARY[data_field]
            return (value & (1 << 8 * size) - 1).to_bytes(size, "little")
        case int() if data_field in _BCD:
            return _bcd(value, _BCD[data_field])
        case int() | float() if data_field == 5:
            return struct.pack("<f", value)
    raise ValueError(f"DIF {dif:02X} cannot carry {value!r}")


def fits(dif: int, value: float) -> bool:
    """Whether the data field of `dif` can carry this number without rolling over."""
    data_field = dif & 0x0F
    if data_field == 5:
        return True
    if data_field in _BINARY:
        bits = 8 * _BINARY[data_field]
        return isinstance(value, int) and -(1 << bits - 1) <= value < 1 << bits
    digits = 2 * _BCD.get(data_field, 0)
    return isinstance(value, int) and digits > 0 and -(10 ** (digits - 1)) < value < 10**digits


def _bcd(value: int, size: int) -> bytes:
    """Type A, low byte first; a minus sign takes the first digit."""
    width = 2 * size - (value < 0)
    digits = str(abs(value) % 10**width).rjust(width, "0")
    return bytes.fromhex(("F" if value < 0 else "") + digits)[::-1]


@dataclass(frozen=True, slots=True)
class Profile:
    """A rate that runs linearly from point to point and begins again after `period` seconds.

    `start` is the place in the period at second 0; until `delay` the rate stays what it is there.
    """

    points: tuple[float, ...]
    period: float = DAY
    start: float = 0.0
    delay: float = 0.0
    _sums: tuple[float, ...] = field(init=False, repr=False)  # the integral up to each point, in rate x hours

    def __post_init__(self) -> None:
        width = self.period / len(self.points) / HOUR
        pieces = ((a + b) / 2 * width for a, b in pairwise((*self.points, self.points[0])))
        object.__setattr__(self, "_sums", tuple(accumulate(pieces, initial=0.0)))

    def rate(self, seconds: float) -> float:
        """The rate so many seconds after the start."""
        index, part = self._place(self.start + max(seconds - self.delay, 0.0))
        before, after = self.points[index], self.points[(index + 1) % len(self.points)]
        return before + (after - before) * part

    def total(self, seconds: float) -> float:
        """The integral of the rate since the start, in rate x hours."""
        begun = max(seconds - self.delay, 0.0)
        waited = self.rate(0.0) * (seconds - begun) / HOUR
        return waited + self._integral(self.start + begun) - self._integral(self.start)

    def between(self, seconds: float, opens: float, closes: float) -> float:
        """The part of `total` that falls between two hours of the day: what a tariff register counts."""
        return self._gated(self.start + seconds, opens, closes) - self._gated(self.start, opens, closes)

    def _gated(self, place: float, opens: float, closes: float) -> float:
        days, of_day = divmod(place, DAY)
        first, last = opens * HOUR, closes * HOUR
        whole = self._integral(last) - self._integral(first)
        return days * whole + self._integral(min(max(of_day, first), last)) - self._integral(first)

    def _integral(self, place: float) -> float:
        rounds, rest = divmod(place, self.period)
        index, part = self._place(rest)
        before, after = self.points[index], self.points[(index + 1) % len(self.points)]
        width = self.period / len(self.points) / HOUR
        return rounds * self._sums[-1] + self._sums[index] + (before + (after - before) * part / 2) * part * width

    def _place(self, place: float) -> tuple[int, float]:
        width = self.period / len(self.points)
        index, rest = divmod(place % self.period, width)
        return int(index) % len(self.points), rest / width


def record(head: str, value: Raw | Callable[[float], Raw]) -> Record:
    """A record of a constant, or of a function of the seconds since the start; `head` in hex."""
    if callable(value):
        return Record(bytes.fromhex(head), lambda moment: value(moment.seconds))
    return Record(bytes.fromhex(head), lambda _: value)


def clock_record(head: str) -> Record:
    """The meter's own date or date and time."""
    return Record(bytes.fromhex(head), lambda moment: moment.clock)


def fixed(data: str) -> Record:
    """Bytes that never change, in hex: a maker's data behind DIF 0F, or a record that is odd by intention."""
    return Record(b"", fixed=bytes.fromhex(data))


def pages(*telegrams: Iterable[Record]) -> Pages:
    """The telegrams of one read-out, each a row of records."""
    rows = tuple(tuple(telegram) for telegram in telegrams)
    return lambda moment: [b"".join(record.to_bytes(moment) for record in row) for row in rows]


def counter(function: Callable[[float], float], steps: float = 1) -> Callable[[float], int]:
    """Whole steps of a sum that rises; `steps` per unit."""
    return lambda seconds: math.floor(function(seconds) * steps + 1e-6)


def rounded(function: Callable[[float], float], steps: float = 1) -> Callable[[float], int]:
    """The nearest whole step of a momentary value; `steps` per unit."""
    return lambda seconds: round(function(seconds) * steps)
