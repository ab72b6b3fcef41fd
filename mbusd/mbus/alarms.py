"""The request for alarms, REQ_UD1 (EN 13757-2 cl. 5.7, -3 cl. 9): class 1 data, or E5 from a meter with nothing to say.

Whether a meter has one FCB memory for both classes of data or two, and whether E5 counts in it, differs, and nothing in
an alarm tells that it is an old one. So each request is made in a way that is new to the meter in every case, or is
made again; and the next read-out begins with SND_NKE. A one-time alarm is acknowledged by the toggled request after it.
"""

from dataclasses import replace
from typing import assert_never

from mbusd.light import dataclass
from mbusd.mbus.address import SELECTED, Address, PrimaryAddress, SecondaryAddress
from mbusd.mbus.errors import DecodeError, Stale
from mbusd.mbus.frames import FCB, REQ_UD1, Frame, LongFrame, ShortFrame
from mbusd.mbus.link import ATTEMPTS, Conversation, Reply, acknowledgement, data, exchange
from mbusd.mbus.master import LinkState, reset, select, understand
from mbusd.mbus.quirks import Recipe
from mbusd.mbus.telegram import Telegram

ALARM_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class AlarmAnswer:
    """What a meter said of alarms, None where it had nothing to say (E5), and the link as it is after it."""

    telegram: Telegram | None
    link: LinkState


@dataclass(frozen=True, slots=True)
class _Said:
    frame: Frame
    fcb: bool  # of the request after this one

    @property
    def is_data(self) -> bool:
        return isinstance(self.frame, LongFrame)


def req_ud1(address: int, *, fcb: bool) -> ShortFrame:
    """Request of class 1 data with FCV set: 7A with FCB=1, 5A with FCB=0."""
    return ShortFrame(REQ_UD1 | (FCB if fcb else 0), address)


def ask_alarm(
    address: Address, recipe: Recipe, link: LinkState, attempts: int = ALARM_ATTEMPTS
) -> Conversation[AlarmAnswer]:
    """Ask one meter for alarms; `attempts` transmissions of each request, three at the most.

    Raises NoAnswer, Refused (the meter sent an application error), WrongMeter, Stale (class 2 data once more),
    DecodeError (data that nobody can read: whether they are an alarm is not known).
    """
    attempts = min(attempts, ATTEMPTS)
    expected, alarm_fcb = None, None
    match address:
        case PrimaryAddress(place):
            said = yield from _ask_primary(place, recipe, link, attempts)
            alarm_fcb = said.fcb if said.is_data else None
        case SecondaryAddress():
            said = yield from _ask_selected(address, recipe, attempts)
            expected = address
        case _:
            assert_never(address)
    telegram = _telegram(said.frame, expected)
    if telegram is not None and telegram.header is not None and _content(telegram) in map(_content, link.before):
        raise Stale
    is_kept = recipe.nke == "never" and not said.is_data and said.fcb == link.fcb
    return AlarmAnswer(telegram, replace(link, fcb=link.fcb if is_kept else None, alarm_fcb=alarm_fcb))


def _ask_primary(place: int, recipe: Recipe, link: LinkState, attempts: int) -> Conversation[_Said]:
    """After class 1 data the toggled request is new to the meter; else it is after a reset."""
    if link.alarm_fcb is not None:
        return (yield from _ask(place, attempts, fcb=link.alarm_fcb))
    if recipe.nke == "never":
        return (yield from _ask_twice(place, attempts, link.fcb))
    if (yield from reset(place, min(2, attempts))):
        return (yield from _ask(place, attempts, fcb=True))
    return (yield from _ask_twice(place, attempts, None))


def _ask_selected(address: SecondaryAddress, recipe: Recipe, attempts: int) -> Conversation[_Said]:
    """A reset between two selections: some meters keep their FCB memory over a selection, others count it as FCB=0."""
    is_reset = False
    for _ in range(0 if recipe.nke == "never" else min(2, attempts)):
        yield from exchange(select(address), acknowledgement, attempts)
        is_reset = yield from reset(SELECTED, attempts=1)
        if is_reset:
            break
    yield from exchange(select(address), acknowledgement, attempts)
    if is_reset:
        return (yield from _ask(SELECTED, attempts, fcb=True))
    return (yield from _ask_twice(SELECTED, attempts, None))


def _ask(place: int, attempts: int, *, fcb: bool) -> Conversation[_Said]:
    answer = yield from exchange(req_ud1(place, fcb=fcb), _nothing_or_data, attempts)
    return _Said(answer.frame, not fcb)


def _ask_twice(place: int, attempts: int, known: bool | None) -> Conversation[_Said]:  # noqa: FBT001 - the FCB, or None
    """Without a reset: where the FCB is not `known` to be new, what comes first may be old.

    After data the toggled request is new. After two E5 the FCB is where it was, whether they count or not; data after
    one E5 may be old again, if it does not count.
    """
    fcb = known is not False
    first = yield from _ask(place, attempts, fcb=fcb)
    if first.is_data and known is not None:
        return first
    second = yield from _ask(place, attempts, fcb=first.fcb)
    if first.is_data or not second.is_data:
        return second
    return (yield from _ask(place, attempts, fcb=second.fcb))


def _nothing_or_data(reply: Reply, request: ShortFrame | LongFrame) -> Frame | None:
    return acknowledgement(reply, request) or data(reply, request)


def _telegram(frame: Frame, expected: SecondaryAddress | None) -> Telegram | None:
    """What the meter said, if there is anything in it that can be read."""
    if not isinstance(frame, LongFrame):
        return None
    telegram = understand(frame, expected)
    if any(record.kind != "raw" for record in telegram.records):
        return telegram
    if telegram.error is not None:
        raise telegram.error
    if telegram.records or telegram.encrypted or telegram.manufacturer_data:
        why = "is encrypted" if telegram.encrypted else "has only what its maker can read"
        raise DecodeError("unreadable_alarm", f"the answer to the request for alarms {why}")
    return telegram


def _content(telegram: Telegram) -> tuple[int, bytes]:
    return telegram.frame.ci, telegram.frame.data
