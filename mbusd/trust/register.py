"""One counter of a meter as it was believed last, how far it may have got since, and what it has shown so far. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from typing import Final

from mbusd.exact_json import JsonValue
from mbusd.trust.counting import PACES, Counted, Place, distance, rolled
from mbusd.values.units import Number, convert

LAG_HOURS: Final = 0.25  # meters bring their registers up to date only now and then: some every quarter of an hour
YOUNG_SECONDS: Final = 7 * 86400.0  # a week shows what a house needs
OWN_MARGIN: Final = 2.0  # a maximum may be an average, or have begun anew at the first of the month
HISTORY_MARGIN: Final = 4.0
BALANCE_FALLS: Final = 3  # confirmed, after which a register is believed to go down as well as up

_DECIMAL = re.compile(r"-?\d{1,400}(\.\d{1,400})?(E[+-]?\d{1,3})?")


@dataclass(slots=True)
class Register:
    """One counter; times in seconds of a clock that never jumps."""

    value: Number
    unit: str | None
    decimals: int | None
    at: float
    since: float
    rates: tuple[float, float] = (0.0, 0.0)  # an hour, the two highest: once is no habit
    falls: int = 0  # confirmed
    is_balance: bool = False
    is_free: bool = False  # it moves as no counter does

    @classmethod
    def of(cls, item: Counted, now: float) -> "Register":
        """A counter nothing is known of but what it says now."""
        is_balance = item.is_balance or item.value < 0
        return cls(item.value, item.unit, item.decimals, now, now, is_balance=is_balance)

    @classmethod
    def recalled(cls, note: JsonValue, now: float, ago: float) -> "Register | None":
        """A counter as it was noted so many seconds ago; None for what is no such note."""
        match note:
            case [str(text), str() | None as unit, int() | None as decimals, *times, int(falls), bool(goes)]:
                known = [float(one) for one in times if isinstance(one, int | float) and isfinite(one)]
                if len(known) != len(times) or len(known) != 4 or min(known) < 0 or not _DECIMAL.fullmatch(text):
                    return None
                value = Decimal(text)
                exact = int(value) if value == value.to_integral_value() else value
                at, since, first, second = known
                return cls(exact, unit, decimals, now - ago - at, now - ago - since, (first, second), falls, goes)
        return None

    def noted(self, now: float) -> JsonValue:
        """What the next run of the daemon shall know; times as the seconds that have passed since."""
        what: list[JsonValue] = [str(self.value), self.unit, self.decimals]
        return [*what, now - self.at, now - self.since, *self.rates, self.falls, self.is_balance]

    def in_unit(self, item: Counted) -> Number | None:
        """Its value in the unit of what it says now; None where the two have nothing to do with each other."""
        if self.unit == item.unit:
            return self.value
        if self.unit is None or item.unit is None:
            return None
        try:
            return convert(self.value, self.unit, item.unit, self.decimals, is_difference=False).value
        except ValueError:
            return None

    def most(self, item: Counted, maxima: Mapping[Place, float], seconds: float, *, is_generous: bool = False) -> float:
        """How far it may get in so many seconds, in the unit of what it says now.

        `maxima`: what the meter says itself of its power and flow. `is_generous`: never less than is usual in a house.
        """
        pace = PACES.get(item.unit)
        habit = HISTORY_MARGIN * self.rates[1]
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
        if (self.unit, self.decimals) != (item.unit, item.decimals):
            return None
        return rolled(self.value, item, most)

    def is_rounded(self, item: Counted) -> bool:
        """Whether it is the same number with fewer digits: the meter has gone over to a larger unit."""
        before = self.in_unit(item)
        if before is None or item.decimals is None or self.decimals is None or item.decimals >= self.decimals:
            return False
        return distance(before, item.value) < 10.0**-item.decimals

    def moved(self, item: Counted, growth: float, now: float) -> None:
        """It is here now, and this far from where it was."""
        rate = growth / ((now - self.at) / 3600 + LAG_HOURS)
        rates = self.rates if self.unit == item.unit else (0.0, 0.0)
        first, second, *_ = sorted((*rates, rate), reverse=True)
        if (first, second) != self.rates:  # mostly nothing new, and one tuple for all that stand still
            self.rates = (first, second)
        self._is_at(item, now)

    def fell(self, item: Counted, now: float) -> None:
        """It is here now, against what a counter does."""
        self.falls += 1
        self._is_at(item, now)

    def _is_at(self, item: Counted, now: float) -> None:
        after = item.value
        self.is_balance = self.is_balance or self.falls >= BALANCE_FALLS or after < 0
        self.value, self.unit, self.decimals, self.at = after, item.unit, item.decimals, now
