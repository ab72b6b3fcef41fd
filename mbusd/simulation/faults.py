"""What the wire, or a bad interface, makes of one answer of a simulated meter. Pure."""

from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto
from random import Random

from mbusd.mbus.errors import DecodeError
from mbusd.mbus.frames import LongFrame, encode, parse

_SHORTEST = 5  # bytes of a frame that has a checksum
_HEADERS = {0x72: 12, 0x7A: 4}  # bytes before the first record, by CI field
_SIZES = {1: 1, 2: 2, 3: 3, 4: 4, 6: 6, 7: 8, 9: 1, 10: 2, 11: 3, 12: 4, 14: 6}  # bytes of a number, by data field
_LAST_VOLUME = 0x17  # VIF; before it are energies and other volumes


class Fault(Enum):
    """What becomes of one answer; a meter uses up its `faults` one per answer."""

    NONE = auto()
    DROP = auto()
    GARBLE = auto()  # one bit is flipped
    CUT = auto()  # the second half is missing
    LATE = auto()  # it comes `late_by` seconds later
    NOISE_BEFORE = auto()
    NOISE_AFTER = auto()
    MISREAD = auto()  # its first counter is wrong, its checksum right
    GAP = auto()  # it pauses in its middle for as long as the meter `pauses_inside`
    TWICE = auto()  # it comes a second time right behind itself
    WRONG_ADDRESS = auto()  # it bears another primary address, its checksum is right
    WRONG_CHECKSUM = auto()


def spoilt(data: bytes, fault: Fault, chance: Random) -> bytes | None:
    """What is left of an answer; None where nothing is. What is only late, or pauses, is whole."""
    return _SPOILS[fault](data, chance)


def damaged(data: bytes, rate: float, chance: Random) -> bytes:
    """The bytes after a wire that inverts each of their bits with this probability, and tells of no parity error."""
    flips = (sum((chance.random() < rate) << bit for bit in range(8)) for _ in data)
    return bytes(byte ^ flip for byte, flip in zip(data, flips, strict=True)) if rate else data


def _renumbered(data: bytes) -> bytes:
    """The telegram as the meter with the next address would send it; what has no address stays as it is."""
    try:
        frame = parse(data)
    except DecodeError:
        return data
    return encode(replace(frame, address=frame.address + 1 & 0xFF)) if isinstance(frame, LongFrame) else data


def _misread(data: bytes) -> bytes:
    """The telegram with another bit in the highest byte of its first energy or volume; what has none stays as it is."""
    try:
        frame = parse(data)
    except DecodeError:
        return data
    last = _end_of_counter(frame.data, _HEADERS.get(frame.ci, 0)) if isinstance(frame, LongFrame) else None
    if not isinstance(frame, LongFrame) or last is None:
        return data
    return encode(replace(frame, data=frame.data[:last] + bytes([frame.data[last] ^ 1]) + frame.data[last + 1 :]))


def _end_of_counter(data: bytes, place: int) -> int | None:
    """Where the highest byte of the first energy or volume stands; None where a record before it is no plain number."""
    while 0 < place < len(data):
        dif = data[place]
        while data[place] & 0x80:
            place += 1
        vif = data[place + 1]
        place += 1
        while data[place] & 0x80:
            place += 1
        size = _SIZES.get(dif & 0x0F)
        if size is None:
            return None
        place += 1 + size
        if vif & 0x7F <= _LAST_VOLUME:
            return place - 1
    return None


def _garbled(data: bytes, chance: Random) -> bytes:
    changed = bytearray(data)
    changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _miscounted(data: bytes, chance: Random) -> bytes:
    """The frame with another checksum; E5 has none."""
    return data if len(data) < _SHORTEST else data[:-2] + bytes([data[-2] ^ 1 << chance.randrange(8)]) + data[-1:]


_SPOILS: dict[Fault, Callable[[bytes, Random], bytes | None]] = {
    Fault.NONE: lambda data, _: data,
    Fault.DROP: lambda _, __: None,
    Fault.GARBLE: _garbled,
    Fault.CUT: lambda data, _: data[: (len(data) + 1) // 2] if len(data) > 1 else b"\x00",
    Fault.LATE: lambda data, _: data,
    Fault.NOISE_BEFORE: lambda data, chance: chance.randbytes(3) + data,
    Fault.NOISE_AFTER: lambda data, chance: data + chance.randbytes(3),
    Fault.MISREAD: lambda data, _: _misread(data),
    Fault.GAP: lambda data, _: data,
    Fault.TWICE: lambda data, _: data + data,
    Fault.WRONG_ADDRESS: lambda data, _: _renumbered(data),
    Fault.WRONG_CHECKSUM: _miscounted,
}
