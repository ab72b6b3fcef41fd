"""The single values of a configuration: how each is written, what it may be, and what to write where it is wrong.

Shapes for pydantic, with their JSON Schema. The sections that are made of them stand in settings.py.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema

from mbusd.configuration.durations import interval_of, period, silence, window
from mbusd.line.transport import BAUDRATES, check_port, host_and_port
from mbusd.mbus.address import Address, PrimaryAddress, SecondaryAddress, parse_address
from mbusd.mbus.quirks import Step
from mbusd.mbus.steps import step_of

_OF_ANSWERS = frozenset({0x69, 0x6A, 0x6B, *range(0x6E, 0x80)})  # CI fields
_LONGEST_LABEL = 64  # of the name of a host, and one
_BYTES_IN = {"kB": 10**3, "MB": 10**6, "GB": 10**9}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) *(kB|MB|GB)?")
SMALLEST_FILE, LARGEST_FILE = 10**6, 64 * 10**9  # bytes


def _size(value: object) -> int:
    """Bytes from `64 MB`, `1 GB` or a number. Raises ValueError."""
    match = _SIZE.fullmatch(str(value).strip()) if isinstance(value, str | int) else None
    if match is None or isinstance(value, bool):
        raise ValueError(f"'{value}' is no size: 500 kB, 64 MB, 1 GB or a number of bytes are")
    size = int(float(match[1]) * _BYTES_IN.get(match[2], 1))
    if not SMALLEST_FILE <= size <= LARGEST_FILE:
        raise ValueError(f"'{value}' is out of range: 1 MB to 64 GB")
    return size


def _address(value: object) -> Address:
    if isinstance(value, int) and not isinstance(value, bool) and value > 250:
        raise ValueError("a primary address is 0..250; put a secondary address in quotes, with its leading zeros")
    if isinstance(value, SecondaryAddress):
        value = str(value)
    if isinstance(value, PrimaryAddress):
        return value
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise ValueError("an address is 0..250, or 8 or 16 digits in quotes")  # noqa: TRY004 - pydantic wants ValueError
    address = parse_address(value)
    if not isinstance(address, PrimaryAddress) and not address.is_exact:
        raise ValueError(f"'{value}' has wildcards in its identification: a meter that is read needs all 8 digits")
    return address


def _bytes(value: object) -> bytes:
    """A step of a recipe in hex. YAML makes a number of two digits without quotes; it is read as it was written."""
    try:
        data = value if isinstance(value, bytes) else bytes.fromhex(str(value))
    except ValueError as error:
        raise ValueError(f"'{value}' is no hex: CI field and data are, as \"50 10\"") from error
    step = step_of(data)
    if isinstance(step, Step) and step.ci in _OF_ANSWERS:
        raise ValueError(f"CI {step.ci:02X} is what a meter answers with: no request has it")
    return data


def name_in_topics(value: str) -> str:
    """What a meter or a bus can be called. Raises ValueError."""
    if not value.strip() or any(sign in value for sign in "/+#") or not value.isprintable():
        raise ValueError(f"'{value}' cannot be part of a topic: no / + # and no control characters")
    if any(sign in value for sign in ("{{", "{%", "{#")):
        raise ValueError(f"'{value}' looks like a template of Home Assistant: no {{{{, {{% and {{#")
    return value


def _topic(value: str) -> str:
    at_its_ends = value[:1] in ("", "/", "$") or value.endswith("/")
    if at_its_ends or any(sign in value for sign in "+#") or not value.isprintable():
        raise ValueError(f"'{value}' is no topic to publish on: no + and #, no / at its ends, no $ at the start")
    return value


def check_host(value: str) -> str:
    """The value, if it can be the name or address of a host. Raises ValueError."""
    if value and not any(sign in value for sign in "/ ") and _is_host(value):
        return value
    raise ValueError(f"'{value}' is no name or address of a host")


def _is_host(value: str) -> bool:
    """Whether its labels are as long as those of RFC 1035 may be, also when it is no ASCII (IDNA)."""
    if value.isascii():  # half a megabyte of tables is loaded for the rest
        *labels, last = value.split(".")
        return len(last) < _LONGEST_LABEL and all(0 < len(label) < _LONGEST_LABEL for label in labels)
    try:
        return bool(value.encode("idna"))
    except UnicodeError:
        return False


def _baudrate(value: int) -> int:
    if value not in BAUDRATES:
        raise ValueError(f"{value} is no rate of the M-Bus: {', '.join(map(str, BAUDRATES))} are")
    return value


def _listen(value: str) -> str:
    if not value.lower().startswith("tcp://"):
        raise ValueError(f"'{value}' is not tcp://HOST:PORT (an IPv6 address in brackets: tcp://[::1]:10001)")
    host_and_port(value)
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"'{value}' is no time zone of this machine; Europe/Berlin would be one") from error
    return value


def _folder_of_profiles(value: object) -> object:
    if isinstance(value, str | Path) or value is None:
        return value
    raise ValueError("must be the name of a folder with profile files (docs/profiles.md)")


def _discover(value: object) -> object:
    return "off" if value is False else value  # YAML takes off for false


def _echo(value: object) -> object:
    return ("off", "on")[value] if isinstance(value, bool) else value


def _nke(value: object) -> object:
    if isinstance(value, bool):
        why = "auto, always or never is needed here (YAML makes true and false of yes, no, on and off)"
        raise ValueError(why)  # noqa: TRY004 - pydantic wants ValueError
    return value


def mapping_or_word(value: object) -> object:
    """What `tls: true` and `wake: false` mean: all defaults, or none of it; anything else as it is."""
    words: dict[str, object] = {"true": {}, "false": None}
    return words.get(str(value).lower(), value)


def allow_boolean(schema: dict[str, Any]) -> None:
    """The JSON Schema of something that may be `true` or `false`, too."""
    schema["anyOf"] = [{"type": "boolean"}, *schema.get("anyOf", [])]


_DURATION_SCHEMA = {"anyOf": [{"type": "string", "pattern": r"^\d+(\.\d+)? *(s|m|min|h|d)?$"}, {"type": "number"}]}
Period = Annotated[float, BeforeValidator(period), WithJsonSchema(_DURATION_SCHEMA)]
Size = Annotated[
    int,
    BeforeValidator(_size),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": r"^\d+(\.\d+)? *(kB|MB|GB)?$"}, {"type": "integer"}]}),
]
Window = Annotated[float, BeforeValidator(window), WithJsonSchema(_DURATION_SCHEMA)]
Silence = Annotated[float, BeforeValidator(silence), WithJsonSchema(_DURATION_SCHEMA)]
_CRON_SCHEMA = {"type": "string", "pattern": r"^\s*\S+(\s+\S+){4}\s*$"}
Interval = Annotated[
    float | str,
    BeforeValidator(interval_of),
    WithJsonSchema({"anyOf": [*_DURATION_SCHEMA["anyOf"], {"const": "manual"}, _CRON_SCHEMA]}),
]
MeterAddress = Annotated[
    Address,
    BeforeValidator(_address),
    PlainSerializer(str),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": 250},
                {"type": "string", "pattern": r"^(\d{1,3}|([0-9A-Fa-f]{8}|[0-9A-Fa-f]{16})(-[0-9A-Fa-f]{8})?)$"},
            ]
        }
    ),
]
Bytes = Annotated[
    bytes,
    BeforeValidator(_bytes),
    PlainSerializer(lambda value: value.hex(" ").upper()),
    WithJsonSchema({"type": "string", "pattern": r"^([0-9A-Fa-f]{2} *)+$"}),
]
Name = Annotated[str, AfterValidator(name_in_topics)]
Topic = Annotated[str, AfterValidator(_topic)]
Zone = Annotated[str, AfterValidator(_zone)]
Host = Annotated[str, AfterValidator(check_host)]
Baudrate = Annotated[int, AfterValidator(_baudrate)]
PortName = Annotated[str, AfterValidator(check_port)]
Listen = Annotated[str, AfterValidator(_listen)]
ProfileFolder = Annotated[Path | None, BeforeValidator(_folder_of_profiles)]
Discover = Annotated[Literal["off", "primary", "secondary", "both"], BeforeValidator(_discover)]
Echo = Annotated[
    Literal["auto", "on", "off"],
    BeforeValidator(_echo),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"enum": ["auto", "on", "off"]}]}),
]
Nke = Annotated[Literal["auto", "always", "never"], BeforeValidator(_nke)]
