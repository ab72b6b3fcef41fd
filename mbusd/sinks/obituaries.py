"""What others say of us on the topic where we say that we are alive, and how often that is answered.

It is an old connection of ours that has ended, or anybody, as often as he likes: the answers must not keep us from
saying anything else.
"""

import asyncio
from collections.abc import Callable

ANSWER_SECONDS = 1.0  # between two answers
LONGEST_PAUSE = 512.0  # before all is said again; each one is twice as long as the one before


class Obituaries:
    """`alive` says that we are; `everything` says all again: who has ended may have said old things till then."""

    def __init__(self, alive: Callable[[], None], everything: Callable[[], None]) -> None:
        self._alive = Answer(alive, longest=ANSWER_SECONDS)
        self._everything = Answer(everything, longest=LONGEST_PAUSE)

    def heard(self) -> None:
        """Somebody has called us dead."""
        self._everything.give()
        self._alive.give()

    def forget(self) -> None:
        """The connection is over: the next one begins with all that there is to say."""
        self._everything.forget()
        self._alive.forget()


class Answer:
    """Given at once, and again after a pause if it was wanted meanwhile, however often."""

    def __init__(self, say: Callable[[], None], longest: float) -> None:
        self._say = say
        self._longest = longest
        self._pause = ANSWER_SECONDS
        self._resting: asyncio.TimerHandle | None = None
        self._is_wanted = False

    def give(self) -> None:
        """Somebody wants it."""
        if self._resting is not None:
            self._is_wanted = True
            return
        self._resting = asyncio.get_running_loop().call_later(self._pause, self._has_rested)
        self._say()

    def forget(self) -> None:
        """Nobody wants it any more."""
        if self._resting is not None:
            self._resting.cancel()
        self._resting, self._is_wanted, self._pause = None, False, ANSWER_SECONDS

    def _has_rested(self) -> None:
        self._resting = None
        if self._is_wanted:
            self._is_wanted = False
            self._pause = min(2 * self._pause, self._longest)
            self.give()
        else:
            self._pause = ANSWER_SECONDS
