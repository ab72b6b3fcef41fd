"""One meter, and only one: how it is made sure that a command reaches it and nobody else (EN 13757-2 cl. 5.7).

A command goes out only after exactly one meter has answered, and to its full secondary address where it can be
selected: then a twin at its primary address does not hear it, even if the answers of both look like one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from mbusd.mbus.address import SELECTED, TEST, Address, PrimaryAddress, SecondaryAddress
from mbusd.mbus.errors import DecodeError, MBusError, NoAnswer
from mbusd.mbus.frames import FCB, SND_UD, Ack, Frame, LongFrame, Nack, Noise, ShortFrame
from mbusd.mbus.link import Conversation, Reply, Silence, acknowledgement, data, exchange
from mbusd.mbus.master import address_of, req_ud2, select, snd_nke
from mbusd.mbus.telegram import decode

T = TypeVar("T")

LOOKS = 4  # at what should have changed; each lasts several answer windows, and some meters store for a second


class WriteRefused(MBusError):
    """A write that was not done, or that had no effect; the message says why and how the meter stands now."""


@dataclass(frozen=True, slots=True)
class LoneMeter:
    """Whatever hangs on the bus, by the test address 254: for one meter on a bench, whose address nobody knows."""

    def __str__(self) -> str:
        return f"{TEST} (the only meter on the bus)"


Target = Address | LoneMeter
Place = int | SecondaryAddress
"""Where to look: at an A field, or for whoever answers a selection."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What answers at one place of the bus."""

    answers: bool = False
    meter: SecondaryAddress | None = None  # None too where the meter does not tell who it is
    trouble: str | None = None  # why the answer is not that of one meter that can be read


@dataclass(frozen=True, slots=True)
class Aim:
    """The one meter that is to take a command: where it was found, and who it says that it is, if it does."""

    place: Place
    meter: SecondaryAddress | None
    attempts: int


@dataclass(slots=True)
class _Ear:
    """Accepts answers, and remembers whether anything was heard, and how much of it was unreadable."""

    heard: bool = False
    noise: int = 0

    def acknowledgement(self, reply: Reply, request: ShortFrame | LongFrame) -> Ack | None:
        self._note(reply)
        return acknowledgement(reply, request)

    def data(self, reply: Reply, request: ShortFrame | LongFrame) -> LongFrame | None:
        self._note(reply)
        return data(reply, request)

    def _note(self, reply: Reply) -> None:
        self.heard = self.heard or not isinstance(reply, Silence)
        self.noise += isinstance(reply, Noise)


def said(sight: Sight) -> str:
    """Who or what answers, for a message."""
    return sight.meter.digits if sight.meter is not None else sight.trouble or "a meter that does not tell who it is"


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


def look(place: Place, attempts: int, reads: int = 1) -> Conversation[Sight]:
    """What answers at an A field or to a selection, from its first telegram, asked for `reads` times.

    Two meters in step can look like one, but hardly twice: the access number has changed.
    """
    ear = _Ear()
    address = place if isinstance(place, int) else SELECTED
    opening = snd_nke(place) if isinstance(place, int) else select(place)
    opened = yield from _try(exchange(opening, ear.acknowledgement, min(2, attempts)))
    if address == SELECTED and opened is None and not ear.heard:
        return Sight()
    frames: list[LongFrame] = []
    why = None
    for turn in range(reads):
        try:
            frames.append((yield from exchange(req_ud2(address, fcb=turn % 2 == 0), ear.data, attempts)).frame)
        except NoAnswer as error:
            why = error.why
            break
    if address == SELECTED:
        yield from _deselect()
    return _judge(frames, ear, why, None if isinstance(place, int) else place)


def _judge(frames: list[LongFrame], ear: _Ear, why: str | None, asked: SecondaryAddress | None) -> Sight:
    """Whether these are the answers of one meter, the one that was selected."""
    if not ear.heard:
        return Sight()
    if why is not None or ear.noise > 1:
        return Sight(answers=True, trouble=why or "answers of which some are unreadable")
    try:
        meters = [_meter_in(frame) for frame in frames]
    except DecodeError as error:
        return Sight(answers=True, trouble=f"no telegram ({error.message})")
    if any(meter != meters[0] for meter in meters):
        return Sight(answers=True, trouble="answers of different meters")
    if asked is not None and meters[0] is not None and not asked.matches(meters[0]):
        return Sight(answers=True, trouble=f"an answer of another meter, {meters[0].digits}")
    return Sight(answers=True, meter=meters[0])


def _meter_in(frame: LongFrame) -> SecondaryAddress | None:
    header = decode(frame).header
    return None if header is None else address_of(header)


def look_until(is_done: Callable[[Sight], bool], place: Place, attempts: int) -> Conversation[Sight]:
    """Look until it is done, a few times; gives what was seen last."""
    sight = Sight()
    for _ in range(LOOKS):
        sight = yield from look(place, attempts)
        if is_done(sight):
            break
    return sight


def command(aim: Aim, ci: int, body: Callable[[], bytes], *, deselect: bool = True) -> Conversation[bool]:
    """Send a command to the one meter; whether it was acknowledged. Raises WriteRefused where the meter refuses it.

    The same frame is repeated first, which a meter that counts frames does not execute again; then one with the other
    FCB, for meters that remember an FCB that they should have forgotten.
    """
    address, fcb = yield from _open(aim)
    acknowledged = False
    for bit in (fcb, not fcb):
        answer = yield from _try(exchange(_snd_ud(address, ci, body(), fcb=bit), _obeyed, aim.attempts))
        if answer is not None:
            _check_obeyed(answer.frame)
            acknowledged = True
            break
    if address == SELECTED and deselect:
        yield from _deselect()
    return acknowledged


def _open(aim: Aim) -> Conversation[tuple[int, bool]]:
    """A link to the one meter: its A field, and the FCB of the next frame.

    By its full secondary address if it answers to that, and as itself: then a twin at its primary address is not hit.
    """
    mask = _mask(aim)
    if mask is not None:
        if (yield from _is_selected(mask, aim)):
            return SELECTED, False
        yield from _deselect()
    if not isinstance(aim.place, int):
        raise WriteRefused(f"{mask} was seen, but does not answer to its full address: several meters may look like it")
    yield from _try(exchange(snd_nke(aim.place), acknowledgement, min(2, aim.attempts)))
    return aim.place, True


def _mask(aim: Aim) -> SecondaryAddress | None:
    """What selects this meter and no other, if anything does."""
    if aim.meter is not None and aim.meter.is_exact:
        return aim.meter
    return None if isinstance(aim.place, int) else aim.place


def _is_selected(mask: SecondaryAddress, aim: Aim) -> Conversation[bool]:
    """Whether a selection, and one request with FCB=1, reach the meter that was seen, with its own A field."""
    if (yield from _try(exchange(select(mask), acknowledgement, min(2, aim.attempts)))) is None:
        return False
    answer = yield from _try(exchange(req_ud2(SELECTED, fcb=True), data, aim.attempts))
    if answer is None:
        return False
    try:
        if _meter_in(answer.frame) != aim.meter:
            return False
    except DecodeError:
        return False
    any_number = not isinstance(aim.place, int) or aim.place == TEST
    return any_number or answer.frame.address in (aim.place, SELECTED)


def command_blindly(aim: Aim, ci: int) -> Conversation[None]:
    """A command without data, once by each way, to a meter that nobody hears but that may listen."""
    if isinstance(aim.place, int):
        yield from _try(exchange(_snd_ud(aim.place, ci, b"", fcb=False), acknowledgement, 1))
    mask = _mask(aim)
    if mask is not None:
        yield from _try(exchange(select(mask), acknowledgement, 1))
        yield from _try(exchange(_snd_ud(SELECTED, ci, b"", fcb=True), acknowledgement, 1))


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


def _deselect() -> Conversation[None]:
    yield from _try(exchange(snd_nke(SELECTED), acknowledgement, 1))


def _try(conversation: Conversation[T]) -> Conversation[T | None]:
    """Its result, or None where nobody answered."""
    try:
        return (yield from conversation)
    except NoAnswer:
        return None
