"""The fixed data structure: two counters and no more (EN 1434-3; CI 73).

Identification 4, access number, status, unit and medium 2, counters 4 + 4 bytes. Bits 0 and 1 of the status say how the
counters are coded and whether they were stored at a fixed date.
"""

from dataclasses import replace
from typing import Final

from mbusd.mbus import values
from mbusd.mbus.errors import DecodeError
from mbusd.mbus.records import Record, Value
from mbusd.mbus.vif import ValueInformation, fixed_information

FIXED_SIZE = 16

_UNKNOWN = 0x0F
_MEDIA: Final = (0, 1, 2, 3, 4, 5, 6, 7, 8, _UNKNOWN, 3, 4, 6, 7, 8, _UNKNOWN)
"""The 4-bit media as codes of the long header; from A on the counters stand high byte first (mode 2)."""


def is_fixed(data: bytes) -> bool:
    """Whether these bytes are the structure: length, identification and at least one counter are right."""
    if len(data) != FIXED_SIZE or not data[3::-1].hex().isdecimal():
        return False
    return _is_binary(data) or any(counter.hex().isdecimal() for counter in (data[8:12], data[12:16]))


def medium_of_fixed(data: bytes) -> int:
    """The medium as a code of the long header."""
    return _MEDIA[_medium_bits(data)]


def records_of_fixed(data: bytes) -> tuple[Record, Record]:
    """The two counters; what was stored at a fixed date has storage number 1."""
    stored = data[5] >> 1 & 1
    first = fixed_information(data[6] & 0x3F)
    second = fixed_information(data[7] & 0x3F)
    storage = stored
    if second.quantity == "same_as_counter_1_historic":
        second, storage = first, 1
    return _counter(data, 0, first, stored), _counter(data, 1, second, storage)


def _counter(data: bytes, number: int, information: ValueInformation, storage: int) -> Record:
    raw = data[8 + 4 * number : 12 + 4 * number]
    record = Record(
        function="instantaneous",
        storage=storage,
        tariff=0,
        subunit=0,
        quantity=information.quantity,
        unit=information.unit,
        kind="raw",
        value=raw,
        exponent=None,
        modifiers=(),
        effect="",
        dib=b"",
        vib=data[6 + number : 7 + number],
        raw=raw,
    )
    if information.kind == "raw":
        return record
    value, problem = _number(data, raw, information)
    return replace(record, kind="number", value=value, exponent=information.exponent, problem=problem)


def _number(data: bytes, raw: bytes, information: ValueInformation) -> tuple[Value, str | None]:
    ordered = raw[::-1] if _medium_bits(data) in range(0x0A, 0x0F) else raw
    try:
        number = values.signed(ordered) if _is_binary(data) else values.bcd(ordered)
    except DecodeError as error:
        return None, error.message
    return values.scaled(number, information.exponent, None, None), None


def _is_binary(data: bytes) -> bool:
    return data[5] & 1 == 1


def _medium_bits(data: bytes) -> int:
    return data[6] >> 6 | data[7] >> 6 << 2
