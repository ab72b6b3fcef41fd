"""A heat meter, the one that takes its place, and readings of them."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from mbusd.model import Identity, Measurement, MeterInfo, Reading, Value

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
HEAT = Identity("12345678", "KAM", 8, 4, "heat", "123456782D2C0804")
SUCCESSOR = Identity("87654321", "KAM", 8, 4, "heat", "876543212D2C0804")

_UNITS = {"energy": ("kWh", 0), "volume": ("m³", 2), "flow_temperature": ("°C", 2), "power": ("W", 0)}


def measured(key: str, value: Value) -> Measurement:
    unit, decimals = _UNITS.get(key, (None, None))
    return Measurement(key, key, "text" if isinstance(value, str) else "number", value, unit, decimals)


def reading(identity: Identity = HEAT, meter: str = "heat_pump", **values: Value) -> Reading:
    """By default 10 kWh and 2.72 m³."""
    values = values or {"energy": 10, "volume": Decimal("2.72")}
    return Reading(meter, identity, NOON, (), tuple(measured(key, value) for key, value in values.items()))


def info(name: str = "heat_pump", **changes: object) -> MeterInfo:
    """A meter that has answered."""
    known = MeterInfo(name, "cellar", "68", "10s", HEAT, NOON, online=True, keys=(("energy", "kWh", "energy"),))
    return replace(known, **changes)  # type: ignore[arg-type]  # the names are checked by replace itself
