"""What stands before the data of a record, DIB, VIB and LVAR byte, and what it says of them (EN 13757-3 cl. 6).

A meter sends the same heads again and again: what one means is worked out once. A new VIF is a row of vif.py; a new way
in which a VIF and a length make a value is one of `_conversion` here.
"""

import re
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Final, Literal

from mbusd.light import dataclass
from mbusd.mbus import values
from mbusd.mbus.address import SecondaryAddress, manufacturer_letters
from mbusd.mbus.errors import DecodeError
from mbusd.mbus.vif import ValueInformation, VifKind, is_vife, value_information

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

MOST_HEADS = 1024  # whose meaning is remembered

Convert = Callable[[bytes], Value]
"""Data, low byte first, to a value; raises DecodeError where they have no valid one."""


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """What DIB, VIB and LVAR byte say of the data behind them; one object for the same bytes, as long as remembered."""

    data: bytes  # all of it, as sent
    dib: bytes
    vib: bytes
    function: Function
    storage: int
    tariff: int
    subunit: int
    coding: Coding
    size: int  # bytes of data
    information: ValueInformation
    kind: Kind
    convert: Convert
    exponent: int | None  # power of ten of the last digit of a number that is an integer
    is_empty: bool  # no data, and nothing to say of it: padding of zero bytes
    staying: bytes  # ones where bytes stay the same from one telegram to the next, zeros for the data

    @property
    def shift(self) -> int | None:
        """The power of ten that makes a number of the data; None where there is more to it."""
        said = self.information
        return said.exponent if said.factor is None and said.offset is None else None


SHORT: Final[dict[bytes, Head]] = {}
"""Heads that were met and whose own bytes tell where they end, so that none of them begins with another."""


def head_at(data: bytes, start: int) -> Head:
    """The head that stands at `start`. Raises DecodeError where nobody can know how long the record is."""
    plain = _PLAIN.match(data, start)
    if plain is not None:
        head = _plain_head(plain[0])
        if len(SHORT) >= MOST_HEADS:
            SHORT.clear()
        SHORT[head.data] = head
        return head
    if data[start] & 0x0F == 0x0F:
        raise DecodeError("reserved_dif", f"DIF {data[start]:02X} is not defined, the length of its record unknown")
    dib_end = _chain_end(data, start, 1 + MOST_EXTENSIONS, "dif")
    end = _vib(data, dib_end)[2]
    if DATA_FIELDS[data[start] & 0x0F][0] == "lvar":
        if end == len(data):
            raise DecodeError("premature_end_of_data", "the data end before the length of a value")
        _variable_length(data[end])
        end += 1
    return _plain_head(data[start:end])


_PLAIN: Final = re.compile(
    rb"(?:[\x00-\x0c\x0e\x10-\x1c\x1e\x20-\x2c\x2e\x30-\x3c\x3e\x40-\x4c\x4e\x50-\x5c\x5e\x60-\x6c\x6e\x70-\x7c\x7e]"
    rb"|[\x80-\x8c\x8e\x90-\x9c\x9e\xa0-\xac\xae\xb0-\xbc\xbe\xc0-\xcc\xce\xd0-\xdc\xde\xe0-\xec\xee\xf0-\xfc\xfe]"
    rb"[\x80-\xff]{0,9}[\x00-\x7f])"
    rb"(?:[\x00-\x7b\x7d-\x7f]|[\x80-\xfb\xfd-\xff][\x80-\xff]{0,9}[\x00-\x7f])"
)
"""A head without an LVAR byte and a text for its unit."""


@lru_cache(maxsize=MOST_HEADS)
def _plain_head(data: bytes) -> Head:
    """The head that these bytes are, all of them."""
    dib_end = _chain_end(data, 0, 1 + MOST_EXTENSIONS, "dif")
    codes, text, vib_end = _vib(data, dib_end)
    dib, difes = data[:dib_end], data[1:dib_end]
    storage, tariff, subunit = dib[0] >> 6 & 1, 0, 0
    for k, dife in enumerate(difes):
        storage |= (dife & 0x0F) << 4 * k + 1
        tariff |= (dife >> 4 & 3) << 2 * k
        subunit |= (dife >> 6 & 1) << k
    coding, size = DATA_FIELDS[dib[0] & 0x0F]
    if coding == "lvar":
        coding, size = _variable_length(data[vib_end])
    said = value_information(codes, text)
    kind, convert = _conversion(said.kind, said.data_type, said.quantity, coding, size)
    vib, function = data[dib_end:vib_end], FUNCTIONS[dib[0] >> 4 & 3]
    exponent = None if coding == "real" else _resolution(said)
    is_empty = coding == "none" and said.record_error is None
    staying = b"\xff" * len(data) + bytes(size)
    return Head(
        data, dib, vib, function, storage, tariff, subunit, coding, size, said, kind, convert, exponent, is_empty,
        staying,
    )  # fmt: skip


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


def _resolution(information: ValueInformation) -> int | None:
    """The power of ten of the last digit of an integer."""
    if information.factor is not None:
        return None
    if information.offset is None:
        return information.exponent
    return min(information.exponent, int(information.offset.as_tuple().exponent))


_Conversion = tuple[Kind, Convert]


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
