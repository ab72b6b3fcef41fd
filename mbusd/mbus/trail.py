"""A search whose last answers can be taken back: it is carried out anew from its beginning, with another answer.

A search draws its conclusions from each answer at once, from silence, too. What it asks depends on the answers alone,
so the same answers lead it to the same place.
"""

from collections.abc import Callable

from mbusd.light import dataclass
from mbusd.mbus.asking import Answered, Step
from mbusd.mbus.search import Search


@dataclass(frozen=True, slots=True)
class _Taken:
    """One step, what came of it, and whether answers were known to get lost by then."""

    step: Step
    answer: Answered
    loses: bool


class Trail:
    """`make` begins the search; `step` is what to probe next, None at the end."""

    def __init__(self, make: Callable[[], Search]) -> None:
        self._make = make
        self._taken: list[_Taken] = []
        self._begin()

    def _begin(self) -> None:
        self.search = self._make()
        self._steps = self.search.steps()
        self._taken.clear()
        self.step = next(self._steps, None)

    def take(self, answer: Answered, *, loses: bool = False) -> None:
        """What came of the step; `loses`: answers get lost on this bus."""
        if self.step is None:
            return
        self._taken.append(_Taken(self.step, answer, loses))
        if loses:
            self.search.doubt()
        try:
            self.step = self._steps.send(answer)
        except StopIteration:
            self.step = None

    def last(self, number: int) -> list[Step]:
        """So many of the steps that were answered last, oldest first; fewer where there were no more."""
        return [taken.step for taken in self._taken[-number:]] if number > 0 else []

    def go_back(self, number: int, answer: Answered) -> None:
        """Be where this was the answer to the last step but `number` - 1; what was answered since is forgotten."""
        kept, wrong = self._taken[:-number], self._taken[-number]
        self._begin()
        for taken in kept:
            if self.step != taken.step:
                return  # whatever else it asks now is asked again
            self.take(taken.answer, loses=taken.loses)
        if self.step == wrong.step:
            self.take(answer, loses=wrong.loses)
