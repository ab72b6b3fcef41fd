"""What VIF and VIFE bytes mean: the tables of EN 13757-3 cl. 6.4 (codes without their extension bit) and their reading.

A row stands for a run of codes. The exponent is that of the first code and rises by one from code to code, except
where the row lists a unit for each of its codes. Value = raw number * 10**exponent in `unit`.
"""

from dataclasses import field
from decimal import Decimal
from functools import lru_cache
from typing import Final, Literal

from mbusd.light import dataclass

VifKind = Literal["number", "date", "datetime", "duration", "text", "bits", "id", "version", "enum", "raw", "none"]
VifeEffect = Literal[
    "record_error",
    "qualifier",
    "unit_divide",
    "unit_multiply",
    "pulse",
    "as_number",
    "as_date",
    "as_duration",
    "scale",
    "offset",
    "data_type",
    "profile",
    "extension",
    "manufacturer",
    "reserved",
]
Effect = Literal["", "as_number", "as_date", "as_duration", "unit", "pulse", "profile", "manufacturer"]


@dataclass(frozen=True, slots=True)
class Vif:
    """Codes `first`..`last` of a VIF table; `factor` is what is multiplied besides the power of ten."""

    first: int
    last: int
    quantity: str
    unit: str | tuple[str, ...] = ""
    exponent: int = 0
    kind: VifKind = "number"
    factor: Decimal | None = None

    def unit_of(self, code: int) -> str | None:
        """The unit of one of the codes."""
        unit = self.unit if isinstance(self.unit, str) else self.unit[code - self.first]
        return unit or None

    def exponent_of(self, code: int) -> int:
        """The power of ten of one of the codes."""
        return self.exponent + (code - self.first if isinstance(self.unit, str) else 0)


@dataclass(frozen=True, slots=True)
class Vife:
    """Codes `first`..`last` of a VIFE table; `by` is the second unit of unit_*, the letter of data_type."""

    first: int
    last: int
    effect: VifeEffect
    tag: str
    by: str = ""
    exponent: int = 0
    units: tuple[str, ...] = ()


_S_MIN_H_D = ("s", "min", "h", "d")
_TWO_TO_MINUS_12 = Decimal("0.000244140625")

# fmt: off
PRIMARY: tuple[Vif, ...] = (
    Vif(0x00, 0x07, "energy", "Wh", -3),
    Vif(0x08, 0x0F, "energy", "J"),  # 0B kJ, 0E MJ, 0F 10 MJ
    Vif(0x10, 0x17, "volume", "m3", -6),  # 13 litre, 14 10 l, 16 m3
    Vif(0x18, 0x1F, "mass", "kg", -3),
    Vif(0x20, 0x23, "on_time", _S_MIN_H_D, kind="duration"),  # power-on time
    Vif(0x24, 0x27, "operating_time", _S_MIN_H_D, kind="duration"),
    Vif(0x28, 0x2F, "power", "W", -3),  # 2B W, 2D 100 W, 2E kW
    Vif(0x30, 0x37, "power", "J/h"),
    Vif(0x38, 0x3F, "volume_flow", "m3/h", -6),  # 3B l/h, 3E m3/h
    Vif(0x40, 0x47, "volume_flow", "m3/min", -7),
    Vif(0x48, 0x4F, "volume_flow", "m3/s", -9),
    Vif(0x50, 0x57, "mass_flow", "kg/h", -3),
    Vif(0x58, 0x5B, "flow_temperature", "degC", -3),
    Vif(0x5C, 0x5F, "return_temperature", "degC", -3),
    Vif(0x60, 0x63, "temperature_difference", "K", -3),
    Vif(0x64, 0x67, "external_temperature", "degC", -3),  # also the room temperature of sensors
    Vif(0x68, 0x6B, "pressure", "bar", -3),
    Vif(0x6C, 0x6C, "date", kind="date"),  # data field 2 = type G (CP16)
    Vif(0x6D, 0x6D, "datetime", kind="datetime"),  # data field 2 type G, 3 type J, 4 type F, 6 type I
    Vif(0x6E, 0x6E, "hca", "HCA"),
    Vif(0x6F, 0x6F, "reserved", kind="raw"),  # EF announces a third table
    Vif(0x70, 0x73, "averaging_duration", _S_MIN_H_D, kind="duration"),
    Vif(0x74, 0x77, "actuality_duration", _S_MIN_H_D, kind="duration"),  # age of the measured values
    Vif(0x78, 0x78, "fabrication_number", kind="id"),  # may differ from the identification of the header
    Vif(0x79, 0x79, "enhanced_identification", kind="id"),  # 8 bytes: identification, manufacturer, version, medium
    Vif(0x7A, 0x7A, "bus_address", kind="id"),  # 1 byte: primary address; 8 bytes: secondary address
    Vif(0x7B, 0x7B, "extension_fb", kind="none"),  # only as FB; 7B alone is undefined
    Vif(0x7C, 0x7C, "plain_text_unit"),
    Vif(0x7D, 0x7D, "extension_fd", kind="none"),  # only as FD
    Vif(0x7E, 0x7E, "any_vif", kind="raw"),  # wildcard of a selection
    Vif(0x7F, 0x7F, "manufacturer_specific", kind="raw"),  # only the DIF tells something: the length
)
"""The VIF without its extension bit (table 10)."""

FB: tuple[Vif, ...] = (
    Vif(0x00, 0x01, "energy", "Wh", 5),  # 0.1 MWh / 1 MWh
    Vif(0x02, 0x03, "reactive_energy", "varh", 3),  # 1 / 10 kvarh
    Vif(0x04, 0x05, "apparent_energy", "VAh", 3),  # 1 / 10 kVAh
    Vif(0x06, 0x06, "coefficient_of_performance", exponent=-1),  # newer than the 2018 edition
    Vif(0x07, 0x07, "reserved", kind="raw"),
    Vif(0x08, 0x09, "energy", "J", 8),  # 0.1 GJ / 1 GJ
    Vif(0x0A, 0x0B, "reserved", kind="raw"),
    Vif(0x0C, 0x0F, "energy", "cal", 5),
    Vif(0x10, 0x11, "volume", "m3", 2),  # 100 / 1000 m3
    Vif(0x12, 0x13, "reserved", kind="raw"),
    Vif(0x14, 0x17, "reactive_power", "var"),  # 10^(nn-3) kvar
    Vif(0x18, 0x19, "mass", "kg", 5),  # 100 / 1000 t
    Vif(0x1A, 0x1B, "relative_humidity", "%", -1),
    Vif(0x1C, 0x1F, "reserved", kind="raw"),
    Vif(0x20, 0x20, "volume", "ft3"),
    Vif(0x21, 0x21, "volume", "ft3", -1),
    Vif(0x22, 0x22, "volume", "gal", -1),  # until 2004
    Vif(0x23, 0x23, "volume", "gal"),  # until 2004
    Vif(0x24, 0x24, "volume_flow", "gal/min", -3),  # until 2004
    Vif(0x25, 0x25, "volume_flow", "gal/min"),  # until 2004
    Vif(0x26, 0x26, "volume_flow", "gal/h"),  # until 2004
    Vif(0x27, 0x27, "reserved", kind="raw"),
    Vif(0x28, 0x29, "power", "W", 5),  # 0.1 / 1 MW
    Vif(0x2A, 0x2A, "phase_angle_u_u", "deg", -1),
    Vif(0x2B, 0x2B, "phase_angle_u_i", "deg", -1),
    Vif(0x2C, 0x2F, "frequency", "Hz", -3),
    Vif(0x30, 0x31, "power", "J/h", 8),  # 0.1 / 1 GJ/h
    Vif(0x32, 0x33, "reserved", kind="raw"),
    Vif(0x34, 0x37, "apparent_power", "VA"),  # 10^(nn-3) kVA
    Vif(0x38, 0x57, "reserved", kind="raw"),
    Vif(0x58, 0x5B, "flow_temperature", "degF", -3),  # until 2004
    Vif(0x5C, 0x5F, "return_temperature", "degF", -3),  # until 2004
    Vif(0x60, 0x63, "temperature_difference", "degF_diff", -3),  # until 2004
    Vif(0x64, 0x67, "external_temperature", "degF", -3),  # until 2004
    Vif(0x68, 0x68, "hca_rating_factor_k", factor=_TWO_TO_MINUS_12),  # resulting rating factor K, 2^-12
    Vif(0x69, 0x69, "hca_rating_factor_kq", "W"),  # thermal output
    Vif(0x6A, 0x6A, "hca_rating_factor_kc", factor=_TWO_TO_MINUS_12),  # thermal coupling, overall
    Vif(0x6B, 0x6B, "hca_rating_factor_kcr", factor=_TWO_TO_MINUS_12),  # thermal coupling, room side
    Vif(0x6C, 0x6C, "hca_rating_factor_kch", factor=_TWO_TO_MINUS_12),  # thermal coupling, heater side
    Vif(0x6D, 0x6D, "hca_rating_factor_kt", factor=_TWO_TO_MINUS_12),  # low temperature rating factor
    Vif(0x6E, 0x6E, "hca_scaling_factor_kd", factor=_TWO_TO_MINUS_12),  # display output scaling factor
    Vif(0x6F, 0x6F, "reserved", kind="raw"),
    Vif(0x70, 0x73, "temperature_limit", "degF", -3),  # until 2004; cold/warm temperature limit
    Vif(0x74, 0x77, "temperature_limit", "degC", -3),  # cold/warm temperature limit
    Vif(0x78, 0x7F, "cumulative_maximum_power", "W", -3),  # cumulated count of maximum power
)
"""The byte after FB (table 14)."""

FD: tuple[Vif, ...] = (
    Vif(0x00, 0x03, "credit", "currency", -3),
    Vif(0x04, 0x07, "debit", "currency", -3),
    Vif(0x08, 0x08, "access_number", kind="id"),  # newer: unique message identification
    Vif(0x09, 0x09, "device_type", kind="enum"),  # codes of the header
    Vif(0x0A, 0x0A, "manufacturer", kind="id"),  # 2 bytes: coded as in the header
    Vif(0x0B, 0x0B, "parameter_set_identification", kind="id"),
    Vif(0x0C, 0x0C, "model_version", kind="version"),
    Vif(0x0D, 0x0D, "hardware_version", kind="version"),
    Vif(0x0E, 0x0E, "firmware_version", kind="version"),  # metrology firmware
    Vif(0x0F, 0x0F, "software_version", kind="version"),  # other software
    Vif(0x10, 0x10, "customer_location", kind="text"),
    Vif(0x11, 0x11, "customer", kind="text"),
    Vif(0x12, 0x12, "access_code_user", kind="id"),  # secret: never publish or log
    Vif(0x13, 0x13, "access_code_operator", kind="id"),  # secret
    Vif(0x14, 0x14, "access_code_system_operator", kind="id"),  # secret
    Vif(0x15, 0x15, "access_code_developer", kind="id"),  # secret
    Vif(0x16, 0x16, "password", kind="id"),  # secret
    Vif(0x17, 0x17, "error_flags", kind="bits"),  # the bits are the manufacturer's
    Vif(0x18, 0x18, "error_mask", kind="bits"),
    Vif(0x19, 0x19, "security_key", kind="raw"),  # secret
    Vif(0x1A, 0x1A, "digital_output", kind="bits"),
    Vif(0x1B, 0x1B, "digital_input", kind="bits"),
    Vif(0x1C, 0x1C, "baud_rate", "Bd"),
    Vif(0x1D, 0x1D, "response_delay", "bit_times"),
    Vif(0x1E, 0x1E, "retry"),
    Vif(0x1F, 0x1F, "remote_control", kind="bits"),  # valves, breakers
    Vif(0x20, 0x20, "first_storage_number"),  # for cyclic storage
    Vif(0x21, 0x21, "last_storage_number"),
    Vif(0x22, 0x22, "storage_block_size"),
    Vif(0x23, 0x23, "tariff_subunit_descriptor", kind="raw"),
    Vif(0x24, 0x27, "storage_interval", _S_MIN_H_D, kind="duration"),
    Vif(0x28, 0x28, "storage_interval", "month", kind="duration"),
    Vif(0x29, 0x29, "storage_interval", "year", kind="duration"),
    Vif(0x2A, 0x2A, "operator_specific_data", kind="raw"),
    Vif(0x2B, 0x2B, "time_point_second", "s"),  # 0..59, completes a type F time
    Vif(0x2C, 0x2F, "duration_since_last_readout", _S_MIN_H_D, kind="duration"),
    Vif(0x30, 0x30, "start_of_tariff", kind="datetime"),
    Vif(0x31, 0x33, "duration_of_tariff", ("min", "h", "d"), kind="duration"),
    Vif(0x34, 0x37, "period_of_tariff", _S_MIN_H_D, kind="duration"),
    Vif(0x38, 0x38, "period_of_tariff", "month", kind="duration"),
    Vif(0x39, 0x39, "period_of_tariff", "year", kind="duration"),
    Vif(0x3A, 0x3A, "dimensionless"),
    Vif(0x3B, 0x3B, "wireless_container", kind="raw"),  # a whole wM-Bus telegram, never reversed
    Vif(0x3C, 0x3F, "transmission_period", _S_MIN_H_D, kind="duration"),  # period of nominal data transmissions
    Vif(0x40, 0x4F, "voltage", "V", -9),  # 48 0.1 V, 49 V
    Vif(0x50, 0x5F, "current", "A", -12),  # 59 mA, 5A 10 mA, 5C A
    Vif(0x60, 0x60, "reset_counter"),
    Vif(0x61, 0x61, "cumulation_counter"),
    Vif(0x62, 0x62, "control_signal", kind="bits"),
    Vif(0x63, 0x63, "day_of_week"),  # 1 = Monday .. 7 = Sunday
    Vif(0x64, 0x64, "week_number"),
    Vif(0x65, 0x65, "time_point_of_day_change", kind="datetime"),
    Vif(0x66, 0x66, "parameter_activation_state", kind="bits"),
    Vif(0x67, 0x67, "special_supplier_information", kind="text"),
    Vif(0x68, 0x6B, "duration_since_last_cumulation", ("h", "d", "month", "year"), kind="duration"),
    Vif(0x6C, 0x6F, "battery_operating_time", ("h", "d", "month", "year"), kind="duration"),
    Vif(0x70, 0x70, "battery_change_date", kind="datetime"),
    Vif(0x71, 0x71, "rf_level", "dBm"),
    Vif(0x72, 0x72, "daylight_saving", kind="raw"),  # type K
    Vif(0x73, 0x73, "listening_window", kind="raw"),  # type L in an LVAR
    Vif(0x74, 0x74, "remaining_battery_life", "d", kind="duration"),
    Vif(0x75, 0x75, "times_meter_stopped"),
    Vif(0x76, 0x76, "manufacturer_container", kind="raw"),  # never reversed
    Vif(0x77, 0x7C, "reserved", kind="raw"),
    Vif(0x7D, 0x7D, "extension_fdfd", kind="none"),  # only as FD
    Vif(0x7E, 0x7F, "reserved", kind="raw"),
)
"""The byte after FD (table 12)."""

FD_FD: tuple[Vif, ...] = (
    Vif(0x00, 0x00, "selected_application", kind="enum"),
    Vif(0x01, 0x01, "reserved", kind="raw"),
    Vif(0x02, 0x02, "remaining_battery_life", "month", kind="duration"),
    Vif(0x03, 0x03, "remaining_battery_life", "year", kind="duration"),
    Vif(0x04, 0x3D, "reserved", kind="raw"),
    Vif(0x3E, 0x3E, "moisture_level", "%"),  # newer than the 2018 edition
    Vif(0x3F, 0x7F, "reserved", kind="raw"),
)
"""The byte after FD FD (table 13)."""

FIXED: tuple[Vif, ...] = (
    Vif(0x00, 0x00, "clock_time", kind="raw"),  # hour, minute, second in BCD
    Vif(0x01, 0x01, "calendar_date", kind="raw"),  # day, month, year in BCD
    Vif(0x02, 0x0A, "energy", "Wh"),
    Vif(0x0B, 0x13, "energy", "J", 3),
    Vif(0x14, 0x1C, "power", "W"),
    Vif(0x1D, 0x25, "power", "J/h", 3),
    Vif(0x26, 0x2E, "volume", "m3", -6),  # 29 = litre, 2C = m3
    Vif(0x2F, 0x37, "volume_flow", "m3/h", -6),
    Vif(0x38, 0x38, "temperature", "degC", -3),
    Vif(0x39, 0x39, "hca", "HCA"),
    Vif(0x3A, 0x3D, "reserved", kind="raw"),
    Vif(0x3E, 0x3E, "same_as_counter_1_historic", kind="raw"),
    Vif(0x3F, 0x3F, "dimensionless"),
)
"""The 6-bit unit codes of the fixed data structure (EN 1434-3)."""

COMBINABLE: tuple[Vife, ...] = (
    Vife(0x00, 0x0F, "record_error", "record_error"),
    Vife(0x10, 0x11, "reserved", "reserved"),
    Vife(0x12, 0x12, "qualifier", "average"),  # used until today; average over the averaging duration
    Vife(0x13, 0x13, "profile", "inverse_compact_profile"),
    Vife(0x14, 0x14, "qualifier", "relative_deviation"),  # replaces the unit by a ratio
    Vife(0x15, 0x1C, "record_error", "record_error"),
    Vife(0x1D, 0x1D, "qualifier", "standard_conform"),
    Vife(0x1E, 0x1E, "profile", "compact_profile_register"),
    Vife(0x1F, 0x1F, "profile", "compact_profile"),
    Vife(0x20, 0x20, "unit_divide", "per_second", by="s"),
    Vife(0x21, 0x21, "unit_divide", "per_minute", by="min"),
    Vife(0x22, 0x22, "unit_divide", "per_hour", by="h"),
    Vife(0x23, 0x23, "unit_divide", "per_day", by="d"),
    Vife(0x24, 0x24, "unit_divide", "per_week", by="week"),
    Vife(0x25, 0x25, "unit_divide", "per_month", by="month"),
    Vife(0x26, 0x26, "unit_divide", "per_year", by="year"),
    Vife(0x27, 0x27, "unit_divide", "per_revolution", by="revolution"),  # per revolution/measurement
    Vife(0x28, 0x29, "pulse", "per_input_pulse"),  # n = input channel
    Vife(0x2A, 0x2B, "pulse", "per_output_pulse"),  # n = output channel
    Vife(0x2C, 0x2C, "unit_divide", "per_litre", by="l"),
    Vife(0x2D, 0x2D, "unit_divide", "per_m3", by="m3"),
    Vife(0x2E, 0x2E, "unit_divide", "per_kg", by="kg"),
    Vife(0x2F, 0x2F, "unit_divide", "per_kelvin", by="K"),
    Vife(0x30, 0x30, "unit_divide", "per_kwh", by="kWh"),
    Vife(0x31, 0x31, "unit_divide", "per_gj", by="GJ"),
    Vife(0x32, 0x32, "unit_divide", "per_kw", by="kW"),
    Vife(0x33, 0x33, "unit_divide", "per_kelvin_litre", by="K*l"),
    Vife(0x34, 0x34, "unit_divide", "per_volt", by="V"),
    Vife(0x35, 0x35, "unit_divide", "per_ampere", by="A"),
    Vife(0x36, 0x36, "unit_multiply", "times_second", by="s"),
    Vife(0x37, 0x37, "unit_multiply", "times_second_per_volt", by="s/V"),
    Vife(0x38, 0x38, "unit_multiply", "times_second_per_ampere", by="s/A"),
    Vife(0x39, 0x39, "as_date", "start_date_of"),
    Vife(0x3A, 0x3A, "qualifier", "uncorrected"),  # at metering conditions
    Vife(0x3B, 0x3B, "qualifier", "forward"),  # sum of the positive contributions only (import)
    Vife(0x3C, 0x3C, "qualifier", "backward"),  # sum of the negative contributions, as a positive number (export)
    Vife(0x3D, 0x3D, "qualifier", "non_metric"),  # another system of units, unknown to us
    Vife(0x3E, 0x3E, "qualifier", "base_conditions"),  # value at base (norm) conditions
    Vife(0x3F, 0x3F, "qualifier", "obis_declaration"),  # the data are an OBIS code
    Vife(0x40, 0x40, "qualifier", "lower_limit"),  # value is the lower limit
    Vife(0x41, 0x41, "as_number", "exceeds_of_lower_limit"),
    Vife(0x42, 0x42, "as_date", "begin_first_lower_limit_exceed"),  # bits E100 u f 1 b: upper, last, end
    Vife(0x43, 0x43, "as_date", "end_first_lower_limit_exceed"),
    Vife(0x44, 0x45, "reserved", "reserved"),
    Vife(0x46, 0x46, "as_date", "begin_last_lower_limit_exceed"),
    Vife(0x47, 0x47, "as_date", "end_last_lower_limit_exceed"),
    Vife(0x48, 0x48, "qualifier", "upper_limit"),
    Vife(0x49, 0x49, "as_number", "exceeds_of_upper_limit"),
    Vife(0x4A, 0x4A, "as_date", "begin_first_upper_limit_exceed"),
    Vife(0x4B, 0x4B, "as_date", "end_first_upper_limit_exceed"),
    Vife(0x4C, 0x4D, "reserved", "reserved"),
    Vife(0x4E, 0x4E, "as_date", "begin_last_upper_limit_exceed"),
    Vife(0x4F, 0x4F, "as_date", "end_last_upper_limit_exceed"),
    Vife(0x50, 0x53, "as_duration", "duration_first_lower_limit_exceed", units=_S_MIN_H_D),
    Vife(0x54, 0x57, "as_duration", "duration_last_lower_limit_exceed", units=_S_MIN_H_D),
    Vife(0x58, 0x5B, "as_duration", "duration_first_upper_limit_exceed", units=_S_MIN_H_D),
    Vife(0x5C, 0x5F, "as_duration", "duration_last_upper_limit_exceed", units=_S_MIN_H_D),
    Vife(0x60, 0x63, "as_duration", "duration_of_first", units=_S_MIN_H_D),
    Vife(0x64, 0x67, "as_duration", "duration_of_last", units=_S_MIN_H_D),
    Vife(0x68, 0x68, "qualifier", "value_during_lower_limit_exceed"),
    Vife(0x69, 0x69, "qualifier", "leakage"),
    Vife(0x6A, 0x6A, "as_date", "begin_of_first"),  # bits E110 1 f 1 b: last, end
    Vife(0x6B, 0x6B, "as_date", "end_of_first"),
    Vife(0x6C, 0x6C, "qualifier", "value_during_upper_limit_exceed"),
    Vife(0x6D, 0x6D, "qualifier", "overflow"),
    Vife(0x6E, 0x6E, "as_date", "begin_of_last"),
    Vife(0x6F, 0x6F, "as_date", "end_of_last"),
    Vife(0x70, 0x77, "scale", "", exponent=-6),
    Vife(0x78, 0x7B, "offset", "", exponent=-3),  # additive constant, in the VIF's unit
    Vife(0x7C, 0x7C, "extension", ""),  # only as FC: COMBINABLE_FC has the next byte
    Vife(0x7D, 0x7D, "scale", "", exponent=3),  # times 1000
    Vife(0x7E, 0x7E, "qualifier", "future"),  # future value: e.g. next due date, with storage number
    Vife(0x7F, 0x7F, "manufacturer", "manufacturer_vife"),  # what follows is the manufacturer's
)
"""VIFEs in any place (tables 15, 17, 18)."""

COMBINABLE_FC: tuple[Vife, ...] = (
    Vife(0x00, 0x00, "reserved", "reserved"),
    Vife(0x01, 0x01, "qualifier", "l1"),
    Vife(0x02, 0x02, "qualifier", "l2"),
    Vife(0x03, 0x03, "qualifier", "l3"),
    Vife(0x04, 0x04, "qualifier", "neutral"),
    Vife(0x05, 0x05, "qualifier", "l1_l2"),
    Vife(0x06, 0x06, "qualifier", "l2_l3"),
    Vife(0x07, 0x07, "qualifier", "l3_l1"),
    Vife(0x08, 0x08, "qualifier", "quadrant_1"),
    Vife(0x09, 0x09, "qualifier", "quadrant_2"),
    Vife(0x0A, 0x0A, "qualifier", "quadrant_3"),
    Vife(0x0B, 0x0B, "qualifier", "quadrant_4"),
    Vife(0x0C, 0x0C, "qualifier", "delta_import_export"),
    Vife(0x0D, 0x0D, "qualifier", "non_metric"),  # newer than the 2018 edition
    Vife(0x0E, 0x0E, "qualifier", "secondary_sensor"),  # newer than the 2018 edition
    Vife(0x0F, 0x0F, "qualifier", "higher_resolution"),  # newer than the 2018 edition
    Vife(0x10, 0x10, "qualifier", "absolute_both"),  # accumulation of the absolute value of both directions
    Vife(0x11, 0x11, "data_type", "", by="C"),  # integer is unsigned
    Vife(0x12, 0x12, "data_type", "", by="D"),  # integer is a bit field
    Vife(0x13, 0x13, "as_date", "end_date_of"),  # newer than the 2018 edition
    Vife(0x14, 0x14, "qualifier", "partner_to_meter"),  # direction: from the communication partner to the meter
    Vife(0x15, 0x15, "qualifier", "meter_to_partner"),
    Vife(0x16, 0x7F, "reserved", "reserved"),
)
"""The byte after a VIFE FC (table 16)."""

RECORD_ERRORS: Final[dict[int, str]] = {
    0x00: "none",
    0x01: "too_many_dife",
    0x02: "storage_number_not_implemented",
    0x03: "unit_number_not_implemented",
    0x04: "tariff_number_not_implemented",
    0x05: "function_not_implemented",
    0x06: "data_class_not_implemented",
    0x07: "data_size_not_implemented",
    0x08: "reserved",
    0x09: "reserved",
    0x0A: "reserved",
    0x0B: "too_many_vife",
    0x0C: "illegal_vif_group",
    0x0D: "illegal_vif_exponent",
    0x0E: "vif_dif_mismatch",
    0x0F: "unimplemented_action",
    0x15: "no_data_available",
    0x16: "data_overflow",
    0x17: "data_underflow",
    0x18: "data_error",
    0x19: "reserved",
    0x1A: "reserved",
    0x1B: "reserved",
    0x1C: "premature_end_of_record",
}
"""VIFEs that say why a record has no value (table 18)."""
# fmt: on

SECRET: Final = frozenset(
    {
        "access_code_user",
        "access_code_operator",
        "access_code_system_operator",
        "access_code_developer",
        "password",
        "security_key",
    }
)
"""Quantities whose values are nobody's business but the meter's owner's: not to be published or logged."""


def _by_code(rows: tuple[Vif, ...]) -> dict[int, Vif]:
    return {code: row for row in rows for code in range(row.first, row.last + 1)}


def _vife_by_code(rows: tuple[Vife, ...]) -> dict[int, Vife]:
    return {code: row for row in rows for code in range(row.first, row.last + 1)}


_PRIMARY = _by_code(PRIMARY)
_FB = _by_code(FB)
_FD = _by_code(FD)
_FD_FD = _by_code(FD_FD)
_FIXED = _by_code(FIXED)
_COMBINABLE = _vife_by_code(COMBINABLE)
_COMBINABLE_FC = _vife_by_code(COMBINABLE_FC)


@dataclass(frozen=True, slots=True)
class ValueInformation:
    """What a whole VIB says of its record's data."""

    quantity: str
    unit: str | None
    kind: VifKind
    exponent: int = 0
    factor: Decimal | None = None
    offset: Decimal | None = None  # added after scaling, in `unit`
    modifiers: tuple[str, ...] = ()
    effect: Effect = ""
    data_type: str = ""  # "C" or "D" where a VIFE says so
    record_error: str | None = None  # the meter's reason for having no value


def is_vife(code: int) -> bool:
    """Whether a byte without its extension bit has a meaning as a VIFE."""
    return _COMBINABLE[code & 0x7F].effect != "reserved"


@lru_cache(maxsize=256)
def fixed_information(code: int) -> ValueInformation:
    """The meaning of a 6-bit unit code of the fixed data structure."""
    row = _FIXED[code & 0x3F]
    kind: VifKind = "number" if row.quantity == "reserved" else row.kind
    return ValueInformation(row.quantity, row.unit_of(row.first), kind, row.exponent_of(code & 0x3F))


@lru_cache(maxsize=1024)
def value_information(codes: bytes, text: bytes | None = None) -> ValueInformation:
    """The meaning of a complete VIB (EN 13757-3 cl. 6.4): `codes` is VIF and VIFEs, `text` a plain text unit as sent.

    Every code but the last has its extension bit set, the last has not.
    """
    row, code, vifes = _vif(codes)
    chain = _Chain(row.quantity, row.unit_of(code), row.kind, row.exponent_of(code), row.factor)
    if row.quantity == "plain_text_unit":
        unit = (text or b"")[::-1].decode("latin-1")
        chain.unit = "".join(letter for letter in unit if letter.isprintable()).strip() or None
    if row.quantity in ("any_vif", "reserved") or row.kind == "none":
        # The DIF still says how the number is coded; only what it counts is unknown.
        chain.quantity, chain.kind = "any_vif" if row.quantity == "any_vif" else "reserved", "number"
    if codes[0] == 0xEF:
        chain.modifiers.append(f"vife_{codes[1] & 0x7F:02x}")
    if row.quantity == "manufacturer_specific":
        chain.take_manufacturer(vifes)
    else:
        chain.take(vifes)
    return chain.information()


def _vif(codes: bytes) -> tuple[Vif, int, bytes]:
    """Row, code and following VIFEs of the VIF proper, which stands behind FB, FD and FD FD."""
    match codes[0]:
        case 0xFB:
            table, at = _FB, 1
        case 0xFD if codes[1] == 0xFD:
            table, at = _FD_FD, 2
        case 0xFD:
            table, at = _FD, 1
        case 0xEF:
            return _PRIMARY[0x6F], 0x6F, codes[2:]
        case _:
            table, at = _PRIMARY, 0
    code = codes[at] & 0x7F
    return table[code], code, codes[at + 1 :]


@dataclass(slots=True)
class _Chain:
    """What is known of a record while its VIFEs are read one after the other."""

    quantity: str
    unit: str | None
    kind: VifKind
    exponent: int
    factor: Decimal | None
    scale: int = 0
    offset: Decimal | None = None
    modifiers: list[str] = field(default_factory=list)
    effects: set[Effect] = field(default_factory=set)
    data_type: str = ""
    record_error: str | None = None
    unit_is_known: bool = True

    def take(self, vifes: bytes) -> None:
        """Read VIFEs up to the end or to an FF, which hands the rest to the manufacturer."""
        rest = iter(vifes)
        for byte in rest:
            code = byte & 0x7F
            if byte == 0xFC:
                code = next(rest) & 0x7F
                row = _COMBINABLE_FC[code]
                unknown = f"vife_fc_{code:02x}"
            else:
                row = _COMBINABLE[code]
                unknown = f"vife_{code:02x}"
            if row.effect == "manufacturer":
                self.take_manufacturer(bytes(rest))
            elif row.effect in ("reserved", "extension"):
                self.modifiers.append(unknown)
            else:
                self._apply(row, code)

    def take_manufacturer(self, vifes: bytes) -> None:
        """VIFEs whose meaning only the manufacturer knows."""
        self.effects.add("manufacturer")
        self.modifiers += [f"mfr_{byte & 0x7F:02x}" for byte in vifes]

    def _apply(self, row: Vife, code: int) -> None:
        step = code - row.first
        match row.effect:
            case "record_error":
                self._take_error(code)
            case "scale":
                self.scale += row.exponent + step
            case "offset":
                self.offset = (self.offset or Decimal(0)) + Decimal(1).scaleb(row.exponent + step)
            case "data_type":
                self.data_type = row.by
            case "pulse":
                self.modifiers.append(f"{row.tag}_{step}")
                self.effects.add("pulse")
            case _:
                self.modifiers.append(row.tag)
                self._change(row, step)

    def _take_error(self, code: int) -> None:
        name = RECORD_ERRORS[code]
        if code:
            self.record_error = f"record_error_{code:02x}" if name == "reserved" else name

    def _change(self, row: Vife, step: int) -> None:
        match row.effect:
            case "unit_divide" | "unit_multiply":
                sign = "/" if row.effect == "unit_divide" else "*"
                self.unit = self.unit and f"{self.unit}{sign}{row.by}"
                self.effects.add("unit")
            case "as_number":
                self._become("as_number", "number", None)
            case "as_date":
                self._become("as_date", "datetime", None)
            case "as_duration":
                self._become("as_duration", "duration", row.units[step])
            case "profile":
                self._become("profile", "raw", self.unit)
            case _:
                self._qualify(row.tag)

    def _become(self, effect: Effect, kind: VifKind, unit: str | None) -> None:
        """The data are something else than the VIF says, so that its scaling does not count."""
        self.effects -= _DATA_CHANGES
        self.effects.add(effect)
        self.kind, self.unit = kind, unit
        self.exponent, self.factor = 0, None

    def _qualify(self, tag: str) -> None:
        """The few qualifiers that change more than the identity of the value."""
        if tag == "non_metric":
            self.unit_is_known = False
            self.effects.add("unit")
        elif tag == "relative_deviation":
            self.unit = None
            self.effects.add("unit")
        elif tag == "obis_declaration":
            self.kind = "raw"

    def information(self) -> ValueInformation:
        changed = not _DATA_CHANGES.isdisjoint(self.effects)
        return ValueInformation(
            self.quantity,
            self.unit if self.unit_is_known else None,
            self.kind,
            self.exponent + self.scale if self.unit_is_known else 0,
            self.factor if self.unit_is_known else None,
            self.offset if self.unit_is_known and not changed else None,
            tuple(self.modifiers),
            next((effect for effect in _EFFECTS if effect in self.effects), ""),
            self.data_type,
            self.record_error,
        )


_DATA_CHANGES: Final[frozenset[Effect]] = frozenset({"as_number", "as_date", "as_duration", "profile"})
_EFFECTS: Final[tuple[Effect, ...]] = (
    "profile",
    "as_date",
    "as_duration",
    "as_number",
    "pulse",
    "unit",
    "manufacturer",
)
"""The strongest first: of several effects in one VIB a record bears one."""
