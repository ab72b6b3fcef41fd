"""Readings as emoncms takes them, under the names and in the units that OpenEnergyMonitor's hub gives to M-Bus meters.

emoncms joins every level of a topic behind the node with `_`, takes what is no number for null, and reads a retained
message as new after each restart. So only numbers are sent, and none is retained.
"""

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Literal

from mbusd.clock import is_set
from mbusd.exact_json import JsonValue, dumps
from mbusd.light import dataclass
from mbusd.model import Measurement, Reading, Value
from mbusd.sinks.topics import Message
from mbusd.sinks.undated import UNDATED
from mbusd.values.units import convert

Format = Literal["values", "json"]

_NAMES: dict[str, tuple[str, str | None]] = {  # quantity: the hub's name, its unit
    "energy": ("Energy", "kWh"),
    "volume": ("Volume", "m³"),
    "power": ("Power", "W"),
    "volume_flow": ("FlowRate", "m³/h"),
    "flow_temperature": ("FlowT", "°C"),
    "return_temperature": ("ReturnT", "°C"),
    "temperature_difference": ("DeltaT", "K"),  # of one degree Celsius
    "external_temperature": ("ExternalT", "°C"),
    "on_time": ("Ontime", "s"),
    "operating_time": ("OperatingTime", "s"),
}
_FUNCTIONS = {"maximum": "_Max", "minimum": "_Min", "error": "_error"}
_FORWARD = "forward"
_BACKWARD = "backward"  # energy that a heat pump has taken out of the house
_REFUSED = re.compile(r"[^\w\s.\-]")  # what emoncms drops from names
METER = "meter"  # as a node: each meter is its own


@dataclass(frozen=True, slots=True)
class Emoncms:
    """Where and how: `<base>/<node>/<meter>_<Quantity>`, or one JSON document with its time at `<base>/<node>`."""

    base: str = "emon"
    node: str = "MBUS"
    format: Format = "values"

    def of_reading(self, reading: Reading) -> Iterator[Message]:
        """The messages of one reading; nothing where it has no number."""
        node, prefix = (reading.meter, "") if self.node == METER else (self.node, f"{reading.meter}_")
        values = {f"{prefix}{name}": value for name, value in inputs(reading)}
        topic = f"{self.base}/{_REFUSED.sub('', node)}"
        if not values:
            return
        if self.format == "json":
            moment = int(reading.taken_at.timestamp()) if is_set(reading.taken_at) else UNDATED
            document: dict[str, JsonValue] = {"time": moment, **values}
            yield Message(topic, dumps(document), retain=False, is_unique=True, is_stream=True)
            return
        for name, value in values.items():
            yield Message(f"{topic}/{_REFUSED.sub('', name)}", dumps(value), retain=False, is_fleeting=True)


def inputs(reading: Reading) -> Iterator[tuple[str, int | Decimal]]:
    """Name and number of each numeric value: the hub's name, then what makes the record another than the current one.

    What is still equal is numbered as the hub does: Energy, Energy2.
    """
    has_plain_energy = any(item.quantity == "energy" and not item.modifiers for item in reading.measurements)
    is_thermal = reading.identity.medium_name.startswith(("heat", "cooling"))
    taken: set[str] = set()
    for item in reading.measurements:
        value = _number(item)
        if value is None:
            continue
        name = first = _name(item, has_plain_energy=has_plain_energy, is_thermal=is_thermal)
        number = 1
        while name in taken:
            number += 1
            name = f"{first}{number}"
        taken.add(name)
        yield name, value


def _name(item: Measurement, *, has_plain_energy: bool, is_thermal: bool) -> str:
    name, _ = _NAMES.get(item.quantity, ("".join(word.capitalize() for word in item.quantity.split("_")), None))
    modifiers = item.modifiers
    if item.quantity == "energy" and modifiers == (_FORWARD,) and not has_plain_energy:
        modifiers = ()
    if item.quantity == "energy" and modifiers == (_BACKWARD,) and is_thermal:
        name, modifiers = "Cooling", ()
    name += _FUNCTIONS.get(item.function, "") + "".join(f"_{modifier}" for modifier in modifiers)
    for what, number in (("tariff", item.tariff), ("subunit", item.subunit), ("storage", item.storage)):
        name += f"_{what}_{number}" if number else ""
    return name


def _number(item: Measurement) -> int | Decimal | None:
    """The value in the hub's unit; None where it is no number, or in a unit that the hub does not know."""
    value: Value = item.value
    if item.kind != "number" or isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    _, unit = _NAMES.get(item.quantity, ("", None))
    if unit is None or item.effect:
        return value
    if item.unit is None:
        return None
    try:
        is_difference = item.quantity == "temperature_difference"
        user = convert(value, item.unit, unit, item.decimals, is_difference=is_difference)
    except ValueError:
        return None
    return user.value
