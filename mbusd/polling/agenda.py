"""What is to be done next on a wire, and for whom. Whoever asks brings the time, in seconds of a monotonic clock.

Requests of people come first; what has waited longest is next, so that none starves another. Only a change of the
port's rate may wait a little for others at the rate that it has, since each change costs time and the next one back.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import field
from operator import attrgetter
from typing import Literal, NamedTuple

from mbusd.light import dataclass
from mbusd.model import Outcome
from mbusd.polling.meter import Meter

STAY_SECONDS = 30.0
"""Who needs another rate than the port has waits so long for it at the most, and for one errand; where there are more
than two rates, so long for each of the others."""
STARVED_SECONDS = 600.0
"""What is due for longer gets every second turn, however many requests of people there are."""

Task = Literal["values", "alarms", "knock"]


class Errand(NamedTuple):
    """One meter, what it is asked for, since when that is due, and when it was asked for that before."""

    meter: Meter
    task: Task
    since: float
    before: float
    is_forced: bool = False  # beyond the meter's budget, too


@dataclass(slots=True)
class _Wish:
    """A request of people to read a meter, and all who wait for its answer."""

    since: float
    is_forced: bool = False
    answers: list[asyncio.Future[Outcome]] = field(default_factory=list)


class Agenda:
    """What is due on one wire: of `meters`, which may change, by their schedules, and what people have asked for."""

    def __init__(self, meters: Sequence[Meter]) -> None:
        self._meters = meters
        self._wishes: dict[Meter, _Wish] = {}
        self._rate: int | None = None
        self._rate_since = 0.0
        self._left: dict[int, float] = {}  # when a rate was last given up
        self._was_wish = False
        self._closed: str | None = None  # why nothing is done any more

    def ask(self, meter: Meter, now: float, *, is_forced: bool = False) -> "asyncio.Future[Outcome]":
        """Have a meter read before anything that is scheduled; the future gives what came of it."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        wish = self._wishes.setdefault(meter, _Wish(now))
        wish.answers.append(future)
        wish.is_forced |= is_forced
        if self._closed is not None:
            self.close(self._closed)
        return future

    def answer(self, meter: Meter, outcome: Outcome) -> None:
        """Tell all who wait for this meter."""
        wish = self._wishes.pop(meter, None)
        for future in wish.answers if wish else ():
            if not future.done():
                future.set_result(outcome)

    def close(self, why: str) -> None:
        """Nothing will be done any more: that is the answer to all who wait, and to all who come."""
        self._closed = why
        for meter in tuple(self._wishes):
            self.answer(meter, Outcome(error=why, failed={meter.label: why}))

    def look(self, now: float, wall: float) -> None:
        """What the clock on the wall shows, in seconds since 1970: cron lines and budgets go by it."""
        for meter in self._meters:
            meter.look(now, wall)

    def next(self, now: float, rate: int, *, is_open: bool) -> Errand | None:
        """The next errand on a port that has this rate; while it is closed only requests are, to be answered so."""
        wishes = self._wished() if self._wishes else []
        if is_open and not wishes and all(one.baudrate == rate for one in self._meters):
            self._was_wish = False
            self._take_rate(rate, now)
            first = self._first()
            return first if first is not None and first.since <= now else None
        due = self._due(now) if is_open else []
        is_starved = self._was_wish and bool(due) and now - min(errand.since for errand in due) > STARVED_SECONDS
        self._was_wish = bool(wishes) and not is_starved
        waiting = wishes if self._was_wish else due
        if not waiting:
            return None
        self._take_rate(rate, now)
        errand = self._chosen(waiting, now, rate)
        self._take_rate(errand.meter.baudrate, now)
        return errand

    def pause(self, now: float) -> float:
        """How long nothing will be due."""
        alarms = (one.alarms.due for one in self._meters if one.alarms is not None and one.name is not None)
        values = (one.due for one in self._meters)
        return max(0.0, min(min(values, default=math.inf), min(alarms, default=math.inf)) - now)

    def _take_rate(self, rate: int, now: float) -> None:
        if rate != self._rate:
            if self._rate is not None:
                self._left[self._rate] = now
            self._rate, self._rate_since = rate, now

    def _wished(self) -> list[Errand]:
        """Who has given up meanwhile wants nothing any more."""
        for meter, wish in tuple(self._wishes.items()):
            if all(future.done() for future in wish.answers):
                del self._wishes[meter]
        return [Errand(meter, "values", wish.since, -math.inf, wish.is_forced) for meter, wish in self._wishes.items()]

    def _first(self) -> Errand | None:
        """What has been due for longest, or will be due next."""
        one = min(self._meters, key=_DUE, default=None)
        if one is None:
            return None
        alarms = [(other, other.alarms) for other in self._meters if other.alarms is not None]
        errands = [Errand(other, "alarms", plan.due, plan.asked_at) for other, plan in alarms if other.name is not None]
        return min((Errand(one, one.task, one.due, one.schedule.asked_at), *errands), key=_since)

    def _due(self, now: float) -> list[Errand]:
        """By all meters' schedules. A meter without a name is asked for alarms when a read-out has told one."""
        alarms = [(one, one.alarms) for one in self._meters if one.alarms is not None and one.alarms.due <= now]
        values = [(one, since) for one in self._meters if (since := one.due) <= now]
        return [
            *(Errand(one, one.task, since, one.schedule.asked_at) for one, since in values),
            *(Errand(one, "alarms", plan.due, plan.asked_at) for one, plan in alarms if one.name is not None),
        ]

    def _chosen(self, waiting: list[Errand], now: float, rate: int) -> Errand:
        """The one that has waited longest at the present rate, each once and not for long, while others want another.

        Then the rate is next that was given up first.
        """
        here = [errand for errand in waiting if errand.meter.baudrate == rate]
        elsewhere = [errand for errand in waiting if errand.meter.baudrate != rate]
        if not elsewhere:
            return min(here, key=_since)
        waits_since = max(self._rate_since, min(map(_since, elsewhere)))
        ahead = [errand for errand in here if errand.before < waits_since]
        if ahead and now - waits_since < STAY_SECONDS:
            return min(ahead, key=_since)
        return min(elsewhere, key=lambda errand: (self._left.get(errand.meter.baudrate, -math.inf), errand.since))


_DUE = attrgetter("due")


def _since(errand: Errand) -> float:
    return errand.since
