"""What the owner of a meter wants to see of it: which keys, under which name, in which unit. Pure.

In this order: scale, offset, unit, precision, then include and exclude, then rename; patterns are those of the shell
and meet the key as the meter's records make it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from decimal import Decimal, localcontext
from fnmatch import fnmatchcase
from typing import TypeVar

from mbusd.light import dataclass
from mbusd.model import Measurement, Reading
from mbusd.values.units import convert

T = TypeVar("T")

_DIGITS = 500  # more than any product of what meters and people write
_DIFFERENCES = frozenset({"temperature_difference"})
QUANTITIES = {  # what is counted, by the unit that the owner gives to bare pulses
    **dict.fromkeys(("Wh", "kWh", "MWh", "MJ", "GJ"), "energy"),
    **dict.fromkeys(("m³", "L", "ft³", "gal"), "volume"),
    **dict.fromkeys(("W", "kW"), "power"),
    **dict.fromkeys(("m³/h", "L/h", "L/min"), "volume_flow"),
    **dict.fromkeys(("kg", "t"), "mass"),
    **dict.fromkeys(("h", "min", "s"), "operating_time"),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """The owner's wishes for one meter. Mappings go by key or pattern; the first that fits counts."""

    include: tuple[str, ...] = ()  # empty: all
    exclude: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    unit: Mapping[str, str] = field(default_factory=dict)
    precision: Mapping[str, int] = field(default_factory=dict)  # decimals
    scale: Mapping[str, Decimal] = field(default_factory=dict)
    offset: Mapping[str, Decimal] = field(default_factory=dict)  # added after scaling, in the unit before `unit`
    medium: tuple[int, str] | None = None  # code and name, instead of what the header says


_AS_SENT = Shape()


def shaped(reading: Reading, shape: Shape) -> Reading:
    """The reading as its owner wants it; what cannot be done is told in its problems, and the value stays away.

    A key that is renamed to one that is there already stays as it was: two values never share a topic.
    """
    if shape == _AS_SENT:
        return reading
    problems: list[str] = []
    items = list(_kept(reading.measurements, shape, problems))
    names = _names([item.key for item in items], shape.rename, problems)
    measurements = tuple(replace(item, key=names[item.key]) for item in items)
    identity = reading.identity
    if shape.medium is not None:
        identity = replace(identity, medium=shape.medium[0], medium_name=shape.medium[1])
    return replace(reading, identity=identity, measurements=measurements, problems=(*reading.problems, *problems))


def _names(keys: Sequence[str], rename: Mapping[str, str], problems: list[str]) -> dict[str, str]:
    """The name of each key; whatever would meet another one keeps the name that the meter gave it."""
    names = {key: rename.get(key, key) for key in keys}
    while clashes := [key for key, count in Counter(names.values()).items() if count > 1]:
        for key in [key for key, name in names.items() if name in clashes and name != key]:
            problems.append(f"{key}: cannot be renamed to {names[key]}: another value has that name")
            names[key] = key
    return names


def _kept(items: tuple[Measurement, ...], shape: Shape, problems: list[str]) -> Iterator[Measurement]:
    for item in items:
        if shape.include and not _fits(item.key, shape.include):
            continue
        if _fits(item.key, shape.exclude):
            continue
        try:
            yield _measured(item, shape)
        except ValueError as error:
            problems.append(f"{item.key}: {error}")


def _fits(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def _measured(item: Measurement, shape: Shape) -> Measurement:
    """One number, scaled, converted, rounded. Raises ValueError where its unit cannot be had."""
    if item.kind != "number":
        return item
    item = _scaled(item, _wish(shape.scale, item.key), _wish(shape.offset, item.key))
    item = _converted(item, _wish(shape.unit, item.key), may_relabel=_wish(shape.scale, item.key) is not None)
    precision = _wish(shape.precision, item.key)
    if precision is None:
        return item
    value = item.value
    rounded = _plain(round(Decimal(value), precision)) if isinstance(value, int | Decimal) else value
    return replace(item, value=rounded, decimals=max(0, precision))


def _wish(wishes: Mapping[str, T], key: str) -> T | None:
    return next((wish for pattern, wish in wishes.items() if fnmatchcase(key, pattern)), None)


def _scaled(item: Measurement, scale: Decimal | None, offset: Decimal | None) -> Measurement:
    if scale is None and offset is None:
        return item
    scale, offset = Decimal(1) if scale is None else scale, Decimal(0) if offset is None else offset
    with localcontext(prec=_DIGITS):
        value = item.value
        changed = _plain(value * scale + offset) if isinstance(value, int | Decimal) else value
    decimals = None if item.decimals is None else max(0, item.decimals + _places(scale), _places(offset))
    return replace(item, value=changed, decimals=decimals)


def _converted(item: Measurement, unit: str | None, *, may_relabel: bool) -> Measurement:
    """In the wanted unit; pulses become what the owner says that they are, and lose what a pulse was."""
    if unit is None:
        return item
    value = item.value if isinstance(item.value, int | Decimal) else None
    is_difference = item.quantity in _DIFFERENCES
    try:
        user = convert(value, item.unit or "a number", unit, item.decimals, is_difference=is_difference)
    except ValueError as error:
        if may_relabel:
            quantity = QUANTITIES.get(unit, item.quantity)
            other = quantity != item.quantity
            return replace(item, unit=unit, quantity=quantity, modifiers=(), effect="", is_relabelled=other)
        raise ValueError(f"{error}, or say its scale, too, and {unit} is what it is") from None
    return replace(item, value=user.value, unit=user.unit, decimals=user.decimals)


def _plain(number: Decimal | int) -> Decimal | int:
    number = Decimal(number)
    return int(number) if number == number.to_integral_value() else number.normalize()


def _places(number: Decimal) -> int:
    exponent = number.normalize().as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0
