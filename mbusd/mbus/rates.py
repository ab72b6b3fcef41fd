"""Another rate for a meter, and back where it is not heard there (EN 13757-3 cl. 8, CI B8 to BF)."""

from collections.abc import Generator
from typing import Final, TypeVar

from mbusd.light import dataclass
from mbusd.mbus.address import Address
from mbusd.mbus.aiming import WriteRefused, command, command_blindly, reach
from mbusd.mbus.link import ATTEMPTS, Conversation
from mbusd.mbus.sighting import look, said
from mbusd.mbus.written import Written, compare, how, is_same, notes

T = TypeVar("T")

RATE_CI: Final = {rate: 0xB8 + n for n, rate in enumerate((300, 600, 1200, 2400, 4800, 9600, 19200, 38400))}

CHANGE_OVER = 1.0  # seconds that a meter may take to change its rate
FALLS_BACK_WITHIN = 600.0  # seconds; ABB 30, Gossen 120, others up to ten minutes
BETWEEN_LOOKS = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a procedure that changes the rate of the port: wait so many seconds, then talk at `rate` Bd."""

    rate: int
    pause: float
    conversation: Conversation[None]


Plan = Generator[Step, None, T]
"""Steps, one after the other; whoever follows them owns the port and the clock."""


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
    if there.answers and is_same(aim, there):
        done = f"nothing: the meter follows the master to {new} Bd"
        return Written(done, aim.meter, (f"it answers at {new} Bd",), has_changed=False)
    if there.answers:
        raise WriteRefused(f"at {new} Bd {address} is taken ({said(there)})")
    acknowledged = yield from _at(old, 0.0, command(aim, RATE_CI[new], bytes, stays_selected=True))
    there = yield from _at(new, CHANGE_OVER, look(aim.place, attempts))
    if there.answers and there.trouble is None:
        compare(aim, there, f"{new} Bd")
        verified, unverified = notes(aim, f"it answers at {new} Bd")
        return Written(f"{new} Bd instead of {old}", aim.meter, verified, unverified)
    yield from _at(new, 0.0, command_blindly(aim, RATE_CI[old]))
    silent = f"is silent at {new} Bd" if there.trouble is None else f"gives at {new} Bd: {there.trouble}"
    waited, pause = CHANGE_OVER, CHANGE_OVER
    while waited <= FALLS_BACK_WITHIN:
        if (yield from _at(old, pause, look(aim.place, attempts))).answers:
            raise WriteRefused(f"{how(acknowledged)}, {silent} and answers at {old} Bd as before")
        pause = BETWEEN_LOOKS
        waited += pause
    lost = f"even {FALLS_BACK_WITHIN / 60:.0f} minutes later does not answer at {old} Bd"
    raise WriteRefused(f"{how(acknowledged)}, {silent} and {lost}: try other rates, or cut its power for a moment")


def _at(rate: int, pause: float, conversation: Conversation[T]) -> Plan[T]:
    """One step of a plan, and its result."""
    results: list[T] = []

    def kept() -> Conversation[None]:
        results.append((yield from conversation))

    yield Step(rate, pause, kept())
    return results[0]
