"""One probe for the same part of several crowds: when that pays, and how crowds are put together for it.

Three crowds 1…, 4… and 7… that are split by their last digit need thirty probes, or ten that leave the first digit
free: where one of these meets nobody, or one meter alone, it answers for all three. Masks are texts of 16 digits.
"""

from collections import Counter
from collections.abc import Sequence
from math import exp

from mbusd.light import dataclass
from mbusd.mbus.split import DIGITS, VALUES, Population

_READ = 2.1  # what reading a known meter, or a crowd, costs beside silence
_SURPRISE = 0.1  # reading takes as long as two silent probes, to split one meter alone costs ten
_THICK = 4.0  # meters where there are any: one alone is rarer than a surprise then
_RARE = 0.3  # values that nobody was seen to have, but that may exist


@dataclass(frozen=True, slots=True)
class Chance:
    """How likely one more value of a digit is nobody's, or that of one meter, among meters that are not known yet."""

    none: float
    one: float

    @classmethod
    def of(cls, population: Population, mask: str, position: int, meters: float) -> "Chance":
        """Of the value that `mask` has at this position, for about so many unknown meters."""
        fixed = sum(1 << place for place in range(DIGITS) if mask[place] != "F" and place != position)
        spread = min(population.spread(fixed, 1 << position), VALUES)
        seen = population.seen(mask, position)
        known = seen.total()
        value = mask[position]
        if value in seen:
            exists, share = 1.0, seen[value] / known
        else:
            unseen = max(spread - len(seen), _RARE)
            exists = min(1.0, unseen / (VALUES - len(seen)))
            share = 1 / max(spread, len(seen) + unseen)
        expected = meters * share
        return cls(1 - exists + exists * exp(-expected), exists * expected * exp(-expected))


def is_worthwhile(parts: Sequence[str], chance: Chance, known: int) -> bool:
    """Whether one probe for all these parts, in which so many meters are known to be, is likely to save some."""
    if known > 1:
        return False
    alone: float = len(parts) * chance.none ** (1 / len(parts))  # silent probes, one by one
    several = max(0.0, 1 - chance.none - chance.one)
    if known:
        return chance.none * _READ + (1 - chance.none) * (_READ + max(alone - 1, 0.0)) < alone
    return chance.none + several * (_READ + max(len(parts) - 2.0, 0.0)) < alone


def common(masks: Sequence[str]) -> str:
    """The narrowest mask that holds them all."""
    return "".join(digits[0] if len(set(digits)) == 1 else "F" for digits in zip(*masks, strict=True))


def divided(masks: Sequence[str]) -> list[list[str]]:
    """The same masks in several groups, of which each has one digit more in common."""
    values = [Counter(digits) for digits in zip(*masks, strict=True)]
    place = min((place for place in range(DIGITS) if len(values[place]) > 1), key=lambda place: len(values[place]))
    return [[mask for mask in masks if mask[place] == value] for value in values[place]]


@dataclass(slots=True)
class Level:
    """Masks with the same digits free: how many held one meter, how many several, and how many these were.

    `guess` is the size of a crowd as long as nothing is known.
    """

    guess: float = 2.2
    single: int = 0
    crowded: int = 0
    _resolved: int = 0
    _found: int = 0

    def add_resolved(self, meters: int) -> None:
        """A crowd has been looked through."""
        self._resolved += 1
        self._found += meters

    @property
    def size(self) -> float:
        """About how many meters a crowd has."""
        if self._resolved:
            return max(self.guess, self._found / self._resolved)
        return max(self.guess, _crowd_size(self.single, self.crowded)) if self.crowded else self.guess

    @property
    def is_crowded(self) -> bool:
        """Whether one meter alone behind such a mask would be a surprise."""
        occupied = self._resolved + self.single
        return (self.single + 0.5) / (self.single + self.crowded + 1) < _SURPRISE or (
            self._resolved > 0 and (self._found + self.single) / occupied >= _THICK
        )


def _crowd_size(single: int, crowded: int) -> float:
    """How many meters a crowd has on the average, where so many parts hold one and so many hold several.

    As if chance had strewn them: the share of the single ones tells how thick.
    """
    ratio = (single + 0.5) / crowded
    low, high = 0.05, 30.0
    while high - low > 0.05:
        middle = (low + high) / 2
        low, high = (middle, high) if middle / (exp(middle) - 1 - middle) > ratio else (low, middle)
    return low * (exp(low) - 1) / (exp(low) - 1 - low)
