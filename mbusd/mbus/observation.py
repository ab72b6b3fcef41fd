"""What one transmission of a request brought, byte for byte, and how that looks: input of a diagnosis."""

from collections.abc import Collection, Iterator, Sequence

from mbusd.light import dataclass
from mbusd.mbus.address import BROADCAST, SELECTED, SecondaryAddress
from mbusd.mbus.frames import (
    ACK,
    LONG,
    REQ_UD1,
    REQ_UD2,
    SND_NKE,
    SND_UD,
    Ack,
    Frame,
    FrameReader,
    LongFrame,
    Noise,
    ShortFrame,
    encode,
)
from mbusd.mbus.link import Reply, Silence, data

Request = ShortFrame | LongFrame

_FROM_MASTER = 0x40
_FUNCTION = 0x4F
_SAID = frozenset(control & _FUNCTION for control in (SND_NKE, SND_UD, REQ_UD1, REQ_UD2))


@dataclass(frozen=True, slots=True)
class Observation:
    """One transmission of a request, and the bytes that came: echo, answers, noise, as they were.

    `heard`: until the exchange was taken for ended. `after`: from then until the next request. `broken`: the places in
    `heard` of bytes with a parity or framing error, where the port tells.
    """

    request: Request
    heard: bytes = b""
    after: bytes = b""
    broken: frozenset[int] = frozenset()

    @classmethod
    def of(cls, request: Request, reply: Reply) -> "Observation":
        """Where only the reply is known; what stood behind it, and an echo, cannot be seen then."""
        match reply:
            case Silence():
                return cls(request)
            case Noise(heard):
                return cls(request, heard)
            case frame:
                return cls(request, encode(frame))


def selection(request: Request) -> SecondaryAddress | None:
    """Whom a selection is to choose, wildcards included; None for any other request."""
    match request:
        case LongFrame(_, 0xFD, 0x52, body) if len(body) >= 8:
            return SecondaryAddress.from_bytes(body[:8])
    return None


@dataclass(frozen=True, slots=True)
class Look:
    """An observation, understood."""

    request: Request
    who: str  # the address that was asked, or the selected one
    is_search: bool  # a selection with wildcards, or a request behind one: several answers are no fault
    rest: bytes  # without the echo
    events: tuple[Frame | Noise, ...]  # of meters: requests are not among them
    foreign: tuple[Request, ...]  # requests that this master did not send
    after: bytes
    echoed: bool
    broken: frozenset[int] = frozenset()  # places in `rest`

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The meters' frames."""
        return tuple(event for event in self.events if not isinstance(event, Noise))

    @property
    def wants_data(self) -> bool:
        """A long frame is due (or, to REQ_UD1, possible)."""
        return self.request.control & _FUNCTION in (REQ_UD1 & _FUNCTION, REQ_UD2 & _FUNCTION)

    @property
    def wants_ack(self) -> bool:
        """Nothing but E5 is due."""
        return _wants_ack(self.request)

    @property
    def is_good(self) -> bool:
        """An answer that is due is among what came."""
        return any(is_due(frame, self.request) for frame in self.frames)

    @property
    def is_bad(self) -> bool:
        """Bytes came, and no frame is among them."""
        return bool(self.rest) and not self.frames and not self.foreign

    @property
    def may_collide(self) -> bool:
        """Its first byte can be that of several answers at once: a space wins, so no bit is set that is not due."""
        due = (
            ACK | LONG if self.request.control & _FUNCTION == REQ_UD1 & _FUNCTION else LONG if self.wants_data else ACK
        )
        return not self.rest[0] & ~due

    @property
    def has_more(self) -> bool:
        """Something stands behind a good frame."""
        return self.is_good and (len(self.frames) > 1 or isinstance(self.events[-1], Noise) or bool(self.after))


def understand(asked: Sequence[Observation]) -> Iterator[Look]:
    """Each observation with its address; broadcasts, which nobody answers, only where something came."""
    own = {encode(one.request) for one in asked}
    mask: SecondaryAddress | None = None
    for one in asked:
        mask = selection(one.request) or mask
        if one.request.address == BROADCAST and not one.heard:
            continue
        sent = encode(one.request)
        echoed = one.heard.startswith(sent)
        rest = one.heard[len(sent) :] if echoed else one.heard
        is_selected = one.request.address == SELECTED and mask is not None
        broken = frozenset(place - len(one.heard) + len(rest) for place in one.broken)
        events = _unbroken(events_in(rest), broken)
        yield Look(
            request=one.request,
            who=str(mask) if is_selected else str(one.request.address),
            is_search=is_selected and mask is not None and not mask.is_exact,
            rest=rest,
            events=tuple(event for event in events if not is_request(event)),
            foreign=tuple(foreign_requests(events, own)),
            after=b"" if one.after in own else one.after,  # an echo that came late
            echoed=echoed or one.after == sent,
            broken=frozenset(place for place in broken if place >= 0),
        )


def _wants_ack(request: Request) -> bool:
    return request.control == SND_NKE or selection(request) is not None


def is_due(frame: Frame, request: Request) -> bool:
    """A meter may answer so: E5 to anything; data of the one that was asked, but not for SND_NKE and selections."""
    return isinstance(frame, Ack) or (not _wants_ack(request) and data(frame, request) is not None)


def events_in(heard: bytes) -> list[Frame | Noise]:
    """Frames and noise in bytes behind which the bus was silent."""
    reader = FrameReader()
    return [*reader.feed(heard), *reader.flush()]


def _unbroken(events: Sequence[Frame | Noise], broken: Collection[int]) -> list[Frame | Noise]:
    """The same, each that holds a broken byte as noise, whatever it looks like."""
    result: list[Frame | Noise] = []
    end = 0
    for event in events:
        data = event.data if isinstance(event, Noise) else encode(event)
        begin, end = end, end + len(data)
        result.append(Noise(data) if any(begin <= place < end for place in broken) else event)
    return result


def is_request(event: Frame | Noise) -> bool:
    """A master said it."""
    return isinstance(event, ShortFrame) or (isinstance(event, LongFrame) and bool(event.control & _FROM_MASTER))


def foreign_requests(events: Sequence[Frame | Noise], own: Collection[bytes]) -> Iterator[Request]:
    """Requests that are not among one's own; short frames that no master says are chance, as in a jumble of answers."""
    for event in events:
        if (
            isinstance(event, ShortFrame | LongFrame)
            and event.control & _FUNCTION in _SAID
            and encode(event) not in own
        ):
            yield event
