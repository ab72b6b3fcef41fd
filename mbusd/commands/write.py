"""set-address, set-baudrate, set-clock, reset, set-id: the commands that change one meter, and say what came of it."""

import asyncio
from argparse import Namespace
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

from mbusd import exact_json
from mbusd.commands.output import FAILED, WRONG, complain, say
from mbusd.line.bus import Bus, Opener
from mbusd.line.transport import Port, TransportError, open_port
from mbusd.mbus import rates, writing
from mbusd.mbus.address import Address, SecondaryAddress
from mbusd.mbus.aiming import LoneMeter, Target
from mbusd.mbus.clocks import ClockType, is_near_the_hour, set_clock
from mbusd.mbus.errors import MBusError
from mbusd.mbus.frames import LongFrame
from mbusd.mbus.link import Conversation
from mbusd.mbus.observation import selection
from mbusd.mbus.sighting import alone
from mbusd.mbus.written import Written
from mbusd.writes import Pause, Run, T, clock_type, document, follow, local_clock

DONE = 0
LONGEST_COMMAND = 17  # bytes of the frame that sets a clock of type I


@dataclass(frozen=True, slots=True)
class Line:
    """Where the meter hangs, and how patiently it is asked."""

    port: str
    baudrate: int
    timeout: float | None  # seconds
    retries: int

    @property
    def attempts(self) -> int:
        """Transmissions of each request."""
        return self.retries + 1


@dataclass(frozen=True, slots=True)
class SetAddress:
    """`lone`: the user says that a single meter hangs on the bus, so that `old` may be 254."""

    line: Line
    old: Target
    new: int
    lone: bool = False


@dataclass(frozen=True, slots=True)
class SetBaudrate:
    """`rate` in Bd; the line's own is the one that the meter has now."""

    line: Line
    address: Address
    rate: int


@dataclass(frozen=True, slots=True)
class SetClock:
    """`time`: what it is now, or its date alone; None for this computer's clock."""

    line: Line
    address: Address
    time: datetime | date | None = None
    kind: ClockType | None = None  # None: that of the meter's own clock
    zone: tzinfo | None = None  # of the meter's clock; None: this computer's
    standard_time: bool = False  # for meters that know no summer time


@dataclass(frozen=True, slots=True)
class Reset:
    """`subcode`: application (high digit) and telegram number; None for the default."""

    line: Line
    address: Address
    subcode: int | None = None


@dataclass(frozen=True, slots=True)
class SetIdentification:
    """`new`: 8 digits, or all 16."""

    line: Line
    address: Address
    new: SecondaryAddress


async def run(command: str, given: Namespace) -> int:
    """One of them, as its words ask for. Raises TransportError, AddressError."""
    line = Line(given.port, given.baudrate, given.timeout, given.retries)
    match command:
        case "set-address":
            return await run_set_address(SetAddress(line, given.old, given.new, given.lone), as_json=given.json)
        case "set-baudrate":
            return await run_set_baudrate(SetBaudrate(line, given.address, given.rate), as_json=given.json)
        case "set-clock":
            clock = SetClock(line, given.address, given.time, given.type, given.zone, given.standard_time)
            return await run_set_clock(clock, as_json=given.json)
        case "reset":
            return await run_reset(Reset(line, given.address, given.subcode), as_json=given.json)
        case _:
            return await run_set_identification(SetIdentification(line, given.address, given.new), as_json=given.json)


async def run_set_address(question: SetAddress, *, as_json: bool, opener: Opener = open_port) -> int:
    """Give another primary address and print what came of it. Raises TransportError, AddressError."""
    if isinstance(question.old, LoneMeter) != question.lone:
        _complain(question.line, "254 is every meter on the bus: it goes with --lone, and --lone with nothing else")
        return WRONG
    write = writing.set_address(question.old, question.new, question.line.attempts)
    return await _carry_out(question.line, write, as_json=as_json, opener=opener)


async def run_set_clock(question: SetClock, *, as_json: bool, opener: Opener = open_port) -> int:
    """Set the clock and print what came of it. Raises TransportError."""
    line = question.line
    try:
        clock = local_clock(question.time, question.zone, standard_time=question.standard_time)
        kind = clock_type(question.time, question.kind)
    except ValueError as error:
        _complain(line, str(error))
        return WRONG
    if kind != "G" and is_near_the_hour(clock.shows()):
        _complain(line, "it is near the full hour, when meters store: better some minutes later")
    for remark in clock.remarks:
        _complain(line, remark)
    ahead = timedelta(seconds=11 * LONGEST_COMMAND / line.baudrate)
    write = set_clock(question.address, clock, kind, ahead=ahead, attempts=line.attempts)
    return await _carry_out(line, write, as_json=as_json, opener=opener)


async def run_reset(question: Reset, *, as_json: bool, opener: Opener = open_port) -> int:
    """Reset the application, or select one, and print what came of it. Raises TransportError."""
    write = writing.application_reset(question.address, question.subcode, question.line.attempts)
    return await _carry_out(question.line, write, as_json=as_json, opener=opener)


async def run_set_identification(question: SetIdentification, *, as_json: bool, opener: Opener = open_port) -> int:
    """Write another identification and print what came of it. Raises TransportError."""
    write = writing.set_identification(question.address, question.new, question.line.attempts)
    return await _carry_out(question.line, write, as_json=as_json, opener=opener)


async def run_set_baudrate(
    question: SetBaudrate, *, as_json: bool, opener: Opener = open_port, pause: Pause = asyncio.sleep
) -> int:
    """Switch the rate of the meter, and the port's with it, and print what came of it. Raises TransportError."""
    line = question.line
    if Port(line.port).scheme == "tcp":
        _complain(line, "a transparent TCP converter keeps its own rate, so nobody could hear the meter at another one")
        complain("       use the serial device itself, or rfc2217:// if the converter speaks that")
        return WRONG
    plan = rates.set_baudrate(question.address, line.baudrate, question.rate, line.attempts)
    tuner = _Tuner(line, opener)
    try:
        written = await follow(plan, tuner.tune, _telling(pause))
    except MBusError as error:
        _complain(line, str(error))
        return FAILED
    except (TransportError, asyncio.CancelledError):
        if question.rate in tuner.rates:
            _complain(line, f"not finished: the meter may be at {line.baudrate} or at {question.rate} Bd now")
        raise
    finally:
        await tuner.close()
    _tell(written, as_json=as_json)
    return DONE


def _telling(pause: Pause) -> Pause:
    """The same pauses; the first long one is explained to who waits."""
    told = False

    async def wait(seconds: float) -> None:
        nonlocal told
        if seconds >= rates.BETWEEN_LOOKS and not told:
            told = True
            minutes = rates.FALLS_BACK_WITHIN / 60
            complain(
                f"no answer; meters go back to their old rate by themselves within {minutes:.0f} minutes: waiting …"
            )
        await pause(seconds)

    return wait


class _Tuner:
    """One port at a time, reopened whenever its rate is to change."""

    def __init__(self, line: Line, opener: Opener) -> None:
        self._line = line
        self._opener = opener
        self._bus: Bus | None = None
        self.rates: set[int] = set()  # that the port has had

    async def tune(self, rate: int) -> Run:
        if self._bus is not None and self._bus.port.baudrate != rate:
            await self.close()
        if self._bus is None:
            bus = Bus(Port(self._line.port, rate), self._line.timeout, self._opener)
            await bus.open()
            self._bus = bus
            self.rates.add(rate)
        bus = self._bus

        async def run(conversation: Conversation[T]) -> T:
            return await bus.run(alone(conversation, bus.recent))

        return run

    @property
    def has_commanded(self) -> bool:
        """Whether anything has been said that changes a meter."""
        asked = [] if self._bus is None else [one.request for one in self._bus.recent]
        return any(isinstance(request, LongFrame) and selection(request) is None for request in asked)

    async def close(self) -> None:
        if self._bus is not None:
            self._bus.close()
            self._bus = None
            await asyncio.sleep(0)  # the transport closes its port in its own next turn


async def _carry_out(line: Line, write: Conversation[Written], *, as_json: bool, opener: Opener) -> int:
    """Open the port, write, tell; 1 where it was refused or had no effect."""
    tuner = _Tuner(line, opener)
    try:
        run = await tuner.tune(line.baudrate)
        written = await run(write)
    except MBusError as error:
        _complain(line, str(error))
        return FAILED
    except (TransportError, asyncio.CancelledError):
        if tuner.has_commanded:
            _complain(line, "not finished: the command was sent already; see whether the meter has obeyed")
        raise
    finally:
        await tuner.close()
    _tell(written, as_json=as_json)
    return DONE


def _tell(written: Written, *, as_json: bool) -> None:
    if as_json:
        say(exact_json.dumps(document(written)))
        return
    meter = "" if written.meter is None else f"{written.meter.digits}: "
    say(f"{meter}{written.done}")
    for title, lines in (
        ("verified", written.verified),
        ("not verified", written.unverified),
        ("remark", written.remarks),
    ):
        for line in lines:
            say(f"  {title}: {line}")


def _complain(line: Line, text: str) -> None:
    complain(f"mbusd: {line.port} at {line.baudrate} Bd: {text}")
