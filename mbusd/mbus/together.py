"""What several meters send when they send at once, and whether the meters that are known account for it all.

Answers that begin in the same bit come out as the AND of their bytes, for a space wins (EN 13757-2 cl. 4). A further
meter would have cleared more bits, unless its own telegram has all bits that the others have in common.
"""

from collections.abc import Sequence

from mbusd.mbus.frames import encode
from mbusd.mbus.probe import Meter

_CHANGED = 4  # bytes of values that may have changed since each was read alone
_WITNESSES = 5  # other meters, to see how much one more would show
_SHOWN = 4  # bytes at the least in which each of them would have
_WHO = range(7, 15)  # the places of the secondary address in a telegram with a long header
_ACCESS_NUMBER = 15


def accounts_for(members: Sequence[Meter], heard: bytes, others: Sequence[Meter]) -> bool:
    """Whether `heard` is what these members send together, and none of the others could have hidden in it."""
    telegrams = [encode(meter.telegram.frame) for meter in members]
    if len(members) < 2 or len(others) < _WITNESSES or len(heard) != max(map(len, telegrams)):
        return False
    places = _constant_places(telegrams, heard)
    same = [place for place in places if heard[place] == _together(telegrams, place)]
    changed = len(places) - len(same)
    if changed > _CHANGED or not set(_WHO) <= set(same):
        return False
    return all(_shows(other, heard, same) >= _SHOWN + changed for other in others)


def shows_another(members: Sequence[Meter], heard: bytes) -> bool:
    """Whether `heard` is what these members send together with one more, which has cleared bits of theirs."""
    telegrams = [encode(meter.telegram.frame) for meter in members]
    if not members or len(heard) < max(map(len, telegrams)):
        return False
    places = _constant_places(telegrams, heard)
    if sum(heard[place] & ~_together(telegrams, place) != 0 for place in places) > _CHANGED:
        return False  # out of step, or not theirs at all
    cleared = [place for place in places if _together(telegrams, place) & ~heard[place]]
    return len(cleared) > 2 * _CHANGED or any(place in _WHO for place in cleared)


def _constant_places(telegrams: Sequence[bytes], heard: bytes) -> list[int]:
    """All places but those of access numbers and checksums."""
    counted = {_ACCESS_NUMBER, *(len(telegram) - 2 for telegram in telegrams)}
    return [place for place in range(len(heard)) if place not in counted]


def _together(telegrams: Sequence[bytes], place: int) -> int:
    byte = 0xFF
    for telegram in telegrams:
        byte &= telegram[place] if place < len(telegram) else 0xFF
    return byte


def _shows(meter: Meter, heard: bytes, places: Sequence[int]) -> int:
    """In how many bytes this meter would have cleared bits that were heard."""
    telegram = encode(meter.telegram.frame)
    return sum(heard[place] & ~telegram[place] != 0 for place in places if place < len(telegram))
