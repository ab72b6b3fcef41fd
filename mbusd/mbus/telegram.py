"""The application content of one long frame: CI field, header, records (EN 13757-3 cl. 4 to 6)."""

from dataclasses import field
from typing import TYPE_CHECKING, Final

from mbusd.light import dataclass
from mbusd.mbus.address import manufacturer_letters
from mbusd.mbus.errors import DecodeError
from mbusd.mbus.fixed import FIXED_SIZE, is_fixed, medium_of_fixed, records_of_fixed
from mbusd.mbus.frames import LongFrame
from mbusd.mbus.layout import Layout, Layouts, layouts_of
from mbusd.mbus.records import DataBlock, Record, outline, records_of
from mbusd.mbus.status import status_words

DATA_OFFSET = 7  # the first byte behind the CI field, counted from the frame's 68

LONG_HEADER = 12
SHORT_HEADER = 4

APPLICATION_ERRORS: Final[dict[int, str]] = {
    0x00: "unspecified error",
    0x01: "unimplemented CI field",
    0x02: "buffer too long, truncated",
    0x03: "too many records",
    0x04: "premature end of record",
    0x05: "more than 10 DIFEs",
    0x06: "more than 10 VIFEs",
    0x07: "reserved error",
    0x08: "application too busy",
    0x09: "too many read-outs",
    0x10: "access denied",
    0x11: "application or command unknown",
    0x12: "parameter missing or wrong",
    0x13: "unknown receiver address",
    0x14: "decryption key failed",
    0x15: "encryption method not supported",
    0x16: "signature method not supported",
    0xF0: "dynamic application error",
}
"""What a meter may answer instead of data (EN 13757-3 cl. 10)."""


@dataclass(frozen=True, slots=True)
class Header:
    """Long, short or fixed header; what a kind does not carry is None."""

    identification: str | None  # 8 hex digits as printed on the meter
    manufacturer: str | None  # three letters or "0x1234"
    manufacturer_code: int | None
    version: int | None
    medium: int | None
    access_number: int
    status: int
    signature: int | None  # configuration word

    @property
    def is_encrypted(self) -> bool:
        """Mode 5 or 7 with at least one encrypted block; old meters leave anything else in this word."""
        return self.signature is not None and _encrypts(self.signature)

    @property
    def status_words(self) -> tuple[str, ...]:
        """The status byte in words; empty when all is well."""
        return status_words(self.status, fixed=self.signature is None)


def _encrypts(signature: int) -> bool:
    return signature >> 8 & 0x1F in (5, 7) and signature & 0xF0 != 0


@dataclass(frozen=True, slots=True)
class Telegram:
    """What one frame says. `error` is set where the records end before the data do; what came before stands.

    The first byte that was not decoded then stands at `error.offset` of the frame. Of a telegram whose `layout` is
    known the rest is decoded when somebody looks at it.
    """

    frame: LongFrame
    header: Header | None
    records: tuple[Record, ...]
    manufacturer_data: bytes | None
    more_follows: bool
    encrypted: bool
    error: DecodeError | None = None
    layout: Layout | None = field(default=None, init=False, compare=False, repr=False)  # not of a `replace`d one
    whole: int = field(default=0, init=False, compare=False, repr=False)  # the data as one number, where there is one

    if not TYPE_CHECKING:  # what is not there yet; to type checkers it always is

        def __getattr__(self, name: str) -> object:
            layout = self.layout if name in _LATER else None
            if layout is None:
                raise AttributeError(f"a Telegram has no {name}")
            said = layout.outline
            match name:
                case "header":
                    object.__setattr__(self, name, header_of(self.frame))
                case "more_follows":
                    object.__setattr__(self, name, said is not None and said.more_follows)
                case "encrypted":
                    object.__setattr__(self, name, said is None)
                case "error":
                    object.__setattr__(self, name, None)
                case _:
                    frame, is_high = self.frame, self.frame.ci == _HIGH_FIRST
                    block = DataBlock(()) if said is None else records_of(said, frame.data, high_byte_first=is_high)
                    object.__setattr__(self, "records", block.records)
                    object.__setattr__(self, "manufacturer_data", block.manufacturer_data)
            return object.__getattribute__(self, name)


_LATER: Final = frozenset({"header", "records", "manufacturer_data", "more_follows", "encrypted", "error"})
_new = Telegram.__new__
_set_frame, _set_layout, _set_whole = (Telegram.__dict__[name].__set__ for name in ("frame", "layout", "whole"))


def decode(frame: LongFrame) -> Telegram:
    """The telegram in a frame. Raises DecodeError where there is none, as in a meter's report of an application error.

    Offsets in errors count from the first byte of the frame. Encrypted data are recognised, not decoded. A frame of a
    layout that was seen before costs next to nothing until somebody looks at its records.
    """
    ci, data = frame.ci, frame.data
    if ci not in _WITH_LAYOUT:
        return decode_whole(frame)
    layouts = layouts_of(ci, len(data), data[4:8] if ci in _LONG else b"")
    whole = int.from_bytes(data, "little")
    for layout in layouts.known:
        if whole & layout.mask == layout.skeleton:
            return _fitting(frame, layout, whole)
    return _new_to(layouts, frame, whole)


def _fitting(frame: LongFrame, layout: Layout, whole: int) -> Telegram:
    telegram = _new(Telegram)
    _set_frame(telegram, frame)
    _set_layout(telegram, layout)
    _set_whole(telegram, whole)
    return telegram


def _new_to(layouts: Layouts, frame: LongFrame, whole: int) -> Telegram:
    """A telegram of no known layout, which is learnt if it is whole."""
    if layouts.is_tired():
        return _variable(frame)
    size, data = HEADERS[frame.ci], frame.data
    if len(data) < size:
        return _variable(frame)
    signature = int.from_bytes(data[size - 2 : size], "big" if frame.ci == _HIGH_FIRST else "little") if size else 0
    said = None if _encrypts(signature) else outline(data, size, DATA_OFFSET)
    if said is not None and said.error is not None:
        return _variable(frame)
    layout = Layout(frame.ci, whole, said)
    layouts.learn(layout)
    return _fitting(frame, layout, whole)


_HIGH_FIRST: Final = 0x76
HEADERS: Final = {0x72: LONG_HEADER, 0x76: LONG_HEADER, 0x78: 0, 0x7A: SHORT_HEADER}
"""The bytes of the header that a CI field announces; the configuration word is the last of it."""
ACCESS_NUMBERS: Final = {0x72: 8, 0x76: 8, 0x73: 4, 0x7A: 0}
"""By CI field: where the access number stands in the data, behind those who say who it is; the status follows it."""
_LONG: Final = frozenset({0x72, 0x76})
_WITH_LAYOUT: Final = frozenset({0x72, 0x76, 0x78, 0x7A})


def decode_whole(frame: LongFrame) -> Telegram:
    """As `decode`, and all of it at once, whatever was seen before."""
    match frame.ci:
        case 0x72 | 0x76 | 0x7A | 0x78:
            return _variable(frame)
        case 0x73:
            return _fixed(frame)
        case 0x70:
            raise _application_error(frame, 0)
        case 0x6E:
            _short_header(frame)
            raise _application_error(frame, SHORT_HEADER)
        case 0x6F:
            _long_header(frame)
            raise _application_error(frame, LONG_HEADER)
        case 0x71:
            return _alarm(frame)
        case ci:
            raise DecodeError("unsupported_ci", f"CI field {ci:02X} is {_ci_name(ci)}, which is not decoded", 6)


def _variable(frame: LongFrame) -> Telegram:
    """Records behind a header."""
    header, size = _header(frame)
    if header is not None and header.is_encrypted:
        return Telegram(frame, header, (), None, more_follows=False, encrypted=True)
    is_high = frame.ci == _HIGH_FIRST
    block = records_of(outline(frame.data, size, DATA_OFFSET), frame.data, high_byte_first=is_high)
    return Telegram(
        frame, header, block.records, block.manufacturer_data, block.more_follows, encrypted=False, error=block.error
    )


def header_of(frame: LongFrame) -> Header | None:
    """The header of a frame with records; None where its CI field announces none. Raises DecodeError."""
    return _header(frame)[0]


def _header(frame: LongFrame) -> tuple[Header | None, int]:
    """The header that the CI field announces, and its bytes."""
    match frame.ci:
        case 0x72 | 0x76:
            return _long_header(frame), LONG_HEADER
        case 0x7A:
            return _short_header(frame), SHORT_HEADER
        case _:
            return None, 0


def _long_header(frame: LongFrame) -> Header:
    """12 bytes; in mode 2 (CI 76) the numbers stand high byte first."""
    data = _header_bytes(frame, LONG_HEADER, "long")
    order = -1 if frame.ci == 0x76 else 1
    code = int.from_bytes(data[4:6][::order], "little")
    return Header(
        identification=data[:4][::-order].hex().upper(),
        manufacturer=manufacturer_letters(code),
        manufacturer_code=code,
        version=data[6],
        medium=data[7],
        access_number=data[8],
        status=data[9],
        signature=int.from_bytes(data[10:12][::order], "little"),
    )


def _short_header(frame: LongFrame) -> Header:
    """4 bytes; who the meter is follows from the request."""
    data = _header_bytes(frame, SHORT_HEADER, "short")
    return Header(None, None, None, None, None, data[0], data[1], int.from_bytes(data[2:4], "little"))


def _header_bytes(frame: LongFrame, size: int, name: str) -> bytes:
    if len(frame.data) < size:
        text = f"a {name} header has {size} bytes, here are {len(frame.data)}"
        raise DecodeError("short_header", text, DATA_OFFSET + len(frame.data))
    return frame.data[:size]


def _fixed(frame: LongFrame) -> Telegram:
    """The fixed data structure of EN 1434-3; newer meters use its CI field for compact frames."""
    data = frame.data
    if len(data) < FIXED_SIZE:
        text = f"the fixed data structure has {FIXED_SIZE} bytes, here are {len(data)}"
        raise DecodeError("short_header", text, DATA_OFFSET + len(data))
    if not is_fixed(data):
        text = "CI field 73 without a fixed data structure: a compact frame, whose format only the meter's maker knows"
        raise DecodeError("compact_frame", text, 6)
    header = Header(data[3::-1].hex().upper(), None, None, None, medium_of_fixed(data), data[4], data[5], None)
    return Telegram(frame, header, records_of_fixed(data), None, more_follows=False, encrypted=False)


def _alarm(frame: LongFrame) -> Telegram:
    """The alarm protocol: a bit field whose meaning is the manufacturer's (EN 13757-3 cl. 9)."""
    if not frame.data:
        raise DecodeError("premature_end_of_data", "an alarm report without its byte", DATA_OFFSET)
    value = int.from_bytes(frame.data, "little")
    record = Record("instantaneous", 0, 0, 0, "alarm_status", None, "bits", value, None, (), "", b"", b"", frame.data)
    return Telegram(frame, None, (record,), None, more_follows=False, encrypted=False)


def _application_error(frame: LongFrame, at: int) -> DecodeError:
    """The meter's report of an error, with its code behind `at` bytes of header if it gives one."""
    code = frame.data[at] if len(frame.data) > at else None
    text = APPLICATION_ERRORS.get(code or 0, f"unknown error {code or 0:02X}")
    return DecodeError("application_error", f"the meter reports: {text}", DATA_OFFSET + at, code)


def _ci_name(ci: int) -> str:
    """What a CI field that is not decoded announces (EN 13757-7 cl. 5)."""
    return next((name for first, last, name in _OTHER_CI if first <= ci <= last), "reserved")


_OTHER_CI: Final = (
    (0x50, 0x50, "an application reset or select"),
    (0x51, 0x51, "data for a meter"),
    (0x52, 0x52, "the selection of a meter"),
    (0x53, 0x53, "an application reset or select"),
    (0x54, 0x55, "a request of the selected application"),
    (0x56, 0x56, "the selection of a meter, high byte first"),
    (0x5A, 0x5B, "a command for a meter"),
    (0x5C, 0x5C, "a synchronisation"),
    (0x60, 0x61, "COSEM data"),
    (0x64, 0x65, "COSEM data"),
    (0x66, 0x68, "a report of the selected application"),
    (0x69, 0x6B, "the format of compact frames"),
    (0x6C, 0x6D, "a time synchronisation"),
    (0x74, 0x75, "an alarm report with a header"),
    (0x77, 0x77, "a fixed data structure, high byte first"),
    (0x79, 0x79, "a compact frame"),
    (0x7B, 0x7B, "a compact frame"),
    (0x7C, 0x7D, "COSEM data"),
    (0x7E, 0x7F, "OBIS data"),
    (0x80, 0x97, "a network, link or authentication layer"),
    (0xA0, 0xB7, "manufacturer specific data"),
    (0xB8, 0xBF, "a baud rate"),
    (0xC0, 0xC7, "an image or security transfer"),
)
