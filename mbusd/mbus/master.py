"""The master's read-out (EN 13757-2 cl. 5.7): the state of its link, and whether what the meter sent is news.

Between two clean read-outs the FCB just goes on toggling; whoever keeps the `LinkState` forgets it after anything that
went wrong, and SND_NKE opens the link again.
"""

from dataclasses import field, replace

from mbusd.light import dataclass
from mbusd.mbus.address import Address, SecondaryAddress
from mbusd.mbus.errors import MBusError, Stale
from mbusd.mbus.fetching import (
    MOST_TELEGRAMS,
    SELECT,
    address_in,
    address_of,
    is_same,
    req_ud2,
    reset,
    select,
    snd_nke,
    understand,
)
from mbusd.mbus.following import follow
from mbusd.mbus.frames import LongFrame
from mbusd.mbus.link import ATTEMPTS, Conversation
from mbusd.mbus.quirks import Recipe
from mbusd.mbus.telegram import Telegram

__all__ = [  # with what a read-out is made of
    "MOST_TELEGRAMS",
    "SELECT",
    "Interrupted",
    "LinkState",
    "ReadOut",
    "address_of",
    "knock",
    "read_out",
    "req_ud2",
    "reset",
    "select",
    "snd_nke",
    "understand",
]


PASSES = 3  # over the telegrams of a meter that begins anew in the middle


class Interrupted(MBusError):
    """The meter began anew in the middle of its telegrams, each time that it was read: what there is is not all."""

    def __init__(self, sent: int, due: int) -> None:
        super().__init__(f"it began anew in the middle, {PASSES} times: {sent} of {due} telegrams, not published")


@dataclass(frozen=True, slots=True)
class LinkState:
    """What the master remembers of its link with one meter from one read-out to the next (EN 13757-2 cl. 5.7.5)."""

    fcb: bool | None = None  # of the next request; None: unknown, the link must be reset
    before: tuple[Telegram, ...] = ()  # the telegrams of the read-out before
    counts: bool | None = None  # the access number moves; False: the meter says the same again even after a reset
    insists: bool = False  # only a reset makes it begin anew: it keeps its FCB memory over a selection
    alarm_fcb: bool | None = None  # of the next REQ_UD1, where the last frame answered was one, by data

    def forgotten(self) -> "LinkState":
        """The same after anything that went wrong: nobody knows which FCB the meter remembers."""
        return replace(self, fcb=None, alarm_fcb=None)


@dataclass(frozen=True, slots=True)
class ReadOut:
    """All telegrams of one meter, in the order sent, what was odd about them, and the link as it is after them.

    `is_torn`: a request had to be repeated, and another telegram was counted in between: some may be from before a
    power cut, and some from after it.
    """

    telegrams: tuple[Telegram, ...]
    problems: tuple[str, ...] = ()
    link: LinkState = field(default_factory=LinkState)
    is_torn: bool = False

    @property
    def address(self) -> SecondaryAddress | None:
        """Who answered, where a header says so."""
        return next(filter(None, map(address_in, self.telegrams)), None)

    def is_from(self, address: str) -> bool:
        """Whether the meter with this secondary address may have sent it; without a header nothing speaks against."""
        return self.address is None or SecondaryAddress(address).matches(self.address)


def read_out(
    address: Address, recipe: Recipe | None = None, link: LinkState | None = None, attempts: int = ATTEMPTS
) -> Conversation[ReadOut]:
    """All telegrams of one meter, read from the first; `attempts` transmissions of each request at the most.

    An old telegram that is sent again is no reading, nor is one that breaks off where it used to go on, nor are
    telegrams from before and after a power cut: the link is reset and the meter read once more. Raises NoAnswer,
    Refused (the meter sent an application error), WrongMeter, Stale, Interrupted, DecodeError (data that are no
    telegram).
    """
    recipe = recipe or Recipe()
    link = link or LinkState()
    known = None if recipe.nke == "always" or link.insists else link.fcb
    result = yield from _read(address, recipe, attempts, fcb=known)
    counts, insists = link.counts, link.insists
    old = _is_old(result, link, address)
    if old or _is_out_of_step(result, link) or _is_cut(result, link) or result.is_torn:
        result = yield from _read(address, replace(recipe, nke="always"), attempts, fcb=None)
        if not _is_old(result, link, address):
            insists = insists or (old and known is not None)
        elif link.counts or len(link.before) > 1:
            raise Stale
        else:
            counts = False
    if _is_cut(result, link) or result.is_torn:
        result = yield from _read(address, replace(recipe, nke="always"), attempts, fcb=None)
        if _is_cut(result, link):
            raise Interrupted(len(result.telegrams), len(link.before))
    if link.before and _access_number(link.before[0]) != _access_number(result.telegrams[0]):
        counts = True
    return replace(result, link=LinkState(result.link.fcb, result.telegrams, counts, insists))


def knock(address: Address, recipe: Recipe) -> Conversation[bool]:
    """Whether the begin of a read-out, tried once, brings a telegram: an E5 alone does not say that data will come."""
    conversation = read_out(address, recipe, attempts=1)
    try:
        request = next(conversation)
        while True:
            reply = yield request
            if isinstance(reply, LongFrame):
                return True
            request = conversation.send(reply)
    except (StopIteration, MBusError):
        return False
    finally:
        conversation.close()


def _is_old(result: ReadOut, link: LinkState, address: Address) -> bool:
    """Whether the meter has taken the first request for a repetition of the last one that it had answered.

    By its primary address only a meter that counts is suspected: there each request is a toggle. After a selection
    the first is always FCB=1, which is none for a meter that keeps its memory over the selection.
    """
    if not link.before:
        return False
    first = result.telegrams[0]
    if len(link.before) > 1 and link.before[-2].more_follows and is_same(first, link.before[-1]):
        return True
    is_suspect = link.counts is not False if isinstance(address, SecondaryAddress) else link.counts is True
    return is_suspect and first.frame == link.before[0].frame


def _is_out_of_step(result: ReadOut, link: LinkState) -> bool:
    """Whether it begins with a telegram that it ended with before, or perhaps did: that read-out broke off."""
    broke_off, others = bool(link.before) and link.before[-1].more_follows, link.before[1:]
    if not (broke_off or others) or is_same(result.telegrams[0], link.before[0]):
        return False  # most meters have one telegram only: nothing of it need be looked at
    return broke_off or any(is_same(result.telegrams[0], one) for one in others)


def _is_cut(result: ReadOut, link: LinkState) -> bool:
    """Whether the meter began anew in the middle, as after a power cut: fewer telegrams than the read-out before."""
    return bool(result.problems) and len(result.telegrams) < len(link.before)


def _access_number(telegram: Telegram) -> int | None:
    return None if telegram.header is None else telegram.header.access_number


def _read(address: Address, recipe: Recipe, attempts: int, *, fcb: bool | None) -> Conversation[ReadOut]:
    """One pass over the recipe. A meter that has begun again has sent its first telegram already."""
    found = yield from follow(address, recipe, attempts, fcb=fcb)
    begins_again = found.problems and len(found.telegrams) > 1
    return ReadOut(found.telegrams, found.problems, LinkState(None if begins_again else found.fcb), found.is_torn)
