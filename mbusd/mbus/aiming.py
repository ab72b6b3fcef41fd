"""One meter, and only one: how it is made sure that a command reaches it and nobody else (EN 13757-2 cl. 5.7).

A command goes out only after exactly one meter has answered, and to its full secondary address where it can be
selected: then a twin at its primary address does not hear it, even if the answers of both look like one.
"""

from collections.abc import Callable
from dataclasses import replace

from mbusd.light import dataclass
from mbusd.mbus.address import SELECTED, TEST, Address, PrimaryAddress, SecondaryAddress
from mbusd.mbus.errors import DecodeError, MBusError
from mbusd.mbus.frames import FCB, SND_UD, Ack, Frame, LongFrame, Nack, ShortFrame
from mbusd.mbus.link import Conversation, Reply, acknowledgement, data, exchange
from mbusd.mbus.master import req_ud2, select, snd_nke
from mbusd.mbus.sighting import Place, attempt, deselect, look, meter_in
from mbusd.mbus.telegram import decode


class WriteRefused(MBusError):
    """A write that was not done, or that had no effect; the message says why and how the meter stands now."""


@dataclass(frozen=True, slots=True)
class LoneMeter:
    """Whatever hangs on the bus, by the test address 254: for one meter on a bench, whose address nobody knows."""

    def __str__(self) -> str:
        return f"{TEST} (the only meter on the bus)"


Target = Address | LoneMeter


@dataclass(frozen=True, slots=True)
class Aim:
    """The one meter that is to take a command: where it was found, and who it says that it is, if it does."""

    place: Place
    meter: SecondaryAddress | None
    attempts: int


def reach(target: Target, attempts: int) -> Conversation[Aim]:
    """The meter that is meant, if exactly one answers. Raises WriteRefused."""
    place: Place
    match target:
        case SecondaryAddress() if not target.is_exact:
            raise WriteRefused(f"{target} may be several meters: a write wants an identification without wildcards")
        case SecondaryAddress():
            place = target
        case PrimaryAddress(number):
            place = number
        case LoneMeter():
            place = TEST
    sight = yield from look(place, attempts, reads=2)
    if not sight.answers:
        raise WriteRefused(f"no meter answers at {target}: is it powered, and its rate the same?")
    if sight.trouble is not None:
        raise WriteRefused(f"at {target}: {sight.trouble}; a write wants exactly one meter that answers")
    return Aim(place, sight.meter, attempts)


def command(aim: Aim, ci: int, body: Callable[[], bytes], *, stays_selected: bool = False) -> Conversation[bool]:
    """Send a command to the one meter; whether it was acknowledged. Raises WriteRefused where the meter refuses it.

    The same frame is repeated first, which a meter that counts frames does not execute again; then one with the other
    FCB, for meters that remember an FCB that they should have forgotten.
    """
    address, fcb = yield from _open(aim)
    acknowledged = False
    for bit in (fcb, not fcb):
        answer = yield from attempt(exchange(_snd_ud(address, ci, body(), fcb=bit), _obeyed, aim.attempts))
        if answer is not None:
            _check_obeyed(answer.frame)
            acknowledged = True
            break
    if address == SELECTED and not stays_selected:
        yield from deselect()
    return acknowledged


def _open(aim: Aim) -> Conversation[tuple[int, bool]]:
    """A link to the one meter: its A field, and the FCB of the next frame.

    By its full secondary address if it answers to that, and as itself: then a twin at its primary address is not hit.
    """
    mask = _mask(aim)
    if mask is not None:
        if (yield from _is_selected(mask, aim)):
            return SELECTED, False
        yield from deselect()
    if not isinstance(aim.place, int):
        raise WriteRefused(f"{mask} was seen, but does not answer to its full address: several meters may look like it")
    yield from attempt(exchange(snd_nke(aim.place), acknowledgement, min(2, aim.attempts)))
    return aim.place, True


def _mask(aim: Aim) -> SecondaryAddress | None:
    """What selects this meter and no other, if anything does."""
    if aim.meter is not None and aim.meter.is_exact:
        number = aim.place.fabrication if isinstance(aim.place, SecondaryAddress) else ""
        return replace(aim.meter, fabrication=number)  # a header does not say it
    return None if isinstance(aim.place, int) else aim.place


def _is_selected(mask: SecondaryAddress, aim: Aim) -> Conversation[bool]:
    """Whether a selection, and one request with FCB=1, reach the meter that was seen, with its own A field."""
    if (yield from attempt(exchange(select(mask), acknowledgement, min(2, aim.attempts)))) is None:
        return False
    answer = yield from attempt(exchange(req_ud2(SELECTED, fcb=True), data, aim.attempts))
    if answer is None:
        return False
    try:
        if meter_in(answer.frame) != aim.meter:
            return False
    except DecodeError:
        return False
    any_number = not isinstance(aim.place, int) or aim.place == TEST
    return any_number or answer.frame.address in (aim.place, SELECTED)


def command_blindly(aim: Aim, ci: int) -> Conversation[None]:
    """A command without data, once by each way, to a meter that nobody hears but that may listen."""
    if isinstance(aim.place, int):
        yield from attempt(exchange(_snd_ud(aim.place, ci, b"", fcb=False), acknowledgement, 1))
    mask = _mask(aim)
    if mask is not None:
        yield from attempt(exchange(select(mask), acknowledgement, 1))
        yield from attempt(exchange(_snd_ud(SELECTED, ci, b"", fcb=True), acknowledgement, 1))


def _snd_ud(address: int, ci: int, body: bytes, *, fcb: bool) -> LongFrame:
    return LongFrame(SND_UD | (FCB if fcb else 0), address, ci, body)


def _obeyed(reply: Reply, request: ShortFrame | LongFrame) -> Ack | Nack | LongFrame | None:
    """E5, or a refusal: A2, or the report of an application error."""
    if isinstance(reply, Ack | Nack):
        return reply
    answer = data(reply, request)
    return answer if answer is not None and answer.ci in (0x6E, 0x6F, 0x70) else None


def _check_obeyed(frame: Frame) -> None:
    """Raises WriteRefused for anything but E5."""
    if isinstance(frame, Nack):
        raise WriteRefused("the meter refuses the command (A2)")
    if isinstance(frame, LongFrame):
        try:
            decode(frame)
        except DecodeError as error:
            raise WriteRefused(f"the command is refused: {error.message}") from error
