"""Cron lines: five fields that name moments of a clock on the wall, as Debian's cron understands them. Pure.

An hour that daylight saving leaves out or repeats: what a line means for it is done at the next moment that there is,
and once; only lines with a star for the minute or the hour go on through it.
"""

import math
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from itertools import pairwise, takewhile

from cronsim import CronSim, CronSimError

from mbusd.light import dataclass

_FIELDS = "minute, hour, day of the month, month, day of the week"
_BEFORE_SOME_DAY = datetime(2024, 12, 31, 23, 59, 59, tzinfo=UTC)
_DAY_SECONDS = 86400.0


@dataclass(frozen=True, slots=True)
class CronLine:
    """A line that `checked` has let through, and the zone of its clock."""

    text: str
    zone: tzinfo

    @property
    def is_fixed(self) -> bool:
        """Whether it names its minutes and hours, with no star for either."""
        return not any(field.startswith("*") for field in self.text.split(" ")[:2])

    def next(self, after: float) -> float:
        """The first moment after that one, both in seconds since 1970."""
        start = datetime.fromtimestamp(after, self.zone)
        moments = (moment.timestamp() for moment in CronSim(self.text, start))  # in a repeated hour some are past
        return next((moment for moment in moments if moment > after), math.inf)


def checked(text: str) -> str:
    """The line with single spaces. Raises ValueError saying what is wrong with it."""
    line = " ".join(text.split())
    fields = line.split(" ")
    if len(fields) != 5:
        raise ValueError(f"'{text}' is no cron line: five fields are ({_FIELDS}), as in '0 0 * * *'")
    try:
        moments = CronSim(line, _BEFORE_SOME_DAY)
    except (CronSimError, ValueError) as error:
        if _is_line([*fields[:3], "*", fields[4]]) and _is_line(["0", "0", "1", *fields[3:]]):
            raise ValueError(f"the cron line '{text}' never fires: none of its months has that day") from error
        raise ValueError(f"'{text}' is no cron line: {str(error).lower()} (fields: {_FIELDS})") from error
    if next(moments, None) is None:
        raise ValueError(f"the cron line '{text}' never fires: there is no such day in fifty years")
    return line


def times_a_day(text: str) -> int:
    """How often a line fires on a day on which it does."""
    return len(_one_day(text))


def shortest_pause(text: str) -> float:
    """Seconds between two moments of a line, at the least; a day for one that never fires twice a day."""
    moments = _one_day(text)
    round_the_clock = (*moments, moments[0] + _DAY_SECONDS)
    return min(after - before for before, after in pairwise(round_the_clock))


def _is_line(fields: list[str]) -> bool:
    try:
        CronSim(" ".join(fields), _BEFORE_SOME_DAY)
    except (CronSimError, ValueError):
        return False
    return True


@lru_cache(maxsize=256)
def _one_day(text: str) -> tuple[float, ...]:
    """The moments of the first day that has any: all such days are alike but for daylight saving."""
    moments = CronSim(text, _BEFORE_SOME_DAY)
    first = next(moments)
    rest = takewhile(lambda moment: moment.date() == first.date(), moments)
    return (first.timestamp(), *(moment.timestamp() for moment in rest))
