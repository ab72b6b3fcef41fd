"""Units for people: what is remembered of a kind of value changes nothing of it."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbusd.values.units import to_user
from mbusd.values.user_units import in_user_unit

KINDS = st.sampled_from(
    [
        ("energy", "Wh"),
        ("energy", "J"),
        ("power", "J/h"),
        ("operating_time", "s"),
        ("operating_time", "d"),
        ("volume", "m3"),
        ("volume_flow", "m3/s"),
        ("temperature_difference", "degF_diff"),
        ("plain_text_unit", "h"),
        ("reserved", None),
    ]
)
NUMBERS = st.one_of(st.none(), st.integers(-(10**18), 10**18), st.decimals(allow_nan=False, allow_infinity=False))


@given(NUMBERS, KINDS, st.one_of(st.none(), st.integers(-12, 9)))
def test_they_are_those_of_the_table(
    number: int | Decimal | None, kind: tuple[str, str | None], exponent: int | None
) -> None:
    quantity, unit = kind
    value, shown, decimals = in_user_unit(number, quantity, unit, exponent)
    user = to_user(number, quantity, unit, exponent)
    assert (value, shown, decimals) == (user.value, user.unit, user.decimals)


@pytest.mark.parametrize(("number", "kilo"), [(1000, 1), (1, Decimal("0.001")), (0, 0)])
def test_whole_numbers_are_integers(number: int, kilo: int | Decimal) -> None:
    value, unit, _ = in_user_unit(number, "energy", "Wh", 0)
    assert (value, type(value), unit) == (kilo, type(kilo), "kWh")
