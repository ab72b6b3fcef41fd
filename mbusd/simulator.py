"""Virtual meters and the two wires between them, pure: a request goes in, what the wire carries back comes out.

This is the slave's side of EN 13757-2 and -3 (FCB memory, selection, several telegrams), written apart from the
master that it tests. The meters answer together, so searches collide here as they do in a cellar.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from random import Random
from typing import Literal

from mbusd.mbus.address import BROADCAST, SELECTED, TEST, SecondaryAddress, manufacturer_code
from mbusd.mbus.errors import DecodeError
from mbusd.mbus.frames import (
    FCB,
    REQ_UD1,
    REQ_UD2,
    RSP_UD,
    SND_NKE,
    SND_UD,
    Ack,
    Frame,
    LongFrame,
    ShortFrame,
    encode,
    parse,
)
from mbusd.simulated_writes import Impossible, NewAddress, NewClock, NewIdentification, wish
from mbusd.superposition import superpose

FCV = 0x10
LARGEST_PAGE = 239  # bytes of records: L = 255 less C, A, CI, the long header and a DIF 1F

_APPLICATION_RESET = 0x50
_COMMAND = 0x51
_FIRST_RATE = 0xB8  # CI field of a switch to 300 Bd
_LONG_HEADER = 0x72
_MORE_FOLLOWS = b"\x1f"
_BEGAN = datetime(2025, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Moment:
    """Seconds since the start of the simulation, and what a meter's own clock shows then."""

    seconds: float
    clock: datetime


FcbMemory = Literal["shared", "separate", "ignored"]
"""One memory for all addresses, one more for FD, or none: then each REQ_UD2 brings the next telegram."""

RATES = (300, 600, 1200, 2400, 4800, 9600, 19200, 38400)  # Bd, in the order of their CI fields

Writes = Literal["obeyed", "ignored", "silent"]
"""What a meter does about commands: obey, acknowledge and do nothing, or not even acknowledge."""

Pages = Callable[[Moment], Sequence[bytes]]
"""The records of each telegram of one read-out, without header and without the DIF 1F between telegrams."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes that a meter sends `delay` seconds after the shortest pause that it must keep (11 bit times)."""

    data: bytes
    delay: float


class Fault(Enum):
    """What becomes of one answer; a meter uses up its `faults` one per answer."""

    NONE = auto()
    DROP = auto()
    GARBLE = auto()  # one bit is flipped
    CUT = auto()  # the second half is missing
    LATE = auto()  # it comes `late_by` seconds later
    NOISE_BEFORE = auto()
    NOISE_AFTER = auto()


@dataclass(slots=True)
class Behaviour:
    """How a meter deviates from the rules; may be changed while it runs."""

    deaf: bool = False
    answers_nke: bool = True
    endless: bool = False  # the last telegram too says that more follow
    sleeps_after: float | None = None  # seconds without a request, then the next one only wakes the meter
    late_by: float = 1.0  # seconds, see Fault.LATE
    fcb: FcbMemory = "shared"
    writes: Writes = "obeyed"
    stores_after: float = 0.0  # seconds from the acknowledgement to the effect of a command
    falls_back_after: float | None = None  # seconds without a good frame at a new rate, then the old one again


@dataclass(slots=True)
class SimulatedMeter:
    """One slave: who it is, what it sends, and what it remembers between two requests.

    `primary` None: it can be reached by its secondary address only. `rate` in Bd, None: it understands every rate and
    has none to switch. `applications`: what it sends after an application select with this subcode instead of `pages`.
    Raises ValueError where a telegram is too long.
    """

    secondary: SecondaryAddress
    pages: Pages
    primary: int | None = None
    name: str = ""
    fabrication: str | None = None  # 8 digits, for the enhanced selection
    status: int = 0
    delay: float = 0.02  # seconds, beyond the 11 bit times of the standard
    behaviour: Behaviour = field(default_factory=Behaviour)
    faults: deque[Fault] = field(default_factory=deque)
    seed: int = 0
    access_number: int = 1  # of the next telegram
    selected: bool = False
    clock_offset: timedelta = timedelta()
    rate: int | None = None
    rates: Sequence[int] = RATES  # that it can be switched to
    applications: Mapping[int, Pages] = field(default_factory=dict)
    _application: int = field(default=0, init=False)
    _stores: list[tuple[float, Callable[[], None]]] = field(default_factory=list, init=False)
    _rate_before: tuple[int, float] | None = field(default=None, init=False)  # and since when nothing good was heard
    _fcb: dict[bool, int] = field(default_factory=dict, init=False)  # "is this the link of FD" → FCB of its last frame
    _page: int | None = field(default=None, init=False)  # the telegram that was sent last
    _snapshot: Sequence[bytes] = field(default=(), init=False)
    _heard: float = field(default=float("-inf"), init=False)
    _random: Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)  # noqa: S311 (spoils telegrams, keeps no secret)
        for pages in (self.pages, *self.applications.values()):
            longest = max((len(page) for page in pages(Moment(0.0, _BEGAN))), default=-1)
            if not 0 <= longest <= LARGEST_PAGE:
                name = self.name or self.secondary
                raise ValueError(f"meter {name}: a telegram has 0..{LARGEST_PAGE} bytes of records")

    def hears(self, rate: int | None, seconds: float) -> bool:
        """Whether a frame at `rate` Bd is one for this meter; None is every rate."""
        if self._rate_before is not None:
            before, since = self._rate_before
            limit = self.behaviour.falls_back_after
            if limit is not None and seconds - since > limit:
                self.rate, self._rate_before = before, None
        if None in (rate, self.rate):
            return True
        if rate == self.rate:
            self._rate_before = None  # there is a master at this rate: it stays
        return rate == self.rate

    def answer(self, request: Frame, moment: Moment) -> Answer | None:
        """What the meter does on hearing a good frame, and what it says, if anything. Never raises."""
        self._store_what_is_due(moment.seconds)
        if not self._is_awake(moment.seconds):
            return None
        match request:
            case LongFrame(control, address, 0x52, data) if address == SELECTED and _is(control, SND_UD):
                reply = self._select(data)
            case ShortFrame(control, address) if self._is_meant(address):
                reply = self._answer_short(control, address, moment)
            case LongFrame(control, address, ci, data) if self._is_meant(address) and _is(control, SND_UD):
                reply = self._obey(request, ci, data, moment)
            case _:
                reply = None
        if reply is None or (isinstance(request, ShortFrame | LongFrame) and request.address == BROADCAST):
            return None
        return self._spoil(encode(reply))

    def _is_awake(self, seconds: float) -> bool:
        pause = seconds - self._heard
        self._heard = seconds
        limit = self.behaviour.sleeps_after
        return not self.behaviour.deaf and (limit is None or pause <= limit)

    def _is_meant(self, address: int) -> bool:
        if address == SELECTED:
            return self.selected
        return address in (self.primary, TEST, BROADCAST)

    def _answer_short(self, control: int, address: int, moment: Moment) -> Frame | None:
        if control == SND_NKE:
            self._fcb.clear()
            self._page = None
            if address == SELECTED:
                self.selected = False
            return Ack() if self.behaviour.answers_nke else None
        if address == BROADCAST:
            return None
        if _is(control, REQ_UD1):
            return Ack()
        if _is(control, REQ_UD2):
            return self._send_telegram(control, address, moment)
        return None

    def _send_telegram(self, control: int, address: int, moment: Moment) -> Frame:
        repeated = self._page is not None and control & FCV and not self._is_new(control, address)
        if not repeated or self.behaviour.fcb == "ignored":
            self._page = self._turned_page(control, address)
            if self._page == 0:
                pages = self.applications.get(self._application, self.pages)
                self._snapshot = pages(Moment(moment.seconds, moment.clock + self.clock_offset))
        self._remember(control, address)
        page = self._page or 0
        more = page < len(self._snapshot) - 1 or self.behaviour.endless
        number, self.access_number = self.access_number, (self.access_number + 1) & 0xFF
        header = self.secondary.to_bytes() + bytes([number, self.status, 0, 0])
        records = self._snapshot[page] + (_MORE_FOLLOWS if more else b"")
        own = SELECTED if self.primary is None else self.primary
        return LongFrame(RSP_UD, own, _LONG_HEADER, header + records)

    def _turned_page(self, control: int, address: int) -> int:
        """The telegram that a request brings which is no repetition: the first, the next or (FCV 0) the same."""
        if self._page is None:
            return 0
        if self.behaviour.fcb != "ignored":
            if not control & FCV:
                return self._page
            if self._last(address) is None:
                return 0
        return (self._page + 1) % len(self._snapshot)

    def _link(self, address: int) -> bool:
        return address == SELECTED and self.behaviour.fcb == "separate"

    def _last(self, address: int) -> int | None:
        return self._fcb.get(self._link(address))

    def _is_new(self, control: int, address: int) -> bool:
        return bool(control & FCV) and control & FCB != self._last(address)

    def _remember(self, control: int, address: int) -> None:
        if control & FCV:
            self._fcb[self._link(address)] = control & FCB

    def _select(self, data: bytes) -> Frame | None:
        self.selected = self._matches(data)
        if not self.selected:
            return None
        self._fcb.pop(self._link(SELECTED), None)
        return Ack()

    def _matches(self, data: bytes) -> bool:
        """Identification (nibbles) and the rest (bytes); behind it perhaps the fabrication number, `0C 78`."""
        if len(data) < 8 or not SecondaryAddress.from_bytes(data[:8]).matches(self.secondary):
            return False
        tail = data[8:]
        if not tail:
            return True
        if self.fabrication is None or len(tail) != 6 or tail[:2] != b"\x0c\x78":
            return False
        mask = tail[:1:-1].hex().upper()
        return all(digit in ("F", own) for digit, own in zip(mask, self.fabrication, strict=True))

    def _obey(self, request: LongFrame, ci: int, data: bytes, moment: Moment) -> Frame | None:
        """A SND_UD: executed, or only acknowledged where the FCB says that it is a repetition."""
        control, address = request.control, request.address
        effect = self._effect(ci, data, moment)
        if effect is None or self.behaviour.writes == "silent":
            return None
        if self.behaviour.writes == "obeyed" and (not control & FCV or self._is_new(control, address)):
            self._stores.append((moment.seconds + self.behaviour.stores_after, effect))
            self._store_what_is_due(moment.seconds)
        self._remember(control, address)
        return Ack()

    def _store_what_is_due(self, seconds: float) -> None:
        due = [effect for at, effect in self._stores if at <= seconds]
        self._stores = [(at, effect) for at, effect in self._stores if at > seconds]
        for effect in due:
            effect()

    def _effect(self, ci: int, data: bytes, moment: Moment) -> Callable[[], None] | None:
        """What a command does to this meter; None where it does not even acknowledge it."""
        if ci == _APPLICATION_RESET:
            return lambda: self._choose_application(data)
        if ci == _COMMAND:
            return self._wanted(data, moment)
        rate = dict(enumerate(RATES, _FIRST_RATE)).get(ci)
        if rate is None or self.rate is None or rate not in self.rates:
            return None
        return lambda: self._switch(rate, moment.seconds)

    def _wanted(self, data: bytes, moment: Moment) -> Callable[[], None] | None:
        shown = moment.clock + self.clock_offset
        match wish(data, shown):
            case NewAddress(number) if self.primary is not None:
                return lambda: self._move(number)
            case NewIdentification(identification):
                return lambda: self._rename(identification)
            case NewClock(wanted):
                return lambda: self._set_clock(wanted - shown)
            case NewAddress() | Impossible():
                return None
        return lambda: None

    def _choose_application(self, subcode: bytes) -> None:
        """Back to the first telegram, of the default or of what the subcode selects; an unknown one has no effect."""
        self._page = None
        if not subcode or subcode[0] == 0 or subcode[0] in self.applications:
            self._application = subcode[0] if subcode else 0

    def _move(self, number: int) -> None:
        self.primary = number

    def _rename(self, data: bytes) -> None:
        self.secondary = SecondaryAddress.from_bytes(data + self.secondary.to_bytes()[len(data) :])

    def _set_clock(self, step: timedelta) -> None:
        self.clock_offset += step

    def _switch(self, rate: int, seconds: float) -> None:
        if self.rate not in (None, rate):
            self._rate_before = (self.rate, seconds)
        self.rate = rate

    def _spoil(self, data: bytes) -> Answer | None:
        delay = self.delay
        match self.faults.popleft() if self.faults else Fault.NONE:
            case Fault.NONE:
                pass
            case Fault.DROP:
                return None
            case Fault.GARBLE:
                spoilt = bytearray(data)
                spoilt[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)
                data = bytes(spoilt)
            case Fault.CUT:
                data = data[: (len(data) + 1) // 2] if len(data) > 1 else b"\x00"
            case Fault.LATE:
                delay += self.behaviour.late_by
            case Fault.NOISE_BEFORE:
                data = self._random.randbytes(3) + data
            case Fault.NOISE_AFTER:
                data += self._random.randbytes(3)
        return Answer(data, delay)


def identity(identification: str, manufacturer: str, version: int, medium: int) -> SecondaryAddress:
    """A meter's own secondary address: 8 digits, three letters, two bytes. Raises AddressError."""
    maker = manufacturer_code(manufacturer).to_bytes(2, "little")
    return SecondaryAddress(f"{identification}{maker.hex().upper()}{version:02X}{medium:02X}")


def _is(control: int, function: int) -> bool:
    """The C field means this function, whatever its FCB and FCV say."""
    return control & ~(FCB | FCV) == function & ~(FCB | FCV)


@dataclass(slots=True)
class SimulatedBus:
    """All meters on the two wires. `began` is what the meters' clocks show at second 0.

    `echo`: the converter sends each request back. `split`: answers arrive in pieces of so many bytes, 0 = as they come.
    `rate`: in Bd, at which the master speaks; meters with another rate hear nothing that they understand.
    """

    meters: list[SimulatedMeter]
    began: datetime = _BEGAN
    echo: bool = False
    split: int = 0
    rate: int | None = None
    requests: int = 0  # good frames that were heard
    early_requests: int = 0  # requests sent into an answer that was due or under way: a fault of the master

    def answers(self, request: Frame, seconds: float) -> list[Answer]:
        """What each meter says to one good frame that ended at `seconds` since the start."""
        self.requests += 1
        moment = Moment(seconds, self.began + timedelta(seconds=seconds))
        answers = [meter.answer(request, moment) for meter in self.meters if meter.hears(self.rate, seconds)]
        return [answer for answer in answers if answer is not None]

    def answer(self, request: bytes, seconds: float = 0.0) -> bytes | None:
        """The bytes that come back where all meters start to speak in the same bit; None for silence. Never raises."""
        try:
            frame = parse(request)
        except DecodeError:
            return None
        return superpose((0, answer.data) for answer in self.answers(frame, seconds)) or None
