"""The master's procedures (EN 13757-2 cl. 5.7, -3 cl. 11 and annexes), each a generator that reads like the standard.

The FCB toggles here and only here, after an answer that was accepted. Between two clean read-outs it just goes on
toggling; whoever keeps the `LinkState` forgets it after anything that went wrong, and SND_NKE opens the link again.
"""

from dataclasses import dataclass, field, replace
from typing import assert_never

from mbusd.mbus.address import SELECTED, Address, PrimaryAddress, SecondaryAddress
from mbusd.mbus.errors import DecodeError, NoAnswer, Refused, Stale, WrongMeter
from mbusd.mbus.frames import FCB, REQ_UD2, SND_NKE, SND_UD, Frame, LongFrame, ShortFrame
from mbusd.mbus.link import ATTEMPTS, Answer, Conversation, Reply, acknowledgement, data, exchange
from mbusd.mbus.quirks import Recipe, Step
from mbusd.mbus.telegram import Header, Telegram, decode

MOST_TELEGRAMS = 32
SELECT = 0x52  # CI field of a selection


@dataclass(frozen=True, slots=True)
class LinkState:
    """What the master remembers of its link with one meter from one read-out to the next (EN 13757-2 cl. 5.7.5)."""

    fcb: bool | None = None  # of the next request; None: unknown, the link must be reset
    before: tuple[Telegram, ...] = ()  # the telegrams of the read-out before
    counts: bool | None = None  # the access number moves; False: the meter says the same again even after a reset
    insists: bool = False  # only a reset makes it begin anew: it keeps its FCB memory over a selection

    def forgotten(self) -> "LinkState":
        """The same after anything that went wrong: nobody knows which FCB the meter remembers."""
        return replace(self, fcb=None)


@dataclass(frozen=True, slots=True)
class ReadOut:
    """All telegrams of one meter, in the order sent, what was odd about them, and the link as it is after them."""

    telegrams: tuple[Telegram, ...]
    problems: tuple[str, ...] = ()
    link: LinkState = field(default_factory=LinkState)

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


def read_out(
    address: Address, recipe: Recipe | None = None, link: LinkState | None = None, attempts: int = ATTEMPTS
) -> Conversation[ReadOut]:
    """All telegrams of one meter, read from the first; `attempts` transmissions of each request at the most.

    An old telegram that is sent again is no reading, nor is one that breaks off where it used to go on: the link is
    reset and the meter read once more. Raises NoAnswer, Refused (the meter sent an application error), WrongMeter,
    Stale, DecodeError (data that are no telegram).
    """
    recipe = recipe or Recipe()
    link = link or LinkState()
    known = None if recipe.nke == "always" or link.insists else link.fcb
    result = yield from _read(address, recipe, attempts, fcb=known)
    counts, insists = link.counts, link.insists
    old = _is_old(result, link, address)
    if old or _is_cut(result, link):
        result = yield from _read(address, replace(recipe, nke="always"), attempts, fcb=None)
        if not _is_old(result, link, address):
            insists = insists or (old and known is not None)
        elif link.counts or len(link.before) > 1:
            raise Stale
        else:
            counts = False
    if link.before and _access_number(link.before[0]) != _access_number(result.telegrams[0]):
        counts = True
    fcb = None if _is_cut(result, link) else result.link.fcb
    return replace(result, link=LinkState(fcb, result.telegrams, counts, insists))


def _is_old(result: ReadOut, link: LinkState, address: Address) -> bool:
    """Whether the meter has taken the first request for a repetition of the last one that it had answered.

    By its primary address only a meter that counts is suspected: there each request is a toggle. After a selection
    the first is always FCB=1, which is none for a meter that keeps its memory over the selection.
    """
    if not link.before:
        return False
    first = result.telegrams[0]
    if len(link.before) > 1 and link.before[-2].more_follows and _is_same(first, link.before[-1]):
        return True
    is_suspect = link.counts is not False if isinstance(address, SecondaryAddress) else link.counts is True
    return is_suspect and first.frame == link.before[0].frame


def _is_cut(result: ReadOut, link: LinkState) -> bool:
    """Whether the meter began anew in the middle, as after a power cut: fewer telegrams than the read-out before."""
    return bool(result.problems) and len(result.telegrams) < len(link.before)


def _access_number(telegram: Telegram) -> int | None:
    return None if telegram.header is None else telegram.header.access_number


def _read(address: Address, recipe: Recipe, attempts: int, *, fcb: bool | None) -> Conversation[ReadOut]:
    """Open the link where its state is unknown, follow the recipe, collect the telegrams."""
    if recipe.before:
        place, at, expected = yield from _open(address, recipe, attempts, fcb=fcb)
        for step in recipe.before:
            yield from _send(place, step, attempts, fcb=at)
            at = not at
        fcb = None  # what was selected begins with its first telegram
    place, at, expected = yield from _open(address, recipe, attempts, fcb=fcb)
    telegrams: tuple[Telegram, ...] = ()
    problems: tuple[str, ...] = ()
    if recipe.is_plain:
        result, at = yield from _telegrams(place, expected, attempts, fcb=at)
        telegrams, problems = result.telegrams, result.problems
    for page in recipe.pages:
        result, at = yield from _page(place, page, expected, attempts, fcb=at)
        telegrams, problems = telegrams + result.telegrams, problems + result.problems
    begins_again = problems and len(telegrams) > 1  # and has sent its first telegram already
    return ReadOut(telegrams, problems, LinkState(fcb=None if begins_again else at))


def _open(
    address: Address, recipe: Recipe, attempts: int, *, fcb: bool | None
) -> Conversation[tuple[int, bool, SecondaryAddress | None]]:
    """Where to ask, with which FCB first, and who must answer."""
    match address:
        case PrimaryAddress(number):
            if fcb is None:
                fcb = yield from _rewind(number, attempts, resets=recipe.nke != "never")
            return number, fcb, None
        case SecondaryAddress():
            if fcb is None and recipe.nke != "never":  # a meter may keep its FCB memory of 253 over a selection
                yield from exchange(select(address), acknowledgement, attempts)
                yield from _reset(SELECTED, attempts=1)
            yield from exchange(select(address), acknowledgement, attempts)
            return SELECTED, True, address
        case _:
            assert_never(address)


def _send(address: int, step: Step, attempts: int, *, fcb: bool) -> Conversation[Answer[Frame]]:
    """SND_UD; with FCB=0 once more where the meter ignores FCB=1 (EN 13757-2 wants 1 after a reset, most take 0)."""
    frame = LongFrame(SND_UD | (FCB if fcb else 0), address, step.ci, step.data)
    try:
        return (yield from exchange(frame, _acknowledgement_or_data, attempts))
    except NoAnswer:
        if not fcb:
            raise
        return (yield from exchange(replace(frame, control=SND_UD), _acknowledgement_or_data, 1))


def _acknowledgement_or_data(reply: Reply, request: ShortFrame | LongFrame) -> Frame | None:
    return acknowledgement(reply, request) or data(reply, request)


def _page(
    address: int, page: Step, expected: SecondaryAddress | None, attempts: int, *, fcb: bool
) -> Conversation[tuple[ReadOut, bool]]:
    """A further page: the meter answers the SND_UD with its data, or with E5 and has them fetched."""
    answer = yield from _send(address, page, attempts, fcb=fcb)
    if isinstance(answer.frame, LongFrame):
        return ReadOut((_understand(answer.frame, expected),)), not fcb
    return (yield from _telegrams(address, expected, attempts, fcb=not fcb))


def _rewind(address: int, attempts: int, *, resets: bool) -> Conversation[bool]:
    """Bring a meter back to its first telegram; gives the FCB of the request that will fetch it.

    Some meters never answer SND_NKE, some shall be spared it. Then nobody knows which FCB the meter remembers and where
    in its telegrams it stands: the first request may bring an old telegram, or one of the middle. So they are read to
    their end and thrown away; the toggled request after the last brings the first.
    """
    if resets and (yield from _reset(address, min(2, attempts))):
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
