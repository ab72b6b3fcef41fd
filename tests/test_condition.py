"""Conditions on the values of a reading, and what is said of those that are none."""

from decimal import Decimal

import pytest

from mbusd.model import Value
from mbusd.pace.condition import condition_of

READING: dict[str, Value] = {
    "power": 1500,
    "flow_temperature": Decimal("34.50"),
    "volume_flow": None,
    "version": "1.2",
    "Wärme-2": Decimal(-3),
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("power > 0", True),
        ("power>1500", False),
        ("power >= 1500", True),
        ("power < 1500.001", True),
        ("power <= 1499", False),
        ("power == 1500.0", True),
        ("power != 1500", False),
        ("flow_temperature == 34.5", True),
        ("Wärme-2 < -2.5", True),
        ("power > 0 and flow_temperature > 30", True),
        ("  power>0   and flow_temperature>40 ", False),
        ("power > 0 and power < 2000 and flow_temperature != 0", True),
        ("volume_flow >= 0", False),  # the meter says that it has no valid value
        ("volume_flow != 0", False),
        ("version > 1", False),
        ("energy != 0", False),
    ],
)
def test_what_holds_of_a_reading(text: str, holds: bool) -> None:  # noqa: FBT001 - a column of the table
    assert condition_of(text).holds(READING) is holds


def test_what_no_number_can_be_not_even_unlike() -> None:
    values: dict[str, Value] = {"power": Decimal("NaN")}
    assert not condition_of("power != 0").holds(values)


def test_keys_that_are_not_there_or_hold_no_numbers_are_named_once_each() -> None:
    condition = condition_of("powr > 0 and version > 1 and power > 0 and volume_flow > 0 and powr < 9")
    assert condition.unknown(READING) == ["powr", "version"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "a condition is a key, one of < <= > >= == !=, and a number, as in `power > 0`"),
        ("power", "'power' is no comparison: a key, one of"),
        ("> 0", "'> 0' is no comparison"),
        ("power >", "'power >' is no comparison"),
        ("power = 0", "'=' in 'power = 0' is none of < <= > >= == !=; == is meant?"),
        ("power => 0", "'=>' in 'power => 0' is none of"),
        ("power > 5kW", "'5kW' in 'power > 5kW' is no number; one without a unit is needed"),
        ("power > 0,5", "'0,5' in 'power > 0,5' is no number"),
        ("power > energy", "'energy' in 'power > energy' is no number"),
        ("power > nan", "is no number"),
        ("power > 0 or energy > 5", "only `and` joins comparisons"),
        ("power > 0 && energy > 5", "only `and` joins comparisons"),
        ("power > 0 and", "'' is no comparison"),
        ("power is 5", "'power is 5' is no comparison"),
    ],
)
def test_what_is_wrong_with_a_condition_is_said(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        condition_of(text)
    assert why in str(caught.value)
