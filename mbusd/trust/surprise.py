"""Whether a telegram says what nobody would have expected of its meter: where no parity is told, it must come twice.

The checksum is one byte: a telegram in which two inverted bits cancel out is believed, and the first of a burst of them
comes when nothing unreadable has been heard for long. Hardly one that is damaged goes on as the ones before did: it has
another head, or another meter's name, a stored value moves, a counter falls, a power leaps. A meter that often does so
of itself is known for it after a while: no more than one telegram in eight is asked for again. Pure.
"""

from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Final, NamedTuple

from mbusd.mbus.errors import DecodeError
from mbusd.mbus.frames import LongFrame
from mbusd.mbus.heads import Function, Kind, Value
from mbusd.mbus.telegram import ACCESS_NUMBERS, HEADERS, Telegram, decode
from mbusd.trust.counting import COUNTERS
from mbusd.trust.past import EARLY, Past, Shut

FEW: Final = 4  # times what a value usually does is no surprise
MOST_TELEGRAMS: Final = 32  # of one meter
MOST_SURPRISES: Final = 8.0  # one after the other of forms, and of values, confirmed all of them
REFILL: Final = 1 / 16  # of one of either kind, with each telegram

_SLACK = 120.0  # seconds that a meter's clock may differ in its pace
_DRIFT = 0.01
_HOUR = 3600.0
_HIGH_FIRST = 0x76
_NUMBER = int | Decimal
_OPAQUE, _MAKER, _WORDS = -1, -2, -3  # what else can change than records: all of it, the maker's block, the status


class _Change(NamedTuple):
    """A record that says something else than before, numbers in steps of their last digit."""

    place: int
    function: Function
    storage: int
    kind: Kind
    quantity: str
    before: Value
    after: Value
    step: float | None  # from number to number
    rises: bool = False


class Surprises:
    """What one meter has said so far. Times are seconds of a clock that never jumps."""

    __slots__ = ("_is_begun", "_left_of_forms", "_left_of_values", "_pasts", "_seen")

    def __init__(self) -> None:
        self._pasts: tuple[Shut, ...] = ()  # of what was heard last behind the others
        self._is_begun = False
        self._seen: tuple[LongFrame, list[_Change]] | None = None  # what was looked at last
        self._left_of_forms = self._left_of_values = MOST_SURPRISES  # surprises until it is left in peace

    def is_surprising(self, frame: LongFrame, now: float) -> bool:
        """Whether this answer wants to be seen twice. Of a meter that was never read to the end nothing is known.

        A header with nothing behind it says no value: that the meter is busy, and each request more is one too many.
        """
        if not self._is_begun or len(frame.data) <= HEADERS.get(frame.ci, 0):
            return False
        try:
            telegram = decode(frame)
        except DecodeError as error:
            return error.code != "application_error"
        known = self._past_of(telegram)
        if known is None:
            return self._left_of_forms >= 1.0
        shut, before = known
        past = shut.opened()
        return self._left_of_values >= 1.0 and any(_is_odd(one, past, now) for one in self._changes(before, telegram))

    def believes(self, frame: LongFrame, now: float) -> None:
        """It was believed, seen twice or not."""
        try:
            telegram = decode(frame)
        except DecodeError:
            return
        known = self._past_of(telegram)
        is_new, is_odd = known is None and self._is_begun, False
        if known is None:
            past, others = Past(frame, now), self._pasts
        else:
            shut, before = known
            past, others = shut.opened(), tuple([one for one in self._pasts if one is not shut])
            is_odd = sum([_note(one, past, now) for one in self._changes(before, telegram)]) > 0
            self._seen = None
            past.goes_on(frame, now)
        self._pasts = (*others[-MOST_TELEGRAMS + 1 :], Shut(past))
        self._left_of_forms = _spent(self._left_of_forms, is_new)
        self._left_of_values = _spent(self._left_of_values, is_odd)

    def _changes(self, before: Telegram, telegram: Telegram) -> list[_Change]:
        """What differs from the one before; worked out once for a telegram that is looked at and then believed."""
        if self._seen is None or self._seen[0] is not telegram.frame:
            self._seen = telegram.frame, list(_changes(before, telegram))
        return self._seen[1]

    def _past_of(self, telegram: Telegram) -> tuple[Shut, Telegram] | None:
        """What is known of such telegrams, and the last of them: only values differ from this one."""
        who = _sender_and_size(telegram.frame)
        for past in reversed(self._pasts):
            if _sender_and_size(past.frame) == who and _is_alike(before := decode(past.frame), telegram):
                return past, before
        return None

    def ends(self) -> None:
        """The meter was read to its end: from now on there is something to compare with."""
        self._is_begun = True


def _spent(left: float, is_surprise: bool) -> float:  # noqa: FBT001 - what it is about
    return min(MOST_SURPRISES, max(0.0, left - is_surprise) + REFILL)


def _sender_and_size(frame: LongFrame) -> tuple[int, int, int, int, bytes]:
    who = frame.data[: ACCESS_NUMBERS.get(frame.ci, 0)]
    return frame.control & 0x4F, frame.address, frame.ci, len(frame.data), who


def _is_alike(one: Telegram, other: Telegram) -> bool:
    """Whether all bytes that stay are the same: the heads of all records, and what else is no value."""
    if one.layout is other.layout and one.layout is not None:
        return True
    if one.layout is not None and other.layout is not None:
        return (one.layout.mask, one.layout.skeleton) == (other.layout.mask, other.layout.skeleton)
    return one.layout is other.layout and _heads(one) == _heads(other)


def _heads(telegram: Telegram) -> tuple[object, ...]:
    heads = tuple((one.dib, one.vib, len(one.raw)) for one in telegram.records)
    return (*heads, telegram.more_follows, telegram.encrypted)


def _changes(before: Telegram, after: Telegram) -> Iterator[_Change]:
    """What differs between two telegrams of one key."""
    old, new = before.frame.data, after.frame.data
    access_number = ACCESS_NUMBERS.get(after.frame.ci)
    if access_number is not None and old[access_number + 1] != new[access_number + 1]:
        yield _other(_WORDS)
    layout = after.layout
    if layout is None:
        yield from _changes_of_records(before, after)
        return
    said = layout.outline
    if said is None:  # encrypted
        return
    order = -1 if after.frame.ci == _HIGH_FIRST else 1
    for place, (begin, end) in enumerate(said.spans):
        first, second = old[begin:end], new[begin:end]
        if first != second:
            head = said.heads[place]
            try:
                values = head.convert(first[::order]), head.convert(second[::order])
            except DecodeError:  # no valid value, before or now
                yield _other(place)
            else:
                yield _change(place, head.function, head.storage, head.kind, head.information.quantity, *values)
    if said.maker is not None and old[said.maker :] != new[said.maker :]:
        yield _other(_MAKER)


def _changes_of_records(before: Telegram, after: Telegram) -> Iterator[_Change]:
    """The same of telegrams without a layout."""
    for place, (old, new) in enumerate(zip(before.records, after.records, strict=True)):
        if old.raw != new.raw:
            yield _change(place, new.function, new.storage, new.kind, new.quantity, old.value, new.value)
    is_whole = after.error is None or before.frame.data == after.frame.data
    if before.manufacturer_data != after.manufacturer_data or not is_whole:
        yield _other(_OPAQUE)


def _change(
    place: int, function: Function, storage: int, kind: Kind, quantity: str, before: Value, after: Value
) -> _Change:
    if isinstance(before, _NUMBER) and isinstance(after, _NUMBER):
        step, rises = abs(float(after) - float(before)), after > before
        return _Change(place, function, storage, kind, quantity, before, after, step, rises)
    return _Change(place, function, storage, kind, quantity, before, after, None)


def _other(place: int) -> _Change:
    return _Change(place, "error", 0, "raw", "", None, None, None)


def _is_odd(change: _Change, past: Past, now: float) -> bool:
    is_lively = past.is_lively(change.place)
    before, after, step = change.before, change.after, change.step
    if step is not None and change.kind == "number":
        return (not is_lively and _should_stay(change)) or _leaps(change, step, past, now)
    if isinstance(before, datetime) and isinstance(after, datetime) and not change.storage:
        moved, most = (after - before).total_seconds(), now - past.at
        return not most * (1 - _DRIFT) - _SLACK <= moved <= most * (1 + _DRIFT) + _SLACK
    if isinstance(before, date) and isinstance(after, date) and not change.storage:
        return not 0 <= (after - before).days <= 1 + (now - past.at) / (24 * _HOUR)
    return not is_lively


def _should_stay(change: _Change) -> bool:
    """Whether a number is one that does not move in this direction."""
    if change.storage:
        return True
    match change.function:
        case "maximum":
            return not change.rises
        case "minimum":
            return change.rises
        case "instantaneous":
            return change.quantity in COUNTERS and not change.rises
    return False


def _leaps(change: _Change, step: float, past: Past, now: float) -> bool:
    """Whether a number has moved by far more than it does; while that is not known, by half of itself."""
    usual = past.usual.get(change.place)
    if usual is None:
        return past.heard > EARLY or step > _size(change) / 2
    longer = (now - past.at) / past.gap if past.gap > 0 else 1.0
    return step > FEW * usual * max(1.0, longer)


def _note(change: _Change, past: Past, now: float) -> bool:
    """Learn from a change that was believed; whether it was odd."""
    is_odd = _is_odd(change, past, now)
    step, usual = change.step or 0.0, past.usual.get(change.place, 0.0)
    if is_odd and usual:
        usual += (step - usual) / FEW if step > usual else 0.0
    else:
        usual = max(step, usual * 7 / 8)
    past.moved(change.place, usual, is_odd=is_odd)
    return is_odd


def _size(change: _Change) -> float:
    return abs(float(change.before)) if isinstance(change.before, _NUMBER) else 0.0
