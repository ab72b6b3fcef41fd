"""From the units of the VIF tables to the units that people use, without losing a digit of the meter.

One quantity keeps one unit whatever exponent a telegram has: energy in Wh is always shown in kWh, energy in J in GJ.
"""

from decimal import Decimal, localcontext
from fractions import Fraction

from mbusd.light import dataclass

Number = int | Decimal


@dataclass(frozen=True, slots=True)
class UserValue:
    """A value in the unit that people use; `decimals` are those of the meter's own last digit in that unit."""

    value: Number | None
    unit: str | None
    decimals: int | None


_ONE = Fraction(1)
_THOUSAND = Fraction(1000)
_MILLI = Fraction(1, 1000)
_NOTHING = Fraction(0)
_GIGA = Fraction(1, 10**9)

# unit of the VIF tables: unit for people, factor
_UNITS: dict[str, tuple[str | None, Fraction]] = {
    "Wh": ("kWh", _MILLI),
    "J": ("GJ", _GIGA),
    "cal": ("Gcal", _GIGA),
    "varh": ("kvarh", _MILLI),
    "VAh": ("kVAh", _MILLI),
    "W": ("W", _ONE),
    "J/h": ("W", Fraction(1, 3600)),
    "var": ("var", _ONE),
    "VA": ("VA", _ONE),
    "m3": ("m³", _ONE),
    "ft3": ("ft³", _ONE),
    "gal": ("gal", _ONE),
    "kg": ("kg", _ONE),
    "m3/h": ("m³/h", _ONE),
    "m3/min": ("m³/h", Fraction(60)),
    "m3/s": ("m³/h", Fraction(3600)),
    "gal/min": ("gal/min", _ONE),
    "gal/h": ("gal/min", Fraction(1, 60)),
    "kg/h": ("kg/h", _ONE),
    "degC": ("°C", _ONE),
    "degF": ("°F", _ONE),
    "K": ("K", _ONE),
    "degF_diff": ("K", Fraction(5, 9)),
    "bar": ("bar", _ONE),
    "Hz": ("Hz", _ONE),
    "deg": ("°", _ONE),
    "V": ("V", _ONE),
    "A": ("A", _ONE),
    "%": ("%", _ONE),
    "dBm": ("dBm", _ONE),
    "s": ("s", _ONE),
    "min": ("min", _ONE),
    "h": ("h", _ONE),
    "d": ("d", _ONE),
    "month": ("months", _ONE),
    "year": ("years", _ONE),
    "bit_times": ("bit times", _ONE),
    "Bd": ("Bd", _ONE),
    "currency": (None, _ONE),  # the meter does not say which
    "HCA": ("HCA units", _ONE),
}
_HOURS: dict[str, tuple[str | None, Fraction]] = {
    "s": ("h", Fraction(1, 3600)),
    "min": ("h", Fraction(1, 60)),
    "h": ("h", _ONE),
    "d": ("h", Fraction(24)),
}
_IN_HOURS = frozenset({"on_time", "operating_time"})
_AS_SENT = frozenset({"plain_text_unit"})  # its unit is the meter's own text, even where that reads "h"
_FAMILIES: tuple[dict[str, Fraction], ...] = (  # units that can be chosen in place of one another, and their size
    {
        "Wh": _MILLI,
        "kWh": _ONE,
        "MWh": _THOUSAND,
        "GWh": _THOUSAND**2,
        "kJ": Fraction(1, 3600),
        "MJ": Fraction(10, 36),
        "GJ": Fraction(10000, 36),
    },
    {"cal": Fraction(1, 10**9), "kcal": Fraction(1, 10**6), "Mcal": _MILLI, "Gcal": _ONE},
    {"varh": _MILLI, "kvarh": _ONE},
    {"VAh": _MILLI, "kVAh": _ONE},
    {"W": _ONE, "kW": _THOUSAND, "MW": _THOUSAND**2},
    {"var": _ONE, "kvar": _THOUSAND},
    {"VA": _ONE, "kVA": _THOUSAND},
    {"m³": _ONE, "L": _MILLI, "ft³": Fraction("0.028316846592"), "gal": Fraction("0.003785411784")},
    {
        "m³/h": _ONE,
        "L/h": _MILLI,
        "m³/min": Fraction(60),
        "L/min": Fraction(60, 1000),
        "m³/s": Fraction(3600),
        "L/s": Fraction(3600, 1000),
        "gal/min": Fraction("0.003785411784") * 60,
    },
    {"g": _MILLI, "kg": _ONE, "t": _THOUSAND},
    {"kg/h": _ONE, "t/h": _THOUSAND},
    {"bar": _ONE, "mbar": _MILLI, "hPa": _MILLI, "kPa": Fraction(1, 100), "Pa": Fraction(1, 10**5)},
    {"mV": _MILLI, "V": _ONE, "kV": _THOUSAND},
    {"mA": _MILLI, "A": _ONE},
    {"s": Fraction(1, 3600), "min": Fraction(1, 60), "h": _ONE, "d": Fraction(24)},
)
_ZERO = {"°C": Fraction("273.15"), "°F": Fraction("459.67") * 5 / 9, "K": _NOTHING}  # of each scale, in kelvin
_DEGREE = {"°C": _ONE, "°F": Fraction(5, 9), "K": _ONE}
_DIVISORS = {"m3": "m³", "l": "L", "K*l": "K*L"}  # of the VIFEs "per …"


def to_user(value: Number | None, quantity: str, unit: str | None, exponent: int | None) -> UserValue:
    """Convert a record's value; `exponent` is the power of ten of its last digit, None for a real number.

    The result is exact where the factor is a finite decimal; else it is rounded to so many decimals that two
    neighbouring values of the meter stay different (a real number: to 9 significant digits).
    """
    user_unit, factor = _conversion(quantity, unit)
    resolution = None if exponent is None else Fraction(10) ** exponent * factor
    decimals = None if resolution is None else _decimals(resolution)
    return UserValue(None if value is None else _scaled(value, factor, decimals), user_unit, decimals)


def convert(value: Number | None, unit: str, wanted: str, decimals: int | None, *, is_difference: bool) -> UserValue:
    """From one unit for people to another, with the same care for digits as `to_user`; `decimals` are those in `unit`.

    `is_difference`: of two temperatures; K then has no zero to be moved. Raises ValueError where there is no way.
    """
    if unit == wanted:
        return UserValue(value, unit, decimals)
    factor, shift = _way(unit, wanted, is_difference=is_difference)
    digits = None if decimals is None else _decimals(Fraction(10) ** -decimals * factor)
    if shift and digits is not None:
        digits = max(digits, decimals or 0)
    return UserValue(None if value is None else _scaled(value, factor, digits, shift), wanted, digits)


def _way(unit: str, wanted: str, *, is_difference: bool) -> tuple[Fraction, Fraction]:
    """Factor, and what is to be added after it."""
    if unit in _ZERO and wanted in _ZERO:
        factor = _DEGREE[unit] / _DEGREE[wanted]
        return factor, _NOTHING if is_difference else (_ZERO[unit] - _ZERO[wanted]) / _DEGREE[wanted]
    for family in _FAMILIES:
        if unit in family and wanted in family:
            return family[unit] / family[wanted], _NOTHING
    others = sorted({name for family in (*_FAMILIES, _ZERO) if unit in family for name in family} - {unit})
    choice = f"; it can be {', '.join(others)}" if others else ""
    raise ValueError(f"{unit} cannot be shown in {wanted}{choice}")


def _conversion(quantity: str, unit: str | None) -> tuple[str | None, Fraction]:
    if not unit or quantity in _AS_SENT:
        return unit or None, _ONE
    if quantity in _IN_HOURS and unit in _HOURS:
        return _HOURS[unit]
    return _UNITS.get(unit) or _composed(unit)


def _composed(unit: str) -> tuple[str, Fraction]:
    """`<unit>/<by>` and `<unit>*<by>` of the VIFEs; a unit nobody knows stays as it is."""
    for known in sorted(_UNITS, key=len, reverse=True):
        rest = unit[len(known) :]
        if unit.startswith(known) and rest[:1] in ("/", "*"):
            user_unit, factor = _UNITS[known]
            return f"{user_unit or '1'}{rest[0]}{_DIVISORS.get(rest[1:], rest[1:])}", factor
    return unit, _ONE


def _is_finite_decimal(number: Fraction) -> bool:
    denominator = number.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator == 1


def _decimals(resolution: Fraction) -> int:
    """Decimals of the exact resolution, or the fewest with which a step of one is not larger than it."""
    exact = _is_finite_decimal(resolution)
    decimals = 0
    while (resolution * 10**decimals).denominator != 1 if exact else Fraction(1, 10**decimals) > resolution:
        decimals += 1
    return decimals


def _scaled(value: Number, factor: Fraction, decimals: int | None, shift: Fraction = _NOTHING) -> Number:
    if factor == _ONE and not shift:
        return value
    with localcontext(prec=500) as context:  # more digits than ten scaling VIFEs can make
        product = Decimal(value) * factor.numerator / factor.denominator + shift.numerator / Decimal(shift.denominator)
        if not (_is_finite_decimal(factor) and _is_finite_decimal(shift)):
            if decimals is None:
                context.prec = 9
                product = +product
            else:
                product = round(product, decimals)
        return int(product) if product == product.to_integral_value() else product.normalize()
