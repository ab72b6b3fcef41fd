"""Values in the units that people use: exact, and with no digit of the meter lost."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbusd.mbus import vif
from mbusd.values.units import Number, UserValue, convert, to_user


@pytest.mark.parametrize(
    ("value", "quantity", "unit", "exponent", "expected"),
    [
        (37351000, "energy", "Wh", 3, UserValue(37351, "kWh", 0)),
        (1234, "energy", "Wh", 0, UserValue(Decimal("1.234"), "kWh", 3)),
        (10**15, "energy", "Wh", 6, UserValue(10**12, "kWh", 0)),
        (16000000, "energy", "J", 6, UserValue(Decimal("0.016"), "GJ", 3)),
        (3412 * 10**6, "energy", "cal", 6, UserValue(Decimal("3.412"), "Gcal", 3)),
        (Decimal("561.08"), "volume", "m3", -2, UserValue(Decimal("561.08"), "m³", 2)),
        (60000, "power", "J/h", 0, UserValue(Decimal("16.6667"), "W", 4)),
        (7200000, "power", "J/h", 6, UserValue(2000, "W", 0)),
        (Decimal("0.001"), "volume_flow", "m3/min", -3, UserValue(Decimal("0.06"), "m³/h", 2)),
        (Decimal("0.000001"), "volume_flow", "m3/s", -6, UserValue(Decimal("0.0036"), "m³/h", 4)),
        (90, "on_time", "s", 0, UserValue(Decimal("0.025"), "h", 4)),
        (10, "operating_time", "d", 0, UserValue(240, "h", 0)),
        (90, "storage_interval", "s", 0, UserValue(90, "s", 0)),
        (10, "remaining_battery_life", "month", 0, UserValue(10, "months", 0)),
        (9, "temperature_difference", "degF_diff", 0, UserValue(5, "K", 1)),
        (Decimal("70.6"), "flow_temperature", "degC", -1, UserValue(Decimal("70.6"), "°C", 1)),
        (16, "hca", "HCA", 0, UserValue(16, "HCA units", 0)),
        (5, "credit", "currency", -2, UserValue(5, None, 2)),
        (1000, "energy", "Wh/h", 0, UserValue(1, "kWh/h", 3)),
        (3, "volume", "m3/m3", 0, UserValue(3, "m³/m³", 0)),
        (3, "voltage", "V*s/A", 0, UserValue(3, "V*s/A", 0)),
        (3, "plain_text_unit", "h", 0, UserValue(3, "h", 0)),
        (3, "plain_text_unit", "furlongs", 0, UserValue(3, "furlongs", 0)),
        (3, "dimensionless", None, 0, UserValue(3, None, 0)),
        (Decimal("0.1"), "energy", "Wh", None, UserValue(Decimal("0.0001"), "kWh", None)),
        (5, "on_time", "s", None, UserValue(Decimal("0.00138888889"), "h", None)),
        (None, "energy", "Wh", 3, UserValue(None, "kWh", 0)),
    ],
)
def test_each_unit_has_its_unit_for_people(
    value: Number | None, quantity: str, unit: str | None, exponent: int | None, expected: UserValue
) -> None:
    assert to_user(value, quantity, unit, exponent) == expected


_ROWS = [row for table in (vif.PRIMARY, vif.FB, vif.FD, vif.FD_FD, vif.FIXED) for row in table]
_UNITS = sorted(
    {(row.quantity, unit) for row in _ROWS for unit in ([row.unit] if isinstance(row.unit, str) else row.unit)}
)


@given(st.sampled_from(_UNITS), st.integers(-9, 9), st.integers(0, 10**12), st.integers(1, 9))
def test_neighbouring_values_of_a_meter_stay_apart(row: tuple[str, str], exponent: int, number: int, step: int) -> None:
    quantity, unit = row
    here, there = (to_user(Decimal(n).scaleb(exponent), quantity, unit, exponent) for n in (number, number + step))
    assert here.unit == there.unit
    assert here.decimals is not None
    assert here.value is not None
    assert there.value is not None
    assert here.value < there.value
    assert Fraction(here.value) * 10**here.decimals % 1 == 0


@pytest.mark.parametrize(("quantity", "unit"), _UNITS)
def test_the_unit_does_not_hang_on_value_or_exponent(quantity: str, unit: str) -> None:
    units = {
        to_user(value, quantity, unit, exponent).unit for value in (None, 0, 10**9) for exponent in (-6, 0, 6, None)
    }
    assert len(units) == 1


def test_no_unit_of_the_tables_stays_as_the_tables_write_it() -> None:
    raw = {"Wh", "J", "m3", "degC", "degF", "degF_diff", "m3/h", "J/h", "HCA", "deg", "currency", "month", "year"}
    assert raw <= {unit for _, unit in _UNITS}
    assert raw.isdisjoint({to_user(0, quantity, unit, 0).unit for quantity, unit in _UNITS})


@pytest.mark.parametrize(
    ("value", "unit", "wanted", "decimals", "expected"),
    [
        (Decimal("0.711"), "m³/h", "L/h", 3, UserValue(711, "L/h", 0)),
        (Decimal("0.711"), "m³/h", "L/min", 3, UserValue(Decimal("11.85"), "L/min", 2)),
        (1, "GJ", "kWh", 3, UserValue(Decimal("277.8"), "kWh", 1)),
        (4200, "W", "kW", 0, UserValue(Decimal("4.2"), "kW", 3)),
        (0, "°C", "K", 0, UserValue(Decimal("273.15"), "K", 0)),
        (-40, "°C", "°F", 0, UserValue(-40, "°F", 1)),
        (None, "bar", "kPa", 2, UserValue(None, "kPa", 0)),
        (Decimal("0.1"), "kWh", "GJ", None, UserValue(Decimal("0.00036"), "GJ", None)),
    ],
)
def test_units_can_be_chosen(
    value: Number | None, unit: str, wanted: str, decimals: int | None, expected: UserValue
) -> None:
    assert convert(value, unit, wanted, decimals, is_difference=False) == expected


def test_a_difference_of_temperatures_has_no_zero() -> None:
    assert convert(5, "K", "°F", 0, is_difference=True) == UserValue(9, "°F", 1)


def test_what_cannot_be_converted_is_said_with_what_can() -> None:
    with pytest.raises(ValueError, match=r"^m³ cannot be shown in kWh; it can be L, ft³, gal$"):
        convert(1, "m³", "kWh", 0, is_difference=False)
