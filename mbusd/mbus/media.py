"""Device types ("media") of the header by name (EN 13757-7 table 6); a code of its own for each kind of meter."""

from typing import Final

MEDIA: Final[dict[int, str]] = {
    0x00: "other",
    0x01: "oil",
    0x02: "electricity",
    0x03: "gas",
    0x04: "heat",  # measured at the outlet (return)
    0x05: "steam",
    0x06: "warm_water",  # 30 to 90 °C
    0x07: "water",
    0x08: "heat_cost_allocator",
    0x09: "compressed_air",
    0x0A: "cooling",  # measured at the outlet (return)
    0x0B: "cooling_inlet",
    0x0C: "heat_inlet",
    0x0D: "heat_cooling",
    0x0E: "bus_system",
    0x0F: "unknown",
    0x10: "irrigation_water",
    0x11: "water_data_logger",
    0x12: "gas_data_logger",
    0x13: "gas_converter",
    0x14: "calorific_value",
    0x15: "hot_water",  # 90 °C and more
    0x16: "cold_water",
    0x17: "dual_water",  # hot and cold registers
    0x18: "pressure",
    0x19: "ad_converter",
    0x1A: "smoke_detector",
    0x1B: "room_sensor",
    0x1C: "gas_detector",
    0x1D: "carbon_monoxide_alarm",
    0x1E: "heat_alarm",
    0x1F: "sensor_device",
    0x20: "breaker",
    0x21: "valve",
    0x25: "customer_unit",
    0x28: "waste_water",
    0x29: "garbage",
    0x2A: "carbon_dioxide",
    0x30: "service_tool",
    0x31: "communication_controller",
    0x32: "unidirectional_repeater",
    0x33: "bidirectional_repeater",
    0x36: "radio_converter_system",
    0x37: "radio_converter_meter",
    0x38: "wired_converter",
    0xFF: "wildcard",  # in selections only
}


def medium_name(code: int) -> str:
    """The name of a device type; codes without one are "reserved"."""
    return MEDIA.get(code, "reserved")
