"""Parity and framing errors of a serial port, which the kernel passes on unseen unless it is asked to mark them.

With INPCK and PARMRK (termios(3)) a broken byte arrives as `FF 00 byte`, a break as `FF 00 00`, and a true FF as
`FF FF`. A driver that does not know them is left as it was.
"""

import asyncio
import contextlib
import termios
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

ESCAPE = 0xFF
_MARK, _REFUSED = termios.INPCK | termios.PARMRK, termios.IGNPAR | termios.IGNBRK | termios.BRKINT


def mark_errors(device: int) -> bool:
    """Have the errors of this file descriptor's terminal marked; whether they are now."""
    with contextlib.suppress(termios.error):
        settings = termios.tcgetattr(device)
        settings[0] = settings[0] & ~_REFUSED | _MARK
        termios.tcsetattr(device, termios.TCSANOW, settings)
        return bool(termios.tcgetattr(device)[0] & termios.PARMRK)  # tcsetattr is content when some of it was done
    return False


class MarkReader:
    """Takes the marks out of a stream, wherever it is cut."""

    def __init__(self) -> None:
        self._escape = b""

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        """Runs of bytes in their order, and whether they were broken.

        An FF before anything but 00 and FF was received before marks were asked for, and is itself.
        """
        good = bytearray()
        for byte in data:
            if self._escape == b"\xff\x00":
                self._escape = b""
                if good:
                    yield bytes(good), False
                    good.clear()
                yield bytes([byte]), True
            elif self._escape and byte == 0:
                self._escape = b"\xff\x00"
            elif self._escape:
                self._escape = b""
                good += b"\xff" if byte == ESCAPE else bytes([ESCAPE, byte])
            elif byte == ESCAPE:
                self._escape = b"\xff"
            else:
                good.append(byte)
        if good:
            yield bytes(good), False


@runtime_checkable
class HearsBroken(Protocol):
    """A protocol that wants to know which bytes were broken."""

    def broken_received(self, data: bytes) -> None:
        """In the place of `data_received`, for bytes with a parity or framing error."""


class MarkedPort(asyncio.Protocol):
    """Stands between a serial port and its protocol; who does not ask for broken bytes gets them as any other."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        self._broken = protocol.broken_received if isinstance(protocol, HearsBroken) else protocol.data_received
        self._reader = MarkReader()
        self.is_marked = False  # what `mark_errors` said

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._protocol.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if not self.is_marked:
            self._protocol.data_received(data)
            return
        for run, is_broken in self._reader.feed(data):
            (self._broken if is_broken else self._protocol.data_received)(run)

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()
