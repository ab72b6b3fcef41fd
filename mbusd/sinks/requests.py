"""What may be asked for: a request's name and payload in, a command out, or why it is none. Pure."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isfinite
from typing import Literal, cast, get_args

from mbusd import exact_json
from mbusd.exact_json import JsonValue
from mbusd.light import dataclass
from mbusd.model import (
    ChangeMeter,
    ChangeName,
    Command,
    Decode,
    Forget,
    ReadAll,
    ReadNow,
    Reload,
    Scan,
    ScanMode,
    SetInterval,
    SetLogLevel,
)

LONGEST_REQUEST = 10_000  # characters; answers echo parts of requests, and brokers have a limit
MOST_NAMES = 20  # in an answer that says which there are
ALWAYS = "transaction"  # may stand in any request, and comes back with its answer


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that came by MQTT: a command, or why it is none; and where the answer goes, if anywhere."""

    command: Command | None
    error: str | None = None
    response_topic: str | None = None
    transaction: JsonValue = None


def request(command: str, payload: str) -> Asked:
    """What is asked for; the answer has no place yet."""
    if len(payload) > LONGEST_REQUEST:
        return Asked(None, f"the request is longer than {LONGEST_REQUEST} characters")
    fields, document = _FIELDS.get(command, ()), _parsed(payload)
    if isinstance(document, str):  # what it is about; the PRESS of a button that is about everything says nothing
        document = {field: document for field in fields[:1] if field != "bus"}
    if not isinstance(document, dict):
        return Asked(None, "the payload is a JSON object or the name of a meter")
    wanted, error = _command(command, document, (*fields, ALWAYS))
    return Asked(wanted, error, transaction=document.get(ALWAYS))


def _command(name: str, document: Mapping[str, JsonValue], fields: Sequence[str]) -> tuple[Command | None, str | None]:
    """The command of that name, which has these fields, or why there is none."""
    make = _MAKERS.get(name)
    if make is None:
        return None, unknown("request", name, REQUESTS)
    strange = next((field for field in document if field not in fields), None)
    return make(document) if strange is None else (None, f"{name}: {unknown('field', strange, fields)}")


def unknown(what: str, name: str, known: Sequence[str]) -> str:
    """That there is none of this name, what was perhaps meant, and what there is."""
    import difflib  # noqa: PLC0415 - right requests need no guesses

    near = difflib.get_close_matches(name, known, 1, cutoff=0.7)
    meant = f"; '{near[0]}' is meant?" if near else ""
    more = f" and {len(known) - MOST_NAMES} more" if len(known) > MOST_NAMES else ""
    there = f"there are {', '.join(known[:MOST_NAMES])}{more}" if known else "there are none yet"
    return f"there is no {what} '{name}'{meant}; {there}"


def _read_all(document: Mapping[str, JsonValue]) -> tuple[Command | None, str | None]:
    bus = document.get("bus")
    return (ReadAll(bus), None) if isinstance(bus, str | None) else (None, 'read_all takes {"bus": name}')


def _read(document: Mapping[str, JsonValue]) -> tuple[Command | None, str | None]:
    meter, is_forced = document.get("meter"), document.get("force", False)
    if not isinstance(is_forced, bool):
        return None, "force is true or false"
    if not isinstance(meter, str | int) or isinstance(meter, bool):
        return None, 'read needs the name of a meter: {"meter": "…"}'
    return ReadNow(str(meter), is_forced), None


def _of_one_word(
    name: Literal["forget", "decode", "log_level"], document: Mapping[str, JsonValue]
) -> tuple[Command | None, str | None]:
    key = _FIELDS[name][0]
    word = document.get(key)
    if not isinstance(word, str | int) or isinstance(word, bool):
        return None, f'{name} takes {{"{key}": "…"}}, or only that text'
    commands: dict[str, Callable[[str], Command]] = {"forget": Forget, "decode": Decode, "log_level": SetLogLevel}
    return commands[name](str(word)), None


def _interval(document: Mapping[str, JsonValue]) -> tuple[Command | None, str | None]:
    meter, bus, interval = document.get("meter"), document.get("bus"), document.get("interval")
    is_right = isinstance(meter, str | int) is not isinstance(bus, str) and not isinstance(meter, bool)
    if not is_right or not isinstance(interval, str | int | float) or isinstance(interval, bool):
        return None, 'interval takes {"meter": name, "interval": "10m"}, or "bus" in place of "meter" for all on it'
    name = None if meter is None else str(meter)
    return SetInterval(str(interval), name, bus if isinstance(bus, str) else None), None


def _parsed(payload: str) -> object:
    """The JSON of a request; a bare word, also one that looks like a number, is a text."""
    if not payload.strip():
        return {}
    try:
        document = json.loads(payload, parse_float=_finite, parse_constant=_finite)
        exact_json.dumps(document)  # what is nested too deep to be echoed is no request
    except (ValueError, RecursionError):
        text = payload.strip()
        return [] if text.startswith(("{", "[")) else text  # an object that went wrong is no name
    return document if isinstance(document, dict | list | str) else payload.strip()


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(text)
    return number


def _change(what: ChangeName, document: Mapping[str, JsonValue]) -> tuple[Command | None, str | None]:
    """`value` may also stand under the name of the thing: `{"meter": "flat_1", "address": 5}`."""
    meter, value = document.get("meter"), document.get("value", document.get(what.removeprefix("set_")))
    if not isinstance(meter, str) or isinstance(value, bool) or not isinstance(value, str | int | None):
        return None, f'{what} takes {{"meter": name, "value": …}}'
    return ChangeMeter(meter, what, None if value is None else str(value)), None


def _scan(document: Mapping[str, JsonValue]) -> tuple[Command | None, str | None]:
    bus, mode, cancel = document.get("bus"), document.get("mode", "both"), document.get("cancel", False)
    if not isinstance(bus, str | None) or mode not in get_args(ScanMode) or not isinstance(cancel, bool):
        return None, 'scan takes {"bus": name, "mode": "primary", "secondary" or "both", "cancel": true or false}'
    return Scan(bus, cast("ScanMode", mode), cancel), None


_Maker = Callable[[Mapping[str, JsonValue]], tuple[Command | None, str | None]]
_WRITES: tuple[ChangeName, ...] = get_args(ChangeName)
_MAKERS: dict[str, _Maker] = {
    "read": _read,
    "read_all": _read_all,
    "scan": _scan,
    "forget": partial(_of_one_word, "forget"),
    "interval": _interval,
    "decode": partial(_of_one_word, "decode"),
    "log_level": partial(_of_one_word, "log_level"),
    "reload": lambda _: (Reload(), None),
    **{name: partial(_change, name) for name in _WRITES},
}
# What each of them may say; a payload that is only a word says the first
_FIELDS: dict[str, tuple[str, ...]] = {
    "read": ("meter", "force"),
    "read_all": ("bus",),
    "scan": ("bus", "mode", "cancel"),
    "forget": ("meter",),
    "interval": ("meter", "bus", "interval"),
    "decode": ("hex",),
    "log_level": ("level",),
    "reload": (),
    **{name: ("meter", "value", name.removeprefix("set_")) for name in _WRITES},
}
REQUESTS = tuple(_MAKERS)
