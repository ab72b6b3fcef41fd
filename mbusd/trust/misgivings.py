"""What is said of counters that did what they should not: of one meter the same at most once in ten minutes.

A register that jitters would fill the log otherwise. What is left out is counted, and stands there at level debug.
"""

import logging
from typing import Final

from mbusd.model import Reading
from mbusd.trust.plausibility import Verdict

log = logging.getLogger(__name__)

TELL_SECONDS: Final = 600.0
MOST_KNOWN: Final = 1000

_Subject = tuple[str, str]
"""A meter, and what is said of it."""


class Misgivings:
    """Times are seconds of a clock that never jumps."""

    def __init__(self) -> None:
        self._told: dict[_Subject, float] = {}
        self._left_out: dict[_Subject, int] = {}

    def dropped(self, meter: str, first: Verdict, again: Reading, now: float) -> None:
        """One line of a read-out that a second one has shown to be wrong."""
        said = " and ".join(first.as_in(again))
        text = f"{first}; a second read-out says {said}: the first is dropped"
        self._tell(logging.WARNING, (meter, "dropped"), text, now)

    def believed(self, meter: str, verdict: Verdict, witness: str, now: float) -> None:
        """One line of a counter that did what it should not, and is published."""
        if verdict.finding == "confirmed":
            self._tell(logging.INFO, (meter, "confirmed"), f"{verdict}; confirmed by {witness}: published", now)
        elif verdict.finding == "hopeless":
            why = "it goes on like that and is not checked any more: published"
            self._tell(logging.WARNING, (meter, "hopeless"), f"{verdict}; {why}", now)

    def _tell(self, level: int, subject: _Subject, text: str, now: float) -> None:
        before = self._told.get(subject)
        if before is not None and now - before < TELL_SECONDS:
            self._left_out[subject] = self._left_out.get(subject, 0) + 1
            log.debug("%s: %s", subject[0], text)
            return
        if len(self._told) >= MOST_KNOWN:
            self._told.clear()
            self._left_out.clear()
        self._told[subject] = now
        count = self._left_out.pop(subject, 0)
        more = f" (and {count} more like it since the last such line)" if count else ""
        log.log(level, "%s: %s%s", subject[0], text, more)
