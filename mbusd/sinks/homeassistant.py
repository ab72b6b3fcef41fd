"""Home Assistant's discovery by device: a reading becomes one message that describes the meter and its entities. Pure.

The unit and class of an entity hang on its quantity, its `unique_id` on the meter's secondary address and the key:
never on a value.
"""

import re
import zlib

from mbusd.exact_json import JsonValue, dumps
from mbusd.light import dataclass
from mbusd.model import Identity, Reading
from mbusd.sinks.entities import DOCUMENT, Component, Components, component_key, components_of, sentence, slug, template
from mbusd.sinks.inert import inert
from mbusd.sinks.makers import maker

Payload = dict[str, JsonValue]

SHORTEST_INTERVAL, LONGEST_INTERVAL = 1, 366 * 86400  # seconds; what the configuration takes
BATTERY_FLAGS = frozenset({"battery_low", "low_battery"})
"""What makers call the one bit of the status byte that has a name of its own."""
_STATUS = f"{{% set words = {DOCUMENT}.get('status') %}}"
_TERMINAL = re.compile("[a-z][0-9]")  # t1, v2, l3
_CAPITALS = {"eeprom": "EEPROM"}
_ORDERS = frozenset({"read_now", "interval"})
"""What can be asked for while the meter is silent, too."""
_WORDS = {"heat_cooling": "Heat/cooling"}
"""Media whose names are no words with a space between them."""
_METERS = re.compile("(.*water|electricity|gas|heat|steam|oil|cooling|heat/cooling|compressed air|pressure)( inlet)?")


@dataclass(frozen=True, slots=True)
class Discovery:
    """Where and how to announce. `newer_classes`: Home Assistant is known to be 2025.11 or later."""

    base_topic: str = "mbusd"
    discovery_prefix: str = "homeassistant"
    version: str = ""
    url: str = ""
    configuration_url: str = ""
    newer_classes: bool = False

    @property
    def bridge_id(self) -> str:
        """Identifier of the daemon's own device."""
        return "mbusd_bridge" if self.base_topic == "mbusd" else f"mbusd_bridge_{unambiguous(self.base_topic)}"

    @property
    def bridge_topic(self) -> str:
        """Where the daemon's own device is announced."""
        return self._topic(self.bridge_id)

    def bus_id(self, bus: str) -> str:
        """Identifier of a bus."""
        return f"{self.bridge_id}_bus_{unambiguous(bus)}"

    def bus_topic(self, bus: str) -> str:
        """Where a bus is announced."""
        return self._topic(self.bus_id(bus))

    def meter_id(self, identity: Identity, meter: str, *, is_second: bool = False) -> str:
        """Identifier of a meter: its secondary address; its name only if it has never said who it is.

        `is_second`: another meter says that it is the same one, and has that.
        """
        if identity.identification:
            return f"mbusd_{identity.address}" + (f"_{unambiguous(meter)}" if is_second else "")
        name = unambiguous(meter)
        return f"{self.bridge_id}_{f'meter_{name}' if name.startswith('bus_') else name}"

    def meter_topic(self, identity: Identity, meter: str, *, is_second: bool = False) -> str:
        """Where a meter is announced."""
        return self._topic(self.meter_id(identity, meter, is_second=is_second))

    def _topic(self, identifier: str) -> str:
        return f"{self.discovery_prefix}/device/{identifier}/config"


@dataclass(frozen=True, slots=True)
class Place:
    """What a reading does not say of its meter. `bus` "": not known."""

    bus: str = ""
    area: str = ""
    has_alarms: bool = False
    is_periodic: bool = False  # read every so many seconds, which can be changed
    own_names: frozenset[str] = frozenset()  # keys that its owner has chosen
    has_double: bool = False  # another meter would have the same name by kind and identification
    is_second: bool = False  # another meter says that it is the same one
    is_successor: bool = False  # another meter had its name until now: their statistics must not become one


def meter_payload(discovery: Discovery, reading: Reading, place: Place) -> Payload:
    """The message that announces one meter and an entity for each of its measurements; one for its alarms, if any."""
    base, meter = discovery.base_topic, reading.meter
    identifier = discovery.meter_id(reading.identity, meter, is_second=place.is_second)
    device = _meter_device(discovery, reading, identifier, place)
    values = components_of(reading, newer_classes=discovery.newer_classes)
    for item in reading.measurements:
        if item.key in place.own_names:
            values[component_key(item)]["name"] = sentence(item.key)
    components: Components = {**values, **_extras(base, reading)}
    if place.has_alarms:
        components["alarm"] = _alarm(f"{base}/{meter}/alarm")
    if place.is_periodic:
        components["interval"] = _interval(base, meter)
    availability = (f"{base}/bridge/state", f"{base}/bus/{place.bus}/state", f"{base}/{meter}/availability")
    for key in _ORDERS & components.keys():
        components[key]["avty"] = [{"t": topic} for topic in availability[:2]]
    payload: Payload = {
        "dev": device,
        "o": origin(discovery),
        "stat_t": f"{base}/{meter}",
        "avty": [{"t": topic} for topic in availability],
        "avty_mode": "all",
        "qos": 1,
        "cmps": named_apart(components, str(device["name"]), identifier, _object_prefix(reading, device, place)),
    }
    return {key: inert(said, key) for key, said in payload.items()}


def _object_prefix(reading: Reading, device: Payload, place: Place) -> str:
    """Of the ids of its entities, on which statistics hang: those of the meter before shall not go on with this one."""
    number = reading.identity.identification
    return f"{slug(str(device['name']))}_{slug(number)}" if place.is_successor and number else ""


def origin(discovery: Discovery) -> Payload:
    """Who announces."""
    said = (("name", "mbusd"), ("sw", discovery.version), ("url", discovery.url))
    return {key: text for key, text in said if text}


def _meter_device(discovery: Discovery, reading: Reading, identifier: str, place: Place) -> Payload:
    identity = reading.identity
    kind = _model(identity.medium_name)
    is_named = reading.meter not in (identity.address, identity.identification)
    device: Payload = {
        "ids": [identifier],
        "name": reading.meter if is_named else _stand_in(identity, kind, has_double=place.has_double),
        "mf": maker(identity.manufacturer) or "unknown",
        "mdl": reading.model or kind,
        "via_device": discovery.bus_id(place.bus) if place.bus else discovery.bridge_id,
    }
    said = {item.key: str(item.value) for item in reading.measurements if item.value is not None}
    serial = said.get("fabrication_number", identity.identification)
    hardware = said.get("hardware_version") or (None if identity.version is None else str(identity.version))
    software = said.get("firmware_version") or said.get("software_version")
    more = (
        ("sn", serial),
        ("hw", hardware),
        ("sw", software),
        ("sa", place.area),
        ("cu", discovery.configuration_url),
    )
    device |= {key: text for key, text in more if text}
    return device


def _stand_in(identity: Identity, kind: str, *, has_double: bool) -> str:
    """What a meter without a name is called: who has made it, what it is, and its number."""
    fabrication = identity.address.partition("-")[2]  # where nothing else tells it from another
    who = maker(identity.manufacturer)
    what = f"{who} {kind if kind.startswith('M-') else kind[0].lower() + kind[1:]}" if who else kind
    name = f"{what} {'-'.join(filter(None, (identity.identification, fabrication)))}"
    if not has_double:
        return name
    version = "" if identity.version is None else f"version {identity.version}"
    parts = (identity.manufacturer, version, identity.medium_name.replace("_", " "))
    return f"{name} ({', '.join(filter(None, parts))})"


def is_called_alike(one: Identity, other: Identity) -> bool:
    """Whether two meters without names would have the same one."""
    names = {_stand_in(each, _model(each.medium_name), has_double=False) for each in (one, other)}
    return one.address != other.address and len(names) == 1


def _model(medium_name: str) -> str:
    words = _WORDS.get(medium_name) or sentence(medium_name)
    if medium_name in ("unknown", "other", "reserved", "wildcard"):
        return "M-Bus meter"
    meter = _METERS.fullmatch(words.lower())
    return f"{sentence(meter[1])} meter" if meter else words


def _extras(base: str, reading: Reading) -> Components:
    """What every meter has besides its values: the status byte, the time of the reading, a button."""
    button: Component = {"p": "button", "name": "Read now", "ic": "mdi:refresh", "cmd_t": f"{base}/{reading.meter}/get"}
    batteries = [word for word in reading.flags if word in BATTERY_FLAGS]
    flags = [word for word in reading.flags if word not in BATTERY_FLAGS]
    return {
        "status_power_low": _status_bit("Battery low", "battery", "power_low", *batteries),
        "status_permanent_error": _status_bit("Permanent error", "problem", "permanent_error"),
        # meters show the next two in normal operation
        "status_temporary_error": _status_bit("Temporary error", "problem", "temporary_error") | {"en": False},
        "status_application": _status_bit("Application error", "problem", "application_error", "abnormal_condition")
        | {"en": False},
        "status_byte": {
            "p": "sensor",
            "name": "Status",
            "ic": "mdi:information-outline",
            "ent_cat": "diagnostic",
            "en": False,
            "val_tpl": f"{_STATUS}{{{{ none if words is none else ((words or ['ok']) | join(', '))[:255] }}}}",
        },
        **{f"status_{slug(word)}": _status_bit(_flag_name(word), "problem", word) for word in flags},
        "last_read": {
            "p": "sensor",
            "name": "Last reading",
            "dev_cla": "timestamp",
            "ent_cat": "diagnostic",
            "val_tpl": template("time"),
        },
        "read_now": button,
    }


def _alarm(topic: str) -> Component:
    """Unknown where the topic was cleared; a changing time among the attributes would be a row in the recorder each."""
    said = "{% set said = value_json | default({}) %}"
    return {
        "p": "binary_sensor",
        "name": "Alarm",
        "dev_cla": "problem",
        "stat_t": topic,
        "val_tpl": said + "{{ none if 'alarm' not in said else 'ON' if said['alarm'] else 'OFF' }}",
        "json_attr_t": topic,
        "json_attr_tpl": said + "{{ {'code': said.get('code'), 'bits': said.get('bits')} | tojson }}",
    }


def _interval(base: str, meter: str) -> Component:
    """Seconds between read-outs; the topic holds a word where it is none, which cannot be shown as a number."""
    return {
        "p": "number",
        "name": "Interval",
        "ic": "mdi:timer-cog-outline",
        "dev_cla": "duration",
        "unit_of_meas": "s",
        "ent_cat": "config",
        "mode": "box",
        "min": SHORTEST_INTERVAL,
        "max": LONGEST_INTERVAL,
        "step": 1,
        "stat_t": f"{base}/{meter}/interval",
        "val_tpl": "{{ value if value | is_number else none }}",
        "cmd_t": f"{base}/bridge/request/interval",
        "cmd_tpl": f"{{{{ {{'meter': {dumps(meter)}, 'interval': value}} | tojson }}}}",
    }


def _status_bit(name: str, device_class: str, *words: str) -> Component:
    is_set = " or ".join(f"'{word}' in words" for word in words)
    return {
        "p": "binary_sensor",
        "name": name,
        "dev_cla": device_class,
        "ent_cat": "diagnostic",
        "val_tpl": f"{_STATUS}{{{{ none if words is none else 'ON' if {is_set} else 'OFF' }}}}",
    }


def _flag_name(word: str) -> str:
    """As a person would write it: inputs and sensors have capital letters."""
    words = [_CAPITALS.get(part) or (part.upper() if _TERMINAL.fullmatch(part) else part) for part in word.split("_")]
    if words[0] == "input" and len(words) > 1:
        words[1] = words[1].upper()
    return sentence(" ".join(words))


def named_apart(components: Components, device: str, identifier: str, object_prefix: str = "") -> Components:
    """Names that differ within the device and do not repeat its name; with them go the ids of the entities."""
    taken: set[str] = set()
    object_prefix = object_prefix or slug(device) or slug(identifier)
    for key, component in components.items():
        name = str(component["name"])
        if name.lower().startswith(f"{device.lower()} "):
            name = sentence(name[len(device) + 1 :])
        wanted, number = name, 1
        while slug(name) in taken:
            number += 1
            name = f"{wanted}{', value' if wanted[-1].isdigit() else ''} {number}"
        taken.add(slug(name))
        object_id = f"{object_prefix}_{slug(name)}"
        # the second spelling is for Home Assistant before 2025.10, which does not know the first
        component |= {
            "name": name,
            "uniq_id": f"{identifier}_{key}",
            "def_ent_id": f"{component['p']}.{object_id}",
            "obj_id": object_id,
        }
    return components


def unambiguous(name: str) -> str:
    """A slug, with a checksum where the name had more than a slug can show."""
    short = slug(name)
    return short if short == name else f"{short}_{zlib.crc32(name.encode()):08x}".lstrip("_")
