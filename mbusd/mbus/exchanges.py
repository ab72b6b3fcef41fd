"""What was heard on somebody else's bus: frames with their times, requests with their answers, and of whom.

The nouns of listening; pairing.py makes exchanges of frames.
"""

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Final, Literal

from mbusd.light import dataclass
from mbusd.mbus.address import BROADCAST, SELECTED, SecondaryAddress
from mbusd.mbus.errors import DecodeError
from mbusd.mbus.frames import (
    FCB,
    LONG,
    REQ_UD1,
    REQ_UD2,
    SHORT,
    SND_NKE,
    SND_UD,
    Ack,
    Frame,
    LongFrame,
    Noise,
    ShortFrame,
    encode,
)
from mbusd.mbus.link import acknowledgement, data
from mbusd.mbus.master import address_of
from mbusd.mbus.observation import Request, selection
from mbusd.mbus.telegram import Telegram, decode

Direction = Literal["master", "meter"]
Outcome = Literal["answered", "silent", "unreadable", "collision", "unexpected", "broadcast", "unasked", "noise"]
"""What became of a request; `unasked` is an answer to nothing that was heard, `noise` what belongs to nobody."""

FCV: Final = 0x10

_FROM_MASTER: Final = 0x40
FUNCTION: Final = 0x4F
_NAMES: Final = {
    function & FUNCTION: name
    for function, name in ((SND_NKE, "SND_NKE"), (SND_UD, "SND_UD"), (REQ_UD1, "REQ_UD1"), (REQ_UD2, "REQ_UD2"))
}
_PLACES: Final = {SELECTED: "the selected meter", 0xFE: "any meter (254)", BROADCAST: "all meters (255)"}


@dataclass(frozen=True, slots=True)
class Heard:
    """A frame or noise on the wire, from the begin of its first byte to the end of its last, in seconds."""

    begin: float
    end: float
    event: Frame | Noise
    direction: Direction | None = None  # what its adapter listens to; None: both

    @property
    def data(self) -> bytes:
        """As it stood on the wire."""
        return self.event.data if isinstance(self.event, Noise) else encode(self.event)

    @property
    def sender(self) -> Direction | None:
        """Who said it: the C field knows, E5 and A2 are always a meter's; of noise only the adapter can tell."""
        match self.event:
            case ShortFrame():
                return "master"
            case LongFrame(control):
                return "master" if control & _FROM_MASTER else "meter"
            case Noise(data):
                return self.direction or ("master" if _begins_like_a_request(data) else None)
            case _:
                return "meter"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request with all that came back, or what came without a request."""

    request: Heard | None
    answers: tuple[Heard, ...]
    outcome: Outcome
    repetition: int = 0  # 0: first transmission, 1 and 2: the same frame again because no answer was accepted
    meter: str | None = None  # the primary address, or the secondary one of whoever is selected
    telegram: Telegram | None = None
    problem: DecodeError | None = None  # why the answer is no telegram
    remarks: tuple[str, ...] = ()

    @property
    def begin(self) -> float:
        """When its first byte began."""
        return (self.request or self.answers[0]).begin

    @property
    def latency(self) -> float | None:
        """Seconds from the end of the request to the begin of the answer."""
        return self.answers[0].begin - self.request.end if self.request and self.answers else None

    @property
    def frame(self) -> Request | None:
        """What was asked."""
        event = self.request.event if self.request else None
        return event if isinstance(event, ShortFrame | LongFrame) else None

    @property
    def fcb(self) -> bool | None:
        """The frame count bit of the request, None where it is not valid (FCV=0)."""
        return None if self.frame is None or not self.frame.control & FCV else bool(self.frame.control & FCB)

    @property
    def access_number(self) -> int | None:
        """Of the answer's header."""
        return None if self.telegram is None else access_number_of(self.telegram)


@dataclass(frozen=True, slots=True)
class MeterSeen:
    """What was heard of one meter. A read-out is all its telegrams, counted when the last is answered."""

    meter: str
    identity: SecondaryAddress | None = None  # from its headers
    requests: int = 0  # for data, or with data; neither SND_NKE nor selections
    repetitions: int = 0
    silent: int = 0
    unreadable: int = 0
    read_outs: int = 0
    first: float = 0.0  # begin of the last telegram of the first and of the last read-out
    last: float = 0.0

    def joined(self, other: "MeterSeen") -> "MeterSeen":
        """The same meter, asked at two addresses; this one is its name."""
        counted = [one for one in (self, other) if one.read_outs]
        return MeterSeen(
            self.meter,
            self.identity or other.identity,
            self.requests + other.requests,
            self.repetitions + other.repetitions,
            self.silent + other.silent,
            self.unreadable + other.unreadable,
            self.read_outs + other.read_outs,
            min((one.first for one in counted), default=0.0),
            max((one.last for one in counted), default=0.0),
        )

    @property
    def is_by_primary(self) -> bool:
        """Its name is a primary address."""
        return len(self.meter) < len("12345678")

    @property
    def interval(self) -> float | None:
        """Mean seconds between two read-outs."""
        return (self.last - self.first) / (self.read_outs - 1) if self.read_outs > 1 else None


def each_once(seen: Sequence[MeterSeen]) -> Iterator[MeterSeen]:
    """A meter that was asked by its primary address, by its secondary one and by a part of that is one meter.

    Two primary addresses stay two, whoever answers there.
    """
    groups: dict[str, list[MeterSeen]] = {}
    for one in seen:
        groups.setdefault(_who(one, seen), []).append(one)
    for group in groups.values():
        first, *others = sorted(group, key=lambda one: (not one.is_by_primary, -len(one.meter)))
        if sum(one.is_by_primary for one in group) > 1:
            yield from group
        else:
            yield reduce(MeterSeen.joined, others, first)


def _who(one: MeterSeen, seen: Sequence[MeterSeen]) -> str:
    """Its identity; of a selection that nobody has answered, that of the only meter which it can mean."""
    if one.identity is not None:
        return one.identity.digits
    if one.is_by_primary:
        return one.meter
    mask = SecondaryAddress(one.meter.ljust(16, "F"))
    meant = {other.identity.digits for other in seen if other.identity and mask.matches(other.identity)}
    return meant.pop() if len(meant) == 1 else one.meter


def _begins_like_a_request(data: bytes) -> bool:
    """A garbled one: the first byte and the C field of a short frame, or the head of a long one, are left of it."""
    short = len(data) > 1 and data[0] == SHORT and data[1] & FUNCTION in _NAMES
    return short or (len(data) > 4 and data[0] == data[3] == LONG and data[4] & FUNCTION in _NAMES)


def name_of(request: Request) -> str:
    """A request in the standard's words."""
    mask = selection(request)
    if mask is not None:
        return f"select {mask}"
    name = _NAMES.get(request.control & FUNCTION, f"C {request.control:02X}")
    ci = f", CI {request.ci:02X}" if isinstance(request, LongFrame) else ""
    count = f", FCB {int(bool(request.control & FCB))}" if request.control & FCV else ""
    return f"{name} to {_PLACES.get(request.address, request.address)}{ci}{count}"


def access_number_of(telegram: Telegram) -> int | None:
    return None if telegram.header is None else telegram.header.access_number


def asks_data(request: Request | None) -> bool:
    return request is not None and request.control & FUNCTION == REQ_UD2 & FUNCTION


def outcome_of(request: Request, answers: Sequence[Heard]) -> Outcome:
    events = [one.event for one in answers]
    frames = [event for event in events if not isinstance(event, Noise)]
    if not events:
        return "broadcast" if request.address == BROADCAST else "silent"
    if not frames:
        return "unreadable"
    if len(frames) > 1 or isinstance(events[-1], Noise):
        return "collision"
    if request.control & FUNCTION == SND_NKE or selection(request) is not None:
        accepted = acknowledgement(frames[0], request) is not None
    else:  # E5 to a request for data means that there are none; a SND_UD may be answered by data
        accepted = isinstance(frames[0], Ack) or data(frames[0], request) is not None
    return "answered" if accepted else "unexpected"


def decoded(answers: Sequence[Heard]) -> tuple[Telegram | None, DecodeError | None]:
    frame = next((one.event for one in answers if isinstance(one.event, LongFrame)), None)
    if frame is None:
        return None, None
    try:
        return decode(frame), None
    except DecodeError as error:
        return None, error


def identity_of(exchange: Exchange) -> SecondaryAddress | None:
    header = exchange.telegram.header if exchange.telegram else None
    return address_of(header) if header else None
