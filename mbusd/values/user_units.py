"""Values in the units that people use, as units.py has them; what one kind has in common is worked out once."""

from decimal import Decimal
from functools import lru_cache

from mbusd.mbus.values import scaled
from mbusd.values.units import to_user

Number = int | Decimal

_PROBE = 40  # a power of ten that no rounding of units touches


def in_user_unit(
    number: Number | None, quantity: str, unit: str | None, exponent: int | None
) -> tuple[Number | None, str | None, int | None]:
    """Value, unit and decimals that `to_user` gives."""
    user_unit, decimals, shift = _unit_for(quantity, unit, exponent)
    if number is None or shift == 0:
        return number, user_unit, decimals
    if shift is None:
        return to_user(number, quantity, unit, exponent).value, user_unit, decimals
    return scaled(number, shift, None, None), user_unit, decimals


@lru_cache(maxsize=1024)
def _unit_for(quantity: str, unit: str | None, exponent: int | None) -> tuple[str | None, int | None, int | None]:
    """The unit for people, decimals, and the power of ten between the units; None where it is not as simple."""
    user = to_user(10**_PROBE, quantity, unit, exponent)
    zeros = len(str(user.value)) - 1
    return user.unit, user.decimals, zeros - _PROBE if user.value == 10**zeros else None
