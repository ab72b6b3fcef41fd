"""Frames heard on somebody else's bus become exchanges: request, answer, repetition, and whose (EN 13757-2 cl. 5.7).

What a selection has chosen, the FCB of each link and the access numbers are followed as the meters must follow them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from mbusd.mbus.address import BROADCAST, HIGHEST_PRIMARY, SELECTED, SecondaryAddress
from mbusd.mbus.errors import DecodeError
from mbusd.mbus.frames import FCB, REQ_UD1, REQ_UD2, SND_NKE, SND_UD, Ack, Frame, LongFrame, Noise, ShortFrame, encode
from mbusd.mbus.link import acknowledgement, data, describe
from mbusd.mbus.master import address_of
from mbusd.mbus.observation import Request, selection
from mbusd.mbus.telegram import Telegram, decode

Direction = Literal["master", "meter"]
Outcome = Literal["answered", "silent", "unreadable", "collision", "unexpected", "broadcast", "unasked", "noise"]
"""What became of a request; `unasked` is an answer to nothing that was heard, `noise` what belongs to nobody."""

FCV: Final = 0x10
REPEATED_WITHIN: Final = 10.0  # seconds: later, the same request is the next cycle's; gateways are asked this slowly

_FROM_MASTER: Final = 0x40
_FUNCTION: Final = 0x4F
_NAMES: Final = {
    function & _FUNCTION: name
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
            case Noise():
                return self.direction
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
        return None if self.telegram is None else _access_number(self.telegram)


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

    @property
    def interval(self) -> float | None:
        """Mean seconds between two read-outs."""
        return (self.last - self.first) / (self.read_outs - 1) if self.read_outs > 1 else None


def name_of(request: Request) -> str:
    """A request in the standard's words."""
    mask = selection(request)
    if mask is not None:
        return f"select {mask}"
    name = _NAMES.get(request.control & _FUNCTION, f"C {request.control:02X}")
    ci = f", CI {request.ci:02X}" if isinstance(request, LongFrame) else ""
    count = f", FCB {int(bool(request.control & FCB))}" if request.control & FCV else ""
    return f"{name} to {_PLACES.get(request.address, request.address)}{ci}{count}"


class Pairing:
    """Takes what is heard in the order of its begin; gives exchanges as soon as nothing can be added to them."""

    def __init__(self) -> None:
        self.seen: dict[str, MeterSeen] = {}
        self._request: Heard | None = None
        self._answers: list[Heard] = []
        self._before: Exchange | None = None
        self._selected: str | None = None
        self._fcb: dict[int, bool] = {}  # of the last answered request, for each A field
        self._last: dict[str, Telegram] = {}
        self._counting: set[str] = set()  # meters whose access number steps

    def take(self, heard: Heard) -> Iterator[Exchange]:
        """What came next."""
        is_noise = isinstance(heard.event, Noise)
        if heard.sender == "master":
            yield from self._close()
            if is_noise:
                yield Exchange(None, (heard,), "noise")
            else:
                self._request = heard
        elif self._request is None:
            yield self._judged(None, (heard,), "noise" if is_noise else "unasked")
        else:
            self._answers.append(heard)

    def expire(self, now: float, window: float, gap: float) -> Iterator[Exchange]:
        """Nothing else began until now. An answer begins within `window`, what belongs to it within `gap` behind."""
        if self._request is not None:
            last = self._answers[-1].end + gap if self._answers else self._request.end + window
            if now > last:
                yield from self._close()

    def _close(self) -> Iterator[Exchange]:
        request, answers = self._request, tuple(self._answers)
        self._request = None
        self._answers.clear()
        if request is not None and isinstance(request.event, ShortFrame | LongFrame):
            yield self._judged(request, answers, _outcome(request.event, answers))

    def _judged(self, request: Heard | None, answers: tuple[Heard, ...], outcome: Outcome) -> Exchange:
        telegram, problem = _decoded(answers)
        exchange = Exchange(request, answers, outcome, 0, None, telegram, problem)
        exchange = replace(exchange, meter=self._meter(exchange), repetition=self._repetition(exchange))
        exchange = replace(exchange, remarks=tuple(self._remarks(exchange)))
        self._tally(exchange)
        self._remember(exchange)
        return exchange

    def _repetition(self, exchange: Exchange) -> int:
        before = self._before
        if before is None or before.frame != exchange.frame or before.outcome in ("answered", "broadcast"):
            return 0
        return before.repetition + 1 if exchange.begin - before.begin < REPEATED_WITHIN else 0

    def _meter(self, exchange: Exchange) -> str | None:
        """Whose exchange it is; at 253 the header tells, else what was selected."""
        identity = _identity(exchange)
        frame = exchange.frame or next(
            (one.event for one in exchange.answers if isinstance(one.event, LongFrame)), None
        )
        if frame is None or frame.address == BROADCAST:
            return None
        if frame.address <= HIGHEST_PRIMARY:
            return str(frame.address)
        mask = selection(frame)
        if mask is not None:
            self._selected = self._known(mask)
        elif identity is not None:
            self._selected = identity.digits
        if frame.address == SELECTED:
            return self._selected
        return None if identity is None else identity.digits

    def _known(self, mask: SecondaryAddress) -> str:
        """The whole address of the one meter that a mask means, if it was heard before."""
        found = [
            one.meter
            for one in self.seen.values()
            if one.identity and one.meter == one.identity.digits and mask.matches(one.identity)
        ]
        return found[0] if mask.is_exact and len(found) == 1 else str(mask)

    def _is_again(self, exchange: Exchange) -> bool:
        """A new request whose FCB is that of the last one: the meter must take it for a repetition."""
        frame = exchange.frame
        if frame is None or exchange.fcb is None or exchange.repetition or selection(frame) is not None:
            return False
        return self._fcb.get(frame.address) is exchange.fcb

    def _remarks(self, exchange: Exchange) -> Iterator[str]:
        events = [one.event for one in exchange.answers]
        if self._is_again(exchange):
            yield "the FCB did not toggle: the meter may send its last telegram again"
        if exchange.outcome == "collision":
            behind = sum(len(one.data) for one in exchange.answers[1:])
            yield f"bytes behind the answer: {behind}; do two meters answer?"
        elif exchange.outcome in ("unreadable", "unexpected") or (events == [Ack()] and _asks_data(exchange.frame)):
            yield describe(events[0])
        elif exchange.outcome == "unasked":
            yield from self._perhaps_late(exchange)
        telegram = exchange.telegram
        if telegram and exchange.meter in self._counting and self._last[exchange.meter].frame == telegram.frame:
            yield f"the same telegram as before (access number {exchange.access_number}): its values are old"

    def _perhaps_late(self, exchange: Exchange) -> Iterator[str]:
        before = self._before
        if before and before.frame and before.request and before.outcome == "silent":
            seconds = exchange.begin - before.request.end
            if seconds < REPEATED_WITHIN:
                yield f"perhaps the answer to {name_of(before.frame)}, {seconds:.2f} s after it: too late"

    def _remember(self, exchange: Exchange) -> None:
        """What the next exchange is judged by."""
        frame, meter, telegram = exchange.frame, exchange.meter, exchange.telegram
        if frame is not None:
            self._before = exchange
            if frame.control & _FUNCTION == SND_NKE:
                self._reset(frame.address)
            elif selection(frame) is not None:
                self._fcb.pop(SELECTED, None)
            elif exchange.fcb is not None and exchange.outcome == "answered":
                self._fcb[frame.address] = exchange.fcb
        if telegram is not None and meter is not None:
            before = self._last.get(meter)
            if before and _access_number(before) != _access_number(telegram):
                self._counting.add(meter)
            self._last[meter] = telegram

    def _reset(self, address: int) -> None:
        if address == BROADCAST:
            self._fcb.clear()
        self._fcb.pop(address, None)
        if address in (SELECTED, BROADCAST):
            self._selected = None

    def _tally(self, exchange: Exchange) -> None:
        frame, meter = exchange.frame, exchange.meter
        is_counted = frame is not None and frame.control & _FUNCTION != SND_NKE and selection(frame) is None
        exists = exchange.telegram is not None or (
            bool(exchange.answers) and frame is not None and frame.address <= HIGHEST_PRIMARY
        )
        if meter is None or not (is_counted or exists):
            return
        before = self.seen.get(meter, MeterSeen(meter))
        now = replace(before, identity=_identity(exchange) or before.identity)
        if is_counted:
            now = replace(
                now,
                requests=now.requests + 1,
                repetitions=now.repetitions + bool(exchange.repetition),
                silent=now.silent + (exchange.outcome == "silent"),
                unreadable=now.unreadable + (exchange.outcome in ("unreadable", "collision")),
            )
            if self._ends_read_out(exchange):
                first = now.first if now.read_outs else exchange.begin
                now = replace(now, read_outs=now.read_outs + 1, first=first, last=exchange.begin)
        self.seen[meter] = now

    def _ends_read_out(self, exchange: Exchange) -> bool:
        is_last = exchange.telegram is not None and not exchange.telegram.more_follows
        return is_last and exchange.outcome == "answered" and not self._is_again(exchange)


def _access_number(telegram: Telegram) -> int | None:
    return None if telegram.header is None else telegram.header.access_number


def _asks_data(request: Request | None) -> bool:
    return request is not None and request.control & _FUNCTION == REQ_UD2 & _FUNCTION


def _outcome(request: Request, answers: Sequence[Heard]) -> Outcome:
    events = [one.event for one in answers]
    frames = [event for event in events if not isinstance(event, Noise)]
    if not events:
        return "broadcast" if request.address == BROADCAST else "silent"
    if not frames:
        return "unreadable"
    if len(frames) > 1 or isinstance(events[-1], Noise):
        return "collision"
    if request.control & _FUNCTION == SND_NKE or selection(request) is not None:
        accepted = acknowledgement(frames[0], request) is not None
    else:  # E5 to a request for data means that there are none; a SND_UD may be answered by data
        accepted = isinstance(frames[0], Ack) or data(frames[0], request) is not None
    return "answered" if accepted else "unexpected"


def _decoded(answers: Sequence[Heard]) -> tuple[Telegram | None, DecodeError | None]:
    frame = next((one.event for one in answers if isinstance(one.event, LongFrame)), None)
    if frame is None:
        return None, None
    try:
        return decode(frame), None
    except DecodeError as error:
        return None, error


def _identity(exchange: Exchange) -> SecondaryAddress | None:
    header = exchange.telegram.header if exchange.telegram else None
    return address_of(header) if header else None
