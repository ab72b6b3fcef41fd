"""A recipe followed (EN 13757-3 cl. 11 and annexes): what goes before the plain request, and further pages behind it.

Steps are sent with the FCB that is due; a raw frame has its own, and what it leaves of the link is worked out.
"""

from dataclasses import replace

from mbusd.light import dataclass
from mbusd.mbus.address import BROADCAST, SELECTED, TEST, Address, PrimaryAddress, SecondaryAddress
from mbusd.mbus.errors import DecodeError, NoAnswer, Refused
from mbusd.mbus.fetching import SELECT, Place, address_in, fetch, open_link, understand
from mbusd.mbus.frames import FCB, SND_NKE, SND_UD, Frame, LongFrame, ShortFrame
from mbusd.mbus.link import Answer, Conversation, Reply, Request, acknowledgement, data, exchange
from mbusd.mbus.quirks import RawFrame, Recipe, Step
from mbusd.mbus.telegram import Telegram, decode

_FCV = 0x10


@dataclass(frozen=True, slots=True)
class Followed:
    """Telegrams in the order sent, what was odd about them, and the FCB of the next request; None: nobody knows it.

    `is_torn`: they may be from before and after a power cut.
    """

    telegrams: tuple[Telegram, ...]
    problems: tuple[str, ...]
    fcb: bool | None
    is_torn: bool


@dataclass(frozen=True, slots=True)
class _Page:
    """What one further request has brought, and the link after it; None: nobody knows it."""

    telegrams: tuple[Telegram, ...]
    problems: tuple[str, ...]
    place: Place | None
    is_torn: bool = False


@dataclass(frozen=True, slots=True)
class _Errand:
    """Whom to read, how, and how often to try each request."""

    address: Address
    recipe: Recipe
    attempts: int

    def open(self, *, fcb: bool | None = None) -> Conversation[Place]:
        return (yield from open_link(self.address, self.recipe.nke, self.attempts, fcb=fcb))


def follow(address: Address, recipe: Recipe, attempts: int, *, fcb: bool | None) -> Conversation[Followed]:
    """Open the link where its state is unknown (`fcb` None), follow the recipe, collect the telegrams.

    Raises NoAnswer, Refused, WrongMeter, DecodeError.
    """
    errand = _Errand(address, recipe, attempts)
    if recipe.before:
        yield from _prepare(errand, fcb=fcb)
        fcb = None  # what was selected begins with its first telegram
    here = yield from errand.open(fcb=fcb)
    telegrams: tuple[Telegram, ...] = ()
    problems: tuple[str, ...] = ()
    is_torn = False
    if recipe.is_plain:
        plain = yield from fetch(here, attempts)
        telegrams, problems, here, is_torn = plain.telegrams, plain.problems, plain.place, plain.is_torn
    place: Place | None = here
    for step in recipe.pages:
        page = yield from _page(step, errand, place, telegrams)
        telegrams, problems, place = telegrams + page.telegrams, problems + page.problems, page.place
        is_torn |= page.is_torn
    if not telegrams:
        raise NoAnswer("every request of its recipe was acknowledged, and none brought data")
    return Followed(telegrams, problems, None if place is None else place.fcb, is_torn)


def _prepare(errand: _Errand, *, fcb: bool | None) -> Conversation[None]:
    """Send what goes before the plain request. A meter that reports an error instead of obeying has refused."""
    place: Place | None = None
    if _is_for_the_meter(errand.recipe.before[0], errand.address):
        place = yield from errand.open(fcb=fcb)
    for step in errand.recipe.before:
        place, frame = yield from _ask(step, errand, place)
        if isinstance(frame, LongFrame):
            _refuse_errors(frame)


def _is_for_the_meter(step: Step | RawFrame, address: Address) -> bool:
    """Whether a step wants the link open: a raw frame with FCV would be taken for a repetition, by chance.

    To 253 it would reach whoever was selected last. A reset or a selection opens a link of its own.
    """
    if isinstance(step, Step):
        return True
    if not step.frame.control & _FCV or _is_selection(step.frame):
        return False
    return step.frame.address in _addresses(address)


def _addresses(address: Address) -> tuple[int, ...]:
    """Where a meter hears what counts in the FCB memory of its link."""
    return (address.number, TEST) if isinstance(address, PrimaryAddress) else (SELECTED,)


def _is_selection(frame: ShortFrame | LongFrame) -> bool:
    return isinstance(frame, LongFrame) and frame.ci == SELECT


def _refuse_errors(frame: LongFrame) -> None:
    try:
        decode(frame)
    except DecodeError as error:
        if error.code == "application_error":
            raise Refused(error.application_error, error.message) from error


def _page(
    step: Step | RawFrame, errand: _Errand, place: Place | None, before: tuple[Telegram, ...]
) -> Conversation[_Page]:
    """A further page: the meter answers with its data, or a SND_UD with E5 and has them fetched."""
    expected = errand.address if isinstance(errand.address, SecondaryAddress) else None
    if isinstance(step, RawFrame):  # which may have reached another meter
        expected = expected or next(filter(None, map(address_in, before)), None)
    place, frame = yield from _ask(step, errand, place)
    if isinstance(frame, LongFrame):
        return _Page((understand(frame, expected),), (), place)
    if frame is None or not _has_data_fetched(step):
        return _Page((), (), place)
    fetched = yield from fetch(place or (yield from errand.open()), errand.attempts)
    return _Page(fetched.telegrams, fetched.problems, fetched.place, fetched.is_torn)


def _has_data_fetched(step: Step | RawFrame) -> bool:
    """Whether an E5 means that the data which were asked for can be fetched now."""
    return isinstance(step, Step) or (isinstance(step.frame, LongFrame) and not _is_selection(step.frame))


def _ask(
    step: Step | RawFrame, errand: _Errand, place: Place | None
) -> Conversation[tuple[Place | None, Frame | None]]:
    """One step of a recipe: the link after it, None where nobody knows it, and what answered."""
    if isinstance(step, RawFrame):
        if place is not None and _is_out_of_step(step, place, errand):
            place = yield from errand.open()
        return _after(step.frame, place, errand.address), (yield from _send_raw(step.frame, errand.attempts))
    place = place or (yield from errand.open())
    answer = yield from _send(place, step, errand.attempts)
    return place.toggled(), answer.frame


def _is_out_of_step(step: RawFrame, place: Place, errand: _Errand) -> bool:
    """Whether the meter would take a raw frame for a repetition: it has the FCB of the frame before."""
    if place.is_fresh or errand.recipe.nke == "never" or not _is_for_the_meter(step, errand.address):
        return False
    return bool(step.frame.control & FCB) != place.fcb


def _send(place: Place, step: Step, attempts: int) -> Conversation[Answer[Frame]]:
    """SND_UD; with FCB=0 once more where the meter ignores FCB=1 (EN 13757-2 wants 1 after a reset, most take 0)."""
    frame = LongFrame(SND_UD | (FCB if place.fcb else 0), place.address, step.ci, step.data)
    try:
        return (yield from exchange(frame, _acknowledgement_or_data, attempts))
    except NoAnswer:
        if not place.fcb:
            raise
        return (yield from exchange(replace(frame, control=SND_UD), _acknowledgement_or_data, 1))


def _send_raw(frame: ShortFrame | LongFrame, attempts: int) -> Conversation[Frame | None]:
    """A frame as it stands; nobody answers one to 255, but its window is kept."""
    if frame.address == BROADCAST:
        yield Request(frame, is_answered=False)
        return None
    match _function(frame):
        case 0x40:  # SND_NKE
            return (yield from exchange(frame, acknowledgement, attempts)).frame
        case 0x4B:  # REQ_UD2
            return (yield from exchange(frame, data, attempts)).frame
    return (yield from exchange(frame, _acknowledgement_or_data, attempts)).frame


def _acknowledgement_or_data(reply: Reply, request: ShortFrame | LongFrame) -> Frame | None:
    return acknowledgement(reply, request) or data(reply, request)


def _function(frame: ShortFrame | LongFrame) -> int:
    """The C field without FCB and FCV."""
    return frame.control & ~(FCB | _FCV)


def _after(frame: ShortFrame | LongFrame, place: Place | None, address: Address) -> Place | None:
    """The link after a raw frame: known where that went the way that the master's own requests go."""
    if isinstance(address, PrimaryAddress) and _function(frame) == SND_NKE and frame.address in _addresses(address):
        return Place(address.number, fcb=True, is_fresh=True)
    if place is None or frame.address != place.address or _is_selection(frame) or _function(frame) == SND_NKE:
        return None
    return replace(place, fcb=not frame.control & FCB, is_fresh=False) if frame.control & _FCV else place
