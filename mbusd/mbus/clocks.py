"""Setting the clock of a meter, to the second, to the minute, or its date alone (EN 13757-3 annex A, types I, F, G).

Meters know no zone: whoever gives the time gives it as the meter is to show it.
"""

from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from typing import Literal

from mbusd.light import dataclass
from mbusd.mbus.address import Address
from mbusd.mbus.aiming import WriteRefused, command, reach
from mbusd.mbus.link import ATTEMPTS, Conversation
from mbusd.mbus.master import ReadOut, read_out
from mbusd.mbus.records import Record
from mbusd.mbus.values import encode_f, encode_g, encode_i
from mbusd.mbus.written import WHY_NOT, Written, how

ClockType = Literal["F", "I", "G"]
"""How a time is sent: F to the minute, I to the second, G is the date alone."""

COMMAND = 0x51  # CI field: records for the meter
HEADS: dict[ClockType, bytes] = {"F": b"\x04\x6d", "I": b"\x06\x6d", "G": b"\x02\x6c"}  # DIF and VIF of each

FIRST_YEAR, LAST_YEAR = 2000, 2080  # without doubt about the century, in every type
NEAR_THE_HOUR = timedelta(minutes=2)
HOURLY = "set near the full hour: what is stored hourly may be there twice, or missing"
NO_CLOCK = "the time: the meter acknowledges, but its telegrams carry no clock to compare with"
NO_TIME = "the time of day: the telegrams carry the date alone"


@dataclass(frozen=True, slots=True)
class LocalClock:
    """What the meter is to show: local time without a zone, and whether that is summer time now."""

    shows: Callable[[], datetime]
    is_summer_time: bool = False
    remarks: tuple[str, ...] = ()  # why now is a bad moment, if it is


def set_clock(
    address: Address,
    clock: LocalClock,
    kind: ClockType | None = None,
    *,
    ahead: timedelta = timedelta(),
    tolerance: timedelta = timedelta(seconds=5),
    attempts: int = ATTEMPTS,
) -> Conversation[Written]:
    """Set the clock to what `clock` shows when the command is made, and compare what the meter shows then.

    `kind` None: with seconds where the meter's own clock has them, else to the nearest minute. `ahead` is the time that
    the frame itself takes. Raises WriteRefused, and what reading raises.
    """
    aim = yield from reach(address, attempts)
    seen = _clock_in((yield from read_out(address, attempts=attempts)))
    kind = kind or ("I" if _has_seconds(seen) else "F")
    made: list[datetime] = []

    def record() -> bytes:
        made.append(_rounded(clock.shows() + ahead, kind))
        return clock_record(made[-1], kind, is_summer_time=clock.is_summer_time)

    acknowledged = yield from command(aim, COMMAND, record)
    what = f"date {made[-1].date()}" if kind == "G" else f"clock {made[-1]}"
    remarks = (*clock.remarks, *((HOURLY,) if kind != "G" and is_near_the_hour(made[-1]) else ()))
    if seen is None:
        if not acknowledged:
            raise WriteRefused(f"{how(acknowledged)}: {WHY_NOT}")
        return Written(what, aim.meter, (), (NO_CLOCK,), remarks)
    earliest = made[-1] if kind == "G" else clock.shows() - tolerance
    now = _clock_in((yield from read_out(address, attempts=attempts)))
    shown = _time_of(now)
    latest = clock.shows() if kind == "G" else clock.shows() + tolerance
    if shown is None or not _is_right(shown, earliest, latest, kind, with_seconds=_has_seconds(now)):
        instead = "gives no valid time" if shown is None else f"shows {shown}"
        but = f"{how(acknowledged)}, but its clock {instead}, where the {what} was written"
        raise WriteRefused(f"{but}: {WHY_NOT}; some take one type of clock only (F or I)")
    unverified = (NO_TIME,) if not isinstance(shown, datetime) and kind != "G" else ()
    return Written(what, aim.meter, (f"its clock shows {shown}",), unverified, remarks)


def clock_record(when: datetime, kind: ClockType, *, is_summer_time: bool = False) -> bytes:
    """The record that sets a clock. Raises WriteRefused for a year whose century a meter could mistake."""
    if not FIRST_YEAR <= when.year <= LAST_YEAR:
        raise WriteRefused(f"the year {when.year} has no safe form: {FIRST_YEAR} to {LAST_YEAR} have")
    match kind:
        case "F":
            return HEADS[kind] + encode_f(when, summer_time=is_summer_time)
        case "I":
            return HEADS[kind] + encode_i(when, summer_time=is_summer_time)
        case "G":
            return HEADS[kind] + encode_g(when)


def is_near_the_hour(when: datetime) -> bool:
    """Whether meters may store their hourly values now: a clock is better not set then."""
    past = timedelta(minutes=when.minute, seconds=when.second)
    return past < NEAR_THE_HOUR or past > timedelta(hours=1) - NEAR_THE_HOUR


def _rounded(when: datetime, kind: ClockType) -> datetime:
    """The nearest second or minute; a date is that of the moment."""
    match kind:
        case "F":
            return (when + timedelta(seconds=30)).replace(second=0, microsecond=0)
        case "I":
            return (when + timedelta(milliseconds=500)).replace(microsecond=0)
        case "G":
            return when


def _is_right(shown: date, earliest: datetime, latest: datetime, kind: ClockType, *, with_seconds: bool) -> bool:
    """Whether a meter that obeyed can show this: a time of type F was rounded to the minute, or is shown cut off."""
    if not isinstance(shown, datetime):
        return earliest.date() <= shown <= latest.date()
    if kind == "G":
        return earliest.date() <= shown.date() <= latest.date()
    half, cut = timedelta(seconds=30 * (kind == "F")), timedelta(seconds=60 * (not with_seconds))
    return earliest - half - cut <= shown <= latest + half


def _clock_in(result: ReadOut) -> Record | None:
    """The record of the meter's own clock, else of its date."""
    return next(_clocks_in(result), None)


def _clocks_in(result: ReadOut) -> Iterator[Record]:
    records = [record for telegram in result.telegrams for record in telegram.records]
    for kinds in (("F", "I"), ("G",)):
        heads = [HEADS[kind] for kind in kinds]
        yield from (record for record in records if record.dib + record.vib in heads)


def _has_seconds(clock: Record | None) -> bool:
    return clock is not None and clock.dib + clock.vib == HEADS["I"]


def _time_of(record: Record | None) -> date | None:
    return record.value if record is not None and isinstance(record.value, date) else None
