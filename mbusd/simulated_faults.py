"""What the wire, or a bad interface, makes of one answer of a simulated meter. Pure."""

from enum import Enum, auto
from random import Random


class Fault(Enum):
    """What becomes of one answer; a meter uses up its `faults` one per answer."""

    NONE = auto()
    DROP = auto()
    GARBLE = auto()  # one bit is flipped
    CUT = auto()  # the second half is missing
    LATE = auto()  # it comes `late_by` seconds later
    NOISE_BEFORE = auto()
    NOISE_AFTER = auto()


def spoilt(data: bytes, fault: Fault, chance: Random) -> bytes | None:
    """What is left of an answer; None where nothing is. What is only late is whole."""
    match fault:
        case Fault.NONE | Fault.LATE:
            return data
        case Fault.DROP:
            return None
        case Fault.GARBLE:
            changed = bytearray(data)
            changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            return bytes(changed)
        case Fault.CUT:
            return data[: (len(data) + 1) // 2] if len(data) > 1 else b"\x00"
        case Fault.NOISE_BEFORE:
            return chance.randbytes(3) + data
        case Fault.NOISE_AFTER:
            return data + chance.randbytes(3)
