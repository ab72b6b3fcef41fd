"""One counter of a meter as it was believed last, how far it may have got since, and what it has shown so far. Pure."""

import re
from collections.abc import Mapping
from math import isfinite
from typing import Final, NamedTuple

from mbusd.exact_json import JsonValue
from mbusd.light import dataclass
from mbusd.trust.counting import PACES, Counted, Place, distance, number_of, rolled
from mbusd.values.units import Number, convert

LAG_HOURS: Final = 0.25  # meters bring their registers up to date only now and then: some every quarter of an hour
YOUNG_SECONDS: Final = 7 * 86400.0  # a week shows what a house needs
OWN_MARGIN: Final = 2.0  # a maximum may be an average, or have begun anew at the first of the month
HISTORY_MARGIN: Final = 4.0
BALANCE_FALLS: Final = 3  # confirmed, after which a register is believed to go down as well as up

_DECIMAL = re.compile(r"-?\d{1,400}(\.\d{1,400})?(E[+-]?\d{1,3})?")


class What(NamedTuple):
    """What a counter is, and how it goes: mostly the same in all meters of a kind."""

    key: str
    unit: str | None
    decimals: int | None
    falls: int = 0  # confirmed
    is_balance: bool = False
    is_free: bool = False  # it moves as no counter does


@dataclass(slots=True)
class Register:
    """One counter; times in seconds of a clock that never jumps."""

    what: What
    value: Number
    at: float
    since: float
    highest: float = 0.0  # rate, an hour
    second: float = 0.0  # the next to it: once is no habit

    @classmethod
    def of(cls, item: Counted, now: float) -> "Register":
        """A counter nothing is known of but what it says now."""
        is_balance = item.is_balance or item.value < 0
        return cls(What(item.key, item.unit, item.decimals, is_balance=is_balance), item.value, now, now)

    @classmethod
    def recalled(cls, key: str, note: JsonValue, now: float, ago: float) -> "Register | None":
        """A counter as it was noted so many seconds ago; None for what is no such note."""
        match note:
            case [str(text), str() | None as unit, int() | None as decimals, *times, int(falls), bool(goes)]:
                known = [float(one) for one in times if isinstance(one, int | float) and isfinite(one)]
                if len(known) != len(times) or len(known) != 4 or min(known) < 0 or not _DECIMAL.fullmatch(text):
                    return None
                at, since, *rates = known
                return cls(
                    What(key, unit, decimals, falls, goes), number_of(text), now - ago - at, now - ago - since, *rates
                )
        return None

    def noted(self, now: float) -> JsonValue:
        """What the next run of the daemon shall know; times as the seconds that have passed since."""
        what = self.what
        said: list[JsonValue] = [str(self.value), what.unit, what.decimals]
        return [*said, now - self.at, now - self.since, self.highest, self.second, what.falls, what.is_balance]

    def in_unit(self, item: Counted) -> Number | None:
        """Its value in the unit of what it says now; None where the two have nothing to do with each other."""
        unit = self.what.unit
        if unit == item.unit:
            return self.value
        if unit is None or item.unit is None:
            return None
        try:
            return convert(self.value, unit, item.unit, self.what.decimals, is_difference=False).value
        except ValueError:
            return None

    def most(self, item: Counted, maxima: Mapping[Place, float], seconds: float, *, is_generous: bool = False) -> float:
        """How far it may get in so many seconds, in the unit of what it says now.

        `maxima`: what the meter says itself of its power and flow. `is_generous`: never less than is usual in a house.
        """
        pace = PACES.get(item.unit)
        habit = HISTORY_MARGIN * self.second
        is_young = is_generous or self.at - self.since < YOUNG_SECONDS
        own = usual = 0.0
        if pace is None and (is_young or not habit):
            return float("inf")
        if pace is not None:
            kept = (maxima.get((unit, item.subunit), 0.0) * by for unit, by in pace.own.items())
            own = OWN_MARGIN * max(kept, default=0.0)
            usual = pace.usual if is_generous or (is_young and not own) else pace.usual / 10
        last_digit = 0.0 if item.decimals is None else 10.0**-item.decimals
        return max(usual, own, habit) * (seconds / 3600 + LAG_HOURS) + last_digit

    def rolled(self, item: Counted, most: float) -> float | None:
        """How far it got if it has begun again at 0, and no further than `most`."""
        if (self.what.unit, self.what.decimals) != (item.unit, item.decimals):
            return None
        return rolled(self.value, item, most)

    def is_rounded(self, item: Counted) -> bool:
        """Whether it is the same number with fewer digits: the meter has gone over to a larger unit."""
        before, decimals = self.in_unit(item), self.what.decimals
        if before is None or item.decimals is None or decimals is None or item.decimals >= decimals:
            return False
        return distance(before, item.value) < 10.0**-item.decimals

    def moved(self, item: Counted, growth: float, now: float) -> None:
        """It is here now, and this far from where it was."""
        rate = growth / ((now - self.at) / 3600 + LAG_HOURS)
        if self.what.unit != item.unit:
            self.highest = self.second = 0.0
        if rate > self.highest:
            self.highest, self.second = rate, self.highest
        elif rate > self.second:
            self.second = rate
        self._is_at(item, now)

    def fell(self, item: Counted, now: float) -> None:
        """It is here now, against what a counter does."""
        self.what = self.what._replace(falls=self.what.falls + 1)
        self._is_at(item, now)

    def _is_at(self, item: Counted, now: float) -> None:
        what = self.what
        is_balance = what.is_balance or what.falls >= BALANCE_FALLS or item.value < 0
        if (what.unit, what.decimals, what.is_balance) != (item.unit, item.decimals, is_balance):
            self.what = what._replace(unit=item.unit, decimals=item.decimals, is_balance=is_balance)
        self.value, self.at = item.value, now

    def goes_free(self) -> None:
        """Nothing speaks against what it says any more."""
        self.what = self.what._replace(is_free=True)
