"""What the telegrams of one meter and one layout did so far: open while another one is looked at, else shut. Pure.

Shut it takes a third of the room: which records have moved at all is kept once for all meters of a kind, of each meter
only its last telegram and its numbers, one behind the other.
"""

from functools import lru_cache
from struct import pack, unpack
from typing import Final

from mbusd.mbus.frames import LongFrame

EARLY: Final = 3  # telegrams, after which a value that has never changed is one that stays
LIVELY: Final = 3  # changes of what should stay, and no other is a surprise
MOST_KINDS = 512

_Moved = tuple[tuple[int, ...], tuple[int, ...]]
"""The places of the records that have moved, and the surprises of each."""


class Past:
    """Open: the last telegram that was believed, and what those before it did."""

    __slots__ = ("at", "frame", "gap", "heard", "surprises", "usual")

    def __init__(self, frame: LongFrame, now: float) -> None:
        self.frame = frame
        self.at = now
        self.gap = 0.0  # seconds between the last two
        self.heard = 1  # telegrams
        self.usual: dict[int, float] = {}  # steps, by the places of the records that have moved at all
        self.surprises: dict[int, int] = {}  # of the same, as far as they are counted

    def goes_on(self, frame: LongFrame, now: float) -> None:
        """The next one was believed."""
        self.gap, self.at, self.frame = now - self.at, now, frame
        self.heard += 1

    def moved(self, place: int, usual: float, *, is_odd: bool) -> None:
        """A record has moved, and does so by this as a rule."""
        self.usual[place] = usual
        before = self.surprises.get(place, 0)
        self.surprises[place] = before + 1 if is_odd and before < LIVELY else before

    def is_lively(self, place: int) -> bool:
        """Whether what a record does of itself is no surprise any more."""
        return self.surprises.get(place, 0) >= LIVELY


class Shut:
    """The same between two telegrams."""

    __slots__ = ("_heard", "_moved", "_numbers", "frame")

    def __init__(self, past: Past) -> None:
        self.frame = past.frame
        self._heard = min(past.heard, EARLY + 1)
        self._moved = _shared((tuple(past.usual), tuple(past.surprises.values())))
        self._numbers = pack(f"<{2 + len(past.usual)}d", past.at, past.gap, *past.usual.values())

    def opened(self) -> Past:
        """As it was."""
        places, surprises = self._moved
        at, gap, *usual = unpack(f"<{2 + len(places)}d", self._numbers)
        past = Past(self.frame, at)
        past.gap, past.heard = gap, self._heard
        past.usual, past.surprises = dict(zip(places, usual, strict=True)), dict(zip(places, surprises, strict=True))
        return past


@lru_cache(maxsize=MOST_KINDS)
def _shared(moved: _Moved) -> _Moved:
    """The same one for all meters of which the same records have moved."""
    return moved
