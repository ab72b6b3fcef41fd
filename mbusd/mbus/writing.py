"""The procedures that change a meter: addresses, clock, application, rate (EN 13757-2 cl. 5, -3 cl. 8 and 11).

An E5 proves nothing, and a lost one neither: what counts is what the meter says afterwards, so each ends with a look
at it. Repetitions do no harm: every command says what is to be, none what is to be changed by.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from mbusd.mbus.address import Address, PrimaryAddress, SecondaryAddress
from mbusd.mbus.aiming import Aim, Sight, Target, WriteRefused, command, command_blindly, look, look_until, reach, said
from mbusd.mbus.link import ATTEMPTS, Conversation
from mbusd.mbus.master import ReadOut, read_out
from mbusd.mbus.records import Record

T = TypeVar("T")

APPLICATION_RESET: Final = 0x50  # CI field; with one byte of data it selects an application
COMMAND: Final = 0x51  # CI field: records for the meter
RATE_CI: Final = {rate: 0xB8 + n for n, rate in enumerate((300, 600, 1200, 2400, 4800, 9600, 19200, 38400))}

NEAR_THE_HOUR = timedelta(minutes=2)
CHANGE_OVER = 1.0  # seconds that a meter may take to change its rate
FALLS_BACK_WITHIN = 600.0  # seconds; ABB 30, Gossen 120, others up to ten minutes
BETWEEN_LOOKS = 10.0  # seconds

FIRST_YEAR, LAST_YEAR = 2000, 2080  # without doubt about the century (EN 13757-3 annex A, types F and I)
TYPE_I = 6  # bytes of a date and time with seconds

HOURLY = "set near the full hour: what is stored hourly may be there twice, or missing"
NO_CLOCK = "the time: the meter acknowledges, but its telegrams carry no clock to compare with"
WHY_NOT = "some meters want a button pressed or a seal broken first, take few writes a day, or store hours later"


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did: what the meter confirmed, what nothing could confirm, and what is worth a look."""

    done: str
    meter: SecondaryAddress | None
    verified: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a procedure that changes the rate of the port: wait so many seconds, then talk at `rate` Bd."""

    rate: int
    pause: float
    conversation: Conversation[None]


Plan = Generator[Step, None, T]
"""Steps, one after the other; whoever follows them owns the port and the clock."""


def set_address(old: Target, new: int, attempts: int = ATTEMPTS) -> Conversation[Written]:
    """Give a meter the primary address `new`, 1..250, which must be free; the meter must then answer there.

    Raises WriteRefused, AddressError for a number that no meter can have, and what reading raises.
    """
    wanted = PrimaryAddress(new)
    if wanted.number == 0:
        raise WriteRefused("0 is the address of meters from the factory, where the next one will be: give 1..250")
    if old == wanted:
        raise WriteRefused(f"{old} is the address that the meter has already")
    aim = yield from reach(old, attempts)
    there = yield from look(new, attempts)
    if there.answers and _is_same(aim, there) and not isinstance(old, PrimaryAddress):
        return Written(f"nothing: the meter has primary address {new} already", aim.meter, (f"it answers at {new}",))
    if there.answers:
        raise WriteRefused(f"address {new} is taken ({said(there)})")
    acknowledged = yield from command(aim, COMMAND, lambda: bytes([0x01, 0x7A, new]))
    there = yield from look_until(lambda sight: sight.answers and sight.trouble is None, new, attempts)
    if not there.answers:
        before = yield from look(aim.place, attempts)
        still = f"still answers at {old}" if before.answers else f"answers neither at {new} nor at {old} now"
        raise WriteRefused(f"{_ack(acknowledged)} and {still}: {WHY_NOT}")
    if there.trouble is not None:
        raise WriteRefused(f"address {new} was free, and now: {there.trouble}; who is there is not to be seen")
    _compare(aim, there, f"address {new}")
    left = yield from _left_behind(old, attempts)
    verified, unverified = _notes(aim, f"it answers at {new}")
    return Written(f"primary address {new} instead of {old}", aim.meter, verified, unverified, left)


def set_identification(address: Address, new: SecondaryAddress, attempts: int = ATTEMPTS) -> Conversation[Written]:
    """Write another identification, or with all 16 digits the whole secondary address; nobody else may have it.

    Raises WriteRefused, and what reading raises.
    """
    rest = {new.digits[at : at + 2] for at in range(8, 16, 2)}
    if not new.identification.isdecimal() or ("FF" in rest and rest != {"FF"}):
        raise WriteRefused(f"{new.digits} cannot be written: 8 decimal digits can, or 16 digits without wildcards")
    aim = yield from reach(address, attempts)
    there = yield from look(new, attempts)
    if there.answers and there.meter is not None and _is_same(aim, there):
        return Written(f"nothing: the meter is {there.meter.digits} already", aim.meter, ("it answers to that",))
    if there.answers:
        raise WriteRefused(f"{new} is taken ({said(there)})")
    record = b"\x0c\x79" + new.to_bytes()[:4] if rest == {"FF"} else b"\x07\x79" + new.to_bytes()
    acknowledged = yield from command(aim, COMMAND, lambda: record)
    place = aim.place if isinstance(aim.place, int) else new
    there = yield from look_until(lambda sight: sight.meter is not None and new.matches(sight.meter), place, attempts)
    if there.meter is None or not new.matches(there.meter):
        now = f"is {said(there)}" if there.answers else f"does not answer to {new}"
        raise WriteRefused(f"{_ack(acknowledged)} and {now}: most meters keep the number that they were made with")
    return Written(f"secondary address {there.meter.digits}", there.meter, ("it answers with this address",))


def set_clock(
    address: Address,
    clock: Callable[[], datetime],
    *,
    summer_time: bool = False,
    ahead: timedelta = timedelta(),
    tolerance: timedelta = timedelta(seconds=5),
    attempts: int = ATTEMPTS,
) -> Conversation[Written]:
    """Set the clock to what `clock` shows when the command is made: local time of the meter, without a zone.

    With seconds (type I) where the meter's own clock has them, else to the nearest minute (type F). `ahead` is the time
    that the frame itself takes. Raises WriteRefused, and what reading raises.
    """
    aim = yield from reach(address, attempts)
    seen = _clock_in((yield from read_out(address, attempts=attempts)))
    with_seconds = seen is not None and len(seen.raw) == TYPE_I
    made: list[datetime] = []

    def record() -> bytes:
        made.append(clock() + ahead)
        return clock_record(made[-1], summer_time=summer_time, with_seconds=with_seconds)

    acknowledged = yield from command(aim, COMMAND, record)
    written = _rounded(made[-1], with_seconds=with_seconds)
    remarks = (HOURLY,) if is_near_the_hour(written) else ()
    if seen is None:
        if not acknowledged:
            raise WriteRefused(f"{_ack(acknowledged)}: {WHY_NOT}")
        return Written(f"clock {written}", aim.meter, (), (NO_CLOCK,), remarks)
    earliest = clock()
    shown = _time_of(_clock_in((yield from read_out(address, attempts=attempts))))
    half = timedelta() if with_seconds else timedelta(seconds=30)  # type F: set to the nearest minute, shown cut off
    if shown is None or not earliest - 3 * half - tolerance <= shown <= clock() + half + tolerance:
        now = "gives no valid time" if shown is None else f"shows {shown}"
        raise WriteRefused(f"{_ack(acknowledged)}, but its clock {now}, where {written} was written: {WHY_NOT}")
    return Written(f"clock {written}", aim.meter, (f"its clock shows {shown}",), (), remarks)


def application_reset(address: Address, subcode: int | None = None, attempts: int = ATTEMPTS) -> Conversation[Written]:
    """Back to the default telegram, or with a subcode (application, telegram number) to the selected one.

    Raises WriteRefused, ValueError for a subcode that is no byte, and what reading raises.
    """
    body = b"" if subcode is None else bytes([subcode])
    aim = yield from reach(address, attempts)
    before = _layout((yield from read_out(address, attempts=attempts)))
    acknowledged = yield from command(aim, APPLICATION_RESET, lambda: body)
    after = _layout((yield from read_out(address, attempts=attempts)))
    what = "application reset" if subcode is None else f"application select {subcode:02X} ({application(subcode)})"
    if before != after:
        return Written(what, aim.meter, ("the meter sends other records than before",))
    if not acknowledged:
        raise WriteRefused(f"{_ack(acknowledged)} and sends what it sent before: it may not know it")
    same = "the effect: it sends the same records as before, so that was the selection already, or it has no other"
    return Written(what, aim.meter, ("the meter acknowledges, and answers",), (same,))


def set_baudrate(address: Address, old: int, new: int, attempts: int = ATTEMPTS) -> Plan[Written]:
    """Steps that switch a meter from `old` to `new` Bd, see that it answers there, and else bring it back.

    A meter that hears nothing good at its new rate returns by itself, after minutes. Raises WriteRefused, and what
    reading raises.
    """
    if new not in RATE_CI:
        raise WriteRefused(f"{new} is no rate of the M-Bus: {', '.join(map(str, RATE_CI))} are")
    if new == old:
        raise WriteRefused(f"the meter is asked at {old} Bd: it has this rate already")
    aim = yield from _at(old, 0.0, reach(address, attempts))
    there = yield from _at(new, 0.0, look(aim.place, attempts))
    if there.answers and _is_same(aim, there):
        return Written(f"nothing: the meter follows the master to {new} Bd", aim.meter, (f"it answers at {new} Bd",))
    if there.answers:
        raise WriteRefused(f"at {new} Bd {address} is taken ({said(there)})")
    acknowledged = yield from _at(old, 0.0, command(aim, RATE_CI[new], bytes, deselect=False))
    there = yield from _at(new, CHANGE_OVER, look(aim.place, attempts))
    if there.answers and there.trouble is None:
        _compare(aim, there, f"{new} Bd")
        verified, unverified = _notes(aim, f"it answers at {new} Bd")
        return Written(f"{new} Bd instead of {old}", aim.meter, verified, unverified)
    yield from _at(new, 0.0, command_blindly(aim, RATE_CI[old]))
    silent = f"is silent at {new} Bd" if there.trouble is None else f"gives at {new} Bd: {there.trouble}"
    waited, pause = CHANGE_OVER, CHANGE_OVER
    while waited <= FALLS_BACK_WITHIN:
        if (yield from _at(old, pause, look(aim.place, attempts))).answers:
            raise WriteRefused(f"{_ack(acknowledged)}, {silent} and answers at {old} Bd as before")
        pause = BETWEEN_LOOKS
        waited += pause
    lost = f"even {FALLS_BACK_WITHIN / 60:.0f} minutes later does not answer at {old} Bd"
    raise WriteRefused(f"{_ack(acknowledged)}, {silent} and {lost}: try other rates, or cut its power for a moment")


def clock_record(when: datetime, *, summer_time: bool, with_seconds: bool) -> bytes:
    """The record that sets a clock: type I with seconds, type F to the nearest minute (EN 13757-3 annex A)."""
    when = _rounded(when, with_seconds=with_seconds)
    if not FIRST_YEAR <= when.year <= LAST_YEAR:
        raise WriteRefused(f"the year {when.year} has no safe form: {FIRST_YEAR} to {LAST_YEAR} have")
    year = when.year - 2000
    date = bytes([when.day | (year & 7) << 5, when.month | year >> 3 << 4])
    if not with_seconds:
        hour = when.hour | 1 << 5 | summer_time << 7  # one hundred years since 1900
        return bytes([0x04, 0x6D, when.minute, hour]) + date
    second = when.second | summer_time << 6 | (when.year % 4 == 0) << 7
    return bytes([0x06, 0x6D, second, when.minute, when.hour | when.isoweekday() << 5]) + date + b"\0"


def is_near_the_hour(when: datetime) -> bool:
    """Whether meters may store their hourly values now: a clock is better not set then."""
    past = timedelta(minutes=when.minute, seconds=when.second)
    return past < NEAR_THE_HOUR or past > timedelta(hours=1) - NEAR_THE_HOUR


def application(subcode: int) -> str:
    """A subcode in words (EN 13757-3 cl. 11.2)."""
    return f"{_APPLICATIONS.get(subcode >> 4, 'reserved')}, telegram {subcode & 0x0F}"


_APPLICATIONS: Final = {
    0x0: "all",
    0x1: "user data",
    0x2: "simple billing",
    0x3: "enhanced billing",
    0x4: "multi-tariff billing",
    0x5: "instantaneous values",
    0x6: "load management",
    0x8: "installation",
    0x9: "testing",
    0xA: "calibration",
    0xB: "manufacturing",
    0xC: "development",
    0xD: "self-test",
}


def _left_behind(old: Target, attempts: int) -> Conversation[tuple[str, ...]]:
    """What still answers at a primary address that a meter has left."""
    if not isinstance(old, PrimaryAddress):
        return ()
    sight = yield from look(old.number, min(2, attempts))
    return (f"{said(sight)} still answers at {old}: there were two",) if sight.answers else ()


def _clock_in(result: ReadOut) -> Record | None:
    """The record of the meter's own clock."""
    records = (record for telegram in result.telegrams for record in telegram.records)
    return next((one for one in records if one.vib == b"\x6d" and one.dib in (b"\x04", b"\x06")), None)


def _time_of(record: Record | None) -> datetime | None:
    return record.value if record is not None and isinstance(record.value, datetime) else None


def _layout(result: ReadOut) -> tuple[bytes, ...]:
    return tuple(record.dib + record.vib for telegram in result.telegrams for record in telegram.records)


def _at(rate: int, pause: float, conversation: Conversation[T]) -> Plan[T]:
    """One step of a plan, and its result."""
    results: list[T] = []

    def kept() -> Conversation[None]:
        results.append((yield from conversation))

    yield Step(rate, pause, kept())
    return results[0]


def _is_same(aim: Aim, sight: Sight) -> bool:
    return sight.meter is not None and sight.meter == aim.meter


def _compare(aim: Aim, sight: Sight, where: str) -> None:
    if aim.meter is not None and not _is_same(aim, sight):
        raise WriteRefused(f"another meter answers at {where} than was meant: {said(sight)}, not {aim.meter.digits}")


def _notes(aim: Aim, where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is verified and what is not, where a meter answers as it should."""
    if aim.meter is not None:
        return (f"{where} as {aim.meter.digits}",), ()
    return (where,), ("that it is the same meter: it does not tell who it is",)


def _ack(acknowledged: bool) -> str:  # noqa: FBT001 (the only thing it is about)
    return "the meter acknowledges the command" if acknowledged else "the meter does not acknowledge the command"


def _count(layout: tuple[bytes, ...]) -> str:
    return f"{len(layout)} records"


def _rounded(when: datetime, *, with_seconds: bool) -> datetime:
    """The nearest second or minute."""
    if with_seconds:
        return (when + timedelta(milliseconds=500)).replace(microsecond=0)
    return (when + timedelta(seconds=30)).replace(second=0, microsecond=0)
