"""Whether a counter can have counted what a read-out says: one that falls, or leaps, wants to be seen twice. Pure.

What is compared are exact values in the units that `normalise` gives them, so that another VIF is no leap. How far a
counter may get follows from the meter's own maximum, from what it did before, or from what is usual in a house.
Times are seconds of a clock that never jumps.
"""

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Final, Literal

from mbusd.exact_json import JsonValue
from mbusd.light import dataclass
from mbusd.mbus.errors import MBusError
from mbusd.model import Draft, Measurement, Reading
from mbusd.trust.counting import Counted, Place, counted, distance, is_counter, is_maximum, number_of, place_of, shown
from mbusd.trust.ledger import NOTHING, Ledger
from mbusd.trust.register import Register
from mbusd.values.units import Number

Direction = Literal["fell", "leapt"]
Finding = Literal["plausible", "confirmed", "hopeless", "doubted"]

NEARLY: Final = 8.0  # a second leap that adds no more than an eighth to the first is the same leap
MOST_DOUBTS: Final = 6  # read-outs in a row: three polls, each with a second look
TOLD: Final = 3  # doubts, of a meter that has many
MOST_FORMS: Final = 512  # of the readings of all meters
LONG_AGO: Final = 1e9  # seconds: nobody knows how long


class Implausible(MBusError):
    """A meter has answered, with a counter that nothing has confirmed."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """A counter that cannot have counted this, as far as is known; `most` is how far it may have got."""

    key: str
    before: Number
    after: Number
    unit: str | None
    direction: Direction
    most: float

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        if self.direction == "fell":
            return f"{self.key} fell from {shown(self.before)} to {shown(self.after)}{unit}"
        far = f"by more than the {self.most:.3g}{unit} that are likely"
        return f"{self.key} rose from {shown(self.before)} to {shown(self.after)}{unit}, {far}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a reading may be published: nothing speaks against it, or what does was seen twice or given up."""

    finding: Finding
    doubts: tuple[Doubt, ...] = ()

    @property
    def is_accepted(self) -> bool:
        """Whether it may be published."""
        return self.finding != "doubted"

    def __str__(self) -> str:
        more = f"; {len(self.doubts) - TOLD} more" if len(self.doubts) > TOLD else ""
        return "; ".join(map(str, self.doubts[:TOLD])) + more

    def as_in(self, reading: Reading) -> list[str]:
        """What another reading says of the same counters, for a person."""
        values = {item.key: item.value for item in reading.measurements}
        said = (values.get(doubt.key) for doubt in self.doubts[:TOLD])
        return [shown(value) if isinstance(value, int | Decimal) else "nothing" for value in said]


@dataclass(frozen=True, slots=True)
class _Doubted:
    """A read-out that was not believed, kept for the next one to confirm it."""

    at: float
    doubts: Mapping[str, Doubt]


class _Sight:
    """Finds the counters of a reading; in one that is a form with other values, without making measurements of all.

    One for all meters: what there is to look at hangs on the form alone.
    """

    def __init__(self) -> None:
        self._forms: dict[object, _Watched] = {}

    def look(self, reading: Reading) -> tuple[dict[str, Counted], list[Counted]]:
        """Counters by key, and the maxima that the meter has kept."""
        draft = reading.draft
        watched = None if draft is None else self._forms.get(draft.form)
        if draft is not None and watched is not None:
            return self._sorted(_again(draft, watched))
        known = ((counted(item), is_counter(item)) for item in reading.measurements if _is_watched(item))
        watched = {item.key: (item, is_sum) for item, is_sum in known if item is not None}
        if draft is not None:
            if len(self._forms) >= MOST_FORMS:
                self._forms.clear()
            self._forms[draft.form] = watched
        return self._sorted(watched.values())

    @staticmethod
    def _sorted(known: Iterable[tuple[Counted, bool]]) -> tuple[dict[str, Counted], list[Counted]]:
        sums: dict[str, Counted] = {}
        highest = []
        for item, is_sum in known:
            if is_sum:
                sums[item.key] = item
            else:
                highest.append(item)
        return sums, highest


def _again(draft: Draft, watched: "_Watched") -> Iterator[tuple[Counted, bool]]:
    """What was found in the first reading of a form, with the values of this one."""
    for key, text in draft.texts(watched):
        if text != "null":
            item, is_sum = watched[key]
            exact = number_of(text)
            yield Counted(key, exact, item.unit, item.decimals, item.subunit, item.is_balance), is_sum


_SIGHT: Final = _Sight()
_Watched = dict[str, tuple[Counted, bool]]
"""What is looked at, by key, and whether it is a counter or else a maximum."""


def _is_watched(item: Measurement) -> bool:
    return is_counter(item) or is_maximum(item)


def _highest_twice(
    before: Mapping[Place, float], last: Mapping[Place, float], said: Mapping[Place, float]
) -> Mapping[Place, float]:
    """The highest that was said twice so far; `before` itself where nothing is new."""
    if last is before and last == said:
        return before
    twice = {place: min(value, said.get(place, 0.0)) for place, value in last.items()}
    if all(value <= before.get(place, -1.0) for place, value in twice.items()):
        return before
    return {**before, **{place: max(before.get(place, 0.0), value) for place, value in twice.items()}}


class Counters:
    """The counters of one meter, as far as they were believed."""

    __slots__ = ("_address", "_doubted", "_doubts", "_kind", "_last_maxima", "_numbers")

    def __init__(self) -> None:
        self._begin(None, Ledger())

    def _begin(self, address: str | None, ledger: Ledger) -> None:
        """Nothing else is known of this meter."""
        self._address = address
        self._doubted: _Doubted | None = None
        self._doubts = 0  # read-outs in a row
        self._last_maxima: Mapping[Place, float] | None = None  # None: those that were said twice
        self._kind, self._numbers = ledger.shut(NOTHING)

    @property
    def is_known(self) -> bool:
        """Whether there is anything to note."""
        return self._address is not None

    def judge(self, reading: Reading, now: float) -> Verdict:
        """What to think of a read-out: it is remembered as the last one that was believed, or as doubted.

        A meter that is another one than before (identity), a key that was not there before, a value in a unit that
        cannot be compared: all pass, as do values that are none.
        """
        if reading.identity.address != self._address:
            self._begin(reading.identity.address, Ledger())
        items, highest = _SIGHT.look(reading)
        said: dict[Place, float] = {}
        for item in highest:
            said[item.place] = max(said.get(item.place, 0.0), abs(float(Decimal(item.value))))
        ledger = Ledger.opened(self._kind, self._numbers)
        last = ledger.maxima if self._last_maxima is None else self._last_maxima
        ledger.maxima = _highest_twice(ledger.maxima, last, said)
        doubts = {key: doubt for key, item in items.items() if (doubt := _doubt(ledger, item, now)) is not None}
        finding = self._weigh(ledger, items, doubts, now) if doubts else "plausible"
        if finding == "doubted":
            self._doubted = _Doubted(now, doubts)
        else:
            for key, item in items.items():
                _accept(ledger, item, doubts.get(key), now)
            ledger.give_way(items)
            self._doubted, self._doubts, last = None, 0, said
        self._last_maxima = None if last == ledger.maxima else last
        self._kind, self._numbers = ledger.shut(self._kind)
        return Verdict(finding, tuple(doubts.values()))

    def noted(self, now: float, wall: float) -> JsonValue:
        """What is known, for the next run of the daemon; `wall` in seconds since 1970."""
        ledger = Ledger.opened(self._kind, self._numbers)
        registers: dict[str, JsonValue] = {key: one.noted(now) for key, one in ledger.registers.items()}
        kept: list[JsonValue] = [[unit, subunit, most] for (unit, subunit), most in ledger.maxima.items()]
        return {"address": self._address, "at": wall, "registers": registers, "maxima": kept}

    def take_over(self, note: JsonValue, now: float, wall: float) -> None:
        """The same from an earlier run, where nothing is known yet; a note that is none changes nothing.

        How long ago that was says the clock on the wall, unless it goes backwards: then it was long ago.
        """
        match note:
            case {"address": str(address), "at": int(at) | float(at), "registers": dict(entries), "maxima": list(kept)}:
                ago = wall - at if wall >= at else LONG_AGO
                recalled = {key: Register.recalled(key, entry, now, ago) for key, entry in entries.items()}
                registers = {key: one for key, one in recalled.items() if one is not None}
            case _:
                return
        if self._address is not None or not registers:
            return
        maxima: dict[Place, float] = {}
        for entry in kept:
            match entry:
                case [str(unit), int(subunit), int(most) | float(most)]:
                    maxima[place_of(unit, subunit)] = float(most)
        self._begin(address, Ledger(registers, maxima))
        self._last_maxima = {}  # not yet said again

    def _weigh(self, ledger: Ledger, items: Mapping[str, Counted], doubts: Mapping[str, Doubt], now: float) -> Finding:
        """Whether the read-out before has said the same, or the meter does this again and again."""
        if all(self._is_confirmed(ledger, items[key], doubt, now) for key, doubt in doubts.items()):
            return "confirmed"
        self._doubts += 1
        if self._doubts < MOST_DOUBTS:
            return "doubted"
        for key in doubts:
            ledger.registers[key].goes_free()
        return "hopeless"

    def _is_confirmed(self, ledger: Ledger, item: Counted, doubt: Doubt, now: float) -> bool:
        """Whether the read-out before was doubted for the same, and this is what may follow it."""
        register = ledger.registers[item.key]
        earlier = None if self._doubted is None else self._doubted.doubts.get(item.key)
        if self._doubted is None or earlier is None:
            return False
        if (earlier.direction, earlier.unit) != (doubt.direction, doubt.unit):
            return False
        first = earlier.after
        step = distance(first, doubt.after)
        if doubt.direction == "leapt":
            if doubt.after < first and not register.what.is_balance:
                return False
            if step * NEARLY <= distance(doubt.before, first):
                return True
        return step <= register.most(item, ledger.maxima, now - self._doubted.at, is_generous=True)


def _doubt(ledger: Ledger, item: Counted, now: float) -> Doubt | None:
    """What speaks against one counter."""
    register = ledger.registers.get(item.key)
    before = None if register is None or register.what.is_free else register.in_unit(item)
    if register is None or before is None:
        return None
    after = item.value
    if after == before:  # as most counters of most meters
        return None
    most = register.most(item, ledger.maxima, now - register.at)
    may_be_there = after >= before or register.what.is_balance
    is_near = distance(before, after) <= most if may_be_there else register.is_rounded(item)
    if is_near or (after < before and register.rolled(item, most) is not None):
        return None
    return Doubt(item.key, before, after, item.unit, "fell" if after < before else "leapt", most)


def _accept(ledger: Ledger, item: Counted, doubt: Doubt | None, now: float) -> None:
    """What an accepted value tells of its counter."""
    register = ledger.registers.get(item.key)
    before = None if register is None else register.in_unit(item)
    if register is None or before is None:
        ledger.registers[item.key] = Register.of(item, now)
    elif doubt is not None and doubt.direction == "fell":
        register.fell(item, now)
    else:
        turned = None
        if item.value < before and not register.what.is_balance:
            turned = register.rolled(item, register.most(item, ledger.maxima, now - register.at))
        register.moved(item, distance(before, item.value) if turned is None else turned, now)
