"""The master's procedures (EN 13757-2 cl. 5.7, -3 cl. 11 and annexes), each a generator that reads like the standard.

The FCB lives inside one read-out and nowhere else: SND_NKE, or a fresh selection, opens it, so there is nothing to
remember over restarts and lost answers. It toggles here and only here, after an answer that was accepted.
"""

from dataclasses import dataclass
from typing import assert_never

from mbusd.mbus.address import SELECTED, Address, PrimaryAddress, SecondaryAddress
from mbusd.mbus.errors import DecodeError, NoAnswer, Refused, WrongMeter
from mbusd.mbus.frames import FCB, REQ_UD2, SND_NKE, SND_UD, LongFrame, ShortFrame
from mbusd.mbus.link import ATTEMPTS, Conversation, acknowledgement, data, exchange
from mbusd.mbus.telegram import Header, Telegram, decode

MOST_TELEGRAMS = 32
SELECT = 0x52  # CI field of a selection


@dataclass(frozen=True, slots=True)
class ReadOut:
    """All telegrams of one meter, in the order sent, and what was odd about them."""

    telegrams: tuple[Telegram, ...]
    problems: tuple[str, ...] = ()

    @property
    def address(self) -> SecondaryAddress | None:
        """Who answered, where a header says so."""
        return next(filter(None, map(_address_in, self.telegrams)), None)

    def is_from(self, address: str) -> bool:
        """Whether the meter with this secondary address may have sent it; without a header nothing speaks against."""
        return self.address is None or SecondaryAddress(address).matches(self.address)


def snd_nke(address: int) -> ShortFrame:
    """Link reset: clears the FCB memory of the meter at this A field (to 253 also the selection)."""
    return ShortFrame(SND_NKE, address)


def req_ud2(address: int, *, fcb: bool) -> ShortFrame:
    """Request of class 2 data with FCV set: 7B with FCB=1, 5B with FCB=0."""
    return ShortFrame(REQ_UD2 | (FCB if fcb else 0), address)


def select(address: SecondaryAddress) -> LongFrame:
    """Selection by secondary address, always with FCB=0 (53) so that the first request after it, 7B, is a toggle."""
    return LongFrame(SND_UD, SELECTED, SELECT, address.to_bytes())


def read_out(address: Address, attempts: int = ATTEMPTS) -> Conversation[ReadOut]:
    """All telegrams of one meter, read from the first; `attempts` transmissions of each request at the most.

    Raises NoAnswer, Refused (the meter sent an application error), WrongMeter, DecodeError (data that are no telegram).
    """
    match address:
        case PrimaryAddress(number):
            fcb = yield from _rewind(number, attempts)
            result, _ = yield from _telegrams(number, None, attempts, fcb=fcb)
            return result
        case SecondaryAddress():
            yield from exchange(select(address), acknowledgement, attempts)
            result, _ = yield from _telegrams(SELECTED, address, attempts, fcb=True)
            yield from _reset(SELECTED, attempts=1)
            return result
        case _:
            assert_never(address)


def _rewind(address: int, attempts: int) -> Conversation[bool]:
    """Bring a meter back to its first telegram; gives the FCB of the request that will fetch it.

    Some meters never answer SND_NKE. Then nobody knows which FCB the meter remembers and where in its telegrams it
    stands: the first request may bring an old telegram, or one of the middle. So they are read to their end and thrown
    away; the toggled request after the last brings the first.
    """
    if (yield from _reset(address, min(2, attempts))):
        return True
    _, fcb = yield from _telegrams(address, None, attempts, fcb=True)
    return fcb


def _reset(address: int, attempts: int) -> Conversation[bool]:
    """SND_NKE, twice for meters that the first only wakes; whether it was acknowledged."""
    try:
        yield from exchange(snd_nke(address), acknowledgement, attempts)
    except NoAnswer:
        return False
    return True


def _telegrams(
    address: int, expected: SecondaryAddress | None, attempts: int, *, fcb: bool
) -> Conversation[tuple[ReadOut, bool]]:
    """Telegram after telegram as long as the meter says that more follow, with guards for meters that never stop.

    `fcb` is that of the first request; the second result is what the request after the last telegram would have.
    """
    telegrams: list[Telegram] = []
    may_be_late = False
    while True:
        answer = yield from exchange(req_ud2(address, fcb=fcb), data, attempts)
        telegram = _understand(answer.frame, expected)
        if may_be_late and _is_same(telegram, telegrams[-1]):  # the second copy of what we had asked for twice
            may_be_late = False
            continue
        fcb = not fcb
        problem = _loops(telegram, telegrams)
        if problem:
            return ReadOut(tuple(telegrams), (problem,)), fcb
        telegrams.append(telegram)
        expected = _address_in(telegram) or expected
        if not telegram.more_follows:
            return ReadOut(tuple(telegrams)), fcb
        may_be_late = answer.attempts > 1


def _understand(frame: LongFrame, expected: SecondaryAddress | None) -> Telegram:
    """The telegram in an answer, if it is of the meter that was selected or that began this read-out."""
    try:
        telegram = decode(frame)
    except DecodeError as error:
        if error.code == "application_error":
            raise Refused(error.application_error, error.message) from error
        raise
    answered = _address_in(telegram)
    if expected is not None and answered is not None and not expected.matches(answered):
        raise WrongMeter(str(expected), str(answered))
    return telegram


def _address_in(telegram: Telegram) -> SecondaryAddress | None:
    return None if telegram.header is None else address_of(telegram.header)


def address_of(header: Header) -> SecondaryAddress | None:
    """The secondary address that a header tells; wildcards stand for what a fixed structure does not send."""
    if header.identification is None:
        return None
    manufacturer = "FFFF" if header.manufacturer_code is None else header.manufacturer_code.to_bytes(2, "little").hex()
    version = "FF" if header.version is None else f"{header.version:02X}"
    medium = "FF" if header.medium is None or header.manufacturer_code is None else f"{header.medium:02X}"
    return SecondaryAddress(f"{header.identification}{manufacturer}{version}{medium}".upper())


def _loops(telegram: Telegram, before: list[Telegram]) -> str | None:
    """Why this telegram must be the last, if it is no new one: some meters announce more for ever."""
    if not before:
        return None
    if telegram.frame == before[-1].frame:
        return "the meter announces another telegram but repeats the last one"
    if telegram.records and _layout(telegram) == _layout(before[0]):
        return "the meter announces another telegram but begins again with the first one"
    if len(before) >= MOST_TELEGRAMS:
        return f"the meter announces more than {MOST_TELEGRAMS} telegrams"
    return None


def _is_same(telegram: Telegram, before: Telegram) -> bool:
    """The same telegram again, perhaps with newer values and access number (ABB A43 refreshes a repeated one)."""
    return telegram.frame == before.frame or (bool(telegram.records) and _layout(telegram) == _layout(before))


def _layout(telegram: Telegram) -> tuple[bytes, ...]:
    return tuple(record.dib + record.vib for record in telegram.records)
