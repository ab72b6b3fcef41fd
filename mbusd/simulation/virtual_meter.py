"""One virtual meter, pure: a request goes in, its answer comes out.

This is the slave's side of EN 13757-2 and -3 (FCB memory, selection, several telegrams, alarms, commands), written
apart from the master that it tests.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random

from mbusd.mbus.address import BROADCAST, SELECTED, TEST, SecondaryAddress
from mbusd.mbus.frames import REQ_UD1, REQ_UD2, RSP_UD, SND_NKE, SND_UD, Ack, Frame, LongFrame, ShortFrame, encode
from mbusd.simulation.behaviour import RATES, Answer, Behaviour, Moment, Pages
from mbusd.simulation.faults import Fault, damaged, spoilt
from mbusd.simulation.link import FCV, FcbRecord, is_selected, means, memory_of
from mbusd.simulation.rests import Rests
from mbusd.simulation.telegrams import LARGEST_PAGE, Telegrams
from mbusd.simulation.writes import Impossible, NewAddress, NewClock, NewIdentification, Stores, wish

BEGAN = datetime(2025, 1, 1, tzinfo=UTC)  # what a meter's clock shows at second 0, if nothing else is said
ACD = 0x20  # in an answer: there are class 1 data

_APPLICATION_RESET = 0x50
_COMMAND = 0x51
_FIRST_RATE = 0xB8  # CI field of a switch to 300 Bd
_APPLICATION_ERROR = 0x70
_TOO_MANY_READ_OUTS = b"\x09"
_ALARM = 0x71
_LONG_HEADER = 0x72
_BUSY = 0x01  # bits 0 and 1 of the status


@dataclass(slots=True)
class SimulatedMeter:
    """One slave: who it is, what it sends, and what it remembers between two requests.

    `primary` None: it can be reached by its secondary address only. `rate` in Bd, None: it understands every rate and
    has none to switch. `applications`: what it sends after an application select with this subcode instead of `pages`;
    `maker_pages`: what it sends at once for a SND_UD with this CI field. REQ_UD1 is answered with the records of
    `class_1`, else with the byte `alarm`, else E5. Raises ValueError where a telegram is too long.
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
    maker_pages: Mapping[int, Pages] = field(default_factory=dict)
    alarm: int | None = None  # may change while it runs, as the next
    class_1: Pages | None = None
    _stores: Stores = field(default_factory=Stores, init=False)
    _rate_before: tuple[int, float] | None = field(default=None, init=False)  # and since when nothing good was heard
    _fcb: FcbRecord = field(default_factory=FcbRecord, init=False)
    _rests: Rests = field(default_factory=Rests, init=False)
    _telegrams: Telegrams = field(default_factory=Telegrams, init=False)
    _sent: dict[int, Frame] = field(default_factory=dict, init=False)  # by C or CI: what else is sent again
    _random: Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)  # noqa: S311 (spoils telegrams, keeps no secret)
        others = (*self.applications.values(), *self.maker_pages.values(), *([self.class_1] if self.class_1 else []))
        for pages in (self.pages, *others):
            longest = max((len(page) for page in pages(Moment(0.0, BEGAN))), default=-1)
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
        self._stores.take_effect(moment.seconds)
        if not self._rests.hears(request, moment, self.behaviour):
            return None
        match request:
            case LongFrame(control, address, 0x52, data) if address == SELECTED and means(control, SND_UD):
                reply = self._select(data)
            case ShortFrame(control, address) if self._is_meant(address):
                reply = self._answer_short(control, address, moment)
            case LongFrame(control, address, _, _) if self._is_meant(address) and means(control, SND_UD):
                reply = self._obey(request, moment)
            case _:
                reply = None
        if reply is None or (isinstance(request, ShortFrame | LongFrame) and request.address == BROADCAST):
            return None
        return self._spoil(encode(reply), moment)

    def _is_meant(self, address: int) -> bool:
        if address == SELECTED:
            return self.selected
        return address in (self.primary, TEST, BROADCAST)

    def _answer_short(self, control: int, address: int, moment: Moment) -> Frame | None:
        if control == SND_NKE:
            self._fcb.forget()
            self._sent.clear()
            self._telegrams.rewind()
            if address == SELECTED:
                self.selected = False
            return Ack() if self.behaviour.answers_nke else None
        if address == BROADCAST:
            return None
        if means(control, REQ_UD1):
            return self._once(REQ_UD1, control, address, lambda: self._class_1(moment))
        if means(control, REQ_UD2):
            return self._send_telegram(control, address, moment)
        return None

    def _class_1(self, moment: Moment) -> Frame:
        if self.class_1 is not None:
            return self._telegram(self.class_1(self._shown(moment))[0])
        return Ack() if self.alarm is None else LongFrame(RSP_UD, self._own, _ALARM, bytes([self.alarm]))

    def _once(self, what: int, control: int, address: int, make: Callable[[], Frame]) -> Frame:
        """A new answer, or where the FCB says that the request is a repetition the last one of this kind."""
        memory = memory_of(control, address, self.behaviour)
        if what not in self._sent or not self._fcb.is_repeated(control, memory):
            self._sent[what] = make()
        self._fcb.remember(control, memory)
        return self._sent[what]

    def _send_telegram(self, control: int, address: int, moment: Moment) -> Frame | None:
        memory, here = memory_of(control, address, self.behaviour), self._telegrams
        is_repeated = here.has_begun and self.behaviour.fcb != "ignored" and self._fcb.is_repeated(control, memory)
        if not is_repeated:
            page = here.page_after(self.behaviour, has_fcv=bool(control & FCV), is_first=self._fcb.is_empty(memory))
            if page == 0 and not self._rests.allows(here.application, moment.seconds, self.behaviour):
                return self._refuse()
            here.turn_to(page)
        if here.is_renewed(self.behaviour, is_repeated=is_repeated):
            here.show(self.applications.get(here.application, self.pages)(self._shown(moment)))
        self._fcb.remember(control, memory)
        reply = self._telegram(here.records(is_endless=self.behaviour.endless))
        has_class_1 = self.alarm is not None or self.class_1 is not None
        return replace(reply, control=RSP_UD | ACD) if has_class_1 else reply

    def _shown(self, moment: Moment) -> Moment:
        return Moment(moment.seconds, moment.clock + self.clock_offset, moment.bit)

    def _telegram(self, records: bytes, status: int = 0) -> LongFrame:
        number, self.access_number = self.access_number, (self.access_number + 1) & 0xFF
        header = self.secondary.to_bytes() + bytes([number, self.status | status, 0, 0])
        return LongFrame(RSP_UD, self._own, _LONG_HEADER, header + records)

    @property
    def _own(self) -> int:
        return SELECTED if self.primary is None else self.primary

    def _refuse(self) -> Frame | None:
        """Its battery pays for no read-out now."""
        match self.behaviour.refusal:
            case "error":
                return LongFrame(RSP_UD, self._own, _APPLICATION_ERROR, _TOO_MANY_READ_OUTS)
            case "status":
                return self._telegram(b"", _BUSY)
            case "acknowledgement":
                return Ack()
            case "silence":
                return None

    def _select(self, data: bytes) -> Frame | None:
        self.selected = is_selected(data, self.secondary, self.fabrication)
        if not self.selected:
            return None
        for function in (REQ_UD1, REQ_UD2):
            self._fcb.forget(memory_of(function, SELECTED, self.behaviour))
        return Ack()

    def _obey(self, request: LongFrame, moment: Moment) -> Frame | None:
        """A SND_UD: executed, or only acknowledged where the FCB says that it is a repetition."""
        control, address = request.control, request.address
        page = self.maker_pages.get(request.ci)
        if page is not None:
            return self._once(request.ci, control, address, lambda: self._telegram(page(self._shown(moment))[0]))
        effect = self._effect(request.ci, request.data, moment)
        if effect is None or self.behaviour.writes == "silent":
            return None
        memory = memory_of(control, address, self.behaviour)
        if self.behaviour.writes == "obeyed" and not self._fcb.is_repeated(control, memory):
            self._stores.put(moment.seconds, self.behaviour.stores_after, effect)
        self._fcb.remember(control, memory)
        return Ack()

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
                return lambda: setattr(self, "primary", number)
            case NewIdentification(identification):
                return lambda: self._rename(identification)
            case NewClock(wanted):
                return lambda: self._set_clock(wanted - shown)
            case NewAddress() | Impossible():
                return None
        return lambda: None

    def _choose_application(self, subcode: bytes) -> None:
        """Back to the first telegram, of the default or of what the subcode selects; an unknown one has no effect."""
        self._telegrams.choose(subcode[0] if subcode else 0, self.applications)

    def _rename(self, data: bytes) -> None:
        self.secondary = SecondaryAddress.from_bytes(data + self.secondary.to_bytes()[len(data) :])

    def _set_clock(self, step: timedelta) -> None:
        self.clock_offset += step

    def _switch(self, rate: int, seconds: float) -> None:
        if self.rate not in (None, rate):
            self._rate_before = (self.rate, seconds)
        self.rate = rate

    def _spoil(self, data: bytes, moment: Moment) -> Answer | None:
        fault = self.faults.popleft() if self.faults else Fault.NONE
        left = spoilt(data, fault, self._random)
        if left is None:
            return None
        late = self.behaviour.late_by if fault is Fault.LATE else 0.0
        gap = self.behaviour.pauses_inside if fault is Fault.GAP else 0.0
        heard = damaged(left, self.behaviour.bit_errors, self._random)
        return self._rests.begins_to_speak(Answer(heard, self.delay + late, gap), moment, self.behaviour)
