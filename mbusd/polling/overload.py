"""Whether the schedules of a bus ask for more than its wire can carry: some meter waits longer than its interval."""

from collections.abc import Iterable

from mbusd.pace.timetable import Timetable
from mbusd.polling.meter import Meter


class Overload:
    """The longest that a meter had to wait since the last look; while the wire is away nobody waits for it."""

    def __init__(self) -> None:
        self._open_since: float | None = None
        self._worst = 0.0  # in intervals

    def wire(self, now: float, *, is_open: bool) -> None:
        """The wire is there, or is not."""
        if not is_open:
            self._open_since = None
        elif self._open_since is None:
            self._open_since = now

    def asks(self, meter: Meter, now: float) -> None:
        """A meter is asked now: its wait is over."""
        if self._open_since is not None:
            self._worst = max(self._worst, _wait(meter, self._open_since, now))

    def take(self, meters: Iterable[Meter], now: float) -> bool:
        """Whether anybody waited for more than one interval since the last call, or still does."""
        since, self._worst, worst = self._open_since, 0.0, self._worst
        return since is not None and (worst > 1 or any(_wait(meter, since, now) > 1 for meter in meters))


def _wait(meter: Meter, since: float, now: float) -> float:
    """How many intervals a meter is behind with what it is asked for: its values, more often while it works; alarms."""
    quick = None if meter.activity is None else meter.activity.schedule
    alarms = None if meter.name is None else meter.alarms  # nobody asks for them before
    values = meter.schedule if quick is None or isinstance(meter.schedule, Timetable) else None
    return max(one.lateness(now, since) for one in (values, quick, alarms) if one is not None)
