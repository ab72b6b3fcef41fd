"""The quick way of a record's data: chosen by how its value came about, or by what a profile made of samples.

Whatever fits none is looked at as it always was. Pure.
"""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

from mbusd import value_texts
from mbusd.lesson import HIGH_FIRST, Lesson, Look, Measure, Source
from mbusd.mbus import values
from mbusd.mbus.profile import Rule
from mbusd.mbus.records import Conversion, Record, conversion_of
from mbusd.model import Measurement
from mbusd.slots import Scaled, Text, Unusual
from mbusd.value_texts import Number

_PROBE = 40  # a power of ten that no rounding of units touches
_FINEST = 10**12  # more than the denominator of any unit for people in units of the VIF tables
_INTEGERS = frozenset({1, 2, 3, 4, 6, 7})  # data fields of a DIF
_BCD = frozenset({9, 10, 11, 12, 14})


def way_of(one: Source, item: Measurement, lesson: Lesson, look: Look) -> Scaled | Text:
    slow, sent, profile = value_texts.looked_up(look), one.sent, lesson.profile
    if sent is None:
        return slow
    is_high_first = lesson.telegrams[one.telegram].frame.ci == HIGH_FIRST
    if profile is not None and any(_changes(rule, sent) for rule in profile.rules):
        said = None if is_high_first or item.kind != "number" else _guessed(one, look)
        return (None if said is None else value_texts.number(said, len(sent.raw))) or slow
    conversion = conversion_of(sent)
    if conversion is None:
        return slow
    if not is_high_first:
        return _quick(one, item, lesson, conversion, slow) or slow
    way = _quick(one, item, lesson, conversion, value_texts.reversed_bytes(slow), is_alone=True)
    return slow if way is None or isinstance(way, Scaled) else value_texts.reversed_bytes(way)


def _quick(
    one: Source, item: Measurement, lesson: Lesson, conversion: Conversion, slow: Text, *, is_alone: bool = False
) -> Scaled | Text | None:
    """The way of data that are converted so, low byte first, if there is one."""
    if item.kind == "number":
        factor = _factor(one, lesson.measure)
        if factor is None or conversion.exponent is None:
            return None
        factor *= Fraction(10) ** conversion.exponent
        said = Number(conversion.convert, factor, item.decimals, _may_be_doubtful(one, item, lesson))
        return value_texts.number(said, len(one.record.raw), is_alone=is_alone)
    if conversion.convert is values.identifier:
        return value_texts.digits
    if item.kind == "bits" and conversion.convert is values.bits:
        return value_texts.flags
    return value_texts.moment(slow) if conversion.convert is values.datetime_f else None


def _changes(rule: Rule, sent: Record) -> bool:
    """Whether a rule may read a record's data in another way than the standard; its VIB may be one shorter for it."""
    naming = rule.naming
    is_other = naming.factor is not None or naming.kind is not None or rule.place.function is not None
    if not is_other and not (naming.quantity and sent.kind == "raw"):
        return False
    return rule.fits(sent, sent.vib) or rule.fits(sent, sent.vib[:-1])


def _factor(one: Source, measure: Measure) -> Fraction | None:
    """What the unit for people multiplies a number by, from what it makes of a number that no rounding touches."""
    item = measure(one.key, replace(one.record, value=10**_PROBE), one.show)
    if item is None or not isinstance(item.value, int | Decimal):
        return None
    shown = Fraction(item.value) / 10**_PROBE
    factor = shown.limit_denominator(_FINEST)
    return factor if abs(factor - shown) * 10 ** (_PROBE - 2) < 1 else None


def _guessed(one: Source, look: Look) -> Number | None:
    """How a profile's rule makes a number: by one factor, as samples tell; None if they do not agree on it."""
    size, is_bcd = len(one.record.raw), one.record.dib[0] & 0x0F in _BCD
    if not is_bcd and one.record.dib[0] & 0x0F not in _INTEGERS:
        return None
    unit = _sample(look, (1).to_bytes(size, "little"))
    if not unit:
        return None
    signed = (-2).to_bytes(size, "little", signed=True)
    convert = values.bcd if is_bcd else values.signed if _sample(look, signed) == -2 * unit else values.unsigned
    samples = (bytes(size), b"\x02" + bytes(size - 1), b"\x57" * size, b"\x99" * size, signed)
    for raw in samples:
        if not (is_bcd and raw is signed) and _sample(look, raw) != convert(raw) * unit:
            return None
    return Number(convert, unit, None, _sample(look, b"\xff" * size) is None and convert is values.signed)


def _sample(look: Look, raw: bytes) -> Fraction | None:
    try:
        value = look(raw).value
    except Unusual:
        return None
    return Fraction(value) if isinstance(value, int | Decimal) else None


def _may_be_doubtful(one: Source, item: Measurement, lesson: Lesson) -> bool:
    """Whether all ones, -1 as an integer, are taken for no value."""
    ones = replace(one.record, value=-1, raw=b"\xff" * len(one.record.raw))
    other = lesson.measure(one.key, ones, one.show)
    return other is None or other.value is None or other.kind != item.kind
