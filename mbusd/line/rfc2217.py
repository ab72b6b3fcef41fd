"""A serial port that a server has in the network: telnet with the COM-PORT-OPTION (RFC 2217, 854, 856).

The rate and 8E1 are set at the server and must be acknowledged with their values. It stands between a TCP connection,
which `transport.py` opens, and the bus's protocol, which sees a transport like any other.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

from mbusd.light import dataclass

log = logging.getLogger(__name__)

SET_UP_SECONDS = 5.0  # servers at the far end of a mobile network take one or two
MOST_SAID = 200  # bytes of a greeting that are kept for the words of an error
LONGEST_COMMAND = 512  # bytes; the commands of RFC 2217 have less than 20, a signature may be a text

SE, SB, WILL, WONT, DO, DONT, IAC = 0xF0, 0xFA, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF
BINARY, SUPPRESS_GO_AHEAD, COM_PORT = 0, 3, 44

SET_BAUDRATE, SET_DATASIZE, SET_PARITY, SET_STOPSIZE, SET_CONTROL = 1, 2, 3, 4, 5
SET_LINESTATE_MASK, SET_MODEMSTATE_MASK, PURGE_DATA = 10, 11, 12
FROM_SERVER = 100  # added to the command in the server's acknowledgement
NO_FLOW_CONTROL, DTR_ON, DTR_OFF, RTS_ON, RTS_OFF = 1, 8, 9, 11, 12
BOTH_BUFFERS = 3

_8E1 = ((SET_DATASIZE, 8, "8 data bits"), (SET_PARITY, 3, "even parity"), (SET_STOPSIZE, 1, "1 stop bit"))
_OFFERS = ((WILL, BINARY), (DO, BINARY), (WILL, SUPPRESS_GO_AHEAD), (DO, SUPPRESS_GO_AHEAD), (WILL, COM_PORT))
_ACCEPTED = (BINARY, SUPPRESS_GO_AHEAD, COM_PORT)
_PARTIES = {DO: (WILL, WONT), DONT: (WILL, WONT), WILL: (DO, DONT), WONT: (DO, DONT)}

ProtocolFactory = Callable[[], asyncio.Protocol]
Connect = Callable[[ProtocolFactory], Awaitable[asyncio.Transport]]
"""Opens the TCP connection to the server."""


class Rfc2217Error(Exception):
    """The server has no such port, refuses a setting, or speaks something else; the message says which."""


@dataclass(frozen=True, slots=True)
class Negotiation:
    """`IAC WILL|WONT|DO|DONT option`."""

    verb: int
    option: int


@dataclass(frozen=True, slots=True)
class Subnegotiation:
    """What stands between `IAC SB` and `IAC SE`, the option first."""

    data: bytes


class TelnetReader:
    """Parts the bytes of the line from telnet's commands, wherever the stream is cut."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes | Negotiation | Subnegotiation]:
        """Take bytes of the connection; yield bytes of the line and commands in their order."""
        self._pending += data
        while self._pending:
            begin = self._pending.find(IAC)
            size = self._command_size() if begin == 0 else begin if begin > 0 else len(self._pending)
            if size == 0:
                return
            piece = bytes(self._pending[:size])
            del self._pending[:size]
            yield from _meaning(piece)

    def _command_size(self) -> int:
        """Bytes of the command that begins here, 0 while some are missing."""
        pending = self._pending
        if len(pending) < 2:
            return 0
        if pending[1] != SB:
            size = 3 if pending[1] in _PARTIES else 2
            return size if len(pending) >= size else 0
        at = pending.find(IAC, 2)
        while 0 <= at < len(pending) - 1:
            if pending[at + 1] != IAC:  # SE, or a command in the wrong place, which ends this one too
                return at + 2 if pending[at + 1] == SE else at
            at = pending.find(IAC, at + 2)
        return len(pending) if len(pending) > LONGEST_COMMAND else 0


def _meaning(piece: bytes) -> Iterator[bytes | Negotiation | Subnegotiation]:
    if piece[0] != IAC:
        yield piece
    elif piece[1] == IAC:
        yield piece[1:]
    elif piece[1] in _PARTIES:
        yield Negotiation(piece[1], piece[2])
    elif piece[1] == SB and piece[-2:] == bytes([IAC, SE]):
        yield Subnegotiation(piece[2:-2].replace(b"\xff\xff", b"\xff"))


def escape(data: bytes) -> bytes:
    """The bytes of the line as they go through telnet: FF is doubled."""
    return data.replace(b"\xff", b"\xff\xff")


class _Session(asyncio.Protocol):
    """Telnet's side: agrees on options, sets the port and passes on the bytes of the line."""

    def __init__(self) -> None:
        self.protocol: asyncio.Protocol | None = None  # from the end of the set-up on
        self.missing = "the telnet negotiation; a port without telnet is tcp://…"
        self._tcp: asyncio.Transport | None = None
        self._reader = TelnetReader()
        self._offered: set[tuple[int, int]] = set(_OFFERS)
        self._agreed: set[tuple[int, int]] = set()
        self._answers: dict[int, bytes] = {}
        self._is_refused = False
        self._is_lost = False
        self._said = b""
        self._news = asyncio.Event()

    async def set_up(self, baudrate: int, *, dtr: bool, rts: bool) -> None:
        """Until the port is as the bus needs it. What the server does not acknowledge gladly is not waited for."""
        await self._until(self._is_agreed)
        await self.set(
            (SET_BAUDRATE, baudrate.to_bytes(4, "big"), f"{baudrate} Bd"),
            *((command, bytes([value]), words) for command, value, words in _8E1),
        )
        for control in (NO_FLOW_CONTROL, DTR_ON if dtr else DTR_OFF, RTS_ON if rts else RTS_OFF):
            self._command(SET_CONTROL, bytes([control]))
        self._command(SET_LINESTATE_MASK, b"\0")
        self._command(SET_MODEMSTATE_MASK, b"\0")
        self._command(PURGE_DATA, bytes([BOTH_BUFFERS]))
        if not {(WILL, BINARY), (DO, BINARY)} <= self._agreed:
            log.info("the RFC 2217 server did not agree to binary transmission; bytes 0D and 00 may suffer")

    async def set(self, *settings: tuple[int, bytes, str]) -> None:
        """Commands with their values and their words, all sent before the first acknowledgement is awaited."""
        for command, value, _ in settings:
            self._answers.pop(command + FROM_SERVER, None)
            self._command(command, value)
        for command, value, words in settings:
            self.missing = words
            code = command + FROM_SERVER
            await self._until(partial(self._answers.__contains__, code))
            answer = self._answers[code][: len(value)]  # sredird sends four zeros more
            if answer != value:
                raise Rfc2217Error(f"the server refuses {words} (its answer is {int.from_bytes(answer, 'big')})")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what create_connection promises
        self._tcp = transport
        transport.write(b"".join(bytes([IAC, *offer]) for offer in _OFFERS))

    def data_received(self, data: bytes) -> None:
        for event in self._reader.feed(data):
            match event:
                case Negotiation(verb, option):
                    self._negotiate(verb, option)
                case Subnegotiation(payload):
                    if payload[:1] == bytes([COM_PORT]) and len(payload) > 1:
                        self._answers[payload[1]] = payload[2:]
                case bytes() if self.protocol is not None:
                    self.protocol.data_received(event)
                case bytes():
                    self._said = (self._said + event)[:MOST_SAID]
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        self._news.set()
        if self.protocol is not None:
            self.protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        if self.protocol is not None:
            self.protocol.pause_writing()

    def resume_writing(self) -> None:
        if self.protocol is not None:
            self.protocol.resume_writing()

    def _negotiate(self, verb: int, option: int) -> None:
        """Answer what is news and nothing else, or two polite ends would talk for ever (RFC 854)."""
        yes, no = _PARTIES[verb]
        ours = (yes, option)
        was_offered, was_agreed = ours in self._offered, ours in self._agreed
        self._offered.discard(ours)
        if verb in (DONT, WONT):
            self._agreed.discard(ours)
            if was_agreed:
                self._send(no, option)
            self._is_refused = self._is_refused or ours == (WILL, COM_PORT)
        elif option not in _ACCEPTED:
            self._send(no, option)
        else:
            self._agreed.add(ours)
            if not was_offered and not was_agreed:
                self._send(yes, option)

    def _is_agreed(self) -> bool:
        """Whether the server takes commands for its port; some say it of themselves instead of asking us to."""
        if {(WILL, COM_PORT), (DO, COM_PORT)} & self._agreed:
            return True
        if self._is_refused:
            raise Rfc2217Error("the server refuses the COM-PORT-OPTION: plain telnet, without RFC 2217")
        return False

    async def _until(self, is_so: Callable[[], bool]) -> None:
        while not self._is_lost and not is_so():
            self._news.clear()
            await self._news.wait()
        if self._is_lost:
            said = self._said.decode("ascii", "replace").strip()
            raise Rfc2217Error("the server closed the connection" + (f", saying: {said}" if said else ""))

    def _command(self, command: int, value: bytes) -> None:
        self._write(bytes([IAC, SB, COM_PORT, command]) + escape(value) + bytes([IAC, SE]))

    def _send(self, verb: int, option: int) -> None:
        self._write(bytes([IAC, verb, option]))

    def _write(self, data: bytes) -> None:
        if self._tcp is not None and not self._is_lost:
            self._tcp.write(data)


class RemoteSerial(asyncio.Transport):
    """The port at the server, set up, as a transport."""

    def __init__(self, tcp: asyncio.Transport, session: _Session) -> None:
        super().__init__()
        self._tcp = tcp
        self._session = session

    async def set_baudrate(self, baudrate: int, patience: float = SET_UP_SECONDS) -> None:
        """Another rate from now on. Raises Rfc2217Error; then nobody knows the rate, and the port is to be closed."""
        setting = (SET_BAUDRATE, baudrate.to_bytes(4, "big"), f"{baudrate} Bd")
        await _in_time(self._session, self._session.set(setting), patience)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """What the server says of flow control is not heeded: no request is longer than its buffer."""
        self._tcp.write(escape(bytes(data)))

    def close(self) -> None:
        self._tcp.close()

    def abort(self) -> None:
        self._tcp.abort()

    def is_closing(self) -> bool:
        return self._tcp.is_closing()

    def pause_reading(self) -> None:
        self._tcp.pause_reading()

    def resume_reading(self) -> None:
        self._tcp.resume_reading()

    def is_reading(self) -> bool:
        return self._tcp.is_reading()

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return self._tcp.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._tcp.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._tcp.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._tcp.get_extra_info(name, default)

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._session.protocol is not None  # noqa: S101 - `opened` gives it before anybody has this transport
        return self._session.protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)  # noqa: S101 - a transport of bytes has no other
        self._session.protocol = protocol


async def opened(
    connect: Connect,
    baudrate: int,
    protocol: ProtocolFactory,
    *,
    dtr: bool = True,
    rts: bool = True,
    patience: float = SET_UP_SECONDS,
) -> RemoteSerial:
    """Connect, set the port to `baudrate` 8E1 and hand it to a new protocol. Nothing said before that reaches it.

    Raises Rfc2217Error, also after `patience` seconds without an answer, and what `connect` raises.
    """
    session = _Session()
    tcp = await connect(lambda: session)
    try:
        await _in_time(session, session.set_up(baudrate, dtr=dtr, rts=rts), patience)
    except BaseException:
        tcp.abort()
        raise
    transport = RemoteSerial(tcp, session)
    made = protocol()
    session.protocol = made
    made.connection_made(transport)
    return transport


async def _in_time(session: _Session, work: Awaitable[None], patience: float) -> None:
    try:
        async with asyncio.timeout(patience):
            await work
    except TimeoutError as error:
        raise Rfc2217Error(f"the server did not answer within {patience:g} s to {session.missing}") from error
