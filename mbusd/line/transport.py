"""Opens the port of a level converter: a serial device with 8E1, one at an RFC 2217 server, or a transparent TCP one.

The only file that knows pyserial-asyncio. A new transport is one function here and one entry in `_OPENERS`.
"""

import asyncio
import contextlib
import errno
import fcntl
import grp
import os
import select
import socket
import stat
import struct
import termios
from collections.abc import Awaitable, Callable
from functools import partial
from typing import cast
from urllib.parse import urlsplit

import serial
import serial_asyncio

from mbusd.light import dataclass
from mbusd.line.parity import MarkedPort, mark_errors

BAUDRATES = (300, 600, 1200, 2400, 4800, 9600, 19200, 38400)  # of the M-Bus
PTY_MAJORS = range(136, 144)  # Linux: the slave sides of pseudo terminals
CONNECT_SECONDS = 10.0
_OF_GROUP = stat.S_IRGRP | stat.S_IWGRP

TCP_INFO_BYTES, ROUND_TRIP_AT = 72, 68  # struct tcp_info of tcp(7), tcpi_rtt: microseconds, smoothed
NEAR_SECONDS = 0.1  # of two round trips: `Port.slack_seconds` has room for these
MOST_ADDED_SECONDS = 2.0  # a longer round trip was a radio that had to wake first
_ROUND_TRIP, _QUEUED = struct.Struct("=I"), struct.Struct("=i")

_NAME_IT = "name that of the converter (/dev/serial/by-id/usb-…)"
_TROUBLES = {
    errno.ENOENT: "there is no such device; is the converter plugged in? (ls -l /dev/serial/by-id)",
    errno.EISDIR: f"this is a folder, no device: {_NAME_IT}",
    errno.ENOTDIR: f"this lies in a file, not in a folder, and is no device: {_NAME_IT}",
    errno.ENOTTY: f"this is no serial device: {_NAME_IT}",
    errno.EPERM: "not permitted; systemd's DeviceAllow or the container's devices must name it",
    errno.EBUSY: "another program has this port open",
    errno.EAGAIN: "another program has this port open",
}
_FORMS = "/dev/… for a serial device, tcp://HOST:PORT or rfc2217://HOST:PORT for one in the network"

ProtocolFactory = Callable[[], asyncio.Protocol]


class TransportError(Exception):
    """A port that cannot be opened, or that is lost; the message names the port, the reason and what to look at."""

    def __init__(self, port: str, why: str) -> None:
        super().__init__(f"{port}: {why}")
        self.port = port
        self.why = why


class RateError(TransportError):
    """A rate that the port cannot be given: the trouble of the meter that wants it, not of the wire."""


@dataclass(frozen=True, slots=True)
class Port:
    """Where a bus hangs: `/dev/ttyUSB0` or `tcp://host:port`, and the rate of its wire in Bd."""

    name: str
    baudrate: int = 2400
    dtr: bool = True  # some converters feed from these lines, some switch by them
    rts: bool = True

    @property
    def scheme(self) -> str:
        """`serial`, `tcp`, or what else was written before `://`."""
        return self.name.partition("://")[0].lower() if "://" in self.name else "serial"

    @property
    def sets_rate(self) -> bool:
        """Whether `baudrate` is what the wire has; a transparent converter has a rate of its own."""
        return self.scheme != "tcp"

    @property
    def hears_parity(self) -> bool:
        """Whether a byte with a wrong parity is known to be broken: a network and a pseudo terminal tell nobody."""
        return self.scheme == "serial" and not _is_pty(self.name)

    @property
    def slack_seconds(self) -> float:
        """What the way to the converter may add to an answer: USB latency timers, gateways that collect bytes."""
        return 0.1 if self.scheme == "serial" else 0.4

    @property
    def warm_up_seconds(self) -> float:
        """Between opening and the first request: converters that feed from DTR or RTS start, and meters with them."""
        return 1.0 if self.scheme == "serial" and not _is_pty(self.name) else 0.0


def check_port(name: str) -> str:
    """The name, if it can be the name of a port. Raises ValueError saying what can."""
    port = Port(name)
    if port.scheme not in _OPENERS:
        raise ValueError(f"'{name}': {port.scheme}:// is not known; use {_FORMS}")
    if port.scheme != "serial":
        host_and_port(name)
    if not name or name.isspace():
        raise ValueError(f"a port is {_FORMS}")
    return name


async def open_port(port: Port, protocol: ProtocolFactory) -> asyncio.Transport:
    """Open the port and connect a new protocol to it. Raises TransportError; ValueError as `check_port` does."""
    check_port(port.name)
    return await _OPENERS[port.scheme](port, protocol)


def added_seconds(transport: asyncio.Transport) -> float:
    """What a long way through a network adds to `Port.slack_seconds`, by the round trip that the kernel measured.

    It never makes less of it: the kernel of a serial server answers at once, its serial half collects bytes.
    """
    return min(max(0.0, 2 * round_trip(transport) - NEAR_SECONDS), MOST_ADDED_SECONDS)


def round_trip(transport: asyncio.Transport) -> float:
    """Seconds to the other end of a TCP connection and back, as the kernel has seen it; 0 for other ports."""
    wire = transport.get_extra_info("socket")
    if wire is None:
        return 0.0
    info: bytes = wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
    if len(info) < TCP_INFO_BYTES:
        return 0.0
    microseconds: int = _ROUND_TRIP.unpack_from(info, ROUND_TRIP_AT)[0]
    return 1e-6 * microseconds


def unacknowledged(transport: asyncio.Transport) -> int:
    """Bytes that were written and that the other end of a TCP connection has not acknowledged; 0 for other ports."""
    wire = transport.get_extra_info("socket")
    if wire is None or transport.is_closing():
        return 0
    kept = _QUEUED.unpack(fcntl.ioctl(wire.fileno(), termios.TIOCOUTQ, bytes(_QUEUED.size)))[0]
    return int(kept) + transport.get_write_buffer_size()


def has_bytes(transport: asyncio.Transport) -> bool:
    """Whether the system may have bytes of the port that the loop has not fetched; True where nobody can tell."""
    source = transport.get_extra_info("socket") or transport.get_extra_info("serial")
    if source is None or transport.is_closing():
        return True
    look = select.poll()
    look.register(source.fileno(), select.POLLIN)
    return bool(look.poll(0))


async def set_baudrate(port: Port, transport: asyncio.Transport, baudrate: int) -> None:
    """Another rate on an open port, for meters that have their own. Raises RateError where that is impossible.

    An RFC 2217 server that does not say which rate it has now is hung up: the next connection begins anew.
    """
    try:
        if isinstance(transport, serial_asyncio.SerialTransport):
            transport.serial.baudrate = baudrate
            mark_errors(transport.serial.fileno())  # pyserial forgets it
        elif port.scheme == "rfc2217":
            await _set_remote_baudrate(transport, baudrate)
        else:
            raise RateError(port.name, f"a transparent converter keeps its rate: no {baudrate} Bd here")
    except (serial.SerialException, OSError, ValueError, termios.error) as error:
        raise RateError(port.name, f"cannot change to {baudrate} Bd: {error}") from error


async def _set_remote_baudrate(transport: asyncio.Transport, baudrate: int) -> None:
    """Raises ValueError where the server refuses it."""
    from mbusd.line.rfc2217 import RemoteSerial, Rfc2217Error  # noqa: PLC0415 - few buses hang at such a server

    try:
        await cast(RemoteSerial, transport).set_baudrate(baudrate)
    except BaseException as error:
        transport.abort()
        if isinstance(error, Rfc2217Error):
            raise ValueError(str(error)) from error  # noqa: TRY004 - it is none of a type
        raise


async def _open_serial(port: Port, protocol: ProtocolFactory) -> asyncio.Transport:
    try:
        device = await asyncio.to_thread(_open_device, port)
    except (serial.SerialException, OSError, ValueError) as error:
        raise TransportError(port.name, _serial_trouble(port, error)) from error
    with contextlib.suppress(ValueError, OSError, NotImplementedError):
        device.set_low_latency_mode(True)  # drivers that have no such mode refuse it; nothing is lost
    marked = MarkedPort(protocol())
    try:  # it sets the device once more: that may be gone by now, or refuse only now what it cannot do
        transport, _ = await serial_asyncio.connection_for_serial(asyncio.get_running_loop(), lambda: marked, device)
        marked.is_marked = mark_errors(device.fileno())  # behind all that pyserial sets, before the first byte is read
    except (serial.SerialException, OSError, ValueError, termios.error) as error:
        device.close()
        plain = OSError(*error.args) if isinstance(error, termios.error) else error
        raise TransportError(port.name, _serial_trouble(port, plain)) from error
    return transport  # type: ignore[no-any-return]  # pyserial-asyncio has no types


def _open_device(port: Port) -> serial.Serial:
    """8E1, exclusively. A pseudo terminal has no parity and refuses 8E1 with EINVAL: it is taken as it is."""
    parity = serial.PARITY_NONE if _is_pty(port.name) else serial.PARITY_EVEN
    device = serial.Serial(baudrate=port.baudrate, parity=parity, exclusive=True)
    device.dtr, device.rts, device.port = port.dtr, port.rts, port.name
    try:
        device.open()
    except termios.error as error:
        raise OSError(*error.args) from error
    return device


def _is_pty(name: str) -> bool:
    try:
        status = os.stat(name)  # noqa: PTH116 - device numbers are os.stat's business
    except OSError:
        return False
    return stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) in PTY_MAJORS


def _serial_trouble(port: Port, error: Exception) -> str:
    number = _number_of(error)
    match number:
        case errno.EACCES:
            return _denied(port.name)
        case errno.EINVAL:
            return f"the device refuses {port.baudrate} Bd 8E1"
        case _:
            return _TROUBLES.get(number, str(error))


def _number_of(error: BaseException) -> int:
    """The kernel's; where pyserial has made a text of it, that of the error it has caught; else 0."""
    number = getattr(error, "errno", None)
    if number is None and isinstance(error.__context__, termios.error):
        number = error.__context__.args[0]
    return number if isinstance(number, int) else 0


def _denied(name: str) -> str:
    """Whom to let in, as far as the device tells."""
    try:
        status = os.stat(name)  # noqa: PTH116 - as above
        group = grp.getgrgid(status.st_gid).gr_name
    except (OSError, KeyError):
        return "permission denied; the user must be in the group of the device (usually dialout)"
    if status.st_mode & _OF_GROUP != _OF_GROUP:
        mode = stat.filemode(status.st_mode)
        return f"permission denied; it is {mode}, for its owner only: a udev rule gives it to a group (usually dialout)"
    return f"permission denied; the user must be in the group {group}: sudo usermod -aG {group} USER"


async def _open_tcp(port: Port, protocol: ProtocolFactory) -> asyncio.Transport:
    host, number = host_and_port(port.name)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            transport, _ = await asyncio.get_running_loop().create_connection(protocol, host, number)
        _tune(transport.get_extra_info("socket"))
    except TimeoutError as error:
        raise TransportError(port.name, f"no connection within {CONNECT_SECONDS:.0f} s") from error
    except (OSError, UnicodeError) as error:
        raise TransportError(port.name, _tcp_trouble(error)) from error
    return transport


async def _open_rfc2217(port: Port, protocol: ProtocolFactory) -> asyncio.Transport:
    from mbusd.line import rfc2217  # noqa: PLC0415 - as above

    try:
        connect = partial(_open_tcp, port)
        return await rfc2217.opened(connect, port.baudrate, protocol, dtr=port.dtr, rts=port.rts)
    except rfc2217.Rfc2217Error as error:
        raise TransportError(port.name, str(error)) from error


def _tune(wire: socket.socket) -> None:
    """Requests leave at once, and a converter that has lost its power is missed within a minute, not after hours."""
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or a retry is glued to the request before it
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20)  # seconds until the first probe
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)  # milliseconds without acknowledgement


def _tcp_trouble(error: OSError | UnicodeError) -> str:
    match error:
        case ConnectionRefusedError():
            return "connection refused; is the converter's TCP server on, and is this its port?"
        case socket.gaierror() | UnicodeError():
            return "there is no address for this name"
        case _:
            return error.strerror or str(error)


def host_and_port(name: str) -> tuple[str, int]:
    """The two parts of `scheme://HOST:PORT`. Raises ValueError."""
    try:
        parts = urlsplit(name)
        host, number = parts.hostname, parts.port
    except ValueError:
        host, number = None, None
    if not host or not number or parts.path not in ("", "/"):
        scheme = Port(name).scheme
        raise ValueError(f"'{name}' is not {scheme}://HOST:PORT (an IPv6 address in brackets: {scheme}://[::1]:10001)")
    return host, number


_OPENERS: dict[str, Callable[[Port, ProtocolFactory], Awaitable[asyncio.Transport]]] = {
    "serial": _open_serial,
    "tcp": _open_tcp,
    "rfc2217": _open_rfc2217,
}
