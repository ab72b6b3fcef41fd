"""What Home Assistant is told: nothing that it refuses, that hangs on a value or that outlives its meter."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import get_args

import pytest
import yaml

from mbusd.exact_json import JsonValue, dumps
from mbusd.mbus import vif
from mbusd.model import Effect, Function, Identity, Kind, Measurement, Reading, Value
from mbusd.sinks import homeassistant_map as table
from mbusd.sinks.announcements import Announcements
from mbusd.sinks.entities import Component, components_of
from mbusd.sinks.homeassistant import Discovery, Payload, Place, is_called_alike, meter_payload
from mbusd.sinks.own_devices import bridge_payload, bus_payload
from mbusd.values.shaping import Shape, shaped
from mbusd.values.units import to_user

MAP = Path(__file__).parents[3] / "shared" / "homeassistant" / "ha_map.yaml"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
HEAT = Identity("12345678", "KAM", 8, 4, "heat", "123456782D2C0804")
SECOND = Identity("87654321", "KAM", 8, 4, "heat", "876543212D2C0804")
DISCOVERY = Discovery(version="1.2.3", url="https://example.org/mbusd")
EVERYTHING = Place("cellar", "Boiler room", has_alarms=True, is_periodic=True)
TOPIC = "homeassistant/device/mbusd_123456782D2C0804/config"

# class: units and state classes that Home Assistant 2025.4.4 and 2026.11.0 accept; units that 2026.11.0 alone accepts
ACCEPTED: dict[str, tuple[str, str, str]] = {
    "apparent_power": ("VA", "measurement", "kVA mVA"),
    "current": ("A mA", "measurement", "μA"),
    "date": ("", "", ""),
    "duration": ("d h min ms s", "measurement total total_increasing", "μs"),
    "energy": ("GJ GWh Gcal J MJ MWh Mcal TWh Wh cal kJ kWh kcal mWh", "total total_increasing", "thm"),
    "frequency": ("GHz Hz MHz kHz", "measurement", "mHz"),
    "gas": ("CCF ft³ m³", "total total_increasing", "L MCF"),
    "humidity": ("%", "measurement", ""),
    "moisture": ("%", "measurement", ""),
    "power": ("GW MW TW W kW mW", "measurement", ""),
    "pressure": ("Pa bar cbar hPa inHg kPa mbar mmHg psi", "measurement", "atm inH₂O mPa"),
    "reactive_power": ("var", "measurement", "kvar mvar"),
    "signal_strength": ("dB dBm", "measurement", ""),
    "temperature": ("K °C °F", "measurement", ""),
    "timestamp": ("", "", ""),
    "voltage": ("MV V kV mV", "measurement", "μV"),
    "volume": ("CCF L ft³ gal mL m³", "total total_increasing", "MCF"),
    "volume_flow_rate": ("L/min ft³/min gal/min mL/s m³/h", "measurement", "L/h L/s gal/d gal/h m³/min m³/s"),
    "water": ("CCF L ft³ gal m³", "total total_increasing", "MCF"),
    "weight": ("g kg lb mg oz st", "measurement total total_increasing", "μg"),
}
ACCEPTED_BY_NEWER = {
    "reactive_energy": ("kvarh varh", "total total_increasing", ""),
    "temperature_delta": ("K °C °F", "measurement", ""),
}
BINARY_SENSOR_CLASSES = {"battery", "connectivity", "problem"}
ROOT_KEYS = {"dev", "o", "cmps", "stat_t", "avty", "avty_mode", "qos"}
DEVICE_KEYS = {"ids", "name", "mf", "mdl", "sn", "hw", "sw", "via_device"}
CALLED_OTHERWISE = {"any_vif", "plain_text_unit", "same_as_counter_1_historic"}  # in words
DELIBERATELY_WITHOUT_RULE = {"extension_fb", "extension_fd", "extension_fdfd"}

_ROWS = [row for rows in (vif.PRIMARY, vif.FB, vif.FD, vif.FD_FD, vif.FIXED) for row in rows]
QUANTITIES = sorted(
    {(row.quantity, unit) for row in _ROWS for unit in ([row.unit] if isinstance(row.unit, str) else row.unit)}
)


def measured(quantity: str, unit: str | None = None, value: int | Decimal | None = 1, **other: object) -> Measurement:
    user = to_user(value, quantity, unit, 0)
    plain = Measurement(quantity, quantity, "number", user.value, user.unit, user.decimals)
    return replace(plain, **other)  # type: ignore[arg-type]  # the names are checked by replace itself


ENERGY, VOLUME = measured("energy", "Wh"), measured("volume", "m3")


def reading(*items: Measurement, identity: Identity = HEAT, meter: str = "heat_pump") -> Reading:
    return Reading(meter, identity, NOON, (), items)


def component(item: Measurement, medium: int = 4, *, newer: bool = False) -> Component:
    return components_of(reading(item, identity=replace(HEAT, medium=medium)), newer_classes=newer)[item.key]


def components(payload: Payload) -> Mapping[str, Mapping[str, JsonValue]]:
    found = payload["cmps"]
    assert isinstance(found, Mapping)
    return {key: each for key, each in found.items() if isinstance(each, Mapping)}


def announced(*items: Measurement, identity: Identity = HEAT, meter: str = "heat_pump") -> Payload:
    return meter_payload(DISCOVERY, reading(*items, identity=identity, meter=meter), Place("cellar"))


def all_sorts() -> Iterator[Measurement]:
    """Every quantity and unit of the VIF tables, with all that can be said besides."""
    functions: tuple[Function, ...] = get_args(Function)
    effects: tuple[Effect, ...] = get_args(Effect)
    tags = [(), ("forward",), ("delta_import_export",), ("future",), ("non_metric",), ("average",)]
    for quantity, unit in QUANTITIES:
        plain = measured(quantity, unit)
        yield from (replace(plain, function=function) for function in functions)
        yield from (replace(plain, storage=storage) for storage in (1, 2))
        yield from (replace(plain, modifiers=modifiers) for modifiers in tags)
        yield from (replace(plain, effect=effect, storage=storage) for effect, storage in product(effects, (0, 1)))
        yield replace(plain, effect="unit", unit=f"{plain.unit}/h")
        yield from (replace(plain, effect="as_duration", unit=time) for time in ("s", "min", "h", "d"))
        yield from (replace(plain, kind=kind, value=None) for kind in get_args(Kind))


def assert_accepted(each: Mapping[str, JsonValue], *, newer: bool) -> None:
    """As Home Assistant checks a sensor."""
    device_class, unit, state_class = (each.get(key) for key in ("dev_cla", "unit_of_meas", "stat_cla"))
    assert unit != ""
    assert state_class in (None, "measurement", "total", "total_increasing")
    if device_class is None:
        return
    units, states, newer_units = (ACCEPTED | (ACCEPTED_BY_NEWER if newer else {}))[str(device_class)]
    accepted = units.split() + (newer_units.split() if newer else [])
    assert unit in accepted if accepted else unit is None, each
    assert state_class in [None, *states.split()], each


@pytest.mark.parametrize("newer", [False, True])
@pytest.mark.parametrize("medium", [0, 2, 3, 7, 0x0A, 0x1B])
def test_home_assistant_accepts_every_entity(medium: int, newer: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    for item in all_sorts():
        each = component(item, medium, newer=newer)
        assert_accepted(each, newer=newer)
        assert each.get("ent_cat") in (None, "diagnostic")
        if item.kind != "number":
            assert not {"unit_of_meas", "stat_cla", "sug_dsp_prc"} & each.keys()


def test_the_table_of_classes_says_what_home_assistant_says() -> None:
    assert table.DEVICE_CLASSES.keys() == ACCEPTED.keys() | ACCEPTED_BY_NEWER.keys()
    for name, known in table.DEVICE_CLASSES.items():
        units, states, newer = (ACCEPTED | ACCEPTED_BY_NEWER)[name]
        assert known.units == set(units.split())
        assert known.newer_units <= set(newer.split())
        assert known.state_classes == set(states.split())


def test_every_quantity_has_a_rule() -> None:
    ruled = {quantity for rule in table.RULES for quantity in rule.quantities}
    assert {quantity for quantity, _ in QUANTITIES} - ruled - vif.SECRET == DELIBERATELY_WITHOUT_RULE
    assert ruled <= {quantity for quantity, _ in QUANTITIES}
    unknown = component(replace(measured("alarm_status"), kind="bits", value="00"))
    assert (unknown["name"], unknown["ent_cat"], unknown["en"]) == ("Alarm status", "diagnostic", False)


@pytest.mark.parametrize(
    ("item", "medium", "expected"),
    [
        (measured("energy", "Wh"), 4, ("Energy", "energy", "kWh", "total_increasing")),
        (measured("energy", "J"), 0x0A, ("Cooling energy", "energy", "GJ", "total_increasing")),
        (measured("energy", "cal"), 4, ("Energy", "energy", "Gcal", "total_increasing")),
        (measured("energy", "Wh", modifiers=("backward",)), 2, ("Energy export", "energy", "kWh", "total_increasing")),
        (
            measured("energy", "Wh", modifiers=("backward",)),
            4,
            ("Energy backward", "energy", "kWh", "total_increasing"),
        ),
        (measured("energy", "Wh", modifiers=("delta_import_export",)), 2, ("Energy net", "energy", "kWh", "total")),
        (measured("energy", "Wh", storage=1), 4, ("Energy due date", "energy", "kWh", None)),
        (
            measured("energy", "Wh", tariff=2, subunit=1, storage=3),
            4,
            ("Energy tariff 2 input 1 history 3", "energy", "kWh", None),
        ),
        (measured("volume", "m3"), 7, ("Water volume", "water", "m³", "total_increasing")),
        (measured("volume", "m3"), 3, ("Gas volume", "gas", "m³", "total_increasing")),
        (measured("volume", "gal"), 3, ("Volume", "volume", "gal", "total_increasing")),
        (measured("volume", "m3"), 4, ("Volume", "volume", "m³", "total_increasing")),
        (measured("power", "W", function="maximum"), 4, ("Power maximum", "power", "W", None)),
        (measured("power", "W", function="error"), 4, ("Power during error", "power", "W", None)),
        (measured("voltage", "V", modifiers=("l1_l2",)), 2, ("Voltage L1-L2", "voltage", "V", "measurement")),
        (measured("temperature_difference", "K"), 4, ("Temperature difference", None, "K", "measurement")),
        (measured("external_temperature", "degC"), 0x1B, ("Temperature", "temperature", "°C", "measurement")),
        (measured("remaining_battery_life", "month"), 7, ("Remaining battery life", None, "months", "measurement")),
        (measured("hca", "HCA"), 8, ("Consumption", None, "HCA units", "total_increasing")),
        (measured("manufacturer_specific", None), 2, ("Manufacturer specific", None, None, None)),
        (replace(measured("energy", "Wh"), unit="MWh"), 4, ("Energy", "energy", "MWh", "total_increasing")),
        (replace(measured("volume", "m3"), unit="hl"), 7, ("Water volume", None, "hl", "total_increasing")),
        (replace(measured("power", "W"), unit="W/h", effect="unit"), 2, ("Power", None, "W/h", "measurement")),
        (
            replace(measured("power", "W"), unit="min", effect="as_duration", modifiers=("duration_of_last",)),
            2,
            ("Power duration of last", "duration", "min", None),
        ),
        (
            replace(measured("power", "W"), unit=None, effect="as_number", modifiers=("exceeds_of_upper_limit",)),
            2,
            ("Power exceeds of upper limit", None, None, None),
        ),
    ],
)
def test_what_users_see(item: Measurement, medium: int, expected: tuple[str | None, ...]) -> None:
    each = component(item, medium)
    assert tuple(each.get(key) for key in ("name", "dev_cla", "unit_of_meas", "stat_cla")) == expected


@pytest.mark.parametrize(
    "item",
    [
        measured("energy", "Wh", storage=1),
        measured("power", "W", function="minimum"),
        measured("power", "W", modifiers=("upper_limit",)),
        measured("on_time", "h"),
        replace(measured("fabrication_number"), kind="text", value="00000001"),
        measured("date", kind="date", value=None),
        measured("voltage", "V", effect="manufacturer", modifiers=("mfr_01",)),
    ],
)
def test_what_few_want_is_diagnostic_and_disabled(item: Measurement) -> None:
    each = component(item)
    assert (each["ent_cat"], each["en"]) == ("diagnostic", False)


def test_what_users_want_is_enabled() -> None:
    each = component(measured("energy", "Wh"))
    assert "en" not in each
    assert "ent_cat" not in each


@pytest.mark.parametrize(("exponent", "precision"), [(3, 0), (2, 1), (0, 3), (-3, 3)])
def test_the_precision_is_that_of_the_meter(exponent: int, precision: int) -> None:
    user = to_user(0, "energy", "Wh", exponent)
    each = component(Measurement("energy", "energy", "number", user.value, user.unit, user.decimals))
    assert each["sug_dsp_prc"] == precision


def test_a_real_number_has_no_precision() -> None:
    assert "sug_dsp_prc" not in component(replace(measured("energy", "Wh"), decimals=None))


def _dated(kind: Kind, value: Value, quantity: str = "datetime", **other: object) -> Measurement:
    plain = replace(measured(quantity), kind=kind, value=value, unit=None, decimals=None)
    return replace(plain, **other)  # type: ignore[arg-type]  # the names are checked by replace itself


@pytest.mark.parametrize(
    ("item", "device_class"),
    [
        (_dated("date", date(2010, 12, 31), "date"), "date"),
        (_dated("date", date(2010, 12, 31), "battery_change_date"), "date"),
        (_dated("datetime", NOON), "timestamp"),
        (_dated("datetime", None), "timestamp"),
        (_dated("datetime", NOON.replace(tzinfo=None)), None),
        (_dated("text", "14:05:00"), None),
        (measured("datetime"), None),
    ],
)
def test_only_points_in_time_are_timestamps(item: Measurement, device_class: str | None) -> None:
    assert component(item).get("dev_cla") == device_class


def test_error_flags_have_a_problem_sensor() -> None:
    found = components(announced(_dated("bits", "04", "error_flags")))
    assert found["error_flags_problem"]["dev_cla"] == "problem"
    assert "stat_cla" not in found["error_flags"]


@pytest.mark.parametrize(
    ("item", "medium", "name"),
    [
        (_dated("date", None, "date", storage=1), 4, "Due date"),
        (_dated("datetime", None, storage=1), 4, "Due date and time"),
        (_dated("date", None, "date", storage=1, modifiers=("future",)), 4, "Next due date"),
        (_dated("date", None, "date", storage=3), 4, "Date history 3"),
        (_dated("datetime", None, function="maximum", storage=2), 4, "Time of maximum history 2"),
        (_dated("datetime", None, function="error"), 4, "Time of error"),
        (_dated("bits", "04", "digital_input", subunit=2), 2, "Digital input 2"),
        (measured("energy", "Wh", subunit=2, tariff=1), 2, "Energy tariff 1 input 2"),
        (measured("power", "W", modifiers=("mfr_01",), effect="manufacturer"), 2, "Power variant 01"),
        (
            measured("volume", "m3", modifiers=("per_input_pulse_1",), effect="pulse"),
            7,
            "Water volume per pulse of input 1",
        ),
        (measured("voltage", "V", modifiers=("average_l_n",)), 2, "Voltage average L-N"),
        (replace(measured("plain_text_unit"), unit="bat. time"), 7, "Bat. time"),
        (replace(measured("plain_text_unit"), unit="C"), 7, "Value in C"),
        (measured("plain_text_unit", None, None, kind="text"), 7, "Text"),
        (measured("any_vif"), 4, "Unspecified value"),
    ],
)
def test_names_in_plain_words(item: Measurement, medium: int, name: str) -> None:
    assert component(item, medium)["name"] == name


def test_newer_classes_are_used_only_where_they_are_known() -> None:
    item = measured("temperature_difference", "K")
    assert component(item, newer=True)["dev_cla"] == "temperature_delta"
    assert component(measured("reactive_energy", "varh"), newer=True)["dev_cla"] == "reactive_energy"


# ---- the message of a meter


def test_the_message_of_a_meter() -> None:
    payload = announced(measured("energy", "Wh"))
    assert payload.keys() <= ROOT_KEYS
    assert payload["dev"] == {
        "ids": ["mbusd_123456782D2C0804"],
        "name": "heat_pump",
        "mf": "Kamstrup",
        "mdl": "Heat meter",
        "via_device": "mbusd_bridge_bus_cellar",
        "sn": "12345678",
        "hw": "8",
    }
    assert payload["o"] == {"name": "mbusd", "sw": "1.2.3", "url": "https://example.org/mbusd"}
    assert payload["avty"] == [
        {"t": "mbusd/bridge/state"},
        {"t": "mbusd/bus/cellar/state"},
        {"t": "mbusd/heat_pump/availability"},
    ]
    assert (payload["stat_t"], payload["avty_mode"], payload["qos"]) == ("mbusd/heat_pump", "all", 1)
    assert components(payload)["energy"] == {
        "p": "sensor",
        "name": "Energy",
        "dev_cla": "energy",
        "unit_of_meas": "kWh",
        "stat_cla": "total_increasing",
        "ic": "mdi:radiator",
        "sug_dsp_prc": 3,
        "val_tpl": '{{ (value_json | default({})).get("energy") }}',
        "uniq_id": "mbusd_123456782D2C0804_energy",
        "def_ent_id": "sensor.heat_pump_energy",
        "obj_id": "heat_pump_energy",
    }


def test_every_meter_has_status_time_and_button() -> None:
    found = components(announced())
    assert found["status_power_low"]["dev_cla"] == "battery"
    assert found["status_permanent_error"]["dev_cla"] == "problem"
    assert [found[key].get("en") for key in ("status_temporary_error", "status_application", "status_byte")] == [
        False
    ] * 3
    assert found["last_read"]["dev_cla"] == "timestamp"
    assert {**found["read_now"], "uniq_id": ""} == {
        "p": "button",
        "name": "Read now",
        "ic": "mdi:refresh",
        "cmd_t": "mbusd/heat_pump/get",
        "avty": [{"t": "mbusd/bridge/state"}, {"t": "mbusd/bus/cellar/state"}],
        "uniq_id": "",
        "def_ent_id": "button.heat_pump_read_now",
        "obj_id": "heat_pump_read_now",
    }


def test_what_a_maker_means_by_its_bits_is_a_problem_by_name() -> None:
    words = ("v1_air", "input_a1_leakage", "input_a_external_alarm", "eeprom_error", "wrong_temperature_difference")
    found = components(meter_payload(DISCOVERY, replace(reading(), flags=words), Place("cellar")))
    named = {str(found[f"status_{word}"]["name"]) for word in words}
    assert named == {
        "V1 air",
        "Input A1 leakage",
        "Input A external alarm",
        "EEPROM error",
        "Wrong temperature difference",
    }
    assert {found[f"status_{word}"]["dev_cla"] for word in words} == {"problem"}


@pytest.mark.parametrize("word", ["low_battery", "battery_low"])
def test_one_battery_is_low_once(word: str) -> None:
    """The status byte and a maker's bit say the same."""
    found = components(meter_payload(DISCOVERY, replace(reading(), flags=(word,)), Place("cellar")))
    assert [each["name"] for each in found.values() if "attery" in str(each["name"])] == ["Battery low"]
    template = str(found["status_power_low"]["val_tpl"])
    assert f"'{word}' in words" in template
    assert "'power_low' in words" in template


def test_what_is_equal_is_numbered_so_that_a_tariff_is_no_number_of_it() -> None:
    items = [measured("energy", "Wh", tariff=1, key=f"energy_tariff_1{end}") for end in ("", "_2")]
    items += [measured("power", "W", key=f"power{end}") for end in ("", "_2")]
    names = [each["name"] for key, each in components(announced(*items)).items() if key.startswith(("energy", "power"))]
    assert names == ["Energy tariff 1", "Energy tariff 1, value 2", "Power", "Power 2"]


def test_versions_of_the_meter_are_told_with_the_device() -> None:
    said = (("fabrication_number", "00000001"), ("hardware_version", 3), ("firmware_version", "B1.24.0"))
    payload = announced(*(replace(measured(key), kind="text", value=value) for key, value in said))
    device = payload["dev"]
    assert isinstance(device, dict)
    assert (device["sn"], device["hw"], device["sw"]) == ("00000001", "3", "B1.24.0")


def test_nothing_hangs_on_a_value() -> None:
    items = list(all_sorts())
    keyed = [replace(item, key=f"k{number}") for number, item in enumerate(items) if item.kind == "number"]
    empty = [replace(item, value=None) for item in keyed]
    other = [replace(item, value=10**9) for item in keyed]
    assert announced(*keyed)["cmps"] == announced(*empty)["cmps"] == announced(*other)["cmps"]


def test_unique_ids_hang_on_the_secondary_address_not_on_the_name() -> None:
    here, there = (components(announced(measured("energy", "Wh"), meter=name)) for name in ("a", "b"))
    assert {key: each["uniq_id"] for key, each in here.items()} == {key: each["uniq_id"] for key, each in there.items()}
    assert len({str(each["uniq_id"]) for each in here.values()}) == len(here)


@pytest.mark.parametrize("meter", ["heat_pump", "Wasser Küche", "Flow", "水", "12345678", "123456782D2C0804"])
def test_names_differ_and_do_not_repeat_the_device(meter: str) -> None:
    items = [replace(item, key=f"k{number}") for number, item in enumerate(all_sorts())]
    payload = announced(*items, meter=meter)
    device = payload["dev"]
    assert isinstance(device, dict)
    name = str(device["name"]).lower()
    found = components(payload)
    assert len({str(each["name"]) for each in found.values()}) == len(found)
    assert len({each["def_ent_id"] for each in found.values()}) == len(found)
    for each in found.values():
        assert not str(each["name"]).lower().startswith(f"{name} ")
        assert re.fullmatch(r"(sensor|binary_sensor|button)\.[a-z0-9]+(_[a-z0-9]+)*", str(each["def_ent_id"]))
        assert str(each["def_ent_id"]).endswith(f".{each['obj_id']}")


def test_a_name_that_begins_like_the_device_is_cut() -> None:
    found = components(announced(VOLUME, identity=replace(HEAT, medium=7), meter="water"))
    assert (found["volume"]["name"], found["volume"]["def_ent_id"]) == ("Volume", "sensor.water_volume")


@pytest.mark.parametrize(
    ("maker", "medium", "name"),
    [
        ("KAM", "heat", "Kamstrup heat meter 12345678"),
        ("HYD", "cold_water", "Hydrometer cold water meter 12345678"),
        ("XYZ", "heat", "XYZ heat meter 12345678"),
        ("XYZ", "unknown", "XYZ M-Bus meter 12345678"),
        ("", "heat", "Heat meter 12345678"),
    ],
)
def test_a_meter_without_a_name_is_called_by_its_maker_and_what_it_is(maker: str, medium: str, name: str) -> None:
    identity = replace(HEAT, manufacturer=maker, medium_name=medium)
    device = announced(identity=identity, meter="123456782D2C0804")["dev"]
    assert isinstance(device, dict)
    assert device["name"] == name


def test_meters_without_names_that_are_called_alike_are_told_apart() -> None:
    inlet = replace(HEAT, medium=0x0C, medium_name="heat_inlet", address="123456782D2C080C")
    assert is_called_alike(HEAT, inlet)
    assert not is_called_alike(HEAT, HEAT)
    assert not is_called_alike(HEAT, replace(inlet, medium_name="cooling"))
    names = []
    for identity in (HEAT, inlet):
        place = Place("cellar", has_double=True)
        device = meter_payload(DISCOVERY, reading(ENERGY, identity=identity, meter=identity.address), place)["dev"]
        assert isinstance(device, dict)
        names.append(device["name"])
    heat = "Kamstrup heat meter 12345678"
    assert names == [f"{heat} (KAM, version 8, heat)", f"{heat} (KAM, version 8, heat inlet)"]


def test_what_only_the_fabrication_number_tells_apart_is_called_by_it() -> None:
    address = f"{HEAT.address}-11111111"
    device = announced(identity=replace(HEAT, address=address), meter=address)["dev"]
    assert isinstance(device, dict)
    assert device["name"] == "Kamstrup heat meter 12345678-11111111"


@pytest.mark.parametrize(
    ("medium_name", "model"),
    [
        ("cold_water", "Cold water meter"),
        ("heat_inlet", "Heat meter"),
        ("heat_cost_allocator", "Heat cost allocator"),
        ("room_sensor", "Room sensor"),
        ("unknown", "M-Bus meter"),
        ("reserved", "M-Bus meter"),
    ],
)
def test_models(medium_name: str, model: str) -> None:
    device = announced(identity=replace(HEAT, medium_name=medium_name))["dev"]
    assert isinstance(device, dict)
    assert device["mdl"] == model


def test_nothing_is_null_and_no_key_is_unknown_to_home_assistant() -> None:
    fixed = Identity("87654321", "", None, 4, "heat", "87654321FFFFFF04")
    nobody = Identity("", "", None, None, "unknown", "F" * 16)
    for identity in (HEAT, fixed, nobody):
        payload = announced(*all_sorts(), identity=identity)
        device = payload["dev"]
        assert isinstance(device, dict)
        assert device.keys() <= DEVICE_KEYS
        assert "null" not in dumps(payload)
        assert all(device.values())


def test_two_meters_that_never_said_who_they_are_stay_apart() -> None:
    nobody = Identity("", "", None, None, "unknown", "F" * 16)
    topics = {DISCOVERY.meter_topic(nobody, meter) for meter in ("a b", "a_b", "A_b", "ß")}
    assert len(topics) == 4
    assert all(re.fullmatch(r"homeassistant/device/[a-zA-Z0-9_-]+/config", topic) for topic in topics)


def test_what_is_known_of_the_place_of_a_meter() -> None:
    where = replace(DISCOVERY, configuration_url="https://example.org/house")
    payload = meter_payload(where, reading(ENERGY), EVERYTHING)
    device = payload["dev"]
    assert isinstance(device, dict)
    assert (device["sa"], device["cu"]) == ("Boiler room", "https://example.org/house")
    assert device["via_device"] == where.bus_id("cellar")
    for other in (bridge_payload(where), bus_payload(where, "cellar")):
        assert isinstance(other["dev"], dict)
        assert other["dev"]["cu"] == "https://example.org/house"
    found = components(payload)
    assert found["alarm"]["stat_t"] == "mbusd/heat_pump/alarm"
    assert (found["interval"]["stat_t"], found["interval"]["cmd_t"]) == (
        "mbusd/heat_pump/interval",
        "mbusd/bridge/request/interval",
    )
    assert found["interval"]["cmd_tpl"] == """{{ {'meter': "heat_pump", 'interval': value} | tojson }}"""


def test_an_entity_is_called_as_its_owner_calls_it() -> None:
    renamed = replace(ENERGY, key="house_heat")
    place = Place("cellar", own_names=frozenset({"house_heat", "other"}))
    each = components(meter_payload(DISCOVERY, reading(renamed, VOLUME), place))
    assert (each["house_heat"]["name"], each["volume"]["name"]) == ("House heat", "Volume")


def test_what_its_owner_makes_another_quantity_is_another_entity() -> None:
    """Home Assistant refuses statistics that go on in another kind of unit."""
    pulses = replace(VOLUME, key="dimensionless", quantity="dimensionless", unit=None)
    shape = Shape(unit={"dimensionless": "kWh"}, scale={"dimensionless": Decimal("0.01")})
    before = components(meter_payload(DISCOVERY, reading(pulses), Place()))
    after = components(meter_payload(DISCOVERY, shaped(reading(pulses), shape), Place(own_names=frozenset())))
    energy = after["dimensionless_energy"]
    assert (energy["dev_cla"], energy["unit_of_meas"]) == ("energy", "kWh")
    assert "'dimensionless'" in str(energy["val_tpl"]).replace('"', "'")
    assert energy["uniq_id"] != before["dimensionless"]["uniq_id"]
    assert "dimensionless" not in after


@pytest.mark.parametrize(("bus", "name"), [("mbus", "M-Bus"), ("cellar", "M-Bus cellar")])
def test_the_name_of_a_bus_says_m_bus_once(bus: str, name: str) -> None:
    payload = bus_payload(DISCOVERY, bus)
    assert isinstance(payload["dev"], dict)
    assert payload["dev"]["name"] == name


# ---- the message of the daemon


def test_the_message_of_the_daemon() -> None:
    payload = bridge_payload(DISCOVERY)
    assert payload.keys() <= ROOT_KEYS
    found = components(payload)
    connection = found["connectivity"]
    assert (connection["stat_t"], connection["pl_on"], connection["pl_off"]) == (
        "mbusd/bridge/state",
        "online",
        "offline",
    )
    assert "avty" not in connection
    assert "avty" not in payload
    for button in ("scan", "read_all"):
        assert (found[button]["p"], found[button]["cmd_t"]) == ("button", f"mbusd/bridge/request/{button}")
        assert found[button]["pl_prs"] == "{}"  # of every bus
    assert (found["log_level"]["p"], found["log_level"]["cmd_t"]) == ("select", "mbusd/bridge/request/log_level")
    assert found["log_level"]["ops"] == ["debug", "info", "warning", "error"]
    assert all("avty" in each for key, each in found.items() if key != "connectivity")


def test_the_message_of_a_bus() -> None:
    payload = bus_payload(DISCOVERY, "cellar")
    assert payload.keys() <= ROOT_KEYS
    assert payload["dev"] == {
        "ids": ["mbusd_bridge_bus_cellar"],
        "name": "M-Bus cellar",
        "mf": "mbusd",
        "mdl": "M-Bus",
        "via_device": "mbusd_bridge",
        "sw": "1.2.3",
    }
    assert payload["avty"] == [{"t": "mbusd/bridge/state"}]
    assert payload["stat_t"] == "mbusd/bus/cellar/statistics"
    found = components(payload)
    assert found["state"]["stat_t"] == "mbusd/bus/cellar/state"
    for count in ("read_outs", "failures", "retries", "timeouts", "noise", "utilisation"):
        each = found[count]
        assert each["val_tpl"] == f'{{{{ (value_json | default({{}})).get("{count}") }}}}'
        assert each["ent_cat"] == "diagnostic"
        assert_accepted(each, newer=False)
    assert found["utilisation"]["unit_of_meas"] == "%"
    for button in ("scan", "read_all"):
        assert found[button]["cmd_t"] == f"mbusd/bridge/request/{button}"
        assert json.loads(str(found[button]["pl_prs"])) == {"bus": "cellar"}
    assert found["noise"]["uniq_id"] == "mbusd_bridge_bus_cellar_noise"
    assert found["noise"]["def_ent_id"] == "sensor.mbusd_bus_cellar_noise"


@pytest.mark.parametrize(("one", "other"), [("a b", "a_b"), ("ä", "a"), ("水", "火")])
def test_buses_stay_apart(one: str, other: str) -> None:
    assert DISCOVERY.bus_topic(one) != DISCOVERY.bus_topic(other)
    ids = [{str(each["uniq_id"]) for each in components(bus_payload(DISCOVERY, bus)).values()} for bus in (one, other)]
    assert ids[0].isdisjoint(ids[1])


def test_a_bus_is_never_taken_for_a_meter_that_did_not_say_who_it_is() -> None:
    nobody = Identity("", "", None, None, "unknown", "F" * 16)
    assert DISCOVERY.meter_topic(nobody, "bus_cellar") != DISCOVERY.bus_topic("cellar")


def test_two_daemons_on_one_broker_are_two_devices() -> None:
    attic = Discovery(base_topic="mbusd/attic")
    assert attic.bridge_topic != DISCOVERY.bridge_topic
    device = bridge_payload(attic)["dev"]
    assert isinstance(device, dict)
    assert device["ids"] == [attic.bridge_id]


@pytest.mark.parametrize(
    "payload", [announced(measured("energy", "Wh")), bridge_payload(DISCOVERY), bus_payload(DISCOVERY, "cellar")]
)
def test_binary_sensors_and_templates(payload: Payload) -> None:
    for each in components(payload).values():
        assert each["p"] in ("sensor", "binary_sensor", "button", "select")
        if each["p"] == "binary_sensor":
            assert each["dev_cla"] in BINARY_SENSOR_CLASSES
        # an attribute that is missing would be a warning in the log for each message, a topic that is cleared an error
        for key in ("val_tpl", "json_attr_tpl"):
            left = re.sub(r"\(value_json \| default\(\{\}\)\)(\.get\(| else)", "", str(each.get(key, "")))
            assert "value_json" not in left


# ---- changes


@pytest.fixture
def announcements() -> Announcements:
    return Announcements(DISCOVERY)


def test_what_is_unchanged_is_not_sent_again(announcements: Announcements) -> None:
    assert announcements.update(TOPIC, announced(ENERGY)) == [(TOPIC, dumps(announced(ENERGY)))]
    assert announcements.update(TOPIC, announced(replace(ENERGY, value=99))) == []


def test_what_goes_gets_a_tombstone_first(announcements: Announcements) -> None:
    announcements.update(TOPIC, announced(ENERGY, VOLUME))
    (first, second) = announcements.update(TOPIC, announced(ENERGY))
    assert json.loads(first[1])["cmps"]["volume"] == {"p": "sensor"}
    assert json.loads(first[1])["cmps"]["energy"]["uniq_id"]
    assert second == (TOPIC, dumps(announced(ENERGY)))
    assert announcements.update(TOPIC, announced(ENERGY)) == []


def test_what_is_new_waits_until_the_old_is_gone(announcements: Announcements) -> None:
    """Home Assistant would give a second entity of the same name an id with a number."""
    announcements.update(TOPIC, announced(ENERGY, VOLUME))
    (first, second) = announcements.update(TOPIC, announced(replace(ENERGY, key="heat"), VOLUME))
    during, after = (json.loads(payload)["cmps"] for _, payload in (first, second))
    assert during["energy"] == {"p": "sensor"}
    assert "heat" not in during
    assert during["volume"] == after["volume"]
    assert after["heat"]["def_ent_id"] == "sensor.heat_pump_energy"


def test_an_entity_that_moves_to_another_device_of_ours_is_let_go_first(announcements: Announcements) -> None:
    """Of the version before, which showed the buses with the bridge."""
    bus = components(bus_payload(DISCOVERY, "cellar"))
    earlier = bridge_payload(DISCOVERY)
    before = components(earlier)
    earlier["cmps"] = {**before, "bus_cellar_noise": bus["noise"], "bus_attic_noise": {**bus["noise"], "uniq_id": "x"}}
    assert announcements.learn(DISCOVERY.bridge_topic, dumps(earlier))
    own = {
        DISCOVERY.bridge_topic: bridge_payload(DISCOVERY),
        DISCOVERY.bus_topic("cellar"): bus_payload(DISCOVERY, "cellar"),
    }
    messages = announcements.update_own(own)
    assert messages == [
        (DISCOVERY.bridge_topic, dumps({"migr_discvry": True})),
        (DISCOVERY.bus_topic("cellar"), dumps(bus_payload(DISCOVERY, "cellar"))),
        (DISCOVERY.bridge_topic, dumps(bridge_payload(DISCOVERY))),
    ]
    assert announcements.update_own(own) == []


def test_a_bus_that_left_the_file_goes(announcements: Announcements) -> None:
    attic = DISCOVERY.bus_topic("attic")
    assert announcements.learn(attic, dumps(bus_payload(DISCOVERY, "attic")))
    own = {DISCOVERY.bridge_topic: bridge_payload(DISCOVERY)}
    assert announcements.update_own(own)[0] == (attic, "")
    assert announcements.leftovers([]) == []
    other = Discovery(base_topic="other")
    assert not announcements.learn(other.bus_topic("attic"), dumps(bus_payload(other, "attic")))


def test_the_keys_that_entities_show(announcements: Announcements) -> None:
    items = (ENERGY, replace(measured("customer"), kind="text"), _dated("bits", "04", "error_flags"))
    announcements.update(TOPIC, meter_payload(DISCOVERY, reading(*items), EVERYTHING))
    assert announcements.keys(TOPIC) == {"energy", "customer", "error_flags"}


def test_another_platform_under_the_same_id_comes_after_a_tombstone(announcements: Announcements) -> None:
    before, after = announced(ENERGY), announced(ENERGY)
    before["cmps"] = {**components(before), "energy": {**components(before)["energy"], "p": "binary_sensor"}}
    announcements.update(TOPIC, before)
    (first, second) = announcements.update(TOPIC, after)
    assert json.loads(first[1])["cmps"]["energy"] == {"p": "binary_sensor"}
    assert second == (TOPIC, dumps(after))


def test_an_incomplete_reading_removes_nothing(announcements: Announcements) -> None:
    announcements.update(TOPIC, announced(ENERGY, VOLUME))
    assert announcements.update(TOPIC, announced(ENERGY), keep=["volume"]) == []
    (message,) = announcements.update(TOPIC, announced(measured("power", "W")), keep=["volume", "energy"])
    assert {"energy", "volume", "power"} <= json.loads(message[1])["cmps"].keys()


def test_an_exchanged_meter_goes_before_the_new_one_comes(announcements: Announcements) -> None:
    announcements.update(TOPIC, announced(ENERGY))
    exchanged = replace(HEAT, address="999999992D2C0804", identification="99999999")
    topic = DISCOVERY.meter_topic(exchanged, "heat_pump")
    payload = announced(ENERGY, identity=exchanged)
    assert announcements.update(topic, payload) == [(TOPIC, ""), (topic, dumps(payload))]
    assert announcements.in_order() == [topic]


def test_meters_that_change_names_stay_the_same_devices(announcements: Announcements) -> None:
    """Neither is taken back, and neither shows the other's values meanwhile."""
    other = f"homeassistant/device/mbusd_{SECOND.address}/config"
    announcements.update(TOPIC, announced(ENERGY, meter="a"))
    announcements.update(other, announced(ENERGY, identity=SECOND, meter="b"))
    (aside, moved) = announcements.update(TOPIC, announced(ENERGY, meter="b"))
    assert [topic for topic, _ in (aside, moved)] == [other, TOPIC]
    document = json.loads(aside[1])
    assert (document["stat_t"], document["avty"]) == (
        f"mbusd/mbusd_{SECOND.address}",
        [{"t": f"mbusd/mbusd_{SECOND.address}/availability"}],
    )
    assert announcements.parked == {other: "a"}
    assert [topic for topic, _ in announcements.update(other, announced(ENERGY, identity=SECOND, meter="a"))] == [other]
    assert announcements.parked == {}
    assert set(announcements.left()[0]) == {"a", "b"}


def test_a_device_that_was_put_aside_is_a_leftover_of_the_next_life(announcements: Announcements) -> None:
    other = f"homeassistant/device/mbusd_{SECOND.address}/config"
    announcements.update(TOPIC, announced(ENERGY, meter="a"))
    announcements.update(other, announced(ENERGY, identity=SECOND, meter="b"))
    ((_, payload), _) = announcements.update(TOPIC, announced(ENERGY, meter="b"))
    later = Announcements(DISCOVERY)
    assert later.learn(other, payload)
    assert later.leftovers(["a", "b"]) == [other]


def test_names_and_buses_that_are_no_more_are_told_once(announcements: Announcements) -> None:
    announcements.update(TOPIC, announced(ENERGY, VOLUME, meter="a"))
    announcements.update_own({DISCOVERY.bus_topic("cellar"): bus_payload(DISCOVERY, "cellar")})
    announcements.update(TOPIC, announced(ENERGY, VOLUME, meter="b"))
    announcements.update_own({DISCOVERY.bridge_topic: bridge_payload(DISCOVERY)})
    assert announcements.left() == ({"a": {"energy", "volume"}}, ["cellar"])
    assert announcements.left() == ({}, [])
    announcements.forget(TOPIC)
    assert announcements.left() == ({"b": {"energy", "volume"}}, [])


def test_a_renamed_meter_stays_the_same_device(announcements: Announcements) -> None:
    announcements.update(TOPIC, announced(ENERGY))
    renamed = announced(ENERGY, meter="cellar_heat")
    assert announcements.update(TOPIC, renamed) == [(TOPIC, dumps(renamed))]


def test_meters_that_left_the_configuration_are_found(announcements: Announcements) -> None:
    announcements.learn(DISCOVERY.bridge_topic, dumps(bridge_payload(DISCOVERY)))
    announcements.learn(TOPIC, dumps(announced(ENERGY)))
    assert announcements.leftovers(["heat_pump"]) == []
    assert announcements.leftovers(["other"]) == [TOPIC]
    assert announcements.forget(TOPIC) == [(TOPIC, "")]
    assert announcements.forget(TOPIC) == []
    assert announcements.leftovers([]) == []


def test_what_was_retained_counts_as_announced(announcements: Announcements) -> None:
    assert announcements.learn(TOPIC, dumps(announced(ENERGY, VOLUME)))
    assert announcements.update(TOPIC, announced(ENERGY, VOLUME)) == []
    assert len(announcements.update(TOPIC, announced(ENERGY))) == 2


def test_a_tombstone_that_was_retained_is_cleaned_away(announcements: Announcements) -> None:
    (_, (topic, final)) = (announcements.update(TOPIC, announced(ENERGY, VOLUME))[0], (TOPIC, dumps(announced(ENERGY))))
    interrupted = announcements.update(TOPIC, announced(ENERGY))[0][1]
    restarted = Announcements(DISCOVERY)
    restarted.learn(topic, interrupted)
    assert restarted.update(topic, announced(ENERGY)) == [(topic, final)]


def test_a_device_that_a_user_deleted_comes_back_with_the_next_reading(announcements: Announcements) -> None:
    announcements.update(TOPIC, announced(ENERGY))
    assert announcements.learn(TOPIC, "")
    assert announcements.update(TOPIC, announced(ENERGY)) == [(TOPIC, dumps(announced(ENERGY)))]


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        (TOPIC, "{"),
        (TOPIC, "[]"),
        (TOPIC, dumps(announced(ENERGY) | {"o": {"name": "zigbee2mqtt"}})),
        (TOPIC, dumps(announced(ENERGY) | {"stat_t": "other/heat_pump"})),
        (
            TOPIC,
            dumps(announced(ENERGY) | {"stat_t": "mbusd/attic/heat_pump"}),
        ),  # of a daemon with base topic mbusd/attic
        (TOPIC, dumps(announced(ENERGY) | {"stat_t": None})),
        ("homeassistant/device/0x00158d/config", dumps(announced(ENERGY))),
        ("homeassistant/device/mbusd_bridge_2/config", dumps(bridge_payload(DISCOVERY))),
        (TOPIC, ""),
    ],
)
def test_what_others_announced_is_left_alone(announcements: Announcements, topic: str, payload: str) -> None:
    assert not announcements.learn(topic, payload)
    assert announcements.leftovers([]) == []


def test_a_broker_that_lost_everything_gets_the_daemon_first(announcements: Announcements) -> None:
    announcements.update(TOPIC, announced(ENERGY))
    announcements.update(DISCOVERY.bridge_topic, bridge_payload(DISCOVERY))
    assert announcements.in_order() == [DISCOVERY.bridge_topic, TOPIC]


# ---- the proposed mapping, where it is at hand


def _proposed_rules() -> list[dict[str, object]]:
    if not MAP.is_file():
        pytest.skip("../shared/homeassistant/ha_map.yaml, the proposed mapping, is not here")
    rules = yaml.safe_load(MAP.read_text(encoding="utf-8"))["rules"]
    assert isinstance(rules, list)
    return [rule for rule in rules if rule.get("publish", True)]


def test_entities_look_as_proposed() -> None:
    media = {"electricity": 2, "gas": 3, "water": 7, "cooling": 0x0A, "room": 0x1B}
    for rule in _proposed_rules():
        match = rule["match"]
        assert isinstance(match, dict)
        quantities = match["quantity"] if isinstance(match["quantity"], list) else [match["quantity"]]
        for quantity in quantities:
            units = [unit for name, unit in QUANTITIES if name == quantity and match.get("unit", unit) == unit]
            if not units:  # the proposal has combinations that no VIF has
                continue
            item = measured(quantity, units[0])
            if quantity == "datetime" and "storage" not in match:
                item = replace(item, storage=2)
            if rule.get("device_class") in ("date", "timestamp"):
                item = replace(item, kind="date" if rule["device_class"] == "date" else "datetime", value=None)
            each = component(item, media.get(match.get("media", ""), 0))
            name = str(rule["name"]).format(quantity=quantity.replace("_", " ").capitalize())
            if quantity not in CALLED_OTHERWISE:
                assert str(each["name"]).startswith(name)
            for ours, theirs in (
                ("dev_cla", "device_class"),
                ("unit_of_meas", "unit"),
                ("ic", "icon"),
                ("ent_cat", "entity_category"),
                ("en", "enabled"),
            ):
                assert each.get(ours) == rule.get(theirs), (rule, ours)
            assert each.get("stat_cla") == (None if item.storage else rule.get("state_class"))
            if isinstance(rule.get("precision"), int) and "factor" not in rule:
                assert each["sug_dsp_prc"] == rule["precision"]


def test_an_alarm_is_a_problem_of_the_meter_where_it_is_asked_for_alarms() -> None:
    assert "alarm" not in components(announced(ENERGY))
    each = components(meter_payload(DISCOVERY, reading(ENERGY), EVERYTHING))["alarm"]
    assert (each["p"], each["name"], each["dev_cla"]) == ("binary_sensor", "Alarm", "problem")
    assert each["stat_t"] == each["json_attr_t"] == "mbusd/heat_pump/alarm"
    assert each["uniq_id"] == "mbusd_123456782D2C0804_alarm"
    assert "ent_cat" not in each
    assert "avty" not in each  # it is available when its meter is


def test_what_is_wrong_with_a_bus_is_a_problem_of_the_bridge() -> None:
    each = components(bus_payload(DISCOVERY, "cellar"))["trouble"]
    assert (each["p"], each["name"], each["dev_cla"]) == ("binary_sensor", "Trouble", "problem")
    assert "stat_t" not in each


def test_no_measurement_has_the_id_of_an_entity_of_ours() -> None:
    ours = set(components(meter_payload(DISCOVERY, reading(), EVERYTHING)))
    assert not ours & {quantity for quantity, _ in QUANTITIES}


@pytest.mark.parametrize(
    "document",
    [
        '{"o": {"name": "mbusd"}, "stat_t": "mbusd/a+b"}',
        '{"o": {"name": "mbusd"}, "stat_t": "mbusd/a#"}',
        '{"o": {"name": "mbusd"}, "stat_t": "mbusd/a\\u0000b"}',
        '{"o": {"name": "mbusd"}, "stat_t": "mbusd/half \\ud800 pair"}',
        '{"o": {"name": "mbusd"}, "stat_t": "mbusd/' + "long" * 20_000 + '"}',
        '{"o": {"name": "mbusd"}, "stat_t": "mbusd/a", "x": NaN}',
        '{"o": {"name": "mbusd"}, "stat_t": "mbusd/a", "x": 1e999}',
        '{"o": {"name": "mbusd"}, "stat_t": "mbusd/a", "x": ' + 5000 * "1" + "}",
        '{"o": {"name": "mbusd"}, "stat_t": "mbusd/a", "x": ' + 990 * "[" + 990 * "]" + "}",
    ],
)
def test_what_others_have_left_at_the_broker_under_our_name_is_believed_only_if_it_can_be_ours(document: str) -> None:
    """What is taken for ours is said again some day: a topic that none can be, or no JSON, would end that."""
    announcements = Announcements(DISCOVERY)
    assert not announcements.learn(f"{DISCOVERY.discovery_prefix}/device/mbusd_x/config", document)
    assert announcements.leftovers(()) == []
