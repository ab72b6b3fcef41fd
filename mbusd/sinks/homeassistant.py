"""Home Assistant's discovery by device: a reading becomes one message that describes the meter and its entities. Pure.

The unit and class of an entity hang on its quantity, its `unique_id` on the meter's secondary address and the key:
never on a value.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from mbusd.exact_json import JsonValue, dumps
from mbusd.model import Identity, Reading
from mbusd.sinks.entities import Component, Components, components_of, sentence, slug, template

Payload = dict[str, JsonValue]

_STATISTICS = ("read_outs", "failures", "retries", "timeouts", "noise")
_METERS = re.compile("(.*water|electricity|gas|heat|steam|oil|cooling|heat cooling|compressed air|pressure)( inlet)?")


@dataclass(frozen=True, slots=True)
class Discovery:
    """Where and how to announce. `newer_classes`: Home Assistant is known to be 2025.11 or later."""

    base_topic: str = "mbusd"
    discovery_prefix: str = "homeassistant"
    version: str = ""
    url: str = ""
    newer_classes: bool = False

    @property
    def bridge_id(self) -> str:
        """Identifier of the daemon's own device."""
        return "mbusd_bridge" if self.base_topic == "mbusd" else f"mbusd_bridge_{_unambiguous(self.base_topic)}"

    @property
    def bridge_topic(self) -> str:
        """Where the daemon's own device is announced."""
        return self._topic(self.bridge_id)

    def meter_id(self, identity: Identity, meter: str) -> str:
        """Identifier of a meter: its secondary address; its name only if it has never said who it is."""
        if identity.identification:
            return f"mbusd_{identity.address}"
        return f"{self.bridge_id}_{_unambiguous(meter)}"

    def meter_topic(self, identity: Identity, meter: str) -> str:
        """Where a meter is announced."""
        return self._topic(self.meter_id(identity, meter))

    def _topic(self, identifier: str) -> str:
        return f"{self.discovery_prefix}/device/{identifier}/config"


def meter_payload(discovery: Discovery, reading: Reading, bus: str, *, has_alarms: bool = False) -> Payload:
    """The message that announces one meter and an entity for each of its measurements; one for its alarms, if any."""
    base, meter = discovery.base_topic, reading.meter
    identifier = discovery.meter_id(reading.identity, meter)
    device = _meter_device(discovery, reading, identifier)
    components: Components = {**components_of(reading, newer_classes=discovery.newer_classes), **_extras(base, reading)}
    if has_alarms:
        components["alarm"] = _alarm(f"{base}/{meter}/alarm")
    availability = (f"{base}/bridge/state", f"{base}/bus/{bus}/state", f"{base}/{meter}/availability")
    return {
        "dev": device,
        "o": _origin(discovery),
        "stat_t": f"{base}/{meter}",
        "avty": [{"t": topic} for topic in availability],
        "avty_mode": "all",
        "qos": 1,
        "cmps": _named_apart(components, str(device["name"]), identifier),
    }


def bridge_payload(discovery: Discovery, buses: Sequence[str]) -> Payload:
    """The message that announces the daemon itself, with its buses."""
    base = discovery.base_topic
    started: Component = {
        "p": "sensor",
        "name": "Started",
        "dev_cla": "timestamp",
        "ent_cat": "diagnostic",
        "en": False,
        "stat_t": f"{base}/bridge/info",
        "val_tpl": template("started"),
    }
    read_all: Component = {
        "p": "button",
        "name": "Read all",
        "ic": "mdi:refresh",
        "cmd_t": f"{base}/bridge/request/read_all",
        "pl_prs": "{}",
    }
    components: Components = {
        "connectivity": _connectivity("Connection", f"{base}/bridge/state"),
        "started": started | _needs_bridge(base),
        "read_all": read_all | _needs_bridge(base),
    }
    for bus in buses:
        components |= _bus(base, bus)
    device: Payload = {
        "ids": [discovery.bridge_id],
        "name": "mbusd" if base == "mbusd" else f"mbusd {base}",
        "mf": "mbusd",
        "mdl": "M-Bus master",
    }
    if discovery.version:
        device["sw"] = discovery.version
    return {
        "dev": device,
        "o": _origin(discovery),
        "qos": 1,
        "cmps": _named_apart(components, str(device["name"]), discovery.bridge_id),
    }


def _origin(discovery: Discovery) -> Payload:
    origin: Payload = {"name": "mbusd"}
    if discovery.version:
        origin["sw"] = discovery.version
    if discovery.url:
        origin["url"] = discovery.url
    return origin


def _needs_bridge(base: str) -> Component:
    return {"avty": [{"t": f"{base}/bridge/state"}]}


def _connectivity(name: str, topic: str) -> Component:
    return {
        "p": "binary_sensor",
        "name": name,
        "dev_cla": "connectivity",
        "ent_cat": "diagnostic",
        "stat_t": topic,
        "pl_on": "online",
        "pl_off": "offline",
    }


def _bus(base: str, bus: str) -> Components:
    prefix = f"bus_{_unambiguous(bus)}"
    components = {f"{prefix}_state": _connectivity(f"Bus {bus}", f"{base}/bus/{bus}/state") | _needs_bridge(base)}
    components[f"{prefix}_scan"] = {
        "p": "button",
        "name": f"Bus {bus} scan",
        "ic": "mdi:magnify",
        "cmd_t": f"{base}/bridge/request/scan",
        "pl_prs": dumps({"bus": bus}),
    } | _needs_bridge(base)
    components[f"{prefix}_trouble"] = {
        "p": "binary_sensor",
        "name": f"Bus {bus} trouble",
        "dev_cla": "problem",
        "ent_cat": "diagnostic",
        "stat_t": f"{base}/bus/{bus}/statistics",
        "val_tpl": "{{ 'ON' if value_json.get('trouble') else 'OFF' }}",
        "json_attr_t": f"{base}/bus/{bus}/statistics",
        "json_attr_tpl": "{{ {'trouble': value_json.get('trouble')} | tojson }}",
    } | _needs_bridge(base)
    for count in (*_STATISTICS, "utilisation"):
        is_share = count == "utilisation"
        component: Component = {
            "p": "sensor",
            "name": f"Bus {bus} {'read-outs' if count == 'read_outs' else count}",
            "stat_cla": "measurement" if is_share else "total_increasing",
            "ent_cat": "diagnostic",
            "ic": "mdi:gauge" if is_share else "mdi:counter",
            "sug_dsp_prc": 1 if is_share else 0,
            "stat_t": f"{base}/bus/{bus}/statistics",
            "val_tpl": template(count),
        }
        if is_share:
            component["unit_of_meas"] = "%"
        components[f"{prefix}_{count}"] = component | _needs_bridge(base)
    return components


def _meter_device(discovery: Discovery, reading: Reading, identifier: str) -> Payload:
    identity = reading.identity
    kind = _model(identity.medium_name)
    is_named = reading.meter not in (identity.address, identity.identification)
    device: Payload = {
        "ids": [identifier],
        "name": reading.meter if is_named else f"{kind} {identity.identification}",
        "mf": identity.manufacturer or "unknown",
        "mdl": reading.model or kind,
        "via_device": discovery.bridge_id,
    }
    said = {item.key: str(item.value) for item in reading.measurements if item.value is not None}
    serial = said.get("fabrication_number", identity.identification)
    hardware = said.get("hardware_version") or (None if identity.version is None else str(identity.version))
    software = said.get("firmware_version") or said.get("software_version")
    device |= {key: text for key, text in (("sn", serial), ("hw", hardware), ("sw", software)) if text}
    return device


def _model(medium_name: str) -> str:
    words = sentence(medium_name)
    if medium_name in ("unknown", "other", "reserved", "wildcard"):
        return "M-Bus meter"
    meter = _METERS.fullmatch(words.lower())
    return f"{sentence(meter[1])} meter" if meter else words


def _extras(base: str, reading: Reading) -> Components:
    """What every meter has besides its values: the status byte, the time of the reading, a button."""
    button: Component = {"p": "button", "name": "Read now", "ic": "mdi:refresh", "cmd_t": f"{base}/{reading.meter}/get"}
    return {
        "status_power_low": _status_bit("Battery low", "battery", "power_low"),
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
            "val_tpl": "{{ ((value_json.get('status') or ['ok']) | join(', '))[:255] }}",
        },
        **{f"status_{slug(word)}": _status_bit(sentence(word), "problem", word) for word in reading.flags},
        "last_read": {
            "p": "sensor",
            "name": "Last read",
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


def _status_bit(name: str, device_class: str, *words: str) -> Component:
    is_set = " or ".join(f"'{word}' in words" for word in words)
    return {
        "p": "binary_sensor",
        "name": name,
        "dev_cla": device_class,
        "ent_cat": "diagnostic",
        "val_tpl": f"{{% set words = value_json.get('status') or [] %}}{{{{ 'ON' if {is_set} else 'OFF' }}}}",
    }


def _named_apart(components: Components, device: str, identifier: str) -> Components:
    """Names that differ within the device and do not repeat its name; with them go the ids of the entities."""
    taken: set[str] = set()
    object_prefix = slug(device) or slug(identifier)
    for key, component in components.items():
        name = str(component["name"])
        if name.lower().startswith(f"{device.lower()} "):
            name = sentence(name[len(device) + 1 :])
        wanted, number = name, 1
        while slug(name) in taken:
            number += 1
            name = f"{wanted} {number}"
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


def _unambiguous(name: str) -> str:
    """A slug, with a checksum where the name had more than a slug can show."""
    short = slug(name)
    return short if short == name else f"{short}_{zlib.crc32(name.encode()):08x}".lstrip("_")
