"""What the procedures that change a meter need of the outside: a clock, a port whose rate changes, users' words.

Between the pure conversations and those who ask for them, at the command line and over MQTT.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from mbusd.exact_json import JsonValue
from mbusd.mbus.address import TEST, SecondaryAddress, parse_address
from mbusd.mbus.aiming import LoneMeter, Target
from mbusd.mbus.link import Conversation
from mbusd.mbus.writing import FIRST_YEAR, LAST_YEAR, Plan, Written

T = TypeVar("T")

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


def local_clock(given: datetime | None, *, standard_time: bool) -> tuple[Callable[[], datetime], bool]:
    """A clock that shows local time without a zone and runs on from `given`, and whether that is summer time."""
    began = time.monotonic()
    start = given or datetime.now().astimezone().replace(tzinfo=None)
    is_summer = time.localtime(start.timestamp()).tm_isdst > 0
    if is_summer and standard_time and given is None:
        start -= timedelta(hours=1)
    return (lambda: start + timedelta(seconds=time.monotonic() - began)), is_summer and not standard_time


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
    """An address, or 254 for the only meter of a bus. Raises AddressError."""
    return LoneMeter() if text.strip() == str(TEST) else parse_address(text)


def secondary(text: str) -> SecondaryAddress:
    """8 or 16 digits. Raises AddressError, ValueError."""
    address = parse_address(text)
    if isinstance(address, SecondaryAddress):
        return address
    raise ValueError(f"'{text}' is a primary address: 8 digits are an identification, 16 a secondary address")


def moment(text: str) -> datetime:
    """`2025-03-30T14:05:36` in local time; with a zone it is converted. Raises ValueError."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"'{text}' is no time: 2025-03-30T14:05:36 is") from None
    if not FIRST_YEAR <= when.year < LAST_YEAR:
        raise ValueError(f"'{text}' is no time for a meter: the years {FIRST_YEAR} to {LAST_YEAR} have a safe form")
    return when if when.tzinfo is None else when.astimezone().replace(tzinfo=None)


def subcode(text: str) -> int:
    """Two hex digits, as EN 13757-3 and the manuals of meters write them: `50` are the instantaneous values."""
    word = text.strip().lower().removeprefix("0x").removesuffix("h")
    if len(word) > 2 or not word or set(word) - set("0123456789abcdef"):
        raise ValueError(f"'{text}' is no subcode: two hex digits are, such as 10 or 50")
    return int(word, 16)
