"""What answers at one place of the bus, and whether that is one meter (EN 13757-2 cl. 5.7).

Two meters in step can look like one. An E5 tells nothing, one good telegram little: what is unreadable now and then,
and what changes its identity, are several.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from mbusd.light import dataclass
from mbusd.mbus.address import SELECTED, TEST, SecondaryAddress
from mbusd.mbus.errors import DecodeError, NoAnswer
from mbusd.mbus.frames import Ack, Frame, LongFrame, Noise, ShortFrame, encode
from mbusd.mbus.link import ATTEMPTS, Conversation, Reply, Silence, acknowledgement, data, exchange
from mbusd.mbus.master import address_of, req_ud2, select, snd_nke
from mbusd.mbus.observation import Observation
from mbusd.mbus.telegram import decode

T = TypeVar("T")

MOST_STRAY = 4  # bytes around an answer that may be the converter's; another telegram has 9 at least
LOOKS = 4  # at what should have changed; each lasts several answer windows, and some meters store for a second

Place = int | SecondaryAddress
"""Where to look: at an A field, or for whoever answers a selection."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What answers at one place of the bus."""

    answers: bool = False
    meter: SecondaryAddress | None = None  # None too where the meter does not tell who it is
    trouble: str | None = None  # why the answer is not that of one meter that can be read


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


def alone(conversation: Conversation[T], recent: Sequence[Observation]) -> Conversation[T]:
    """The same conversation, for which an answer among unreadable bytes is unreadable, too.

    It may be a slow meter's, behind the answers of all others. `recent` ends with what the last request has brought.
    """
    try:
        request = next(conversation)
        while True:
            reply = yield request
            heard = recent[-1].heard.removeprefix(encode(request.frame)) if recent else b""
            if isinstance(reply, Frame) and len(heard) - len(encode(reply)) > MOST_STRAY:
                reply = Noise(heard)
            request = conversation.send(reply)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        conversation.close()


def look(place: Place, attempts: int, reads: int = 1) -> Conversation[Sight]:
    """What answers at an A field or to a selection, from its first telegram, asked for `reads` times.

    Two meters in step can look like one, but hardly twice: the access number has changed.
    """
    ear = _Ear()
    address = place if isinstance(place, int) else SELECTED
    opening = snd_nke(place) if isinstance(place, int) else select(place)
    opened = yield from attempt(exchange(opening, ear.acknowledgement, min(2, attempts)))
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
        yield from deselect()
    if ear.noise > (0 if _may_be_many(place) else 1):
        why = why or "answers of which some are unreadable: are there several meters?"
    return _judge(frames, ear, why, None if isinstance(place, int) else place)


def _may_be_many(place: Place) -> bool:
    """Where several meters may answer by right, one unreadable answer is enough to believe that they do."""
    return place == TEST if isinstance(place, int) else not place.is_exact


def _judge(frames: list[LongFrame], ear: _Ear, why: str | None, asked: SecondaryAddress | None) -> Sight:
    """Whether these are the answers of one meter, the one that was selected."""
    if not ear.heard:
        return Sight()
    if why is not None:
        return Sight(answers=True, trouble=why)
    try:
        meters = [meter_in(frame) for frame in frames]
    except DecodeError as error:
        return Sight(answers=True, trouble=f"no telegram ({error.message})")
    if any(meter != meters[0] for meter in meters):
        return Sight(answers=True, trouble="answers of different meters")
    if asked is not None and meters[0] is not None and not asked.matches(meters[0]):
        return Sight(answers=True, trouble=f"an answer of another meter, {meters[0].digits}")
    return Sight(answers=True, meter=meters[0])


def meter_in(frame: LongFrame) -> SecondaryAddress | None:
    """Who sent a telegram, if it says so. Raises DecodeError."""
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


def only(mask: SecondaryAddress, attempts: int = ATTEMPTS) -> Conversation[SecondaryAddress]:
    """The full address of the one meter that a mask with wildcards means. Raises NoAnswer for none and for several."""
    sight = yield from look(mask, attempts, reads=2)
    if not sight.answers:
        raise NoAnswer("no answer")
    if sight.trouble is not None or sight.meter is None:
        raise NoAnswer(f"{said(sight)}; a mask must mean one meter only: mbusd scan PORT --secondary {mask} lists them")
    return sight.meter


def deselect() -> Conversation[None]:
    """End a selection; whoever was selected answers, or nobody."""
    yield from attempt(exchange(snd_nke(SELECTED), acknowledgement, 1))


def attempt(conversation: Conversation[T]) -> Conversation[T | None]:
    """Its result, or None where nobody answered."""
    try:
        return (yield from conversation)
    except NoAnswer:
        return None
