"""A pseudo-terminal as the port of a simulated bus: its client may come and go, and change its rate."""

import asyncio
import os
import select
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LOOK = 0.02  # seconds between two looks whether somebody has opened the pseudo-terminal
_RATES = (300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)
_SPEED_OF = {rate: int(getattr(termios, f"B{rate}")) for rate in _RATES}
_RATE_OF = {speed: rate for rate, speed in _SPEED_OF.items()}
_ISPEED, _OSPEED = 4, 5  # places in what tcgetattr gives

Receive = Callable[[bytes, int | None], None]
"""Takes what the client has written, and the rate in Bd that it has set; None: it is none of the usual."""


class Terminal:
    """The converter's end of a pseudo-terminal, preset to `baudrate` for clients that set none.

    As on a real port, nobody finds what was said on the wire before he opened it.
    """

    def __init__(self, receive: Receive, baudrate: int) -> None:
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._ours, theirs = os.openpty()
        tty.setraw(theirs)
        _preset(theirs, baudrate)
        self.device = os.ttyname(theirs)
        os.close(theirs)
        os.set_blocking(self._ours, False)
        self._state = select.poll()
        self._state.register(self._ours, select.POLLIN)
        self._timer = self._loop.call_soon(self._look)

    def close(self) -> None:
        self._timer.cancel()
        self._loop.remove_reader(self._ours)
        os.close(self._ours)

    def write(self, data: bytes) -> None:
        if not self._flags() & select.POLLHUP:
            with suppress(BlockingIOError):  # nobody reads: a wire keeps nothing
                os.write(self._ours, data)

    def _flags(self) -> int:
        return next((flags for _, flags in self._state.poll(0)), 0)

    def _look(self) -> None:
        """Wait for a client: Linux tells only by the absence of a hang-up."""
        flags = self._flags()
        if flags & select.POLLIN or not flags & select.POLLHUP:
            self._loop.add_reader(self._ours, self._read)
        else:
            self._timer = self._loop.call_later(_LOOK, self._look)

    def _read(self) -> None:
        try:
            data = os.read(self._ours, 4096)
        except BlockingIOError:
            return
        except OSError:  # the client has left
            self._loop.remove_reader(self._ours)
            self._forget_unread()
            self._look()
            return
        self._receive(data, self._rate())

    def _rate(self) -> int | None:
        """The rate that the client has set; both ends of a pseudo-terminal see it."""
        return _RATE_OF.get(termios.tcgetattr(self._ours)[_OSPEED])

    def _forget_unread(self) -> None:
        theirs = os.open(self.device, os.O_RDWR | os.O_NOCTTY)
        termios.tcflush(theirs, termios.TCIFLUSH)
        os.close(theirs)


def _preset(descriptor: int, baudrate: int) -> None:
    attributes = termios.tcgetattr(descriptor)
    speed = _SPEED_OF.get(baudrate)
    if speed is not None:
        attributes[_ISPEED] = attributes[_OSPEED] = speed
        termios.tcsetattr(descriptor, termios.TCSANOW, attributes)


@contextmanager
def pseudo_terminal(receive: Receive, link: Path, baudrate: int) -> Iterator[Terminal]:
    """A terminal and a symbolic link to its device, as long as the `with` lasts. Raises OSError."""
    terminal = Terminal(receive, baudrate)
    try:
        _point(link, terminal.device)
        try:
            yield terminal
        finally:
            if link.is_symlink() and str(link.readlink()) == terminal.device:
                link.unlink()
    finally:
        terminal.close()


def _point(link: Path, device: str) -> None:
    """Make the link, in the place of an old one. Raises FileExistsError where something else has the name."""
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        raise FileExistsError(f"{link} exists and is no symbolic link: remove it or choose another name for the port")
    link.symlink_to(device)
