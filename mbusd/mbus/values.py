"""Data bytes to values: integers, BCD, reals, dates, text; and clocks back (EN 13757-3 annex A, types A to J).

Bytes are in the order of mode 1, low byte first. Numbers are exact. A function raises DecodeError where the meter says
that it has no valid value, with a message for the record's `problem`.
"""

import math
import struct
from calendar import isleap
from datetime import date, datetime, time
from decimal import Context, Decimal
from typing import NoReturn

from mbusd.mbus.errors import DecodeError

_EXACT = Context(prec=400)  # wider than any number that ten scaling VIFEs can make of a record

FIRST_YEAR, LAST_YEAR = 1981, 2080  # of two digits without a century

_EVERY_YEAR = 127
_EVERY_MONTH = 15
_EVERY_HOUR = 31
_EVERY_MINUTE = 63


def _no_value(message: str) -> NoReturn:
    raise DecodeError("no_value", message)


def signed(raw: bytes) -> int:
    """Type B: two's complement; the most negative number means "invalid"."""
    value = int.from_bytes(raw, "little", signed=True)
    if value == -1 << len(raw) * 8 - 1:
        _no_value(f"{_hex(raw)} means that there is no valid value")
    return value


def unsigned(raw: bytes) -> int:
    """Type C: all bits set means "invalid"."""
    _refuse_all_ones(raw)
    return int.from_bytes(raw, "little")


def _refuse_all_ones(raw: bytes) -> None:
    if raw.count(0xFF) == len(raw):
        _no_value(f"{_hex(raw)} means that there is no valid value")


def bits(raw: bytes) -> int:
    """Type D: bit 0 is the low bit of the first byte."""
    return int.from_bytes(raw, "little")


def bcd(raw: bytes) -> int:
    """Type A: two digits a byte, F in the first place is a minus sign; other letters mean "no value"."""
    shown = _hex(raw)
    return -int(_decimal(shown[1:])) if shown.startswith("F") else int(_decimal(shown))


def digits(raw: bytes) -> int:
    """BCD without a sign, as behind LVAR C0 to D9."""
    return int(_decimal(_hex(raw)))


def identifier(raw: bytes) -> str:
    """BCD digits as they are printed on a meter, leading zeros included."""
    return _decimal(_hex(raw))


def _decimal(shown: str) -> str:
    if not shown.isdecimal():
        _no_value(f"the meter shows '{shown}' instead of decimal digits")
    return shown


def real(raw: bytes) -> Decimal:
    """Type H: the shortest decimal that stands for this IEEE 754 single."""
    return Decimal(shortest(raw))


def shortest(raw: bytes) -> str:
    """The digits of a real, perhaps with an exponent, as few as tell it from all other singles."""
    (number,) = _SINGLE.unpack(raw)
    if not math.isfinite(number):
        _no_value(f"the real {_hex(raw)} is not a number")
    for places in range(1, 9):
        shorter = f"{number:.{places}g}"
        if _packs_to(float(shorter), raw):
            return shorter
    return f"{number:.9g}"


def nearest(raw: bytes) -> tuple[int, int] | None:
    """The decimal of `shortest` as an integer and the power of ten it is to be divided by; None: not known so quickly.

    Whatever is nearer to a number than half the way to its neighbours stands for it.
    """
    (number,) = _SINGLE.unpack(raw)
    mantissa, exponent = math.frexp(number)
    if exponent not in _SCALES or not -1e30 < number < 1e30:
        return None
    limit, below, above = _SCALES[exponent]
    scale, near, places = below if -limit < number < limit else above
    many = number * scale
    digits = round(many)
    away = abs(digits - many)
    if not away:
        return digits, places
    if mantissa in _POWERS or abs(away - near) < _DOUBT or away > 0.5 - _DOUBT:
        return None
    if away > near:
        return _eight_or_nine(10 * many, 10 * near, places + 1)
    last = digits % 10
    if 1 < last < 9 or not last:
        return digits, places
    shorter = digits - 1 if last == 1 else digits + 1
    away = abs(shorter - many)
    return None if abs(away - near) < _DOUBT else (shorter if away < near else digits, places)


def _eight_or_nine(many: float, near: float, places: int) -> tuple[int, int] | None:
    """A number that seven digits cannot tell from its neighbours."""
    digits = round(many)
    away = abs(digits - many)
    if abs(away - near) < _DOUBT or away > 0.5 - _DOUBT:
        return None
    if away < near:
        return digits, places
    digits = round(10 * many)
    return None if abs(digits - 10 * many) > 0.5 - _DOUBT else (digits, places + 1)


def _scale(exponent: int, places: int) -> tuple[float, float, int]:
    """What makes an integer of a number; half the way from it to the next; the places behind the point."""
    return 10.0**places, 2.0 ** (exponent - 25) * 10.0**places, places


_SINGLE = struct.Struct("<f")
_DOUBT = 1e-6  # of numbers with nine digits before the point: more than what rounding makes of them
_POWERS = frozenset({0.5, -0.5})  # of two: the neighbours are not as far below as above
_SCALES = {
    exponent: (10.0 ** (7 - places), _scale(exponent, places), _scale(exponent, places - 1))
    for exponent in range(-14, 44)
    for places in [6 - math.floor(math.log10(2.0 ** (exponent - 1)))]
}
"""By the exponent: how large a number with seven digits can be, how to make one of it, and of a larger one."""


def _packs_to(number: float, raw: bytes) -> bool:
    try:
        return struct.pack("<f", number) == raw
    except OverflowError:  # rounded up beyond the largest single
        return False


def scaled(number: int | Decimal, exponent: int, factor: Decimal | None, offset: Decimal | None) -> int | Decimal:
    """`number` * `factor` * 10**`exponent` + `offset`: an int where integral, else a Decimal without trailing zeros."""
    if isinstance(number, int) and exponent >= 0 and factor is None and offset is None:
        power: int = 10**exponent
        return number * power
    value = _EXACT.scaleb(Decimal(number), exponent)
    if factor is not None:
        value = _EXACT.multiply(value, factor)
    if offset is not None:
        value = _EXACT.add(value, offset)
    return int(value) if value == value.to_integral_value(context=_EXACT) else _EXACT.normalize(value)


def text(raw: bytes) -> str | None:
    """ISO 8859-1, last character first, padding cut off; None if there are control characters: it is no text then."""
    letters = raw[::-1].decode("latin-1").strip("\0 \t\r\n")
    return letters if all(letter.isprintable() for letter in letters) else None


def date_g(raw: bytes) -> date:
    """Type G: 2 bytes; all bits set means "invalid"."""
    _refuse_all_ones(raw)
    low, high = raw
    return _date(_century(_year(low, high), 0), high & 15, low & 31)


def datetime_f(raw: bytes) -> datetime:
    """Type F: 4 bytes; the time of the meter's clock, without a zone."""
    minute, hour, day, month = raw
    if minute & 0x80:
        _no_value("the meter says that its time is invalid")
    year = _century(_year(day, month), hour >> 5 & 3)
    return datetime.combine(_date(year, month & 15, day & 31), _time(hour & 31, minute & 63, 0))


def datetime_i(raw: bytes) -> datetime:
    """Type I: 6 bytes; the time of the meter's clock, without a zone."""
    second, minute, hour, day, month, _ = raw
    if minute & 0x80:
        _no_value("the meter says that its time is invalid")
    year = _century(_year(day, month), 0)
    return datetime.combine(_date(year, month & 15, day & 31), _time(hour & 31, minute & 63, second & 63))


def encode_g(when: date) -> bytes:
    """Type G of a date, 1981 to 2080. Raises ValueError for other years, whose century a meter would mistake."""
    if _century(when.year % 100, 0) != when.year:
        raise ValueError(f"the year {when.year} has no safe form: {FIRST_YEAR} to {LAST_YEAR} have")
    return _date_bytes(when)


def encode_f(when: datetime, *, summer_time: bool = False) -> bytes:
    """Type F of a local time, 1981 to 2299; it has no place for seconds. Raises ValueError for other years."""
    hundreds = max(when.year - 1900, 0) // 100
    if hundreds > 3 or _century(when.year % 100, hundreds) != when.year:
        raise ValueError(f"the year {when.year} has no form: {FIRST_YEAR} to 2299 have")
    return bytes([when.minute, when.hour | hundreds << 5 | summer_time << 7]) + _date_bytes(when)


def encode_i(when: datetime, *, summer_time: bool = False) -> bytes:
    """Type I of a local time to the second, 1981 to 2080, with its weekday. Raises ValueError for other years."""
    day = encode_g(when)
    second = when.second | summer_time << 6 | isleap(when.year) << 7
    return bytes([second, when.minute, when.hour | when.isoweekday() << 5]) + day + b"\0"


def _date_bytes(when: date) -> bytes:
    year = when.year % 100
    return bytes([when.day | (year & 7) << 5, when.month | year >> 3 << 4])


def time_j(raw: bytes) -> str:
    """Type J: 3 bytes, a time of day as HH:MM:SS; all bits set means "invalid"."""
    _refuse_all_ones(raw)
    second, minute, hour = raw
    return _time(hour, minute, second).isoformat()


def _year(low: int, high: int) -> int:
    """Two digits: three bits above the day, four above the month."""
    return high >> 4 << 3 | low >> 5


def _century(year: int, hundreds: int) -> int:
    """The full year; meters that know no centuries leave `hundreds` 0 and mean 1981 to 2080."""
    if year == _EVERY_YEAR:
        _no_value("a rule for every year, not a date")
    if year > 99:
        _no_value(f"there is no year {year} in a century")
    return 2000 + year if hundreds == 0 and year <= LAST_YEAR - 2000 else 1900 + 100 * hundreds + year


def _date(year: int, month: int, day: int) -> date:
    if month == _EVERY_MONTH or (day == 0 and month != 0):
        _no_value("a rule for every month or day, not a date")
    try:
        return date(year, month, day)
    except ValueError:
        _no_value(f"{year:04}-{month:02}-{day:02} is no date")


def _time(hour: int, minute: int, second: int) -> time:
    if hour == _EVERY_HOUR or _EVERY_MINUTE in (minute, second):
        _no_value("a rule for every hour, minute or second, not a time")
    try:
        return time(hour, minute, second)
    except ValueError:
        _no_value(f"{hour:02}:{minute:02}:{second:02} is no time")


def _hex(raw: bytes) -> str:
    """The digits in the order in which a person reads them."""
    return raw[::-1].hex().upper()
