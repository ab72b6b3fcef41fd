"""What an owner may wish of a meter's values, and what cannot be had."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from mbusd.model import Identity, Measurement, Reading
from mbusd.values.shaping import Shape, shaped

WHO = Identity("12345678", "REL", 0x41, 0x00, "other", "12345678ac4841 00".replace(" ", ""))
ENERGY = Measurement("energy", "energy", "number", Decimal("37.351"), "kWh", 3)
OLD = replace(ENERGY, key="energy_storage_1", value=30, decimals=0, storage=1)
FLOW = Measurement("flow_temperature", "flow_temperature", "number", Decimal("70.6"), "°C", 1)
SPREAD = Measurement("temperature_difference", "temperature_difference", "number", 9, "K", 0)
PULSES = Measurement("dimensionless", "dimensionless", "number", 1234, None, 0, modifiers=("pulses_0",), effect="pulse")
NAME = Measurement("model_version", "model_version", "text", "A", None, None)


def reading(*items: Measurement) -> Reading:
    return Reading("flat", WHO, datetime(2026, 11, 20, tzinfo=UTC), (), items)


def values(shape: Shape, *items: Measurement) -> dict[str, tuple[object, str | None]]:
    return {item.key: (item.value, item.unit) for item in shaped(reading(*items), shape).measurements}


def test_without_wishes_nothing_changes() -> None:
    before = reading(ENERGY, OLD, FLOW, PULSES, NAME)
    assert shaped(before, Shape()) == before


def test_only_what_is_included_and_not_excluded_is_seen() -> None:
    assert list(values(Shape(exclude=("*_storage_*",)), ENERGY, OLD, FLOW)) == ["energy", "flow_temperature"]
    assert list(values(Shape(include=("energy*",), exclude=("*_1",)), ENERGY, OLD, FLOW)) == ["energy"]


def test_patterns_and_units_are_for_the_keys_as_the_meter_gives_them() -> None:
    shape = Shape(include=("energy",), rename={"energy": "heat"}, unit={"energy": "MWh"})
    assert values(shape, ENERGY, FLOW) == {"heat": (Decimal("0.037351"), "MWh")}


def test_two_keys_can_change_places_but_never_meet() -> None:
    swapped = values(Shape(rename={"energy": "flow_temperature", "flow_temperature": "energy"}), ENERGY, FLOW)
    assert swapped == {"flow_temperature": (Decimal("37.351"), "kWh"), "energy": (Decimal("70.6"), "°C")}
    clash = shaped(
        reading(ENERGY, OLD, FLOW), Shape(rename={"energy_storage_1": "energy", "energy": "flow_temperature"})
    )
    assert sorted(item.key for item in clash.measurements) == ["energy", "energy_storage_1", "flow_temperature"]
    assert len(clash.problems) == 2
    assert "another value has that name" in clash.problems[0]


@pytest.mark.parametrize(
    ("item", "unit", "value", "decimals"),
    [
        (ENERGY, "MWh", Decimal("0.037351"), 6),
        (ENERGY, "GJ", Decimal("0.1344636"), 7),
        (ENERGY, "Wh", 37351, 0),
        (FLOW, "°F", Decimal("159.08"), 2),
        (SPREAD, "°F", Decimal("16.2"), 1),
        (SPREAD, "°C", 9, 0),
    ],
)
def test_another_unit_keeps_every_digit(item: Measurement, unit: str, value: object, decimals: int) -> None:
    (seen,) = shaped(reading(item), Shape(unit={"*": unit})).measurements
    assert (seen.value, seen.unit, seen.decimals) == (value, unit, decimals)


def test_an_impossible_unit_is_told_and_the_value_stays_away() -> None:
    result = shaped(reading(ENERGY, FLOW), Shape(unit={"energy": "m³"}))
    assert [item.key for item in result.measurements] == ["flow_temperature"]
    assert result.problems[0].startswith("energy: kWh cannot be shown in m³; it can be GJ, GWh")


def test_precision_rounds_what_is_shown() -> None:
    assert values(Shape(precision={"energy": 1}), ENERGY) == {"energy": (Decimal("37.4"), "kWh")}
    assert values(Shape(precision={"energy": -1}), ENERGY) == {"energy": (40, "kWh")}


def test_pulses_become_what_the_owner_says_they_are() -> None:
    shape = Shape(scale={"dimensionless": Decimal("0.01")}, offset={"dimensionless": Decimal("100.5")})
    (seen,) = shaped(reading(PULSES), replace(shape, unit={"dimensionless": "m³"}, medium=(7, "water"))).measurements
    assert (seen.value, seen.unit, seen.quantity, seen.decimals) == (Decimal("112.84"), "m³", "volume", 2)
    assert (seen.modifiers, seen.effect) == ((), "")
    assert shaped(reading(PULSES), Shape(medium=(7, "water"))).identity.medium_name == "water"


def test_a_unit_for_bare_numbers_needs_their_scale() -> None:
    result = shaped(reading(PULSES), Shape(unit={"dimensionless": "m³"}))
    assert not result.measurements
    assert "say its scale" in result.problems[0]


def test_no_value_stays_no_value_and_texts_are_left_alone() -> None:
    nothing = replace(ENERGY, value=None)
    shape = Shape(unit={"*": "MWh"}, scale={"*": Decimal(10)}, precision={"*": 2})
    assert values(shape, nothing, NAME) == {"energy": (None, "MWh"), "model_version": ("A", None)}


def test_scaling_is_exact() -> None:
    seen = values(Shape(scale={"energy": Decimal("0.1")}), replace(ENERGY, value=10**40 + 1))["energy"][0]
    assert seen == Decimal("1" + "0" * 39 + ".1")
