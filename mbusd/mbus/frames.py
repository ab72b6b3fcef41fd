"""Bytes to frames and back (EN 13757-2 cl. 5, format class FT 1.2): E5, short, control and long frames.

A bad frame is an event, `Noise`, never an exception: the wire may say anything. Only `parse`, which is asked about one
frame that somebody typed, raises.
"""

from collections.abc import Iterator
from zlib import adler32

from mbusd.light import dataclass
from mbusd.mbus.errors import DecodeError

ACK = 0xE5
NACK = 0xA2  # EN 13757-2:2018+A1:2023: a refused SND_UD; accept it, expect it never
SHORT = 0x10
LONG = 0x68
STOP = 0x16

SND_NKE = 0x40
SND_UD = 0x53
REQ_UD1 = 0x5A
REQ_UD2 = 0x5B
RSP_UD = 0x08
FCB = 0x20

LONGEST = 261  # bytes of a long frame with L = FF


@dataclass(frozen=True, slots=True)
class Ack:
    """E5, the whole answer; it has no checksum and no address."""


@dataclass(frozen=True, slots=True)
class Nack:
    """A2, the refusal of the 2023 edition."""


@dataclass(frozen=True, slots=True)
class ShortFrame:
    """`10 C A CS 16`."""

    control: int
    address: int


@dataclass(frozen=True, slots=True)
class LongFrame:
    """`68 L L 68 C A CI data CS 16`; without data it is a control frame."""

    control: int
    address: int
    ci: int
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Noise:
    """Bytes that are no frame."""

    data: bytes


Frame = Ack | Nack | ShortFrame | LongFrame


def encode(frame: Frame) -> bytes:
    """The bytes of a frame, checksum and stop byte included."""
    match frame:
        case Ack():
            return bytes([ACK])
        case Nack():
            return bytes([NACK])
        case ShortFrame(control, address):
            return bytes([SHORT, control, address, control + address & 0xFF, STOP])
        case LongFrame(control, address, ci, data):
            body = bytes([control, address, ci]) + data
            return bytes([LONG, len(body), len(body), LONG]) + body + bytes([sum(body) & 0xFF, STOP])


def parse(data: bytes) -> Frame:
    """The one frame that these bytes are. Raises DecodeError with the offset of the first wrong byte."""
    if not data:
        raise DecodeError("empty", "no bytes", 0)
    match data[0]:
        case 0x68:
            return _parse_long(data)
        case 0xE5 | 0xA2:
            if len(data) > 1:
                raise DecodeError("length", f"{data[0]:02X} is a whole frame, here are {len(data)} bytes", 1)
            return Ack() if data[0] == ACK else Nack()
        case 0x10:
            return _parse_short(data)
        case _:
            raise DecodeError("start", f"{data[0]:02X} begins no frame: E5, 10 or 68 do", 0)


def _parse_short(data: bytes) -> ShortFrame:
    if len(data) != 5:
        raise DecodeError("length", f"a short frame has 5 bytes, here are {len(data)}", min(len(data), 5))
    if data[4] != STOP:
        raise DecodeError("stop", f"the stop byte is {data[4]:02X}, not 16", 4)
    if data[1] + data[2] & 0xFF != data[3]:
        right = data[1] + data[2] & 0xFF
        raise DecodeError("checksum", f"the checksum is {data[3]:02X}, {right:02X} would be right", 3)
    return ShortFrame(data[1], data[2])


def _parse_long(data: bytes) -> LongFrame:
    length = len(data) - 6
    if length < 3 or not data[1] == data[2] == length or data[3] != LONG or data[-1] != STOP:
        raise _trouble(data)
    checksum = adler32(data[4:-2]) - 1 & 0xFF  # its low half is 1 and the sum, which is less than its modulus
    if checksum != data[-2]:
        raise DecodeError("checksum", f"the checksum is {data[-2]:02X}, {checksum:02X} would be right", length + 4)
    frame = _new(LongFrame)
    _set_control(frame, data[4])
    _set_address(frame, data[5])
    _set_ci(frame, data[6])
    _set_data(frame, data[7:-2])
    return frame


def _trouble(data: bytes) -> DecodeError:
    """What is wrong with the bytes around those of a long frame."""
    if len(data) < 4 or data[3] != LONG:
        return DecodeError("start", "a long frame begins 68 L L 68", min(len(data), 3))
    if data[1] != data[2]:
        return DecodeError("length", f"the length bytes differ: {data[1]:02X} and {data[2]:02X}", 2)
    length = data[1]
    if length < 3:
        return DecodeError("length", f"L is {length}, a long frame has 3 at least", 1)
    if len(data) != length + 6:
        text = f"L says {length + 6} bytes in all, here are {len(data)}"
        return DecodeError("length", text, min(len(data), length + 6))
    return DecodeError("stop", f"the stop byte is {data[-1]:02X}, not 16", len(data) - 1)


_new = LongFrame.__new__
_set_control, _set_address, _set_ci, _set_data = (  # twice as fast as by name, and frozen all the same
    LongFrame.__dict__[name].__set__ for name in ("control", "address", "ci", "data")
)


def _long_size(head: bytearray) -> int | None:
    """Bytes of a long frame that begins like this: 4 until L is known, None where it is none."""
    wrong = (
        (len(head) > 1 and head[1] < 3) or (len(head) > 2 and head[2] != head[1]) or (len(head) > 3 and head[3] != LONG)
    )
    if wrong:
        return None
    return head[1] + 6 if len(head) > 3 else 4


class FrameReader:
    """Finds the frames in a stream that may be cut anywhere and may hold noise anywhere.

    A frame is complete when its length says so; nothing waits for silence after it. Where bytes are no frame, the
    first is dropped and the search begins again behind it. A single E5 has no checksum, so it counts only where
    nothing unreadable stands directly before it.
    """

    def __init__(self) -> None:
        self._pending = bytearray()
        self._noise = bytearray()

    @property
    def is_idle(self) -> bool:
        """No byte is waiting for the rest of its frame, none for its judgement."""
        return not self._pending and not self._noise

    @property
    def is_whole(self) -> bool:
        """What is no frame has as many bytes as its own length field says: that of meters which speak at once."""
        return _long_size(self._noise) == len(self._noise) + len(self._pending) > 4 and self._noise[0] == LONG

    def feed(self, data: bytes) -> Iterator[Frame | Noise]:
        """Take bytes from the line; yield the frames that they complete, each after the noise before it."""
        self._pending += data
        yield from self._scan(final=False)

    def flush(self) -> Iterator[Frame | Noise]:
        """The line has paused: what is unfinished is noise, but a frame may still stand inside it."""
        yield from self._scan(final=True)
        yield from self._take_noise()

    def reset(self) -> None:
        """Forget everything that is unfinished."""
        self._pending.clear()
        self._noise.clear()

    def _scan(self, *, final: bool) -> Iterator[Frame | Noise]:
        while self._pending:
            size = self._expected_size()
            if size is not None and len(self._pending) < size and not final:
                return
            frame = self._frame(size)
            if frame is None:
                self._noise.append(self._pending.pop(0))
                continue
            del self._pending[:size]
            yield from self._take_noise()
            yield frame

    def _take_noise(self) -> Iterator[Noise]:
        if self._noise:
            noise = Noise(bytes(self._noise))
            self._noise.clear()
            yield noise

    def _expected_size(self) -> int | None:
        """Bytes of the frame that may begin here (as far as can be told by now), None where none can."""
        pending = self._pending
        match pending[0]:
            case 0xE5 | 0xA2:
                return None if self._noise else 1
            case 0x10:
                return 5
            case 0x68:
                return _long_size(pending)
        return None

    def _frame(self, size: int | None) -> Frame | None:
        if size is None or len(self._pending) < size:
            return None
        try:
            return parse(bytes(self._pending[:size]))
        except DecodeError:
            return None
