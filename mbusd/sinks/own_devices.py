"""The daemon itself and each of its buses as devices of Home Assistant. Pure."""

from mbusd.exact_json import dumps
from mbusd.sinks.entities import DOCUMENT, Component, Components, slug, template
from mbusd.sinks.homeassistant import Discovery, Payload, named_apart, origin, unambiguous

LOG_LEVELS = ("debug", "info", "warning", "error")
_COUNTS = {
    "read_outs": "Read-outs",
    "failures": "Failures",
    "implausible": "Implausible read-outs",
    "retries": "Retries",
    "timeouts": "Timeouts",
    "noise": "Noise",
}


def bridge_payload(discovery: Discovery) -> Payload:
    """The message that announces the daemon itself."""
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
    log_level: Component = {
        "p": "select",
        "name": "Log level",
        "ic": "mdi:math-log",
        "ent_cat": "config",
        "ops": list(LOG_LEVELS),
        "stat_t": f"{base}/bridge/info",
        # what is set at run time, else what the file says
        "val_tpl": f"{{{{ {DOCUMENT}.get('log_level') or {DOCUMENT}.get('config', {{}}).get('log_level') }}}}",
        "cmd_t": f"{base}/bridge/request/log_level",
        "cmd_tpl": "{{ {'level': value} | tojson }}",
    }
    request = f"{base}/bridge/request"
    components: Components = {
        "connectivity": _connectivity(f"{base}/bridge/state"),
        "started": started | _needs_bridge(base),
        "scan": _button("Scan", "mdi:magnify", f"{request}/scan", "{}") | _needs_bridge(base),
        "read_all": _button("Read all", "mdi:refresh", f"{request}/read_all", "{}") | _needs_bridge(base),
        "log_level": log_level | _needs_bridge(base),
    }
    device: Payload = {"ids": [discovery.bridge_id], "name": _bridge_name(base), "mf": "mbusd", "mdl": "M-Bus master"}
    return _payload(discovery, device, named_apart(components, _bridge_name(base), discovery.bridge_id))


def bus_payload(discovery: Discovery, bus: str) -> Payload:
    """The message that announces one bus."""
    base, identifier = discovery.base_topic, discovery.bus_id(bus)
    asked, statistics = dumps({"bus": bus}), f"{base}/bus/{bus}/statistics"
    request = f"{base}/bridge/request"
    trouble: Component = {
        "p": "binary_sensor",
        "name": "Trouble",
        "dev_cla": "problem",
        "ent_cat": "diagnostic",
        "val_tpl": f"{{{{ none if not {DOCUMENT} else 'ON' if {DOCUMENT}.get('trouble') else 'OFF' }}}}",
        "json_attr_t": statistics,
        "json_attr_tpl": f"{{{{ {{'trouble': {DOCUMENT}.get('trouble')}} | tojson }}}}",
    }
    utilisation: Component = {
        "p": "sensor",
        "name": "Utilisation",
        "unit_of_meas": "%",
        "stat_cla": "measurement",
        "ent_cat": "diagnostic",
        "ic": "mdi:gauge",
        "sug_dsp_prc": 1,
        "val_tpl": template("utilisation"),
    }
    components: Components = {
        "state": _connectivity(f"{base}/bus/{bus}/state"),
        "trouble": trouble,
        "utilisation": utilisation,
        **{key: _count(key, name) for key, name in _COUNTS.items()},
        "scan": _button("Scan", "mdi:magnify", f"{request}/scan", asked),
        "read_all": _button("Read all", "mdi:refresh", f"{request}/read_all", asked),
    }
    # a bus without a name is called mbus
    name = "M-Bus" if slug(bus) in ("mbus", "m_bus") else f"M-Bus {bus}"
    device: Payload = {
        "ids": [identifier],
        "name": name if base == "mbusd" else f"{name} ({base})",
        "mf": "mbusd",
        "mdl": "M-Bus",
        "via_device": discovery.bridge_id,
    }
    prefix = f"{slug(_bridge_name(base))}_bus_{slug(bus) or unambiguous(bus)}"
    return _payload(discovery, device, named_apart(components, str(device["name"]), identifier, prefix)) | {
        "stat_t": statistics,
        **_needs_bridge(base),
    }


def _payload(discovery: Discovery, device: Payload, components: Components) -> Payload:
    more = (("sw", discovery.version), ("cu", discovery.configuration_url))
    said: Payload = {key: text for key, text in more if text}
    return {"dev": device | said, "o": origin(discovery), "qos": 1, "cmps": components}


def _bridge_name(base: str) -> str:
    return "mbusd" if base == "mbusd" else f"mbusd {base}"


def _needs_bridge(base: str) -> Component:
    return {"avty": [{"t": f"{base}/bridge/state"}]}


def _connectivity(topic: str) -> Component:
    return {
        "p": "binary_sensor",
        "name": "Connection",
        "dev_cla": "connectivity",
        "ent_cat": "diagnostic",
        "stat_t": topic,
        "pl_on": "online",
        "pl_off": "offline",
    }


def _button(name: str, icon: str, topic: str, payload: str) -> Component:
    return {"p": "button", "name": name, "ic": icon, "cmd_t": topic, "pl_prs": payload}


def _count(key: str, name: str) -> Component:
    return {
        "p": "sensor",
        "name": name,
        "stat_cla": "total_increasing",
        "ent_cat": "diagnostic",
        "ic": "mdi:counter",
        "sug_dsp_prc": 0,
        "val_tpl": template(key),
    }
