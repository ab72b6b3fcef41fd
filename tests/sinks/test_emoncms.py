"""What emoncms reads: names and units of the hub, numbers only, nothing retained."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from mbusd.model import Identity, Measurement, Reading
from mbusd.sinks.emoncms import Emoncms

HEAT = Identity("12345678", "KAM", 0x1C, 0x04, "heat", "123456782D2C1C04")
AT = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def number(key: str, quantity: str, value: object, unit: str | None, **more: object) -> Measurement:
    assert value is None or isinstance(value, int | Decimal)
    return replace(Measurement(key, quantity, "number", value, unit, 0), **more)  # type: ignore[arg-type] # names of its fields


ITEMS = (
    number("energy", "energy", 37351, "kWh"),
    number("volume", "volume", Decimal("561.08"), "m³"),
    number("power", "power", 4200, "W"),
    number("power_maximum", "power", 9900, "W", function="maximum"),
    number("volume_flow", "volume_flow", Decimal("0.711"), "m³/h"),
    number("flow_temperature", "flow_temperature", Decimal("41.2"), "°C"),
    number("return_temperature", "return_temperature", Decimal("35.9"), "°C"),
    number("return_temperature_minimum", "return_temperature", 20, "°C", function="minimum"),
    number("temperature_difference", "temperature_difference", Decimal("5.3"), "K"),
    number("external_temperature", "external_temperature", -3, "°C"),
)


def reading(*items: Measurement, meter: str = "heatmeter", identity: Identity = HEAT) -> Reading:
    return Reading(meter, identity, AT, (), items)


def said(emoncms: Emoncms, *items: Measurement, meter: str = "heatmeter") -> dict[str, str]:
    return {message.topic: message.payload for message in emoncms.of_reading(reading(*items, meter=meter))}


def test_a_heat_meter_has_the_names_that_the_heat_pump_template_knows() -> None:
    assert said(Emoncms(), *ITEMS) == {
        "emon/MBUS/heatmeter_Energy": "37351",
        "emon/MBUS/heatmeter_Volume": "561.08",
        "emon/MBUS/heatmeter_Power": "4200",
        "emon/MBUS/heatmeter_Power_Max": "9900",
        "emon/MBUS/heatmeter_FlowRate": "0.711",
        "emon/MBUS/heatmeter_FlowT": "41.2",
        "emon/MBUS/heatmeter_ReturnT": "35.9",
        "emon/MBUS/heatmeter_ReturnT_Min": "20",
        "emon/MBUS/heatmeter_DeltaT": "5.3",
        "emon/MBUS/heatmeter_ExternalT": "-3",
    }


def test_nothing_is_retained() -> None:
    for style in (Emoncms(), Emoncms(format="json")):
        assert not any(message.retain for message in style.of_reading(reading(*ITEMS)))


def test_only_numbers_are_sent() -> None:
    serial = Measurement("fabrication_number", "fabrication_number", "text", "12345678", None, None)
    date = Measurement("date", "date", "date", AT.date(), None, None)
    bits = Measurement("error_flags", "error_flags", "bits", "0004", None, None)
    missing = number("energy", "energy", None, "kWh")
    assert said(Emoncms(), serial, date, bits, missing) == {}


def test_units_are_the_hubs() -> None:
    joule = number("energy", "energy", 36, "GJ")
    hours = number("operating_time", "operating_time", 2, "h")
    assert said(Emoncms(), joule, hours) == {
        "emon/MBUS/heatmeter_Energy": "10000",
        "emon/MBUS/heatmeter_OperatingTime": "7200",
    }


def test_the_document_has_its_time_in_seconds() -> None:
    (message,) = Emoncms(format="json").of_reading(reading(*ITEMS))
    assert message.topic == "emon/MBUS"
    assert message.is_unique
    assert message.is_stream
    assert (message.retain, message.qos) == (False, 1)
    document = json.loads(message.payload)
    assert document["time"] == 1795176000
    assert document["heatmeter_FlowT"] == 41.2


def test_single_values_have_no_time_and_never_come_late() -> None:
    messages = list(Emoncms().of_reading(reading(*ITEMS)))
    assert all(message.is_fleeting and not message.is_stream for message in messages)


def test_each_meter_may_be_a_node() -> None:
    topics = said(Emoncms(node="meter"), *ITEMS[:2], meter="flat 1: heat")
    assert topics == {"emon/flat 1 heat/Energy": "37351", "emon/flat 1 heat/Volume": "561.08"}


def test_old_values_never_take_the_name_of_the_current_one() -> None:
    old = number("energy_storage_1", "energy", 30000, "kWh", storage=1)
    twin = number("energy_2", "energy", 5, "kWh")
    assert list(said(Emoncms(), old, ITEMS[0], twin)) == [
        "emon/MBUS/heatmeter_Energy_storage_1",
        "emon/MBUS/heatmeter_Energy",
        "emon/MBUS/heatmeter_Energy2",
    ]


def test_what_a_heat_pump_takes_out_of_the_house_is_cooling() -> None:
    forward = number("energy_forward", "energy", 100, "kWh", modifiers=("forward",))
    backward = number("energy_backward", "energy", 40, "kWh", modifiers=("backward",))
    assert list(said(Emoncms(), forward, backward)) == ["emon/MBUS/heatmeter_Energy", "emon/MBUS/heatmeter_Cooling"]
    mains = replace(HEAT, medium=2, medium_name="electricity")
    names = [message.topic for message in Emoncms().of_reading(reading(forward, backward, identity=mains))]
    assert names == ["emon/MBUS/heatmeter_Energy", "emon/MBUS/heatmeter_Energy_backward"]


def test_other_quantities_have_names_of_the_same_make() -> None:
    assert list(said(Emoncms(), number("voltage", "voltage", 231, "V"))) == ["emon/MBUS/heatmeter_Voltage"]
