"""Which digit of the identification a search looks at next: the one that is likely to cost the fewest probes.

Wildcards leave any digit free, so a search need not go from left to right. A digit that all meters share tells
nothing and costs nine silent probes; a batch of one maker differs in its last digits only. What tells how meters
differ is the meters found so far, in pairs: of those that agree where the mask is fixed, how many differ elsewhere?
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import log, prod

DIGITS = 8  # of an identification, the last of them at 7

# What an answer costs, in silent probes: a silent one is a selection and the whole window, 0.27 s at 2400 Bd; a meter
# is read and confirmed; of a crowd comes a garbled telegram.
_SILENT, _METER, _CROWD = 1.0, 1.0, 2.5
_ROOM = 1.2
_PROMISE = 0.5


@dataclass(frozen=True, slots=True)
class Belief:
    """How many values each digit takes as long as nothing is known, and how many pairs of meters that is worth."""

    branches: tuple[float, ...]
    weight: float


UNKNOWN = Belief((3.0, 3.0, 3.5, 4.0, 5.0, 7.0, 9.0, 10.0), 1.5)
RANDOM = Belief((10.0,) * DIGITS, 6.0)


@dataclass(frozen=True, slots=True)
class Choice:
    """A digit to split by: how many of its values are still to be looked at, and of these probably occupied."""

    position: int
    open: int
    occupied: float
    is_probed: bool = False  # known already which ones are, so no probe is needed to tell


@dataclass(slots=True)
class Population:
    """The identifications that are known."""

    identifications: list[str] = field(default_factory=list)

    def add(self, identification: str) -> None:
        """One more meter."""
        if identification not in self.identifications:
            self.identifications.append(identification)

    def branches(self, fixed: Iterable[int], belief: Belief = UNKNOWN) -> list[float]:
        """How many different values each digit takes among meters that agree at the `fixed` positions, 1 to 10."""
        positions = tuple(fixed)
        groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for identification in self.identifications:
            groups[tuple(identification[position] for position in positions)].append(identification)
        crowded = [group for group in groups.values() if len(group) > 1]
        pairs = sum(_pairs(len(group)) for group in crowded)
        return [
            (pairs + belief.weight) / (_equal_pairs(crowded, position) + belief.weight / belief.branches[position])
            for position in range(DIGITS)
        ]

    def in_order(self, position: int, values: Iterable[str]) -> list[str]:
        """The values of a digit, the likely ones last: where all others are silent, the last need not be asked."""
        seen = Counter(identification[position] for identification in self.identifications)
        return sorted(values, key=lambda value: (seen[value], value))


def best(choices: Sequence[Choice], meters: float) -> Choice:
    """The digit by which to split a crowd of about so many meters. `choices` must not be empty."""
    costs = _Plan(choices, meters).costs()
    return choices[costs.index(min(costs))]


def is_better(others: Sequence[Choice], here: Choice, meters: float) -> bool:
    """Whether to leave a split for another digit. What is known is little, so it has to promise much."""
    stay, *leave = _Plan([here, *others], meters).costs()
    return bool(leave) and min(leave) < _PROMISE * stay


def _pairs(number: int) -> float:
    return number * (number - 1) / 2


def _equal_pairs(groups: Iterable[list[str]], position: int) -> float:
    counts = (Counter(identification[position] for identification in group) for group in groups)
    return sum(_pairs(number) for count in counts for number in count.values())


class _Plan:
    """Expected cost of all orders of the digits, as if chance had chosen the meters among all that can be.

    No two meters are the same, so where the digits that are left can tell no two apart there is one at the most.
    """

    def __init__(self, choices: Sequence[Choice], meters: float) -> None:
        self._choices = choices
        self._branches = [max(1.0, min(choice.occupied, choice.open, 10.0)) for choice in choices]
        possible = prod(self._branches)
        if 1 < possible < _ROOM * meters:  # too few were seen to show all values of a digit
            more = log(_ROOM * meters) / log(possible)
            self._branches = [min(10.0, choice.open, branches**more) for choice, branches in zip(choices, self._branches, strict=True)]
        self._density = min(1.0, meters / prod(self._branches))
        self._known: dict[int, float] = {}

    def costs(self) -> list[float]:
        """Of a crowd that is split by each of the digits first."""
        everything = (1 << len(self._choices)) - 1
        return [self._split(everything, index) for index in range(len(self._choices))]

    def _split(self, left: int, index: int) -> float:
        """Cost of looking at all values of one digit of a crowd, `left` being a bit for each digit still free."""
        choice, occupied = self._choices[index], self._branches[index]
        rest = left & ~(1 << index)
        if choice.is_probed:
            return occupied * self._crowd(rest) / max(self._chances(rest)[2], 0.001)
        return (choice.open - occupied) * _SILENT + occupied * self._cost(rest)

    def _cost(self, left: int) -> float:
        """Cost of one mask in which these digits are free."""
        none, one, crowd = self._chances(left)
        return none * _SILENT + one * _METER + crowd * _CROWD + self._crowd(left)

    def _crowd(self, left: int) -> float:
        """Cost of the split that a mask needs where it is a crowd, times the chance that it is one."""
        if left not in self._known:
            indices = [index for index in range(len(self._choices)) if left >> index & 1]
            needed = self._chances(left)[2] > 0.001
            self._known[left] = min((self._extra(left, index) for index in indices), default=0.0) if needed else 0.0
        return self._known[left]

    def _extra(self, left: int, index: int) -> float:
        """The cost of a split, less what it would have been where there is no crowd and so no split."""
        none, one, _ = self._chances(left)
        width = self._choices[index].open
        without = none * width * _SILENT + one * ((width - 1) * _SILENT + _METER)
        return max(0.0, self._split(left, index) - without)

    def _chances(self, left: int) -> tuple[float, float, float]:
        """How likely a mask in which these digits are free holds no meter, one, several."""
        possible = prod(branches for index, branches in enumerate(self._branches) if left >> index & 1)
        free = 1 - self._density
        none = free**possible
        one = min(1 - none, possible * self._density * free ** (possible - 1))
        return none, one, max(0.0, 1 - none - one)
