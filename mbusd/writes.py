"""What the procedures that change a meter need of the outside: a clock, a port whose rate changes, users' words.

Between the pure conversations and those who ask for them, at the command line and over MQTT.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from datetime import time as day_time
from typing import Protocol, TypeVar

from mbusd.clock import is_set, now
from mbusd.exact_json import JsonValue
from mbusd.mbus.address import TEST, SecondaryAddress, parse_address
from mbusd.mbus.aiming import LoneMeter, Target
from mbusd.mbus.clocks import FIRST_YEAR, LAST_YEAR, ClockType, LocalClock
from mbusd.mbus.link import Conversation
from mbusd.mbus.rates import Plan
from mbusd.mbus.writing import is_writable
from mbusd.mbus.written import Written

T = TypeVar("T")

NEAR_A_CHANGE = timedelta(hours=2)
AT_THE_CHANGE = "summer time begins or ends within two hours: what is stored then may be there twice, or missing"

Pause = Callable[[float], Awaitable[None]]


class Run(Protocol):
    """Carries on a conversation and gives its result, as `Bus.run` does."""

    def __call__(self, conversation: Conversation[T], /) -> Awaitable[T]: ...


Tune = Callable[[int], Awaitable[Run]]
"""Opens the port at a rate in Bd, in the place of the one before, and gives what talks on it."""


async def follow(plan: Plan[T], tune: Tune, pause: Pause = asyncio.sleep) -> T:
    """Take the steps of a plan, each at its rate. Raises what their conversations raise, and TransportError."""
    while True:
        try:
            step = next(plan)
        except StopIteration as end:
            result: T = end.value
            return result
        await pause(step.pause)
        run = await tune(step.rate)
        await run(step.conversation)


def local_clock(given: datetime | date | None, zone: tzinfo | None, *, standard_time: bool = False) -> LocalClock:
    """What a meter in that zone (None: this computer's) is to show: the time now, or `given` and running on from it.

    `standard_time` is for meters that know no summer time. A date that was given alone has no time of day.
    Raises ValueError where this computer's own clock cannot be right.
    """
    began = time.monotonic()
    is_local = isinstance(given, datetime) and given.tzinfo is None
    match given:
        case None:
            if not is_set(now()):
                raise ValueError("the clock of this machine is not set, so it cannot set that of a meter: say the time")
            start = now().astimezone(zone).replace(tzinfo=None)
        case datetime():
            start = given if is_local else given.astimezone(zone).replace(tzinfo=None)
        case _:
            return LocalClock(lambda: datetime.combine(given, day_time.min))
    summer = _summer_time(start, zone)
    remarks = (AT_THE_CHANGE,) if _is_near_a_change(start, zone) else ()
    if standard_time:
        start, summer, remarks = start if is_local else start - summer, timedelta(), ()
    return LocalClock(lambda: start + timedelta(seconds=time.monotonic() - began), bool(summer), remarks)


def _summer_time(local: datetime, zone: tzinfo | None) -> timedelta:
    """By how much clocks are put forward then."""
    if zone is not None:
        return max(local.replace(tzinfo=zone).dst() or timedelta(), timedelta())
    return timedelta(hours=time.localtime(local.timestamp()).tm_isdst > 0)


def _is_near_a_change(local: datetime, zone: tzinfo | None) -> bool:
    now = (local if zone is None else local.replace(tzinfo=zone)).astimezone(UTC)
    before, after = ((now + step).astimezone(zone) for step in (-NEAR_A_CHANGE, NEAR_A_CHANGE))
    return before.utcoffset() != after.utcoffset()


def document(written: Written) -> dict[str, JsonValue]:
    """What a write did, for programs."""
    return {
        "done": written.done,
        "secondary_address": None if written.meter is None else written.meter.digits,
        "verified": list(written.verified),
        "not_verified": list(written.unverified),
        "remarks": list(written.remarks),
    }


def target(text: str) -> Target:
    """An address without wildcards, or 254 for the only meter of a bus. Raises ValueError, AddressError."""
    if text.strip() == str(TEST):
        return LoneMeter()
    address = parse_address(text)
    if isinstance(address, SecondaryAddress) and not address.is_exact:
        raise ValueError(f"{text} may be several meters: a write wants an identification without wildcards")
    return address


def secondary(text: str) -> SecondaryAddress:
    """8 or 16 digits. Raises AddressError, ValueError."""
    address = parse_address(text)
    if isinstance(address, SecondaryAddress):
        if not is_writable(address):
            raise ValueError(f"'{text}' cannot be written: 8 decimal digits can, or 16 digits without wildcards")
        return address
    raise ValueError(f"'{text}' is a primary address: 8 digits are an identification, 16 a secondary address")


def moment(text: str) -> datetime | date:
    """`2025-03-30T14:05:36`, local where it names no zone, or the date alone. Raises ValueError."""
    word = text.strip()
    try:
        when = date.fromisoformat(word) if len(word) <= len("2025-03-30") else datetime.fromisoformat(word)
    except ValueError:
        raise ValueError(f"'{text}' is no time: 2025-03-30T14:05:36 is, and 2025-03-30 for the date alone") from None
    if not FIRST_YEAR <= when.year < LAST_YEAR:
        raise ValueError(f"'{text}' is no time for a meter: the years {FIRST_YEAR} to {LAST_YEAR} have a safe form")
    return when


def clock_type(given: datetime | date | None, wanted: ClockType | None = None) -> ClockType | None:
    """The type that goes with what is given; None: the meter's own clock tells. Raises ValueError."""
    if given is None or isinstance(given, datetime):
        return wanted
    if wanted in ("F", "I"):
        raise ValueError(f"type {wanted} has a time of day: {given}T14:05:36")
    return "G"


def number(text: str) -> int:
    """A number in plain digits. Raises ValueError."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"'{text}' is no number")
    return int(text)


def subcode(text: str) -> int:
    """Two hex digits, as EN 13757-3 and the manuals of meters write them: `50` are the instantaneous values."""
    word = text.strip().lower().removeprefix("0x").removesuffix("h")
    if len(word) > 2 or not word or set(word) - set("0123456789abcdef"):
        raise ValueError(f"'{text}' is no subcode: two hex digits are, such as 10 or 50")
    return int(word, 16)
