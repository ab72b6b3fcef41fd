"""The link with one meter opened, and its telegrams fetched one by one (EN 13757-2 cl. 5.7, -3 cl. 6).

The FCB toggles only after an answer that was accepted.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import assert_never

from mbusd.light import dataclass
from mbusd.mbus.address import SELECTED, Address, PrimaryAddress, SecondaryAddress
from mbusd.mbus.errors import DecodeError, NoAnswer, Refused, WrongMeter
from mbusd.mbus.frames import FCB, REQ_UD2, SND_NKE, SND_UD, LongFrame, ShortFrame
from mbusd.mbus.link import Conversation, acknowledgement, data, exchange
from mbusd.mbus.quirks import Nke
from mbusd.mbus.telegram import Header, Telegram, decode

MOST_TELEGRAMS = 32
SELECT = 0x52  # CI field of a selection
FABRICATION_NUMBER = b"\x0c\x78"  # DIF and VIF of the record that an enhanced selection carries
TOO_MANY_READ_OUTS = 0x09  # application error: the battery's budget is used up

_BUSY = 0x01  # bits 0 and 1 of the status (EN 13757-3 cl. 5.10)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a meter is asked, with which FCB next, and who must answer as far as that is known."""

    address: int
    fcb: bool
    expected: SecondaryAddress | None = None
    is_fresh: bool = False  # just opened: the meter remembers no FCB, and takes either for a new one

    def toggled(self) -> "Place":
        """The same after an answer that was accepted."""
        return replace(self, fcb=not self.fcb, is_fresh=False)


@dataclass(frozen=True, slots=True)
class Fetched:
    """Telegrams in the order sent, what was odd about them, and the link after them.

    `is_torn`: another was counted between two of them, so that they may be from before and after a power cut.
    """

    telegrams: tuple[Telegram, ...]
    problems: tuple[str, ...]
    place: Place
    is_torn: bool = False


def snd_nke(address: int) -> ShortFrame:
    """Link reset: clears the FCB memory of the meter at this A field (to 253 also the selection)."""
    return ShortFrame(SND_NKE, address)


def req_ud2(address: int, *, fcb: bool) -> ShortFrame:
    """Request of class 2 data with FCV set: 7B with FCB=1, 5B with FCB=0."""
    return ShortFrame(REQ_UD2 | (FCB if fcb else 0), address)


def select(address: SecondaryAddress) -> LongFrame:
    """Selection by secondary address, always with FCB=0 (53) so that the first request after it, 7B, is a toggle."""
    tail = FABRICATION_NUMBER + bytes.fromhex(address.fabrication)[::-1] if address.fabrication else b""
    return LongFrame(SND_UD, SELECTED, SELECT, address.to_bytes() + tail)


def reset(address: int, attempts: int) -> Conversation[bool]:
    """SND_NKE, twice for meters that the first only wakes; whether it was acknowledged."""
    try:
        yield from exchange(snd_nke(address), acknowledgement, attempts)
    except NoAnswer:
        return False
    return True


def open_link(address: Address, nke: Nke, attempts: int, *, fcb: bool | None) -> Conversation[Place]:
    """Where to ask, with which FCB first, and who must answer; `fcb` None: it is not known what the meter remembers."""
    match address:
        case PrimaryAddress(number):
            if fcb is not None:
                return Place(number, fcb)
            return (yield from _rewind(number, attempts, resets=nke != "never"))
        case SecondaryAddress():
            if fcb is None and nke != "never":  # a meter may keep its FCB memory of 253 over a selection
                yield from exchange(select(address), acknowledgement, attempts)
                yield from reset(SELECTED, attempts=1)
            yield from exchange(select(address), acknowledgement, attempts)
            return Place(SELECTED, fcb=True, expected=address, is_fresh=True)
        case _:
            assert_never(address)


def _rewind(address: int, attempts: int, *, resets: bool) -> Conversation[Place]:
    """Bring a meter back to its first telegram; gives the FCB of the request that will fetch it.

    Some meters never answer SND_NKE, some shall be spared it. Then nobody knows which FCB the meter remembers and where
    in its telegrams it stands: the first request may bring an old telegram, or one of the middle. So they are read to
    their end and thrown away; the toggled request after the last brings the first.
    """
    if resets and (yield from reset(address, min(2, attempts))):
        return Place(address, fcb=True, is_fresh=True)
    return (yield from fetch(Place(address, fcb=True), attempts)).place


def fetch(place: Place, attempts: int) -> Conversation[Fetched]:
    """Telegram after telegram as long as the meter says that more follow, with guards for meters that never stop.

    Raises NoAnswer, Refused, WrongMeter, DecodeError.
    """
    telegrams: list[Telegram] = []
    was_repeated = has_copy = is_torn = False  # of the last of them
    expected = place.expected
    while True:
        telegram, is_repeated = yield from _said_last(place, attempts, expected)
        if was_repeated and not has_copy and is_same(telegram, telegrams[-1]):  # the second copy, which came late
            telegrams[-1], has_copy = telegram, True  # the next one goes on from it
            continue
        place = place.toggled()
        problem = _loops(telegram, telegrams, has_copy=has_copy)
        if problem:
            return Fetched(tuple(telegrams), (problem,), place, is_torn)
        is_torn |= was_repeated and bool(steps((*telegrams[-1:], telegram)) - {0, 1})
        telegrams.append(telegram)
        expected = address_in(telegram) or expected
        if not telegram.more_follows:
            return Fetched(tuple(telegrams), (), place, is_torn)
        was_repeated, has_copy = is_repeated, False


def _said_last(place: Place, attempts: int, expected: SecondaryAddress | None) -> Conversation[tuple[Telegram, bool]]:
    """A telegram, and whether it had to be asked for again.

    Then it may be the late answer to the first request, and the meter may have begun anew since, its power cut: its
    next telegram would go on from another one. So where more follow, it says once more what it has said last.
    """
    answer = yield from exchange(req_ud2(place.address, fcb=place.fcb), data, attempts)
    telegram = understand(answer.frame, expected)
    if answer.attempts == 1:
        return telegram, False
    if telegram.more_follows:
        answer = yield from exchange(req_ud2(place.address, fcb=place.fcb), data, attempts)
        telegram = understand(answer.frame, expected)
    return telegram, True


def understand(frame: LongFrame, expected: SecondaryAddress | None) -> Telegram:
    """The telegram in an answer, if it is of the meter that was selected or that began this read-out.

    A header without anything behind it whose status says that there are no new data now is a refusal, too (Elster F96
    on battery). Raises Refused, WrongMeter, DecodeError.
    """
    try:
        telegram = decode(frame)
    except DecodeError as error:
        if error.code == "application_error":
            raise Refused(error.application_error, error.message) from error
        raise
    answered = address_in(telegram)
    if expected is not None and answered is not None and not expected.matches(answered):
        raise WrongMeter(str(expected), str(answered))
    if expected is not None and expected.fabrication:
        number = fabrication_in(telegram)
        if number not in (None, expected.fabrication):
            raise WrongMeter(str(expected), f"fabrication number {number}")
    if _is_excuse(telegram):
        raise Refused(TOO_MANY_READ_OUTS, "it sends no data now, and its status says that it is busy")
    return telegram


def _is_excuse(telegram: Telegram) -> bool:
    if telegram.header is None or telegram.header.status & 0x03 != _BUSY:
        return False
    has_content = telegram.records or telegram.manufacturer_data or telegram.more_follows or telegram.encrypted
    return not has_content and telegram.error is None


def fabrication_in(telegram: Telegram) -> str | None:
    """The fabrication number that a meter sends, if it does so as a selection names it."""
    for record in telegram.records:
        if record.dib + record.vib == FABRICATION_NUMBER and record.raw[::-1].hex().isdecimal():
            return record.raw[::-1].hex()
    return None


def address_in(telegram: Telegram) -> SecondaryAddress | None:
    """Who sent a telegram, where its header says so."""
    return None if telegram.header is None else address_of(telegram.header)


def address_of(header: Header) -> SecondaryAddress | None:
    """The secondary address that a header tells; wildcards stand for what a fixed structure does not send."""
    if header.identification is None:
        return None
    manufacturer = "FFFF" if header.manufacturer_code is None else header.manufacturer_code.to_bytes(2, "little").hex()
    version = "FF" if header.version is None else f"{header.version:02X}"
    medium = "FF" if header.medium is None or header.manufacturer_code is None else f"{header.medium:02X}"
    return SecondaryAddress(f"{header.identification}{manufacturer}{version}{medium}".upper())


def _loops(telegram: Telegram, before: list[Telegram], *, has_copy: bool) -> str | None:
    """Why this telegram must be the last, if it is no new one: some meters announce more for ever.

    `has_copy`: one of the last came already, so that another one comes of a meter that began anew.
    """
    if not before:
        return None
    if telegram.frame == before[-1].frame:
        return "the meter announces another telegram but repeats the last one"
    earlier = before if has_copy or len(before) == 1 else before[:-1]  # two in a row may look alike
    if any(is_same(telegram, one) for one in earlier):
        return "the meter announces another telegram but begins again with the first one"
    if len(before) >= MOST_TELEGRAMS:
        return f"the meter announces more than {MOST_TELEGRAMS} telegrams"
    return None


def steps(telegrams: Sequence[Telegram]) -> set[int]:
    """By how much the access number goes on from each telegram to the next, where both have one."""
    numbers = [None if one.header is None else one.header.access_number for one in telegrams]
    return {(after - before) % 256 for before, after in pairwise(numbers) if before is not None and after is not None}


def is_same(telegram: Telegram, before: Telegram) -> bool:
    """The same telegram again, perhaps with newer values and access number (ABB A43 refreshes a repeated one)."""
    return telegram.frame == before.frame or (bool(telegram.records) and _layout(telegram) == _layout(before))


def _layout(telegram: Telegram) -> tuple[bytes, ...]:
    return tuple(record.dib + record.vib for record in telegram.records)
