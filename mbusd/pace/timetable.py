"""When a meter is due that is read at the moments of a cron line. Pure: whoever asks brings both clocks.

The monotonic clock tells what has been waiting; the clock on the wall, in seconds since 1970, tells when it is time.
They part when the machine sleeps or its clock is set. Then what is due stays due, what was leapt over is due once,
and a clock that goes back a little, or by an hour that somebody took for summer time, does not repeat what was done.
"""

import math

from mbusd.pace.cron import CronLine, shortest_pause

RETRIES = 2
RETRY_SECONDS = 300.0
"""A read-out that failed is tried again so often and so late, where the line itself has nothing in the next hour."""
FAR_SECONDS = 3600.0
PATIENT_SECONDS = 1800.0  # a meter that stays silent is left alone as long as that, at the most
LONGEST_REST = 43200.0  # of a meter that refuses to be read so often; a line that fires daily still does
_STEP_SECONDS = 1.0  # less is a clock that is being slowed down
_LITTLE_SECONDS = 600.0  # of a clock that was set back; more than that, and it was wrong before
_LITTLE_OF_FIXED_SECONDS = 10800.0  # the same where the line names its hours and minutes: as much as cron(8) takes


class Timetable:
    """Due times of one meter by a cron line; never at the start. `patience`: as of a Schedule."""

    def __init__(self, line: CronLine, patience: int) -> None:
        self.line = line
        self.interval = shortest_pause(line.text)
        self.failures = 0
        self.asked_at = -math.inf  # the last time
        self.due = math.inf  # of the monotonic clock, as the two clocks stood when they were last looked at
        self._patience = patience
        self._little = _LITTLE_OF_FIXED_SECONDS if line.is_fixed else _LITTLE_SECONDS
        self._at = math.inf  # the next moment of the line, by the clock on the wall
        self._served = -math.inf  # the last one that is done with
        self._retry = math.inf
        self._tries = 0
        self._rest = 0.0
        self._ahead: float | None = None  # the clock on the wall, less the monotonic one
        self._looked_at = -math.inf

    def look(self, now: float, wall: float) -> None:
        """What the two clocks show now."""
        step = 0.0 if self._ahead is None else wall - now - self._ahead
        is_due = self.due <= self._looked_at
        if self._ahead is None:
            self._at = self.line.next(wall)
        elif step < -_STEP_SECONDS and not is_due:
            is_little = 0 < self._served - wall < self._little
            self._at = self.line.next(self._served if is_little else wall)
        self._ahead = wall - now
        if not is_due:
            self.due = max(min(self._retry, self._at - self._ahead), self._looked_at)
        self._looked_at = now

    def succeeded(self, now: float) -> None:
        """The meter was read: next at the next moment of the line."""
        self.failures, self.asked_at = 0, now
        self._retry, self._tries = math.inf, 0
        self._turn(now, self._rest)

    def failed(self, now: float) -> None:
        """The meter did not answer: a little later again, twice, then at the next moment; ever more rarely, if many."""
        self.failures, self.asked_at = self.failures + 1, now
        if self.due > self._looked_at:
            return  # it was asked on request
        doublings = min(max(0, self.failures - self._patience), 10)
        pause = min(60 * 2.0**doublings, PATIENT_SECONDS) if doublings else 0.0
        self._retry = math.inf
        if self._turn(now, max(self._rest, pause)):
            self._tries = 0
        if self._tries < RETRIES and self.due - now > FAR_SECONDS:
            self._tries += 1
            self.due = self._retry = now + RETRY_SECONDS

    def refused(self, now: float) -> None:
        """The meter says that it was read too often (application error 09): from now on moments are left out."""
        self.failures, self.asked_at = self.failures + 1, now
        self._retry, self._rest = math.inf, min(max(2 * self._rest, FAR_SECONDS), LONGEST_REST)
        self._turn(now, self._rest)

    def ask_once(self, now: float) -> None:
        """Now, for once, whatever the line."""
        self._retry = min(self._retry, now)

    def skip(self, until: float) -> None:
        """Nothing before then, by the monotonic clock; what would be due is left out."""
        if self._ahead is None:
            return
        if self._retry < until:
            self._retry = math.inf
        if self._at < until + self._ahead - 1:
            self._at = self.line.next(until + self._ahead - 1)
        self.due = min(self._retry, self._at - self._ahead)

    def lateness(self, now: float, since: float = -math.inf) -> float:
        """How many of the line's shortest pauses this meter is behind; it could be kept to from `since` on."""
        return max(0.0, now - max(since, self.due)) / self.interval

    def _turn(self, now: float, rest: float) -> bool:
        """Go on to the next moment of the line, if it was for this one that the meter was asked; tells whether."""
        if self._ahead is None:
            return False
        wall = now + self._ahead
        is_done = self.due <= self._looked_at and self._at <= wall
        if is_done:
            self._served, self._at = self._at, self.line.next(wall + rest)
        self.due = min(self._retry, self._at - self._ahead)
        return is_done
