"""The quick way of a record's data: chosen by how its value comes about, or by what a profile makes of samples.

A new way in which a VIF and a length make a value needs one here only where it is to be quick: whatever fits none is
looked at as it always was. Pure.
"""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

from mbusd.light import dataclass
from mbusd.mbus import values
from mbusd.mbus.heads import Head
from mbusd.mbus.named import Named
from mbusd.model import Measurement
from mbusd.values import value_texts
from mbusd.values.slots import Scaled, Text, Unusual
from mbusd.values.value_texts import Number

_PROBE = 40  # a power of ten that no rounding of units touches
_FINEST = 10**12  # more than the denominator of any unit for people in units of the VIF tables


@dataclass(frozen=True, slots=True)
class Samples:
    """One record with valid data, and what others would be: `look` raises Unusual where they have no valid value."""

    named: Named
    item: Measurement
    head: Head | None  # None: of a maker's block
    is_high_first: bool
    look: Callable[[bytes], Measurement]
    measured: Callable[[Named], Measurement | None]

    def with_value(self, value: int, raw: bytes) -> Measurement | None:
        """What the record measures with another value."""
        record = replace(self.named.record, value=value, raw=raw)
        return self.measured(Named(self.named.sent, record, self.named.naming))


Both = tuple[Scaled | Text, Text]
"""A way as one of many that are taken out in one go, and alone."""


def way_of(one: Samples, slow: Text) -> Both:
    """The ways of a record's data; `slow` is the one that is always right."""
    seldom = value_texts.remembered(slow)
    if not one.is_high_first:
        return _low_first(one, seldom) or (seldom, seldom)
    both = None if one.named.is_read_otherwise else _low_first(one, value_texts.reversed_bytes(seldom))
    way = seldom if both is None else value_texts.reversed_bytes(both[1])
    return way, way


def _low_first(one: Samples, seldom: Text) -> Both | None:
    """The ways of data whose first byte is the low one."""
    if one.head is None or one.named.is_read_otherwise:
        said = _guessed(one) if one.item.kind == "number" else None
    elif one.item.kind == "number":
        said = _number(one, one.head)
    else:
        return _quick(one.item, one.head, seldom)
    return None if said is None else value_texts.number(said, len(one.named.record.raw))


def _quick(item: Measurement, head: Head, seldom: Text) -> Both:
    way = seldom
    if head.convert is values.identifier:
        way = value_texts.digits
    elif item.kind == "bits" and head.convert is values.bits:
        way = value_texts.flags
    elif head.convert is values.datetime_f:
        way = value_texts.moment(seldom)
    return way, way


def _number(one: Samples, head: Head) -> Number | None:
    """How the data of a number are converted, low byte first."""
    factor = _factor(one)
    if factor is None or head.shift is None:
        return None
    return Number(head.convert, factor * Fraction(10) ** head.shift, one.item.decimals, _may_be_doubtful(one))


def _factor(one: Samples) -> Fraction | None:
    """What the unit for people multiplies a number by, from what it makes of a number that no rounding touches."""
    item = one.with_value(10**_PROBE, one.named.record.raw)
    if item is None or not isinstance(item.value, int | Decimal):
        return None
    shown = Fraction(item.value) / 10**_PROBE
    factor = shown.limit_denominator(_FINEST)
    return factor if abs(factor - shown) * 10 ** (_PROBE - 2) < 1 else None


def _guessed(one: Samples) -> Number | None:
    """How a profile makes a number: by one factor, as samples tell; None if they do not agree on it."""
    size, look = len(one.named.record.raw), one.look
    unit = _sample(look, (1).to_bytes(size, "little")) if size else None
    if not unit:
        return None
    signed = (-2).to_bytes(size, "little", signed=True)
    is_bcd = _sample(look, b"\x10" + bytes(size - 1)) == 10 * unit
    convert = values.bcd if is_bcd else values.signed if _sample(look, signed) == -2 * unit else values.unsigned
    samples = (bytes(size), b"\x02" + bytes(size - 1), b"\x57" * size, b"\x99" * size, signed)
    for raw in samples:
        if not (is_bcd and raw is signed) and _sample(look, raw) != convert(raw) * unit:
            return None
    return Number(convert, unit, None, _sample(look, b"\xff" * size) is None and convert is values.signed)


def _sample(look: Callable[[bytes], Measurement], raw: bytes) -> Fraction | None:
    try:
        value = look(raw).value
    except Unusual:
        return None
    return Fraction(value) if isinstance(value, int | Decimal) else None


def _may_be_doubtful(one: Samples) -> bool:
    """Whether all ones, -1 as an integer, are taken for no value."""
    other = one.with_value(-1, b"\xff" * len(one.named.record.raw))
    return other is None or other.value is None or other.kind != one.item.kind
