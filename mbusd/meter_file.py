"""Simulated meters from plain mappings, as a meter file has them (`mbusd simulate --meters FILE`).

Who reads the file and in which format is not known here.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import pi, sin
from typing import get_args

from mbusd.mbus.address import HIGHEST_PRIMARY
from mbusd.mbus.errors import AddressError
from mbusd.simulated_values import DAY, HOUR, Raw, Record, clock_record, counter, fits, pages, record
from mbusd.simulator import Behaviour, Fault, FcbMemory, Moment, SimulatedMeter, identity

_LARGEST = 1e24  # beyond what any DIF carries, and safe to calculate with
_IDENTITY_KEYS = ("name", "address", "identification", "manufacturer", "version", "medium", "fabrication_number")
_BEHAVIOUR_KEYS = ("deaf", "answers_nke", "endless", "sleeps_after", "late_by", "fcb", "faults", "seed", "delay")
_METER_KEYS = frozenset((*_IDENTITY_KEYS, *_BEHAVIOUR_KEYS, "status", "records", "telegrams"))
_FCB_MEMORIES: tuple[FcbMemory, ...] = get_args(FcbMemory)
_RECORD_KEYS = frozenset(("code", "value", "per_hour", "swing", "period"))


@dataclass(frozen=True, slots=True)
class _Fields:
    """Reads one mapping; each error says where it is and what would be right."""

    where: str
    mapping: Mapping[object, object]

    def only(self, allowed: frozenset[str]) -> None:
        for key in self.mapping:
            if key not in allowed:
                raise ValueError(f"{self.where}.{key}: is unknown; allowed: {', '.join(sorted(allowed))}")

    def has(self, key: str) -> bool:
        return self.mapping.get(key) is not None

    def get(self, key: str) -> object:
        return self.mapping.get(key)

    def text(self, key: str, default: str | None = None) -> str:
        value = self._given(key, "a text", default)
        if not isinstance(value, str):
            raise self._wrong(key, "a text (in quotes where it looks like a number)", value)
        return value

    def digits(self, key: str) -> str | None:
        """8 digits, None where the key is missing. A number is refused: it would have lost its leading zeros."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or len(value) != 8 or set(value.upper()) - set("0123456789ABCDE"):
            raise self._wrong(key, "8 digits in quotes", value)
        return value.upper()

    def whole(self, key: str, low: int, high: int, default: int | None = None) -> int:
        value = self._given(key, f"{low}..{high}", default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._wrong(key, f"a whole number {low}..{high}", value)
        return value

    def number(self, key: str, default: float | None = None) -> int | float:
        value = self._given(key, "a number", default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= _LARGEST:
            raise self._wrong(key, f"a number (up to {_LARGEST:g})", value)
        return value

    def seconds(self, key: str, default: float | None = None) -> float:
        value = self.number(key, default)
        if value < 0:
            raise self._wrong(key, "seconds, 0 or more", value)
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        value = self._given(key, "true or false", default)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return value

    def entries(self, key: str) -> list[object]:
        value = self._given(key, "a list", None)
        if not isinstance(value, list):
            raise self._wrong(key, "a list", value)
        return value

    def _given(self, key: str, wanted: str, default: object) -> object:
        value = self.get(key)
        if value is None and default is None:
            raise ValueError(f"{self.where}.{key}: is missing; {wanted} is wanted")
        return default if value is None else value

    def _wrong(self, key: str, wanted: str, value: object) -> ValueError:
        return ValueError(f"{self.where}.{key}: {wanted} is wanted, not {value!r}")


def _mapping(where: str, entry: object) -> Mapping[object, object]:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where}: a mapping is wanted, not {entry!r}")  # noqa: TRY004 (content of a file)
    return entry


def meters_from(document: object) -> list[SimulatedMeter]:
    """The meters of a file: a list of mappings, or a mapping with the one key `meters`. Raises ValueError."""
    if isinstance(document, Mapping):
        _Fields("file", document).only(frozenset(("meters",)))
        document = document.get("meters")
    if not isinstance(document, list) or not document:
        raise ValueError("meters: a list of meters is wanted, here is none")
    return [meter_from(entry, f"meters[{index}]") for index, entry in enumerate(document)]


def meter_from(entry: object, where: str = "meter") -> SimulatedMeter:
    """A meter from a mapping. Raises ValueError that names the key and what is allowed there.

    Wanted: `identification`, `manufacturer`, `medium`, and `records` or `telegrams` (a list of lists of records). A
    record is hex, or `code` (DIB and VIB in hex) with `value`: the raw number or text as the meter sends it, or
    `clock`; numbers may move by `per_hour` and by a `swing` each `period` seconds.
    """
    fields = _Fields(where, _mapping(where, entry))
    fields.only(_METER_KEYS)
    identification = fields.digits("identification")
    if identification is None:
        raise ValueError(f"{where}.identification: is missing; 8 digits in quotes are wanted")
    try:
        secondary = identity(
            identification,
            fields.text("manufacturer"),
            fields.whole("version", 0, 254, 1),
            fields.whole("medium", 0, 254),
        )
    except AddressError as error:
        raise ValueError(f"{where}.manufacturer: {error}") from error
    telegrams = _telegrams(fields)
    try:
        return SimulatedMeter(
            secondary,
            pages(*telegrams),
            primary=fields.whole("address", 0, HIGHEST_PRIMARY) if fields.has("address") else None,
            name=fields.text("name", identification),
            fabrication=fields.digits("fabrication_number"),
            status=fields.whole("status", 0, 255, 0),
            delay=fields.seconds("delay", 0.02),
            behaviour=_behaviour(fields),
            faults=deque(_faults(fields)),
            seed=fields.whole("seed", 0, 2**31, 0),
        )
    except ValueError as error:
        raise error if str(error).startswith(where) else ValueError(f"{where}: {error}") from error


def _behaviour(fields: _Fields) -> Behaviour:
    fcb = fields.text("fcb", "shared")
    memory = next((known for known in _FCB_MEMORIES if known == fcb), None)
    if memory is None:
        raise ValueError(f"{fields.where}.fcb: '{fcb}' is unknown; allowed: {', '.join(_FCB_MEMORIES)}")
    return Behaviour(
        deaf=fields.flag("deaf", default=False),
        answers_nke=fields.flag("answers_nke", default=True),
        endless=fields.flag("endless", default=False),
        sleeps_after=fields.seconds("sleeps_after") if fields.has("sleeps_after") else None,
        late_by=fields.seconds("late_by", 1.0),
        fcb=memory,
    )


def _faults(fields: _Fields) -> list[Fault]:
    names = {fault.name.lower(): fault for fault in Fault}
    faults = fields.entries("faults") if fields.has("faults") else []
    unknown = [name for name in faults if str(name) not in names]
    if unknown:
        raise ValueError(f"{fields.where}.faults: '{unknown[0]}' is unknown; allowed: {', '.join(names)}")
    return [names[str(name)] for name in faults]


def _telegrams(fields: _Fields) -> list[list[Record]]:
    if fields.has("records") == fields.has("telegrams"):
        raise ValueError(f"{fields.where}: either `records` or `telegrams` is wanted")
    if fields.has("records"):
        return [_records(f"{fields.where}.records", fields.entries("records"))]
    telegrams = [
        _records(f"{fields.where}.telegrams[{index}]", telegram)
        for index, telegram in enumerate(fields.entries("telegrams"))
    ]
    if not telegrams:
        raise ValueError(f"{fields.where}.telegrams: one telegram at least is wanted")
    return telegrams


def _records(where: str, entries: object) -> list[Record]:
    if not isinstance(entries, list):
        raise ValueError(f"{where}: a list of records is wanted, not {entries!r}")  # noqa: TRY004 (content of a file)
    return [_record(f"{where}[{index}]", entry) for index, entry in enumerate(entries)]


def _record(where: str, entry: object) -> Record:
    if isinstance(entry, str):
        return Record(b"", fixed=_hex(where, entry))
    fields = _Fields(where, _mapping(where, entry))
    fields.only(_RECORD_KEYS)
    head = _hex(f"{where}.code", fields.text("code"))
    if not _is_head(head):
        raise ValueError(f"{where}.code: {head.hex(' ').upper()} is no DIF [DIFE ...] VIF [VIFE ...]")
    value = fields.get("value")
    if value == "clock":
        made = clock_record(head.hex())
    else:
        made = record(head.hex(), value if isinstance(value, str) else _number(fields, head))
    try:
        made.to_bytes(Moment(0.0, datetime.min))  # noqa: DTZ901 (a meter's clock has no zone)
    except ValueError as error:
        raise ValueError(f"{where}.value: {error}") from error
    return made


def _number(fields: _Fields, head: bytes) -> Raw | Callable[[float], Raw]:
    """The motion value + per_hour * hours + swing * sine; whole steps where DIF wants whole numbers."""
    start = fields.number("value")
    slope, swing = fields.number("per_hour", 0), fields.number("swing", 0)
    period = fields.seconds("period", DAY) or DAY
    if not fits(head[0], start):
        raise ValueError(f"{fields.where}.value: DIF {head[0]:02X} cannot carry {start}")
    if not slope and not swing:
        return start

    def value(seconds: float) -> float:
        return start + slope * seconds / HOUR + swing * sin(2 * pi * seconds / period)

    return value if head[0] & 0x0F == 5 else counter(value)


def _is_head(head: bytes) -> bool:
    """A DIB and a VIB, both complete: bit 7 of each byte says whether another follows."""
    dib = next((index for index, byte in enumerate(head) if not byte & 0x80), len(head))
    vib = head[dib + 1 :]
    return len(vib) > 0 and not vib[-1] & 0x80 and all(byte & 0x80 for byte in vib[:-1])


def _hex(where: str, text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise ValueError(f"{where}: '{text}' is no hex; bytes like '04 06' are wanted") from error
