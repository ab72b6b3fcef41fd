"""Which digit of the identification a search looks at next: the one that is likely to cost the fewest probes.

Wildcards leave any digit free, so a search need not go from left to right. A digit that all meters share tells
nothing and costs nine silent probes; a batch of one maker differs in its last digits only. What tells how meters
differ is the meters found so far, in pairs: of those that agree where the mask is fixed, how many agree elsewhere?

Sets of digits are bits here: 1 << position, 0 the first digit.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from math import log, prod

DIGITS = 8  # of an identification
_ALL = (1 << DIGITS) - 1
VALUES = 10  # of a digit

# What an answer costs, in silent probes: these last for a selection and the whole window, 0.27 s at 2400 Bd. A meter
# is read once in any order; of a crowd there comes a garbled telegram.
_SILENT, _METER, _CROWD = 1.0, 1.0, 2.5

# How many values each digit takes as long as nothing is known. Of twenty to a hundred meters with consecutive numbers
# all last digits occur, but only some of the last but one, so to take this one first saves more there than it costs
# where there are fewer.
_BELIEVED = (3.0, 3.0, 3.5, 4.0, 5.0, 7.0, 10.0, 9.5)
_WEIGHT = 1.5  # pairs of meters that this belief is worth
_FEW = 3  # meters of which the digits tell nothing of the digits of others
_ROOM = 1.05  # possible identifications for each meter, at the least
_DENSEST = 0.95  # share of the possible ones that exist, at the most


class Population:
    """The identifications that are known, and in which digits their pairs agree."""

    def __init__(self) -> None:
        self._known: list[str] = []
        self._exactly = [0] * (_ALL + 1)  # pairs that agree in these digits and no other
        self._at_least: list[int] | None = None

    def add(self, identification: str) -> None:
        """One more meter; the same one counts once."""
        if identification in self._known:
            return
        for other in self._known:
            digits = zip(identification, other, strict=True)
            self._exactly[sum(1 << position for position, (a, b) in enumerate(digits) if a == b)] += 1
        self._known.append(identification)
        self._at_least = None

    def agreeing(self, digits: int) -> int:
        """How many pairs agree in these digits at the least."""
        if self._at_least is None:
            self._at_least = list(self._exactly)
            for bit in (1 << position for position in range(DIGITS)):
                for subset in range(_ALL + 1):
                    if not subset & bit:
                        self._at_least[subset] += self._at_least[subset | bit]
        return self._at_least[digits]

    def spread(self, fixed: int, digits: int) -> float:
        """How many combinations of these digits there are among meters that agree in the fixed ones.

        Two meters agree in them with the chance 1/n where they take n values: the estimate is that, turned round.
        """
        believed = prod(self._usual_spread(bit) for bit in _bits(digits))
        pairs = self.agreeing(fixed) + _WEIGHT
        return pairs / (self.agreeing(fixed | digits) + _WEIGHT / believed)

    def _usual_spread(self, bit: int) -> float:
        """How many values a digit takes among all meters."""
        pairs = self.agreeing(0) + _WEIGHT
        return pairs / (self.agreeing(bit) + _WEIGHT / _BELIEVED[bit.bit_length() - 1])

    def seen(self, mask: str, position: int) -> "Counter[str]":
        """The values of one digit among the meters known that agree with a mask in the others; of all, where few do."""
        places = [place for place in range(DIGITS) if place != position and mask[place] != "F"]
        near = [one for one in self._known if all(one[place] == mask[place] for place in places)]
        return Counter(one[position] for one in (near if len(near) >= _FEW else self._known))

    @property
    def size(self) -> int:
        """How many identifications are known."""
        return len(self._known)

    def in_order(self, position: int, values: Iterable[str]) -> list[str]:
        """The values of a digit, the likely ones last: where all others are silent, the last need not be asked."""
        seen = Counter(identification[position] for identification in self._known)
        return sorted(values, key=lambda value: (seen[value], value))


def best(
    population: Population, free: Sequence[int], meters: float, members: Sequence[str] = (), siblings: int = 1
) -> int:
    """The one of the free positions, of which there must be one, by which to split a crowd of about so many meters.

    `members` are those of whom it is known that they are in it: where they are few, they are what has to be separated.
    `siblings`: how many crowds are split together; a value that nobody has costs them one probe, see joint.py.
    """
    plan = _Plan(population, sum(1 << position for position in free), meters, siblings)
    few = members if len(members) <= VALUES else ()
    return min(free, key=lambda position: (-len({member[position] for member in few}), plan.cost(position)))


class _Plan:
    """Expected cost of all orders of the digits, as if chance had chosen the meters among all that can be.

    No two meters are the same, so where the digits that are left can tell no two apart there is one at the most.
    """

    def __init__(self, population: Population, free: int, meters: float, siblings: int) -> None:
        self._population = population
        self._siblings = siblings
        self._free = free
        self._more = 1.0
        self._crowds: dict[int, float] = {}
        self._possible = min(self._values(free), prod(min(self._values(bit), VALUES) for bit in _bits(free)))
        if 1 < self._possible < _ROOM * meters:  # too few were seen yet to show all values
            self._more = log(_ROOM * meters) / log(self._possible)
            self._possible = _ROOM * meters
        self._density = min(_DENSEST, meters / self._possible)

    def cost(self, position: int) -> float:
        """Of a crowd that is split by this digit first."""
        return self._split(0, 1 << position)

    def _values(self, digits: int) -> float:
        """How many combinations of these digits there are."""
        return float(self._population.spread(_ALL & ~self._free, digits) ** self._more)

    def _split(self, used: int, bit: int) -> float:
        """Cost of looking at all values of one digit, where those in `used` are fixed already."""
        occupied = self._occupied(used, bit)
        none, one, crowd = self._chances(used | bit)
        each = none * _SILENT + one * _METER + crowd * _CROWD + self._crowd(used | bit)
        return self._unused(used, occupied) + occupied * each

    def _occupied(self, used: int, bit: int) -> float:
        """How many values of a digit there are where those in `used` are fixed."""
        return max(1.0, min(self._values(used | bit) / self._values(used), VALUES))

    def _unused(self, used: int, occupied: float) -> float:
        """Cost of the values that nobody has, for each of the crowds that are split together."""
        crowds = self._siblings * (self._values(used) * self._chances(used)[2] if used else 1.0)
        return (VALUES - occupied) * _SILENT / max(crowds, 1.0)

    def _crowd(self, used: int) -> float:
        """Cost of the split that a mask needs where it is a crowd, times the chance that it is one."""
        if used not in self._crowds:
            needed = self._chances(used)[2] > 0.001
            extras = (self._extra(used, bit) for bit in _bits(self._free & ~used))
            self._crowds[used] = min(extras, default=0.0) if needed else 0.0
        return self._crowds[used]

    def _extra(self, used: int, bit: int) -> float:
        """The cost of a split, less what it would have been where there is no crowd and so no split."""
        none, one, _ = self._chances(used)
        occupied = self._occupied(used, bit)
        silent = self._unused(used, occupied) + occupied * _SILENT
        without = none * silent + one * (silent - _SILENT + _METER)
        return max(0.0, self._split(used, bit) - without)

    def _chances(self, used: int) -> tuple[float, float, float]:
        """How likely a mask in which these digits are fixed holds no meter, one, several."""
        possible = max(1.0, self._possible / self._values(used)) if used else self._possible
        free = 1 - self._density
        none = free**possible
        one = min(1 - none, possible * self._density * free ** (possible - 1))
        return none, one, max(0.0, 1 - none - one)


def _bits(digits: int) -> list[int]:
    return [1 << position for position in range(DIGITS) if digits >> position & 1]
