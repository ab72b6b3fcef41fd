"""How often a meter may still be asked today: its battery pays for each answer, whoever has asked. Pure.

A day begins at midnight of the meter's `timezone`, which is this machine's if none is given. Times are in seconds since
1970. What was spent can be handed to the next run of the daemon.
"""

from datetime import date, datetime, time, timedelta, tzinfo

from mbusd.clock import FIRST_DAY


class Budget:
    """`most` questions a day, counted when they are asked: a meter that has failed to answer was woken all the same."""

    def __init__(self, most: int, zone: tzinfo) -> None:
        self.most = most
        self._zone = zone
        self._day = self._latest = date.min  # that of the last question, and the last one that there ever was
        self._count = 0

    @property
    def spent(self) -> tuple[date, int]:
        """The last day on which the meter was asked, and how often; `date.min` where it never was.

        Nobody's day counts as that of a clock that was never set.
        """
        return (self._day if self._day >= FIRST_DAY else self._latest), self._count

    def take_over(self, day: date, count: int) -> None:
        """What an earlier run of the daemon has spent; less than what is known here changes nothing."""
        self._day, self._count = max((self._day, self._count), (day, count))
        self._latest = max(self._latest, self._day)

    def spend(self, wall: float) -> None:
        """The meter is being asked."""
        self._turn_page(wall)
        self._count += 1

    def is_spent(self, wall: float) -> bool:
        """Whether nothing is left for today."""
        self._turn_page(wall)
        return self._count >= self.most

    def full_at(self, wall: float) -> float:
        """When the next day begins."""
        tomorrow = self._today(wall) + timedelta(days=1)
        return datetime.combine(tomorrow, time(), self._zone).timestamp()

    def refusal(self, wall: float) -> str | None:
        """Why the meter may not be asked; None if it may."""
        if not self.is_spent(wall):
            return None
        again = datetime.fromtimestamp(self.full_at(wall), self._zone)
        return (
            f"its budget of {self.most} read-outs a day is used up; it is full again at {again:%H:%M}; "
            '"force": true reads it all the same'
        )

    def _today(self, wall: float) -> date:
        return datetime.fromtimestamp(wall, self._zone).date()

    def _turn_page(self, wall: float) -> None:
        """A clock that was set back over midnight does not fill the budget, nor block it until that day comes again.

        Nor does one that is set forward again, to a day that has been there.
        """
        today = self._today(wall)
        if today > self._latest or today == self._day + timedelta(days=1):
            self._count = 0
        self._day, self._latest = today, max(today, self._latest)
