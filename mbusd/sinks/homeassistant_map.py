"""What a measurement is in Home Assistant: tables of names, classes, icons; of what each class accepts; of media.

A class with a unit or a state class that Home Assistant does not know with it costs the whole entity, so the tables
hold what Home Assistant 2025.4 and every later one accepts; what is newer stands apart.
"""

from typing import Final, Literal

from mbusd.light import dataclass

StateClass = Literal["measurement", "total", "total_increasing"]
Precision = int | Literal["auto"] | None
"""`auto`: the decimals of the meter's own last digit, three at most."""

HIGHEST_PRECISION = 3


@dataclass(frozen=True, slots=True)
class Rule:
    """How measurements of some quantities look; the first rule that fits counts."""

    quantities: frozenset[str]
    name: str | None  # None: the quantity itself, in words
    device_class: str | None = None
    state_class: StateClass | None = None
    icon: str | None = None
    precision: Precision = None
    has_unit: bool = True
    diagnostic: bool = False
    enabled: bool = True
    newer_class: str | None = None  # of a Home Assistant that is known to be new enough
    units: frozenset[str] | None = None  # None: any
    media: str | None = None  # None: any
    current_only: bool = False  # neither stored nor a maximum …


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """Units and state classes that a device class accepts; no units: none is allowed."""

    units: frozenset[str]
    state_classes: frozenset[StateClass]
    newer_units: frozenset[str] = frozenset()


MEDIA: dict[int, str] = {
    code: group
    for group, codes in {
        "electricity": (0x02, 0x20),
        "gas": (0x03, 0x12, 0x13, 0x1C),
        "heat": (0x04, 0x0C, 0x05),
        "cooling": (0x0A, 0x0B),
        "heat_cooling": (0x0D,),
        "water": (0x06, 0x07, 0x10, 0x11, 0x15, 0x16, 0x17, 0x28),
        "hca": (0x08,),
        "room": (0x1B,),
    }.items()
    for code in codes
}
"""Medium of the header: group. Every other medium is in none."""


def _classes(*rows: tuple[str, str, str, str]) -> dict[str, DeviceClass]:
    states: dict[str, frozenset[StateClass]] = {
        "rate": frozenset({"measurement"}),
        "count": frozenset({"total", "total_increasing"}),
        "any": frozenset({"measurement", "total", "total_increasing"}),
        "none": frozenset(),
    }
    return {
        name: DeviceClass(frozenset(units.split()), states[state], frozenset(newer.split()))
        for name, state, units, newer in rows
    }


DEVICE_CLASSES = _classes(
    ("apparent_power", "rate", "VA", "kVA mVA"),
    ("current", "rate", "A mA", ""),
    ("date", "none", "", ""),
    ("duration", "any", "d h min ms s", ""),
    ("energy", "count", "GJ GWh Gcal J MJ MWh Mcal TWh Wh cal kJ kWh kcal mWh", ""),
    ("frequency", "rate", "GHz Hz MHz kHz", "mHz"),
    ("gas", "count", "CCF ft³ m³", "L MCF"),
    ("humidity", "rate", "%", ""),
    ("moisture", "rate", "%", ""),
    ("power", "rate", "GW MW TW W kW mW", ""),
    ("pressure", "rate", "Pa bar cbar hPa inHg kPa mbar mmHg psi", "atm mPa"),
    ("reactive_energy", "count", "kvarh varh", ""),
    ("reactive_power", "rate", "var", "kvar mvar"),
    ("signal_strength", "rate", "dB dBm", ""),
    ("temperature", "rate", "K °C °F", ""),
    ("temperature_delta", "rate", "K °C °F", ""),
    ("timestamp", "none", "", ""),
    ("voltage", "rate", "MV V kV mV", ""),
    ("volume", "count", "CCF L ft³ gal mL m³", "MCF"),
    ("volume_flow_rate", "rate", "L/min ft³/min gal/min mL/s m³/h", "L/h L/s gal/d gal/h m³/min m³/s"),
    ("water", "count", "CCF L ft³ gal m³", "MCF"),
    ("weight", "any", "g kg lb mg oz st", ""),
)

_GAS_UNITS = frozenset({"m³", "L", "ft³", "CCF", "MCF"})
_JOULES_AND_WATT_HOURS = DEVICE_CLASSES["energy"].units - {"cal", "kcal", "Mcal", "Gcal"}


def _of(*quantities: str) -> frozenset[str]:
    return frozenset(quantities)


def _counter(quantity: str, name: str, device_class: str | None, icon: str | None = None) -> Rule:
    return Rule(_of(quantity), name, device_class, "total_increasing", icon, "auto")


def _rate(quantity: str, name: str, device_class: str | None, icon: str | None = None) -> Rule:
    return Rule(_of(quantity), name, device_class, "measurement", icon, "auto")


def _hidden(
    quantities: frozenset[str], icon: str | None, device_class: str | None = None, precision: Precision = None
) -> Rule:
    """Diagnostic and disabled, named after its quantity."""
    return Rule(
        quantities, None, device_class, icon=icon, precision=precision, has_unit=False, diagnostic=True, enabled=False
    )


_DURATIONS = _of(
    "averaging_duration",
    "actuality_duration",
    "storage_interval",
    "duration_since_last_readout",
    "duration_of_tariff",
    "period_of_tariff",
    "transmission_period",
    "duration_since_last_cumulation",
)
_IDENTIFICATION = _of(
    "fabrication_number",
    "enhanced_identification",
    "bus_address",
    "access_number",
    "device_type",
    "manufacturer",
    "parameter_set_identification",
    "model_version",
    "hardware_version",
    "firmware_version",
    "software_version",
    "customer_location",
    "customer",
    "first_storage_number",
    "last_storage_number",
    "storage_block_size",
    "tariff_subunit_descriptor",
    "operator_specific_data",
    "time_point_second",
    "day_of_week",
    "week_number",
    "special_supplier_information",
    "baud_rate",
    "response_delay",
    "selected_application",
    "daylight_saving",
    "listening_window",
    "calendar_date",
    "clock_time",
)
_OPAQUE = {
    "wireless_container": "Wireless container",
    "manufacturer_container": "Manufacturer container",
    "plain_text_unit": "Text",
    "manufacturer_specific": "Manufacturer specific",
    "any_vif": "Unspecified value",
    "reserved": "Reserved value",
    "same_as_counter_1_historic": "Counter 1 history",
}
_RATING_FACTORS = {
    "hca_rating_factor_k": "Rating factor",
    "hca_rating_factor_kq": "Rating factor KQ",
    "hca_rating_factor_kc": "Rating factor KC",
    "hca_rating_factor_kcr": "Rating factor KCR",
    "hca_rating_factor_kch": "Rating factor KCH",
    "hca_rating_factor_kt": "Rating factor KT",
    "hca_scaling_factor_kd": "Rating factor KD",
}
_TIMER, _BATTERY, _FLOW = "mdi:timer-outline", "mdi:battery-clock", "mdi:waves-arrow-right"
_LIGHTNING, _WATER, _GAS, _PIPE = "mdi:lightning-bolt-outline", "mdi:water", "mdi:meter-gas", "mdi:pipe"
_UP: Final = "total_increasing"

RULES: tuple[Rule, ...] = (
    # energy
    Rule(_of("energy"), "Energy", "energy", _UP, None, "auto", media="electricity", units=_JOULES_AND_WATT_HOURS),
    Rule(
        _of("energy"),
        "Cooling energy",
        "energy",
        _UP,
        "mdi:snowflake",
        "auto",
        media="cooling",
        units=_JOULES_AND_WATT_HOURS,
    ),
    _counter("energy", "Energy", "energy", "mdi:radiator"),
    Rule(_of("reactive_energy"), "Reactive energy", None, _UP, _LIGHTNING, "auto", newer_class="reactive_energy"),
    _counter("apparent_energy", "Apparent energy", None, _LIGHTNING),
    # volume and mass
    Rule(_of("volume"), "Water volume", "water", _UP, _WATER, "auto", media="water"),
    Rule(_of("volume"), "Gas volume", "gas", _UP, _GAS, "auto", media="gas", units=_GAS_UNITS),
    _counter("volume", "Volume", "volume", _PIPE),
    _counter("mass", "Mass", "weight", "mdi:weight-kilogram"),
    # power and flow
    _rate("power", "Power", "power"),
    Rule(
        _of("cumulative_maximum_power"),
        "Cumulated maximum power",
        icon="mdi:chart-bell-curve-cumulative",
        precision="auto",
        diagnostic=True,
        enabled=False,
    ),
    _rate("reactive_power", "Reactive power", "reactive_power"),
    _rate("apparent_power", "Apparent power", "apparent_power"),
    _rate("volume_flow", "Volume flow", "volume_flow_rate", _FLOW),
    _rate("mass_flow", "Mass flow", None, _FLOW),
    # temperature, pressure, humidity
    _rate("flow_temperature", "Flow temperature", "temperature", "mdi:thermometer-chevron-up"),
    _rate("return_temperature", "Return temperature", "temperature", "mdi:thermometer-chevron-down"),
    Rule(
        _of("temperature_difference"),
        "Temperature difference",
        None,
        "measurement",
        "mdi:thermometer-lines",
        "auto",
        newer_class="temperature_delta",
    ),
    Rule(_of("external_temperature"), "Temperature", "temperature", "measurement", None, "auto", media="room"),
    _rate("external_temperature", "External temperature", "temperature"),
    _rate("temperature", "Temperature", "temperature"),
    Rule(
        _of("temperature_limit"), "Temperature limit", "temperature", precision="auto", diagnostic=True, enabled=False
    ),
    _rate("pressure", "Pressure", "pressure"),
    Rule(_of("relative_humidity"), "Humidity", "humidity", "measurement", precision=1),
    Rule(_of("moisture_level"), "Moisture", "moisture", "measurement", precision=0),
    # electricity
    _rate("voltage", "Voltage", "voltage"),
    _rate("current", "Current", "current"),
    _rate("frequency", "Frequency", "frequency"),
    *(
        Rule(_of(quantity), name, None, "measurement", "mdi:angle-acute", 1, diagnostic=True, enabled=False)
        for quantity, name in (("phase_angle_u_u", "Phase angle U-U"), ("phase_angle_u_i", "Phase angle U-I"))
    ),
    # heat cost allocators
    Rule(_of("hca"), "Consumption", None, _UP, "mdi:radiator", 0),
    *(
        Rule(_of(quantity), name, icon="mdi:radiator", precision=3, has_unit=False, diagnostic=True, enabled=False)
        for quantity, name in _RATING_FACTORS.items()
    ),
    Rule(
        _of("coefficient_of_performance"),
        "Coefficient of performance",
        state_class="measurement",
        icon="mdi:heat-pump",
        precision=1,
        has_unit=False,
    ),
    # times
    *(
        Rule(_of(quantity), name, "duration", _UP, _TIMER, 0, diagnostic=True, enabled=False)
        for quantity, name in (("on_time", "On time"), ("operating_time", "Operating time"))
    ),
    Rule(
        _of("remaining_battery_life"), "Remaining battery life", "duration", "measurement", _BATTERY, 0, diagnostic=True
    ),
    Rule(
        _of("battery_operating_time"),
        "Battery operating time",
        "duration",
        icon=_BATTERY,
        precision=0,
        diagnostic=True,
        enabled=False,
    ),
    Rule(_DURATIONS, None, "duration", icon=_TIMER, precision=0, diagnostic=True, enabled=False),
    # dates; the class is chosen by what the meter sends
    Rule(_of("date"), "Date", "date", has_unit=False, diagnostic=True, enabled=False),
    Rule(_of("datetime"), "Meter time", "timestamp", has_unit=False, diagnostic=True, enabled=False, current_only=True),
    Rule(_of("datetime"), "Time", "timestamp", has_unit=False, diagnostic=True, enabled=False),
    _hidden(_of("start_of_tariff", "time_point_of_day_change", "battery_change_date"), None, "timestamp"),
    # status and identification
    Rule(_of("error_flags"), "Error flags", icon="mdi:alert-circle-outline", has_unit=False, diagnostic=True),
    _hidden(_of("error_mask", "control_signal", "parameter_activation_state"), "mdi:checkbox-multiple-outline"),
    Rule(_of("digital_input"), "Digital input", icon="mdi:import", has_unit=False),
    Rule(_of("digital_output"), "Digital output", icon="mdi:export", has_unit=False),
    Rule(
        _of("remote_control"), "Remote control state", icon="mdi:remote", has_unit=False, diagnostic=True, enabled=False
    ),
    Rule(_of("rf_level"), "RF level", "signal_strength", "measurement", None, 0, diagnostic=True, enabled=False),
    Rule(
        _of("reset_counter", "cumulation_counter", "times_meter_stopped", "retry"),
        None,
        None,
        _UP,
        "mdi:counter",
        0,
        has_unit=False,
        diagnostic=True,
        enabled=False,
    ),
    Rule(_of("dimensionless"), "Counter", None, "measurement", "mdi:counter", "auto", has_unit=False),
    _hidden(_of("credit", "debit"), "mdi:cash", precision=2),
    _hidden(_IDENTIFICATION, "mdi:information-outline"),
    *(
        Rule(_of(quantity), name, icon="mdi:code-braces", has_unit=False, diagnostic=True, enabled=False)
        for quantity, name in _OPAQUE.items()
    ),
)

DEFAULT = _hidden(frozenset(), "mdi:help-circle-outline")
"""For a quantity without a rule."""

ELECTRIC_DIRECTIONS = {"forward": "import", "backward": "export"}
TAG_NAMES = {
    "l1": "L1",
    "l2": "L2",
    "l3": "L3",
    "neutral": "N",
    "l1_l2": "L1-L2",
    "l2_l3": "L2-L3",
    "l3_l1": "L3-L1",
    "future": "next",
    "base_conditions": "at base conditions",
    "delta_import_export": "net",
    "absolute_both": "absolute",
    "average_l_l": "average L-L",
    "average_l_n": "average L-N",
    "energy_reset": "of energy reset",
    "input_reset": "of input reset",
}
"""Tags of VIFEs in names; a tag that is not here stands for itself, with blanks."""

FUNCTIONS = {"maximum": "maximum", "minimum": "minimum", "error": "during error"}
FUNCTIONS_OF_DATES = {"maximum": "of maximum", "minimum": "of minimum", "error": "of error"}
PHRASES = {
    "Date due date": "Due date",
    "Date next due date": "Next due date",
    "Time due date": "Due date and time",
    "Time next due date": "Next due date and time",
}
"""What comes out clumsy by the rules of names, and how a person would say it."""

# tags, in the order of the modifiers
WITHOUT_STATISTICS = _of(
    "future", "lower_limit", "upper_limit", "relative_deviation", "overflow", "obis_declaration", "non_metric"
)
OFF_BY_DEFAULT = _of(
    "average",
    "uncorrected",
    "base_conditions",
    "leakage",
    "value_during_lower_limit_exceed",
    "value_during_upper_limit_exceed",
)
UNKNOWN_UNIT = _of("non_metric", "relative_deviation")
