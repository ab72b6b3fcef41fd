"""The slave's side of the link layer (EN 13757-2 cl. 5.7): which request is new, and whom a selection means. Pure."""

from dataclasses import dataclass, field

from mbusd.mbus.address import SELECTED, SecondaryAddress
from mbusd.mbus.frames import FCB, REQ_UD1
from mbusd.simulation.behaviour import Behaviour

FCV = 0x10

_ADDRESS_BYTES = 8
_FABRICATION_NUMBER = b"\x0c\x78"  # DIF and VIF of the enhanced selection


def means(control: int, function: int) -> bool:
    """Whether the C field means this function, whatever its FCB and FCV say."""
    return control & ~(FCB | FCV) == function & ~(FCB | FCV)


def memory_of(control: int, address: int, behaviour: Behaviour) -> str:
    """Which FCB memory a frame counts in."""
    link = "selected" if address == SELECTED and behaviour.fcb == "separate" else "own"
    return f"{link} class 1" if means(control, REQ_UD1) and behaviour.alarm_fcb == "separate" else link


@dataclass(slots=True)
class FcbRecord:
    """The FCB of the last frame with FCV in each memory; none after SND_NKE."""

    _last: dict[str, int] = field(default_factory=dict)

    def is_repeated(self, control: int, memory: str) -> bool:
        """Whether FCV is set and the FCB is that of the frame before."""
        return bool(control & FCV) and control & FCB == self._last.get(memory)

    def is_empty(self, memory: str) -> bool:
        return memory not in self._last

    def remember(self, control: int, memory: str) -> None:
        """A frame was answered."""
        if control & FCV:
            self._last[memory] = control & FCB

    def forget(self, memory: str | None = None) -> None:
        """One memory, or all."""
        if memory is None:
            self._last.clear()
        else:
            self._last.pop(memory, None)


def is_selected(data: bytes, meter: SecondaryAddress, fabrication: str | None) -> bool:
    """Whether a selection (CI 52) means this meter.

    Wildcards: nibbles of the identification, bytes of the rest; behind it perhaps the fabrication number, `0C 78`.
    """
    if len(data) < _ADDRESS_BYTES or not SecondaryAddress.from_bytes(data[:_ADDRESS_BYTES]).matches(meter):
        return False
    tail = data[_ADDRESS_BYTES:]
    if not tail:
        return True
    if fabrication is None or len(tail) != 6 or tail[:2] != _FABRICATION_NUMBER:
        return False
    mask = tail[:1:-1].hex().upper()
    return all(digit in ("F", own) for digit, own in zip(mask, fabrication, strict=True))
