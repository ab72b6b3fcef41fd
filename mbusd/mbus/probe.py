"""One question to the unknown: who is at this primary address, or behind these wildcards: nobody, one, several.

EN 13757-2 cl. 5.7 and -3 cl. 11. E5 alone is never believed: meters that answer in the same bit sound like one. Nor is
a telegram, for two of them, one upon the other, may pass the checksum: whoever it names has to answer to that name.
"""

from collections.abc import Callable
from dataclasses import replace

from mbusd.light import dataclass
from mbusd.mbus.address import BROADCAST, HIGHEST_PRIMARY, SELECTED, TEST, PrimaryAddress, SecondaryAddress
from mbusd.mbus.errors import DecodeError
from mbusd.mbus.frames import ACK, LONG, Ack, LongFrame, Noise, ShortFrame, encode
from mbusd.mbus.link import ATTEMPTS, Conversation, Reply, Request, Silence, data
from mbusd.mbus.master import address_of, req_ud2, select, snd_nke
from mbusd.mbus.telegram import Telegram, decode


@dataclass(frozen=True, slots=True)
class Silent:
    """Nobody answers."""


@dataclass(frozen=True, slots=True)
class Meter:
    """One meter. `address` is None where its telegram does not name it."""

    telegram: Telegram
    address: SecondaryAddress | None
    is_selectable: bool = True  # it answers to its secondary address

    @property
    def primary(self) -> int | None:
        """The primary address that it sends; a meter without one sends 253."""
        number = self.telegram.frame.address
        return number if number <= HIGHEST_PRIMARY else None


@dataclass(frozen=True, slots=True)
class Crowd:
    """Several meters, or none that can be understood; `heard` is what came."""

    heard: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Mute:
    """Somebody acknowledges but sends nothing that says who it is."""

    why: str
    telegram: Telegram | None = None


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Unreadable bytes that did not come again: noise, no meter."""

    heard: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Present:
    """Somebody acknowledges a selection; how many they are was not asked."""


Probe = Silent | Meter | Crowd | Mute | Disturbance

_MOST_OF_ACKS = 128  # bytes
_AGAIN = 4  # telegrams more, for a meter that cannot be asked for by its name
WITHOUT_DATA = Mute("acknowledges but sends no data")  # or the acknowledgement was somebody else's


@dataclass(frozen=True, slots=True)
class Selection:
    """Whom to select: a secondary address with wildcards, and for the enhanced selection a fabrication number."""

    mask: SecondaryAddress
    fabrication: str | None = None  # 8 digits, F is a wildcard

    def frame(self) -> LongFrame:
        """The SND_UD to 253 that selects."""
        return select(replace(self.mask, fabrication=self.fabrication or ""))

    def __str__(self) -> str:
        tail = "" if self.fabrication is None else f", fabrication number {self.fabrication}"
        return f"{self.mask}{tail}"


def probe_primary(number: int, tries: int = 1, *, resets: bool = True) -> Conversation[Probe]:
    """Who is at a primary address 0..250. Raises AddressError for any other.

    `resets` False asks with REQ_UD2 at once: finds meters that ignore SND_NKE, too.
    """
    PrimaryAddress(number)
    if resets:
        reply, unreadable = yield from _opened(snd_nke(number), tries)
        if isinstance(reply, Silence):
            return Disturbance(unreadable) if unreadable else Silent()
        if not isinstance(reply, Ack):
            return Crowd(unreadable)
        found = yield from _identified(number, ATTEMPTS, noisy_tries=2)
        if isinstance(found, Silent):
            return WITHOUT_DATA
    else:
        found = yield from _identified(number, tries, noisy_tries=2)
    if not isinstance(found, Meter) or found.address is None:
        return found
    if isinstance((yield from _confirmed(found)), Meter):
        return found
    return (yield from _asked_again(number, found))


def _nobody(_address: SecondaryAddress) -> bool:
    return False


def probe_secondary(
    selection: Selection,
    tries: int = 1,
    *,
    is_known: Callable[[SecondaryAddress], bool] = _nobody,
    deselects: bool = False,
    reads: bool = True,
    is_noisy: bool = False,
) -> Conversation[Probe | Present]:
    """Who answers to a selection. A meter that is not known yet must answer to its full address as well.

    `deselects`: first take the selection from whoever has it, for meters that keep one that is not for them. The meter
    in the result may be one that was not asked for; comparing its address is the caller's business. `reads` False: E5
    is enough, for masks behind which there are certainly several. `is_noisy`: there are bytes on this bus that no meter
    sends, so what cannot be read proves less.
    """
    if deselects:
        yield Request(snd_nke(SELECTED))
    reply, unreadable = yield from _chosen(selection.frame(), tries, is_noisy=is_noisy)
    if isinstance(reply, Silence):
        return Silent()
    if not isinstance(reply, Ack):
        return Crowd(unreadable)
    if not reads:
        return Present()
    found = yield from _identified(SELECTED, ATTEMPTS, noisy_tries=1 + is_noisy)
    if isinstance(found, Meter) and found.address is not None:
        return found if found.address == selection.mask or is_known(found.address) else (yield from _confirmed(found))
    return WITHOUT_DATA if isinstance(found, Silent) else found


def wake() -> Conversation[None]:
    """SND_NKE to the test address and to all: link states are as after the start, and who sleeps has heard something.

    At the test address all answer, each at its time: when it comes tells how quick the way is, a jumble if it comes
    so twice.
    """
    if isinstance((yield Request(snd_nke(TEST))), Noise):
        yield Request(snd_nke(TEST), 2)
    yield Request(snd_nke(BROADCAST), is_answered=False, is_hasty=True)


def anybody() -> Conversation[bool]:
    """Whether anybody at all answers at this rate: to the test address, to a selection of all; understood or not."""
    reply = yield Request(snd_nke(TEST))
    if not isinstance(reply, Silence):
        return True
    reply = yield from _called(select(SecondaryAddress("F" * 16)), tries=2)
    if isinstance(reply, Silence):
        return False
    yield from release()
    return True


def release() -> Conversation[None]:
    """Leave nobody selected: SND_NKE to 253, which the selected meter alone acknowledges."""
    yield Request(snd_nke(SELECTED))


def _opened(frame: ShortFrame, tries: int) -> Conversation[tuple[Reply, tuple[bytes, ...]]]:
    """The reply to a first request, and what was unreadable; an unreadable reply is asked for once more."""
    reply = yield from _called(frame, tries)
    if isinstance(reply, Ack | Silence):
        return reply, ()
    if is_endless(_bytes(reply)):
        return reply, (_bytes(reply),)
    again = yield Request(frame, 2)
    return again, tuple(_bytes(one) for one in (reply, again) if not isinstance(one, Ack | Silence))


def _chosen(frame: LongFrame, tries: int, *, is_noisy: bool) -> Conversation[tuple[Reply, tuple[bytes, ...]]]:
    """The reply to a selection, and what was unreadable.

    Several E5 at once are usual in a search, so what looks like them is believed, but not on a noisy bus.
    """
    reply = yield from _called(frame, tries)
    heard: list[bytes] = []
    while not isinstance(reply, Ack | Silence):
        heard.append(_bytes(reply))
        several = sum(map(may_be_acks, heard))
        if several > is_noisy or len(heard) >= ATTEMPTS or is_endless(heard[-1]):
            break
        reply = yield Request(frame, len(heard) + 1)
    return reply, tuple(heard)


def may_be_acks(heard: bytes) -> bool:
    """Whether these may be several E5, one upon the other: they only clear bits (EN 13757-2 cl. 4)."""
    return bool(heard) and not heard[0] & ~ACK


def is_no_answer(heard: bytes) -> bool:
    """Whether this is the beginning of no answer, nor of several at once."""
    return bool(heard and heard[0] & ~ACK and heard[0] & ~LONG)


def is_endless(heard: bytes) -> bool:
    """Whether these are more bytes than meters can send within the window of an E5, whatever the rate."""
    return len(heard) > _MOST_OF_ACKS


def _called(frame: ShortFrame | LongFrame, tries: int) -> Conversation[Reply]:
    """The first reply that is not silence."""
    reply: Reply = Silence()
    for attempt in range(1, tries + 1):
        reply = yield Request(frame, attempt)
        if not isinstance(reply, Silence):
            break
    return reply


def _identified(address: int, tries: int, noisy_tries: int) -> Conversation[Probe]:
    """Who sends data on REQ_UD2."""
    request = req_ud2(address, fcb=True)
    heard: list[bytes] = []
    nothing: Probe = Silent()
    for attempt in range(1, max(tries, noisy_tries) + 1):
        reply = yield Request(request, attempt)
        frame = data(reply, request)
        if frame is not None:
            return _understood(frame)
        if isinstance(reply, Ack):
            nothing = Mute("acknowledges but has no data now")
        elif not isinstance(reply, Silence):
            heard.append(_bytes(reply))
        if (heard and len(heard) >= noisy_tries) or (not heard and attempt >= tries):
            break
    return Crowd(tuple(heard)) if heard else nothing


def _understood(frame: LongFrame) -> Probe:
    try:
        telegram = decode(frame)
    except DecodeError as error:
        return Mute(f"sends no telegram that names it: {error.message}")
    return Meter(telegram, None if telegram.header is None else address_of(telegram.header))


def _confirmed(found: Meter) -> Conversation[Probe]:
    """The meter, if it answers to its own full address."""
    if found.address is None:
        return found
    reply = yield from _called(select(found.address), tries=2)
    return found if isinstance(reply, Ack) else Crowd((encode(found.telegram.frame), _bytes(reply)))


def _asked_again(number: int, found: Meter) -> Conversation[Probe]:
    """A meter that does not know selections, if all its next telegrams bear the same name.

    What two meters in step send by chance may pass the checksum again, but hardly again and again: the access number
    is in it.
    """
    fcb = False
    for _ in range(_AGAIN):
        request = req_ud2(number, fcb=fcb)
        reply = yield from _called(request, tries=2)
        frame = data(reply, request)
        again = None if frame is None else _understood(frame)
        if not isinstance(again, Meter) or again.address != found.address:
            return Crowd((encode(found.telegram.frame), _bytes(reply)))
        fcb = not fcb
    return Meter(found.telegram, found.address, is_selectable=False)


def _bytes(reply: Reply) -> bytes:
    """What was heard, as bytes of the wire."""
    if isinstance(reply, Noise):
        return reply.data
    return b"" if isinstance(reply, Silence) else encode(reply)
