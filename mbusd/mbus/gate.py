"""Which frames of another program go to the meters of a bus that is served on (EN 13757-2 cl. 5.7, -3 cl. 8)."""

from mbusd.mbus.address import SELECTED
from mbusd.mbus.frames import REQ_UD1, REQ_UD2, SND_NKE, SND_UD, LongFrame, ShortFrame

MasterFrame = ShortFrame | LongFrame

SELECTIONS = (0x52, 0x56)  # CI fields; 56 is the obsolete "high byte first"
APPLICATION_RESET = 0x50
_FUNCTION, _FROM_MASTER = 0x0F, 0x40  # bits of the C field


def objection(frame: MasterFrame, *, allow_writes: bool) -> str | None:
    """Why a frame must not go to the meters, if so."""
    if not frame.control & _FROM_MASTER:
        return "no request of a master"
    if allow_writes or isinstance(frame, ShortFrame) or _is_harmless(frame):
        return None
    return f"it may change meters (C {frame.control:02X}, CI {frame.ci:02X}), and serve_writes is off"


def needs_selection(frame: MasterFrame) -> bool:
    """It reaches only a meter that was selected before."""
    return frame.address == SELECTED and frame.control != SND_NKE and not is_selection(frame)


def is_selection(frame: MasterFrame) -> bool:
    """It selects a meter by its secondary address."""
    return (
        isinstance(frame, LongFrame)
        and frame.address == SELECTED
        and frame.ci in SELECTIONS
        and frame.control & _FUNCTION == SND_UD & _FUNCTION
    )


def _is_harmless(frame: LongFrame) -> bool:
    """It selects, resets the application, or asks for data (some meters take a CI with that).

    A reset with a subcode is not among them: it chooses what the meter sends to every master from then on.
    """
    function = frame.control & _FUNCTION
    if function in (REQ_UD1 & _FUNCTION, REQ_UD2 & _FUNCTION):
        return True
    return is_selection(frame) or (function == SND_UD & _FUNCTION and frame.ci == APPLICATION_RESET and not frame.data)
