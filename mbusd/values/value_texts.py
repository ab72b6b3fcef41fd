"""The ways in which the data of a record become JSON text without a Record between: each is exact, or refuses.

A way is chosen by how the record was made of its bytes when it was looked at; whatever has no way of its own is decoded
record by record, and remembered for as long as the same bytes come again. Pure.
"""

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache, partial
from typing import Final

from mbusd.light import dataclass
from mbusd.mbus import values
from mbusd.mbus.errors import DecodeError
from mbusd.values.slots import MOST_DIGITS, MOST_PLACES, Scaled, Text, Unusual

MOST_REMEMBERED = 2048  # data of all records whose way is slow
_MOST_PLACES = 40  # of a factor that ends
_DIGITS: Final = {1: 3, 2: 5, 3: 7, 4: 10, 6: 15}  # of an integer, by its bytes
_MINUTES: Final = tuple(
    f"{byte & 63:02}" if not byte & 0x80 and byte & 63 < 60 else None for byte in range(256)
)  # by the first byte of type F; None: no valid time
_MINUTE = slice(len('"2026-01-31T12:'), len('"2026-01-31T12:59'))


@dataclass(frozen=True, slots=True)
class Number:
    """How data become a number for people: `convert`, times `factor`, rounded to `decimals` if it has no end.

    `is_counter`: -1 counts as no value.
    """

    convert: Callable[[bytes], object]
    factor: Fraction
    decimals: int | None
    is_counter: bool

    @property
    def places(self) -> int | None:
        """What power of ten it is divided by; None where it is not as simple."""
        exponent = len(str(self.factor.denominator)) - len(str(self.factor.numerator))
        return exponent if self.factor == Fraction(10) ** -exponent else None


def number(said: Number, size: int) -> tuple[Scaled | Text, Text] | None:
    """The way of a number of `size` bytes as one of many, and alone; None if there is none."""
    convert, places = said.convert, said.places
    if convert is values.real and places is not None:
        real = _real(-places)
        return real, real
    if convert not in (values.signed, values.unsigned, values.bcd):
        return None
    if places is None:
        stepped = _stepped(said)
        return None if stepped is None else (stepped, stepped)

    if convert is values.signed:
        alone = _signed(said, places, size)
    else:
        alone = (_decimal if convert is values.bcd else _plain)(said, places)
    return _scaled(said, places, size) or alone, alone


def _scaled(said: Number, places: int, size: int) -> Scaled | None:
    """An integer or BCD as one of many; None where a float would not give all of its digits."""
    zeros = max(0, -places)
    most = MOST_DIGITS[zeros > 0]
    if said.convert is values.bcd and 2 * size + zeros <= most and places <= MOST_PLACES:
        return Scaled(places, 2 * size + zeros, is_bcd=True)
    if said.convert is values.signed and _DIGITS.get(size, 99) + zeros <= most and places <= MOST_PLACES:
        lowest = -1 << 8 * size - 1
        forbidden = frozenset({lowest, -1} if said.is_counter else {lowest})
        return Scaled(places, _DIGITS[size] + zeros, forbidden=forbidden)
    return None


def _signed(said: Number, places: int, size: int) -> Text:
    """Type B, as `_plain` does it, without detours."""
    lowest = -1 << 8 * size - 1
    forbidden = (lowest, -1) if said.is_counter else (lowest, lowest)

    def text(raw: bytes) -> str:
        number = int.from_bytes(raw, "little", signed=True)
        if number in forbidden:
            raise Unusual
        return shifted(number, places)

    return text


def _decimal(said: Number, places: int) -> Text:
    """Type A, likewise."""

    def text(raw: bytes) -> str:
        digits = raw[::-1].hex()
        return shifted(int(digits) if digits.isdecimal() else _integer(said, raw), places)

    return text


def _plain(said: Number, places: int) -> Text:
    return lambda raw: shifted(_integer(said, raw), places)


def _integer(said: Number, raw: bytes) -> int:
    try:
        number = said.convert(raw)
    except DecodeError as error:
        raise Unusual from error
    if not isinstance(number, int) or (said.is_counter and number == -1):
        raise Unusual
    return number


def _stepped(said: Number) -> Text | None:
    """A factor that is no power of ten: exact where it ends, else rounded as the slow way does, half to even."""
    places = next((places for places in range(_MOST_PLACES) if (said.factor * 10**places).denominator == 1), None)
    if places is None:
        places = said.decimals
    if places is None:
        return None
    over, under = (said.factor * 10**places).as_integer_ratio()
    is_binary = said.convert is not values.bcd

    def text(raw: bytes) -> str:
        number = int.from_bytes(raw, "little", signed=True) if is_binary else -1
        if number < 0:  # else types B and C say the same, and never "no value"
            number = _integer(said, raw)
        steps, rest = divmod(number * over, under)
        if 2 * rest > under or (2 * rest == under and steps & 1):
            steps += 1
        return shifted(steps, places)

    return text


def shifted(number: int, places: int) -> str:
    """`number` over 10**`places`, without an exponent or needless zeros."""
    if places <= 0:
        return str(number * 10**-places)
    digits = str(number)
    if number >= 0 and len(digits) > places:
        behind = digits[-places:].rstrip("0")
        return f"{digits[:-places]}.{behind}" if behind else digits[:-places]
    digits = str(abs(number)).rjust(places + 1, "0")
    shown = f"{digits[:-places]}.{digits[-places:]}".rstrip("0").rstrip(".")
    return f"-{shown}" if number < 0 else shown


def _real(shift: int) -> Text:
    """The shortest decimal of a real, times 10**`shift`."""

    def text(raw: bytes) -> str:
        said = values.nearest(raw)
        return _slow_real(raw, shift) if said is None else shifted(said[0], said[1] - shift)

    return text


def _slow_real(raw: bytes, shift: int) -> str:
    try:
        shown = values.shortest(raw)
    except DecodeError as error:
        raise Unusual from error
    moved = format(Decimal(shown).scaleb(shift), "f")
    if "." in moved:
        moved = moved.rstrip("0").rstrip(".")
    return "0" if moved == "-0" else moved


def digits(raw: bytes) -> str:
    """BCD digits as text, as they are printed on a meter."""
    shown = raw[::-1].hex()
    if not shown.isdecimal():
        raise Unusual
    return f'"{shown}"'


def flags(raw: bytes) -> str:
    """A bit field as hex digits."""
    return f'"{raw[::-1].hex().upper()}"'


def remembered(slow: Text) -> Text:
    """A way that is not gone twice for the same data."""
    return partial(_remembered, slow)


@lru_cache(maxsize=MOST_REMEMBERED)
def _remembered(slow: Text, raw: bytes) -> str:
    return slow(raw)


def moment(slow: Text) -> Text:
    """Date and time of type F: what is slow is done once an hour, as zones move their clocks between hours only."""

    def text(raw: bytes) -> str:
        minute = _MINUTES[raw[0]]
        if minute is None:
            raise Unusual
        around = _hour(slow, raw[1:])
        return slow(raw) if around is None else f"{around[0]}{minute}{around[1]}"

    return text


@lru_cache(maxsize=MOST_REMEMBERED)
def _hour(slow: Text, raw: bytes) -> tuple[str, str] | None:
    """What stands around the minute in the text of a moment, if that is the same all the hour."""
    first, last = slow(b"\x00" + raw), slow(b"\x3b" + raw)
    around = first[: _MINUTE.start], first[_MINUTE.stop :]
    return around if around == (last[: _MINUTE.start], last[_MINUTE.stop :]) else None


def reversed_bytes(way: Text) -> Text:
    """The way of data in the other order of bytes."""
    return lambda raw: way(raw[::-1])
