"""What the bytes of a recipe mean that an owner has written: a CI field and data, or a whole frame.

A recipe is for reading. What would change a meter for good is refused here, and what does it instead is named.
"""

from mbusd.mbus.address import BROADCAST
from mbusd.mbus.errors import DecodeError
from mbusd.mbus.frames import LONG, SHORT, LongFrame, ShortFrame, parse
from mbusd.mbus.quirks import RawFrame, Step
from mbusd.mbus.records import decode_records

MOST_BYTES = 253  # CI field and data: L = 255 less C and A

_PRM = 0x40  # of the C field: the master speaks
_FCB_AND_FCV = 0x30
_HEADER_OF_COMMAND = {0x51: 0, 0x5A: 4, 0x5B: 12}  # CI field → bytes before the records
_ALL_RECORDS = (b"\x7f", b"\x7f\x7e")  # global readout request, both forms that are in use
_COMMAND_FOR = {b"\x7a": "set-address", b"\x79": "set-id", b"\x6d": "set-clock", b"\x6c": "set-clock"}  # by VIF


def step_of(data: bytes) -> Step | RawFrame:
    """The step that these bytes are: `10 … 16` and `68 … 16` are sent as they stand, all else as CI field and data.

    No meter is asked anything with CI 10 or CI 68, so whatever begins like a frame must be a whole one. Raises
    ValueError that says what is wrong with it, or which command of mbusd writes what it would write.
    """
    if not data:
        raise ValueError("no bytes: a CI field with its data, or a whole frame, is needed")
    if data[0] in (SHORT, LONG):
        return _raw(data)
    if len(data) > MOST_BYTES:
        raise ValueError(f"{len(data)} bytes are too many: CI field and data have {MOST_BYTES} at the most")
    _refuse_what_writes(data[0], data[1:])
    return Step(data[0], data[1:])


def _raw(data: bytes) -> RawFrame:
    try:
        frame = parse(data)
    except DecodeError as error:
        start = f"begins with {data[0]:02X} like a whole frame, and is none"
        raise ValueError(f"'{data.hex(' ').upper()}' {start}: {error.message}") from error
    if not isinstance(frame, ShortFrame | LongFrame) or not frame.control & _PRM:
        raise ValueError(f"'{data.hex(' ').upper()}' is what a meter says, no request")
    if isinstance(frame, LongFrame):
        _refuse_what_writes(frame.ci, frame.data)
    elif frame.address == BROADCAST and frame.control & ~_FCB_AND_FCV in (0x4A, 0x4B):
        raise ValueError(f"'{data.hex(' ').upper()}' asks for data at address 255, from where nobody answers")
    return RawFrame(frame)


def _refuse_what_writes(ci: int, data: bytes) -> None:
    """Raises ValueError for what a meter would keep: only an owner's explicit command may write."""
    if ci in _HEADER_OF_COMMAND:
        _refuse_records(ci, data[_HEADER_OF_COMMAND[ci] :])
    elif 0xB8 <= ci <= 0xBF:
        raise ValueError(f"CI {ci:02X} switches the rate of the meter for good: `mbusd set-baudrate` does that")
    elif ci in (0x6C, 0x6D):
        raise ValueError(f"CI {ci:02X} sets the clock of the meter: `mbusd set-clock` does that")
    elif 0xC0 <= ci <= 0xC7:
        raise ValueError(f"CI {ci:02X} transfers keys or software to the meter: that is no part of a read-out")


def _refuse_records(ci: int, data: bytes) -> None:
    """Records that only select what is read (DIF 08, 7F) pass, and a maker's own data behind DIF 0F."""
    if data in _ALL_RECORDS:
        return
    block = decode_records(data)
    if block.error is not None:
        raise ValueError(f"the records behind CI {ci:02X} cannot be read: {block.error.message}")
    for record in block.records:
        command = _COMMAND_FOR.get(record.vib)
        does = f"`mbusd {command}` does that" if command else "a recipe is for reading; DIF 08 selects what is read"
        what = f"{(record.dib + record.vib).hex(' ').upper()} ({record.quantity.replace('_', ' ')})"
        raise ValueError(f"CI {ci:02X} with {what} writes to the meter: {does}")
