"""DIF/DIFE and VIF/VIFE to records (EN 13757-3 cl. 6).

A record that cannot be valued keeps its place with `value` None and a `problem`; only bytes whose length nobody can
know end the decoding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Final, Literal

from mbusd.mbus import values
from mbusd.mbus.address import SecondaryAddress, manufacturer_letters
from mbusd.mbus.errors import DecodeError
from mbusd.mbus.vif import Effect, ValueInformation, VifKind, is_vife, value_information

__all__ = [
    "Conversion",
    "DataBlock",
    "Effect",
    "Function",
    "Kind",
    "Record",
    "Value",
    "conversion_of",
    "decode_records",
]

Value = int | Decimal | str | date | datetime | bytes | None
Function = Literal["instantaneous", "maximum", "minimum", "error"]
Kind = Literal["number", "text", "bits", "date", "datetime", "raw"]
"""What `value` is when it is not None: number int|Decimal, text str, bits int, date date, datetime a naive datetime,
raw bytes. Identifiers that are digits (fabrication number …) are text with their leading zeros."""
Coding = Literal["none", "integer", "real", "bcd", "lvar", "text", "digits", "negative_digits", "binary"]
"""How data bytes are coded, as the DIF says or, for the last four, the LVAR byte."""

MOST_EXTENSIONS = 10  # DIFE in a DIB, VIFE in a VIB

FUNCTIONS: Final[tuple[Function, ...]] = ("instantaneous", "maximum", "minimum", "error")
DATA_FIELDS: Final[tuple[tuple[Coding, int], ...]] = (
    ("none", 0),
    ("integer", 1),
    ("integer", 2),
    ("integer", 3),
    ("integer", 4),
    ("real", 4),
    ("integer", 6),
    ("integer", 8),
    ("none", 0),  # selection for readout, in requests only
    ("bcd", 1),
    ("bcd", 2),
    ("bcd", 3),
    ("bcd", 4),
    ("lvar", 0),
    ("bcd", 6),
)
"""How the data are coded and their bytes, by the low four bits of the DIF; F is no data field."""


@dataclass(frozen=True, slots=True)
class Record:
    """One data record: what it is, what it says, and the bytes that said it."""

    function: Function
    storage: int
    tariff: int
    subunit: int
    quantity: str  # a name of the VIF tables
    unit: str | None  # a unit of the VIF tables, or the plain text, or "Wh/h" …
    kind: Kind
    value: Value  # scaled to `unit`, exact; None = the meter says that it has no valid value
    exponent: (
        int | None
    )  # power of ten of the last digit of an integer or BCD value, in `unit`; None for reals and the rest
    modifiers: tuple[str, ...]  # tags of the VIFEs, in the order sent: part of the record's identity
    effect: Effect
    dib: bytes
    vib: bytes
    raw: bytes  # data, without the LVAR byte
    problem: str | None = None  # why the value is None or not decoded
    summer_time: bool = False  # of a date and time: the meter says that it is summer time


@dataclass(frozen=True, slots=True)
class DataBlock:
    """The data of one frame: its records and what stands behind DIF 0F or 1F.

    `error` says why the records end before the data do; its offset is that of the first byte that was not read.
    """

    records: tuple[Record, ...]
    manufacturer_data: bytes | None = None
    more_follows: bool = False
    error: DecodeError | None = None
    ends: tuple[int, ...] = ()  # where the data of each record end


@dataclass(frozen=True, slots=True)
class Conversion:
    """How the data of one record become its value: `convert`, then what the VIB says of numbers."""

    convert: Callable[[bytes], Value]
    exponent: int | None  # of the power of ten that scales a number; None where there is more to it


@dataclass(frozen=True, slots=True)
class _DataInformation:
    """What a DIB says."""

    function: Function
    storage: int
    tariff: int
    subunit: int
    coding: Coding
    size: int


def decode_records(data: bytes, offset: int = 0, *, high_byte_first: bool = False) -> DataBlock:
    """All records of `data`, which stands at byte `offset` of its frame. Never raises: see DataBlock.error."""
    records: list[Record] = []
    ends: list[int] = []
    at = 0
    try:
        while at < len(data):
            dif = data[at]
            if dif in (0x0F, 0x1F):
                return DataBlock(tuple(records), data[at + 1 :], dif == 0x1F, None, tuple(ends))
            if dif == 0x2F:
                at += 1
                continue
            record, at = _record(data, at, high_byte_first=high_byte_first)
            if record is not None:
                records.append(record)
                ends.append(at)
    except DecodeError as error:
        trouble = DecodeError(error.code, error.message, offset + at)
        return DataBlock(tuple(records), error=trouble, ends=tuple(ends))
    return DataBlock(tuple(records), ends=tuple(ends))


def conversion_of(record: Record) -> Conversion | None:
    """How the value of a decoded record came about; None of one whose length stands in an LVAR byte."""
    codes, text, _ = _vib(record.vib, 0)
    coding, _ = DATA_FIELDS[record.dib[0] & 0x0F]
    if coding == "lvar":
        return None
    said = value_information(codes, text)
    _, convert = _conversion(said.kind, said.data_type, said.quantity, coding, len(record.raw))
    is_plain = said.factor is None and said.offset is None
    return Conversion(convert, said.exponent if is_plain else None)


def _record(data: bytes, start: int, *, high_byte_first: bool) -> tuple[Record | None, int]:
    """The record at `start` and where the next begins; None where it is empty, as zero bytes for padding are."""
    if data[start] & 0x0F == 0x0F:
        raise DecodeError("reserved_dif", f"DIF {data[start]:02X} is not defined, the length of its record unknown")
    dib_end = _chain_end(data, start, 1 + MOST_EXTENSIONS, "dif")
    dib = data[start:dib_end]
    codes, text, vib_end = _vib(data, dib_end)
    where = _data_information(dib)
    coding, size, at = where.coding, where.size, vib_end
    if coding == "lvar":
        if at == len(data):
            raise DecodeError("premature_end_of_data", "the data end before the length of a value")
        coding, size = _variable_length(data[at])
        at += 1
    end = at + size
    if end > len(data):
        raise DecodeError("premature_end_of_data", f"{size} bytes of a value are due, {len(data) - at} are there")
    information = value_information(codes, text)
    if coding == "none" and information.record_error is None:
        return None, end
    raw = data[at:end]
    kind, value, problem, summer_time = _value(information, coding, raw[::-1] if high_byte_first else raw)
    record = Record(
        function=where.function,
        storage=where.storage,
        tariff=where.tariff,
        subunit=where.subunit,
        quantity=information.quantity,
        unit=information.unit,
        kind=kind,
        value=raw if isinstance(value, bytes) else value,
        exponent=_resolution(information) if kind == "number" and coding != "real" else None,
        modifiers=information.modifiers,
        effect=information.effect,
        dib=dib,
        vib=data[dib_end:vib_end],
        raw=raw,
        problem=problem,
        summer_time=summer_time,
    )
    return record, end


def _chain_end(data: bytes, start: int, most: int, part: Literal["dif", "vif"]) -> int:
    """Where the bytes end of which all but the last have bit 7 set."""
    for at in range(start, start + most):
        if at >= len(data):
            raise DecodeError(f"premature_end_of_{part}", f"the data end inside a {part.upper()} chain")
        if not data[at] & 0x80:
            return at + 1
    raise DecodeError(f"too_many_{part}es", f"more than {MOST_EXTENSIONS} {part.upper()}Es in one record")


def _vib(data: bytes, start: int) -> tuple[bytes, bytes | None, int]:
    """VIF and VIFEs, the text of a plain text unit, and where the VIB ends (EN 13757-3 annex C.2).

    The standard puts the text behind the last VIFE; most meters put it before the first.
    """
    if data[start : start + 1] == b"\xfc" and _is_text(data, start + 1):
        text, end = _unit_text(data, start + 1)
        chain_end = _chain_end(data, end, MOST_EXTENSIONS, "vif")
        return b"\xfc" + data[end:chain_end], text, chain_end
    end = _chain_end(data, start, 1 + MOST_EXTENSIONS, "vif")
    codes = data[start:end]
    if codes[0] & 0x7F != 0x7C:
        return codes, None, end
    text, end = _unit_text(data, end)
    return codes, text, end


def _is_text(data: bytes, at: int) -> bool:
    """Whether length and characters of a unit stand here and a VIFE follows."""
    length = data[at] if at < len(data) else 0
    end = at + 1 + length
    return 1 <= length <= 15 and end < len(data) and _UNIT_LETTERS.issuperset(data[at + 1 : end]) and is_vife(data[end])


_UNIT_LETTERS: Final = frozenset({*range(0x20, 0x7F), *"°²³µ".encode("latin-1")})


def _unit_text(data: bytes, at: int) -> tuple[bytes, int]:
    end = at + 1 + data[at] if at < len(data) else at + 1
    if end > len(data):
        raise DecodeError("premature_end_of_vif", "the data end inside a plain text unit")
    return data[at + 1 : end], end


@lru_cache(maxsize=1024)
def _data_information(dib: bytes) -> _DataInformation:
    dif, difes = dib[0], dib[1:]
    storage, tariff, subunit = dif >> 6 & 1, 0, 0
    for k, dife in enumerate(difes):
        storage |= (dife & 0x0F) << 4 * k + 1
        tariff |= (dife >> 4 & 3) << 2 * k
        subunit |= (dife >> 6 & 1) << k
    coding, size = DATA_FIELDS[dif & 0x0F]
    return _DataInformation(FUNCTIONS[dif >> 4 & 3], storage, tariff, subunit, coding, size)


def _variable_length(lvar: int) -> tuple[Coding, int]:
    """Coding and bytes of data with this LVAR byte (EN 13757-3 cl. 6.3.3)."""
    match lvar >> 4:
        case 0xC if lvar <= 0xC9:
            return "digits", lvar - 0xC0
        case 0xD if lvar <= 0xD9:
            return "negative_digits", lvar - 0xD0
        case 0xE:
            return "binary", lvar - 0xE0
        case 0xF if lvar <= 0xF6:
            return "binary", {0xF5: 48, 0xF6: 64}.get(lvar, 4 * (lvar - 0xEC))
        case high if high < 0xC:
            return "text", lvar
    raise DecodeError("reserved_lvar", f"LVAR {lvar:02X} is reserved, the length of its value unknown")


def _value(information: ValueInformation, coding: Coding, raw: bytes) -> tuple[Kind, Value, str | None, bool]:
    """Kind, value, problem and summer time of the data, which are in the order of mode 1."""
    kind, convert = _conversion(information.kind, information.data_type, information.quantity, coding, len(raw))
    if information.record_error is not None:
        return kind, None, f"the meter reports: {information.record_error.replace('_', ' ')}", False
    try:
        value = convert(raw)
    except DecodeError as error:
        return kind, None, error.message, False
    if kind == "number" and isinstance(value, int | Decimal):
        value = values.scaled(value, information.exponent, information.factor, information.offset)
    summer_time = (convert is values.datetime_f and raw[1] & 0x80 != 0) or (
        convert is values.datetime_i and raw[0] & 0x40 != 0
    )
    if value is None:  # bytes that should be text and are none
        return "raw", raw, "control characters in a text", False
    no_date = kind == "raw" and information.kind in ("date", "datetime")
    return kind, value, "data of this length are no date" if no_date else None, summer_time


def _resolution(information: ValueInformation) -> int | None:
    """The power of ten of the last digit of an integer."""
    if information.factor is not None:
        return None
    if information.offset is None:
        return information.exponent
    return min(information.exponent, int(information.offset.as_tuple().exponent))


_Conversion = tuple[Kind, Callable[[bytes], Value]]


@lru_cache(maxsize=1024)
def _conversion(kind: VifKind, data_type: str, quantity: str, coding: Coding, size: int) -> _Conversion:
    """What kind of value the data are, and the function that reads them."""
    if coding == "none" or (size == 0 and coding != "text"):
        return _KINDS.get(kind, "number"), _no_data
    if kind in ("raw", "date", "datetime"):
        return _DATES.get((kind, coding, size), ("raw", bytes))
    if coding == "text":
        return "text", values.text
    if coding in ("integer", "binary"):
        return _integer(kind, data_type, quantity, size)
    if coding in ("bcd", "digits") and kind in ("id", "text"):
        return "text", values.identifier
    return "number", _NUMBERS[coding]


def _integer(kind: VifKind, data_type: str, quantity: str, size: int) -> _Conversion:
    if size > 8:
        return "raw", bytes
    if (quantity, size) in _SPECIAL:
        return "text", _SPECIAL[quantity, size]
    if data_type == "D" or (kind == "bits" and not data_type):
        return "bits", values.bits
    if data_type == "C" or kind in ("id", "version", "enum", "text"):
        return "number", values.unsigned
    return "number", values.signed


def _no_data(_: bytes) -> Value:
    raise DecodeError("no_value", "the record has no data")


def _secondary_address(raw: bytes) -> Value:
    return SecondaryAddress.from_bytes(raw).digits


def _manufacturer(raw: bytes) -> Value:
    return manufacturer_letters(values.unsigned(raw))


_KINDS: Final[dict[VifKind, Kind]] = {
    "date": "date",
    "datetime": "datetime",
    "text": "text",
    "bits": "bits",
    "raw": "raw",
}
_DATES: Final[dict[tuple[VifKind, Coding, int], _Conversion]] = {
    ("date", "integer", 2): ("date", values.date_g),
    ("date", "integer", 4): ("datetime", values.datetime_f),  # not in the standard, but in the field
    ("datetime", "integer", 2): ("date", values.date_g),  # likewise for VIF 6D; as the standard has it for VIFEs
    ("datetime", "integer", 3): ("text", values.time_j),
    ("datetime", "integer", 4): ("datetime", values.datetime_f),
    ("datetime", "integer", 6): ("datetime", values.datetime_i),
}
_NUMBERS: Final[dict[Coding, Callable[[bytes], Value]]] = {
    "bcd": values.bcd,
    "digits": values.digits,
    "negative_digits": lambda raw: -values.digits(raw),
    "real": values.real,
}
_SPECIAL: Final[dict[tuple[str, int], Callable[[bytes], Value]]] = {
    ("bus_address", 8): _secondary_address,
    ("enhanced_identification", 8): _secondary_address,
    ("manufacturer", 2): _manufacturer,
}
