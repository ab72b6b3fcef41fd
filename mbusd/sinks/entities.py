"""One measurement as one entity of Home Assistant: its rule out of the table, then what storage, tags and VIFEs change.

The look of an entity hangs on what the measurement is, never on its value.
"""

import re
from datetime import datetime

from mbusd.exact_json import JsonValue, dumps
from mbusd.light import dataclass
from mbusd.model import Measurement, Reading
from mbusd.sinks import homeassistant_map as table

Component = dict[str, JsonValue]
Components = dict[str, Component]

LONGEST_STATE = 255  # characters; Home Assistant takes no longer state
SHORTEST_NAME = 3  # letters; a plain text unit that is shorter is a unit, not a name
DOCUMENT = "(value_json | default({}))"
"""The JSON of a message in a template; of an empty one, which clears the topic, nothing and no error in the log."""


def components_of(reading: Reading, *, newer_classes: bool) -> Components:
    """A component for each measurement, under its key; error flags have a second one that says whether any is set."""
    medium = reading.identity.medium
    group = "" if medium is None else table.MEDIA.get(medium, "")
    # without a zone there is no point in time, and Home Assistant refuses one
    zoned = not any(isinstance(item.value, datetime) and item.value.tzinfo is None for item in reading.measurements)
    components: Components = {}
    for item in reading.measurements:
        look = _look(item, group, newer_classes=newer_classes, zoned=zoned)
        components[component_key(item)] = look.component(item)
        if item.quantity == "error_flags" and item.kind == "bits" and look.enabled:
            components[f"{item.key}_problem"] = {
                "p": "binary_sensor",
                "name": f"{look.name} set",
                "dev_cla": "problem",
                "ent_cat": "diagnostic",
                "val_tpl": _any_bit(item.key),
            }
    return components


def component_key(item: Measurement) -> str:
    """Of a measurement. What its owner makes another quantity of is another entity: its statistics are, too."""
    return f"{item.key}_{item.quantity}" if item.is_relabelled else item.key


@dataclass(slots=True)
class _Look:
    """An entity while rule and modifiers are applied to it."""

    name: str
    device_class: str | None
    unit: str | None
    state_class: table.StateClass | None
    icon: str | None
    precision: int | None
    diagnostic: bool
    enabled: bool

    def hide(self) -> None:
        self.diagnostic, self.enabled, self.state_class = True, False, None

    def component(self, item: Measurement) -> Component:
        component: Component = {"p": "sensor", "name": self.name}
        optional: tuple[tuple[str, str | int | None], ...] = (
            ("dev_cla", self.device_class),
            ("unit_of_meas", self.unit),
            ("stat_cla", self.state_class),
            ("ic", self.icon),
            ("sug_dsp_prc", self.precision),
            ("ent_cat", "diagnostic" if self.diagnostic else None),
        )
        component |= {key: value for key, value in optional if value is not None}
        if not self.enabled:
            component["en"] = False
        component["val_tpl"] = _text_template(item.key) if item.kind == "text" else template(item.key)
        return component


def _look(item: Measurement, group: str, *, newer_classes: bool, zoned: bool) -> _Look:
    rule = next((rule for rule in table.RULES if _fits(rule, item, group)), table.DEFAULT)
    look = _Look(
        name=_name(rule, item, group),
        device_class=(rule.newer_class if newer_classes else None) or rule.device_class,
        unit=item.unit if rule.has_unit else None,
        state_class=rule.state_class,
        icon=rule.icon,
        precision=_precision(rule, item),
        diagnostic=rule.diagnostic,
        enabled=rule.enabled,
    )
    _apply_tags(look, item)
    _apply_effect(look, item)
    _apply_kind(look, item, zoned=zoned)
    _drop_impossible(look, newer_classes=newer_classes)
    if item.show != "normal":
        look.diagnostic, look.enabled = True, look.enabled and item.show != "disabled"
    return look


def _precision(rule: table.Rule, item: Measurement) -> int | None:
    if rule.precision != "auto":
        return rule.precision
    return None if item.decimals is None else min(item.decimals, table.HIGHEST_PRECISION)


def _fits(rule: table.Rule, item: Measurement, group: str) -> bool:
    is_current = item.storage == 0 and item.function == "instantaneous"
    return (
        item.quantity in rule.quantities
        and rule.media in (None, group)
        and (rule.units is None or item.effect == "unit" or item.unit in rule.units)
        and (is_current or not rule.current_only)
    )


def _apply_tags(look: _Look, item: Measurement) -> None:
    tags = set(item.modifiers)
    if item.storage or item.function != "instantaneous" or tags & table.WITHOUT_STATISTICS:
        look.hide()
    if tags & table.OFF_BY_DEFAULT:
        look.enabled = False
    if tags & table.UNKNOWN_UNIT:
        look.device_class = look.unit = None
    if "delta_import_export" in tags and look.state_class == "total_increasing":
        look.state_class = "total"


def _apply_effect(look: _Look, item: Measurement) -> None:
    match item.effect:
        case "as_duration":
            look.hide()
            look.device_class, look.unit = "duration", item.unit
        case "as_date" | "as_number" | "pulse" | "profile" | "manufacturer":
            look.hide()
            look.device_class = look.unit = None
        case "unit" if table.UNKNOWN_UNIT.isdisjoint(item.modifiers):
            look.device_class, look.unit, look.state_class = None, item.unit, "measurement"


def _apply_kind(look: _Look, item: Measurement, *, zoned: bool) -> None:
    if item.kind == "number":
        if look.device_class in ("date", "timestamp"):
            look.device_class = None
        return
    look.unit = look.state_class = look.precision = look.device_class = None
    if item.kind == "date":
        look.device_class = "date"
    if item.kind == "datetime" and zoned:
        look.device_class = "timestamp"


def _drop_impossible(look: _Look, *, newer_classes: bool) -> None:
    """A class that does not know the unit would cost the entity; without the class it is shown all the same."""
    if look.device_class is None:
        return
    known = table.DEVICE_CLASSES[look.device_class]
    units = known.units | (known.newer_units if newer_classes else frozenset())
    if (look.unit not in units) if units else look.unit is not None:
        look.device_class = None
    elif look.state_class is not None and look.state_class not in known.state_classes:
        look.state_class = None


def _name(rule: table.Rule, item: Measurement, group: str) -> str:
    base = _base_name(rule, item)
    words = [base]
    if item.function != "instantaneous":
        functions = table.FUNCTIONS_OF_DATES if item.kind in ("date", "datetime") else table.FUNCTIONS
        words.append(functions[item.function])
    for tag in item.modifiers:
        direction = table.ELECTRIC_DIRECTIONS.get(tag) if group == "electricity" else None
        words.append(direction or table.TAG_NAMES.get(tag) or _tag(tag))
    if item.tariff:
        words.append(f"tariff {item.tariff}")
    if item.subunit:
        words.append(f"{item.subunit}" if base.endswith(("input", "output")) else f"input {item.subunit}")
    if item.storage:
        words.append("due date" if item.storage == 1 else f"history {item.storage}")
    name = " ".join(words)
    return table.PHRASES.get(name, name)


def _base_name(rule: table.Rule, item: Measurement) -> str:
    """Of the rule, else the quantity in words; what has its unit as plain text is called as that text says."""
    if item.quantity == "plain_text_unit" and item.unit:
        return sentence(item.unit) if len(slug(item.unit)) >= SHORTEST_NAME else f"Value in {item.unit}"
    return sentence(item.quantity) if rule.name is None else rule.name


def _tag(tag: str) -> str:
    """In words. What a VIFE means that its maker has not told is only a number."""
    kind, _, number = tag.rpartition("_")
    if kind == "mfr":
        return f"variant {number}"
    if kind in ("per_input_pulse", "per_output_pulse"):
        return f"per pulse of {kind.split('_')[1]} {number}"
    return tag.replace("_", " ")


def template(key: str) -> str:
    """The value under a key of the JSON document; without one `None`, which Home Assistant shows as unknown."""
    return f"{{{{ {DOCUMENT}.get({dumps(key)}) }}}}"


def _text_template(key: str) -> str:
    text = f"{{% set text = {DOCUMENT}.get({dumps(key)}) %}}"
    return f"{text}{{{{ text[:{LONGEST_STATE}] if text is string else text }}}}"


def _any_bit(key: str) -> str:
    bits = f"{{% set bits = {DOCUMENT}.get({dumps(key)}) %}}"
    return bits + "{{ none if bits is none else 'ON' if bits | replace('0', '') else 'OFF' }}"


def sentence(text: str) -> str:
    """A name of the tables as a person would write it."""
    words = text.replace("_", " ")
    return words[:1].upper() + words[1:]


def slug(text: str) -> str:
    """What ids are made of: a-z, 0-9 and single underscores."""
    plain = text.casefold()
    if not plain.isascii():
        import unicodedata  # noqa: PLC0415 - tables of which most houses need nothing

        plain = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode()
    return re.sub("[^a-z0-9]+", "_", plain).strip("_")
