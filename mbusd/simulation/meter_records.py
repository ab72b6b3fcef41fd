"""The data records of a meter file, and how their values move. Each error says where it is and what would be right."""

from collections.abc import Callable
from datetime import datetime
from math import pi, sin

from mbusd.simulation.behaviour import Moment
from mbusd.simulation.meter_fields import Fields, mapping
from mbusd.simulation.values import DAY, HOUR, Raw, Record, clock_record, counter, fits, record

_RECORD_KEYS = frozenset(("code", "value", "per_hour", "swing", "period"))


def telegrams_of(fields: Fields) -> list[list[Record]]:
    """The telegrams below `records` (one) or `telegrams` (a list of them)."""
    if fields.has("records") == fields.has("telegrams"):
        raise ValueError(f"{fields.where}: either `records` or `telegrams` is wanted")
    if fields.has("records"):
        return [records_of(fields, "records")]
    telegrams = [
        _records(f"{fields.where}.telegrams[{index}]", telegram)
        for index, telegram in enumerate(fields.entries("telegrams"))
    ]
    if not telegrams:
        raise ValueError(f"{fields.where}.telegrams: one telegram at least is wanted")
    return telegrams


def records_of(fields: Fields, key: str) -> list[Record]:
    """The records below a key: hex, or `code` (DIB and VIB in hex) with `value`.

    A value is the raw number or text as the meter sends it, or `clock`; numbers may move by `per_hour` and by a `swing`
    each `period` seconds.
    """
    return _records(f"{fields.where}.{key}", fields.entries(key))


def _records(where: str, entries: object) -> list[Record]:
    if not isinstance(entries, list):
        raise ValueError(f"{where}: a list of records is wanted, not {entries!r}")  # noqa: TRY004 (content of a file)
    return [_record(f"{where}[{index}]", entry) for index, entry in enumerate(entries)]


def _record(where: str, entry: object) -> Record:
    if isinstance(entry, str):
        return Record(b"", fixed=_hex(where, entry))
    fields = Fields(where, mapping(where, entry))
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


def _number(fields: Fields, head: bytes) -> Raw | Callable[[float], Raw]:
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
