"""What counts: which measurements are counters, what they usually do in an hour, and where they begin again. Pure."""

from collections.abc import Mapping
from dataclasses import field
from decimal import Decimal
from functools import lru_cache
from typing import Final

from mbusd.light import dataclass
from mbusd.model import Measurement
from mbusd.values.units import Number

Place = tuple[str, int]
"""Unit and subunit."""

COUNTERS = frozenset({"energy", "reactive_energy", "apparent_energy", "volume", "mass", "hca", "cumulation_counter"})
_NO_SUMS = frozenset(
    {
        "average",
        "relative_deviation",
        "obis_declaration",
        "lower_limit",
        "upper_limit",
        "value_during_lower_limit_exceed",
        "value_during_upper_limit_exceed",
        "leakage",
        "overflow",
        "future",
    }
)
_BALANCE: Final = "delta_import_export"  # the modifier of a register that goes down as well as up


@dataclass(frozen=True, slots=True)
class Pace:
    """What a counter with some unit does an hour in a house, at most; and its rate by the unit of a maximum."""

    usual: float
    own: Mapping[str, float] = field(default_factory=dict)


PACES: Final[dict[str | None, Pace]] = {
    "kWh": Pace(50.0, {"W": 1e-3}),
    "GJ": Pace(0.18, {"W": 3.6e-6}),
    "Gcal": Pace(0.043, {"W": 0.86e-6}),
    "kvarh": Pace(50.0, {"var": 1e-3}),
    "kVAh": Pace(50.0, {"VA": 1e-3}),
    "m³": Pace(10.0, {"m³/h": 1.0, "gal/min": 0.2271}),
    "ft³": Pace(353.0, {"m³/h": 35.31, "gal/min": 8.021}),
    "gal": Pace(2642.0, {"m³/h": 264.2, "gal/min": 60.0}),
    "kg": Pace(10_000.0, {"kg/h": 1.0}),
    "HCA units": Pace(20.0),
    None: Pace(36_000.0),  # pulses: ten a second
}
_TURNS: Final = (  # in steps of the last digit: the first that a counter cannot show, and what it shows instead
    *((10**digits, 0) for digits in range(5, 13)),
    *((1 << bits, 0) for bits in (15, 16, 23, 24, 31, 32, 47, 48, 63, 64)),
    *((1 << bits, -1 << bits) for bits in (15, 23, 31, 47, 63)),  # of those that are read as signed numbers
)
_MOST_PLACES = 256
_LEAST_WITH_DECIMALS = 10**6  # five digits, or two bytes, do for whole units only


@dataclass(frozen=True, slots=True)
class Counted:
    """What a counter says, and in what; for a maximum, too, that a meter has kept."""

    key: str
    value: Number
    unit: str | None
    decimals: int | None = 0  # of the last digit
    subunit: int = 0
    is_balance: bool = False  # by its modifiers

    @property
    def place(self) -> Place:
        """Where a maximum belongs."""
        return place_of(self.unit or "", self.subunit)


@lru_cache(_MOST_PLACES)
def place_of(unit: str, subunit: int) -> Place:
    """One for all meters."""
    return unit, subunit


def counted(item: Measurement) -> Counted | None:
    """A measurement as a counter or maximum; None without a number."""
    if not isinstance(item.value, int | Decimal):
        return None
    return Counted(item.key, item.value, item.unit, item.decimals, item.subunit, _BALANCE in item.modifiers)


def is_counter(item: Measurement) -> bool:
    """A sum as it is now; not what a date has kept, nor an extreme, nor what a maker's VIFE makes of it."""
    return (
        item.quantity in COUNTERS
        and item.function == "instantaneous"
        and not item.storage
        and not item.effect
        and _NO_SUMS.isdisjoint(item.modifiers)
    )


def is_maximum(item: Measurement) -> bool:
    """The highest power or flow that the meter itself has kept."""
    return item.function == "maximum" and item.unit is not None and not item.effect and not item.modifiers


def number_of(text: str) -> Number:
    """The number that a text is, exactly; one without a fraction as an int."""
    if text.isdecimal():  # as most counters are
        return int(text)
    value = Decimal(text)
    return int(value) if value == value.to_integral_value() else value


def distance(one: Number, other: Number) -> float:
    """How far two values are apart."""
    if one == other:
        return 0.0
    return float(abs(Decimal(one) - Decimal(other)))


def shown(number: Number) -> str:
    """All digits, without an exponent."""
    return f"{Decimal(number):f}"


def rolled(before: Number, item: Counted, most: float) -> float | None:
    """How far a counter got that has begun again after its last digit, if no further than `most`; None: it has not.

    `before` has the unit and the last digit of the other. A plain 0 is more often a fault than a beginning.
    """
    decimals, after = item.decimals, item.value
    if decimals is None or most == float("inf"):
        return None
    before_steps, after_steps = (int(Decimal(value).scaleb(decimals)) for value in (before, after))
    for end, begin in _TURNS:
        steps = end - before_steps + after_steps - begin
        is_used = end >= _LEAST_WITH_DECIMALS or not decimals
        if is_used and before_steps < end and after_steps > begin and steps <= end // 10:
            growth = float(Decimal(steps).scaleb(-decimals))
            if growth <= most:
                return growth
    return None
