"""Writes that give a meter another address or another telegram (EN 13757-2 cl. 5, -3 cl. 8 and 11).

An E5 proves nothing, and a lost one neither: what counts is what the meter says afterwards, so each ends with a look
at it. Repetitions do no harm: every command says what is to be, none what is to be changed by.
"""

from typing import Final

from mbusd.mbus.address import Address, PrimaryAddress, SecondaryAddress
from mbusd.mbus.aiming import Target, WriteRefused, command, reach
from mbusd.mbus.link import ATTEMPTS, Conversation
from mbusd.mbus.master import ReadOut, read_out
from mbusd.mbus.sighting import look, look_until, said
from mbusd.mbus.written import WHY_NOT, Written, compare, how, is_same, notes

APPLICATION_RESET: Final = 0x50  # CI field; with one byte of data it selects an application
COMMAND: Final = 0x51  # CI field: records for the meter


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
    if there.answers and is_same(aim, there) and not isinstance(old, PrimaryAddress):
        done = f"nothing: the meter has primary address {new} already"
        return Written(done, aim.meter, (f"it answers at {new}",), has_changed=False)
    if there.answers:
        raise WriteRefused(f"address {new} is taken ({said(there)})")
    acknowledged = yield from command(aim, COMMAND, lambda: bytes([0x01, 0x7A, new]))
    there = yield from look_until(lambda sight: sight.answers and sight.trouble is None, new, attempts)
    if not there.answers:
        before = yield from look(aim.place, attempts)
        still = f"still answers at {old}" if before.answers else f"answers neither at {new} nor at {old} now"
        raise WriteRefused(f"{how(acknowledged)} and {still}: {WHY_NOT}")
    if there.trouble is not None:
        raise WriteRefused(f"address {new} was free, and now: {there.trouble}; who is there is not to be seen")
    compare(aim, there, f"address {new}")
    left = yield from _left_behind(old, attempts)
    verified, unverified = notes(aim, f"it answers at {new}")
    return Written(f"primary address {new} instead of {old}", aim.meter, verified, unverified, left)


def set_identification(address: Address, new: SecondaryAddress, attempts: int = ATTEMPTS) -> Conversation[Written]:
    """Write another identification, or with all 16 digits the whole secondary address; nobody else may have it.

    Raises WriteRefused, and what reading raises.
    """
    if not is_writable(new):
        raise WriteRefused(f"{new.digits} cannot be written: 8 decimal digits can, or 16 digits without wildcards")
    aim = yield from reach(address, attempts)
    there = yield from look(new, attempts)
    if there.answers and there.meter is not None and is_same(aim, there):
        done = f"nothing: the meter is {there.meter.digits} already"
        return Written(done, aim.meter, ("it answers to that",), has_changed=False)
    if there.answers:
        raise WriteRefused(f"{new} is taken ({said(there)})")
    record = b"\x0c\x79" + new.to_bytes()[:4] if _is_bare(new) else b"\x07\x79" + new.to_bytes()
    acknowledged = yield from command(aim, COMMAND, lambda: record)
    place = aim.place if isinstance(aim.place, int) else new
    there = yield from look_until(lambda sight: sight.meter is not None and new.matches(sight.meter), place, attempts)
    if there.meter is None or not new.matches(there.meter):
        now = f"is {said(there)}" if there.answers else f"does not answer to {new}"
        raise WriteRefused(f"{how(acknowledged)} and {now}: most meters keep the number that they were made with")
    return Written(f"secondary address {there.meter.digits}", there.meter, ("it answers with this address",))


def is_writable(new: SecondaryAddress) -> bool:
    """8 decimal digits and nothing else, or a whole address without wildcards."""
    return new.identification.isdecimal() and (_is_bare(new) or not _wildcards(new))


def _is_bare(new: SecondaryAddress) -> bool:
    return len(_wildcards(new)) == 4


def _wildcards(new: SecondaryAddress) -> list[int]:
    """Which bytes behind the identification stand for any: two of the manufacturer, version, medium."""
    return [at for at in range(8, 16, 2) if new.digits[at : at + 2] == "FF"]


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
        raise WriteRefused(f"{how(acknowledged)} and sends what it sent before: it may not know it")
    same = "the effect: it sends the same records as before, so that was the selection already, or it has no other"
    return Written(what, aim.meter, ("the meter acknowledges, and answers",), (same,))


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


def _layout(result: ReadOut) -> tuple[bytes, ...]:
    return tuple(record.dib + record.vib for telegram in result.telegrams for record in telegram.records)
