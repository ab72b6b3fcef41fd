"""Every byte of a frame in words, for `mbusd decode --explain`: good frames wholly, bad ones as far as can be told."""

from datetime import date
from decimal import Decimal

from mbusd.exact_json import dumps
from mbusd.mbus import telegram
from mbusd.mbus.address import manufacturer_letters
from mbusd.mbus.errors import DecodeError
from mbusd.mbus.frames import ACK, FCB, LONG, NACK, SHORT, STOP, LongFrame
from mbusd.mbus.media import medium_name
from mbusd.mbus.records import DATA_FIELDS, DataBlock, Record, decode_records
from mbusd.mbus.status import status_words
from mbusd.values.units import to_user

Piece = tuple[int, bytes, str]
"""Offset in the frame, bytes, what they say."""

_FUNCTIONS = {
    0x0: "SND_NKE, link reset",
    0x3: "SND_UD, data for the meter",
    0xA: "REQ_UD1, asks for alarms",
    0xB: "REQ_UD2, asks for data",
}
_ADDRESSES = {
    0: "a meter as it comes from the factory",
    251: "management of a repeater",
    252: "reserved",
    253: "the meter that was selected by its secondary address",
    254: "whoever is there (test)",
    255: "all meters (broadcast, none answers)",
}
_CI = {
    0x50: "application reset or select",
    0x51: "data records for the meter",
    0x52: "selection by secondary address",
    0x6E: "application error, short header",
    0x6F: "application error, long header",
    0x70: "application error",
    0x71: "alarm",
    0x72: "variable data, long header",
    0x73: "fixed data structure",
    0x76: "variable data, long header, high byte first",
    0x78: "variable data, no header",
    0x7A: "variable data, short header",
    **{0xB8 + step: f"set {rate} baud" for step, rate in enumerate((300, 600, 1200, 2400, 4800, 9600, 19200, 38400))},
}
_LONG_HEADERS = frozenset({0x6F, 0x72, 0x76})
_SHORT_HEADERS = frozenset({0x6E, 0x7A})
_SELECTION = 0x52
_LVAR = 0x0D


class _Cursor:
    """Cuts the frame into pieces, from its start to its end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.pieces: list[Piece] = []

    def take(self, size: int, text: str) -> bytes:
        """The next bytes (fewer at the end of the frame) as one piece."""
        piece = self.data[self.at : self.at + max(size, 0)]
        if piece:
            self.pieces.append((self.at, piece, text))
            self.at += len(piece)
        return piece

    def take_until(self, end: int, text: str) -> bytes:
        return self.take(end - self.at, text)

    def peek(self, size: int = 1) -> bytes:
        return self.data[self.at : self.at + size]


def explain(frame_bytes: bytes) -> list[Piece]:
    """The frame cut into pieces that follow one another without a gap; never raises."""
    cursor = _Cursor(frame_bytes)
    first = frame_bytes[0] if frame_bytes else None
    if first == ACK:
        cursor.take(1, "acknowledgement (E5)")
    elif first == NACK:
        cursor.take(1, "refusal (A2)")
    elif first == SHORT:
        _short(cursor)
    elif first == LONG:
        _long(cursor)
    else:
        cursor.take(len(frame_bytes), "no frame: one begins with E5, 10 or 68")
    cursor.take(len(frame_bytes), "behind the end of the frame: does not belong to it")
    return _with_end(cursor.pieces, _size(frame_bytes) - len(frame_bytes))


def _size(frame: bytes) -> int:
    """Bytes that a frame which begins like this has; 0 where it does not say."""
    if frame[:1] == bytes([SHORT]):
        return 5
    return frame[1] + 6 if frame[:1] == bytes([LONG]) and len(frame) > 1 else 0


def _with_end(pieces: list[Piece], missing: int) -> list[Piece]:
    if missing <= 0:
        return pieces
    offset, data, text = pieces[-1]
    return [*pieces[:-1], (offset, data, f"{text}; here the frame breaks off, bytes missing: {missing}")]


def _short(cursor: _Cursor) -> None:
    cursor.take(1, "start of a short frame")
    body = _control_and_address(cursor)
    _checksum_and_stop(cursor, body)


def _long(cursor: _Cursor) -> None:
    cursor.take(1, "start of a long frame")
    length = cursor.take(1, f"length: {_peeked(cursor)} bytes from the C field to the checksum")
    again = cursor.peek()
    same = "length again" if again == length else "length again, but it differs: here the frame breaks"
    cursor.take(1, same)
    cursor.take(1, "start again" if cursor.peek() == bytes([LONG]) else "68 should stand here: here the frame breaks")
    end = 4 + (length[0] if length else 0)
    body = cursor.data[4:end]
    _body(cursor, min(end, len(cursor.data)))
    _checksum_and_stop(cursor, body)


def _peeked(cursor: _Cursor) -> int:
    return int.from_bytes(cursor.peek())


def _checksum_and_stop(cursor: _Cursor, body: bytes) -> None:
    right = sum(body) & 0xFF
    verdict = "right" if _peeked(cursor) == right else f"wrong: {right:02X} would be right"
    cursor.take(1, f"checksum, {verdict}")
    cursor.take(1, "stop" if cursor.peek() == bytes([STOP]) else "the stop byte 16 should stand here")


def _control_and_address(cursor: _Cursor) -> bytes:
    control = cursor.take(1, f"C field: {_control(_peeked(cursor))}")
    address = _peeked(cursor)
    return control + cursor.take(1, f"A field: {_ADDRESSES.get(address, f'primary address {address}')}")


def _control(control: int) -> str:
    function = control & 0x0F
    if control & 0x40:
        words = ["from the master", _FUNCTIONS.get(function, f"function {function}")]
        words.append(f"FCB {1 if control & FCB else 0}" if control & 0x10 else "FCB does not count")
        return ", ".join(words)
    words = ["from the meter", "RSP_UD, the answer" if function == 8 else f"function {function}"]
    words += ["ACD: alarms are waiting"] if control & 0x20 else []
    words += ["DFC: can take no more data now"] if control & 0x10 else []
    return ", ".join(words)


def _body(cursor: _Cursor, end: int) -> None:
    """Everything from the C field to the checksum at `end`."""
    if end - cursor.at < 3:
        cursor.take_until(end, "too short for C, A and CI field")
        return
    control, address = _control_and_address(cursor)
    ci = _peeked(cursor)
    frame = LongFrame(control, address, ci, cursor.data[cursor.at + 1 : end])
    try:
        said, refusal = telegram.decode(frame), None
    except DecodeError as error:
        said, refusal = None, error
    known = _CI.get(ci) or (refusal.message if refusal else "")
    cursor.take(1, f"CI field: {known}")
    if ci in _LONG_HEADERS:
        _long_header(cursor, end)
    elif ci in _SHORT_HEADERS:
        _short_header(cursor, end)
    elif ci == _SELECTION:
        _identity(cursor, end)
    elif ci == 0x73 and said is not None:
        _fixed(cursor, said.records)
    if ci == 0x51:
        _data(cursor, end, decode_records(frame.data, cursor.at))
    elif said is not None:
        encrypted = "encrypted data" if said.encrypted else ""
        block = DataBlock(said.records, said.manufacturer_data, said.more_follows, said.error)
        cursor.take_until(end, encrypted) if encrypted else _data(cursor, end, block)
    cursor.take_until(end, _rest(ci, refusal))


def _rest(ci: int, refusal: DecodeError | None) -> str:
    if refusal and refusal.application_error is not None:
        return refusal.message
    if ci == 0x50:
        return "which application"
    return f"not decoded: {refusal}" if refusal else "not decoded"


def _long_header(cursor: _Cursor, end: int) -> None:
    _identity(cursor, end)
    _short_header(cursor, end)


def _identity(cursor: _Cursor, end: int) -> None:
    """The 8 bytes of a secondary address; in selections F and FF are wildcards."""
    order = -1 if cursor.data[6] == 0x76 else 1

    def number(size: int) -> int:
        return int.from_bytes(cursor.data[cursor.at : min(cursor.at + size, end)][::order], "little")

    def take(size: int, text: str) -> None:
        cursor.take(min(size, end - cursor.at), text)

    take(4, f"identification {number(4):08X}")
    take(2, f"manufacturer {'any' if number(2) == 0xFFFF else manufacturer_letters(number(2))}")
    take(1, f"version {'any' if cursor.data[6] == _SELECTION and number(1) == 0xFF else number(1)}")
    take(1, f"medium {number(1):02X}: {medium_name(number(1)).replace('_', ' ')}")


def _short_header(cursor: _Cursor, end: int) -> None:
    def take(size: int, text: str) -> None:
        cursor.take(min(size, end - cursor.at), text)

    take(1, f"access number {_peeked(cursor)}")
    take(1, f"status: {_status(_peeked(cursor))}")
    word = int.from_bytes(cursor.peek(2), "big" if cursor.data[6] == 0x76 else "little")
    take(2, f"configuration word {word:04X}" + (", encryption mode 5 or 7" if word >> 8 & 0x1F in (5, 7) else ""))


def _status(status: int, *, fixed: bool = False) -> str:
    return ", ".join(status_words(status, fixed=fixed)).replace("_", " ") or "all is well"


def _fixed(cursor: _Cursor, counters: tuple[Record, ...]) -> None:
    """The whole of the fixed data structure, both counters included."""
    identification = cursor.peek(4)[::-1].hex()
    cursor.take(4, f"identification {identification}")
    cursor.take(1, f"access number {_peeked(cursor)}")
    status = _peeked(cursor)
    coding = f"counters {'binary' if status & 1 else 'BCD'}, {'stored at a fixed date' if status & 2 else 'current'}"
    cursor.take(1, f"status: {coding}; {_status(status, fixed=True)}")
    for name, counter in zip(("first", "second"), counters, strict=True):
        cursor.take(1, f"part of the medium, unit of the {name} counter: {_meaning(counter)}")
    for name, counter in zip(("first", "second"), counters, strict=True):
        cursor.take(4, f"{name} counter: {_value(counter)}")


def _data(cursor: _Cursor, end: int, block: DataBlock) -> None:
    """Data records, and what the manufacturer put behind them."""
    if cursor.at == end:
        return
    for record in block.records:
        _record(cursor, end, record)
    if block.manufacturer_data is not None:
        _fillers(cursor, end - len(block.manufacturer_data) - 1)
        more = "; more records follow in the next telegram" if block.more_follows else ""
        cursor.take(1, f"DIF {_peeked(cursor):02X}: the manufacturer's data from here on{more}")
        cursor.take_until(end, "manufacturer's data")
    elif block.error is not None:
        _fillers(cursor, min(block.error.offset or cursor.at, end))
        cursor.take_until(end, f"here the decoding ends: {block.error.message}")
    else:
        _fillers(cursor, end)


def _record(cursor: _Cursor, end: int, record: Record) -> None:
    if record.dib or record.vib:
        start = cursor.data.find(record.dib + record.vib, cursor.at, end)
        _fillers(cursor, start)
        cursor.take(len(record.dib), f"DIB: {_place(record)}")
        cursor.take(len(record.vib), f"VIB: {_meaning(record)}")
        if record.dib[0] & 0x0F == _LVAR:
            cursor.take(1, f"LVAR {_peeked(cursor):02X}: {len(record.raw)} bytes of data")
    cursor.take(len(record.raw), f"value: {_value(record)}")


def _fillers(cursor: _Cursor, end: int) -> None:
    """What stands between records: idle fillers, and records without data."""
    while cursor.at < end:
        if cursor.peek() == b"\x2f":
            cursor.take(1, "idle filler")
        else:
            following = cursor.data.find(b"\x2f", cursor.at, end)
            cursor.take_until(following if following > 0 else end, "records without data")


def _place(record: Record) -> str:
    """What the DIB says."""
    coding, size = DATA_FIELDS[record.dib[0] & 0x0F]
    special = {"lvar": "variable length", "none": "no data", "bcd": f"{2 * size} BCD digits"}
    words = [special.get(coding, f"{size}-byte {coding}")]
    words.append("during an error" if record.function == "error" else record.function)
    places = (("storage", record.storage), ("tariff", record.tariff), ("subunit", record.subunit))
    return ", ".join(words + [f"{name} {number}" for name, number in places if number])


def _meaning(record: Record) -> str:
    """What the VIB says."""
    unit = f" in {record.unit}" if record.unit else ""
    power = f" x 10^{record.exponent}" if record.exponent else ""
    tags = "".join(f", {tag.replace('_', ' ')}" for tag in record.modifiers)
    return f"{record.quantity.replace('_', ' ')}{unit}{power}{tags}"


def _value(record: Record) -> str:
    value = record.value
    problem = f" ({record.problem})" if record.problem else ""
    if value is None:
        return f"none{problem}"
    if isinstance(value, bytes):
        return f"{value.hex().upper()}{problem}"
    if isinstance(value, date):
        return f"{value}{' summer time' if record.summer_time else ''}"
    if isinstance(value, str):
        return value
    if record.kind == "bits":
        return f"bits {value:b}"
    return _number(value, record)


def _number(value: int | Decimal, record: Record) -> str:
    text = f"{dumps(value)} {record.unit or ''}".rstrip()
    user = to_user(value, record.quantity, record.unit, record.exponent)
    return text if user.value in (value, None) else f"{text} = {dumps(user.value)} {user.unit or ''}"
