"""What is known of one meter of a bus: how it is asked, when it is due, who it is, how it has answered."""

import logging
import math
import sys
from dataclasses import field, replace
from datetime import datetime, tzinfo
from functools import lru_cache
from typing import Literal

from mbusd.configuration.durations import interval_of
from mbusd.configuration.pace_settings import too_often
from mbusd.configuration.settings import BusSettings, MeterSettings, zone_of
from mbusd.light import dataclass
from mbusd.mbus.address import PrimaryAddress, SecondaryAddress, manufacturer_letters
from mbusd.mbus.master import LinkState, address_of
from mbusd.mbus.quirks import Manner, Quirk, Recipe, Wake, for_meter, recipe_for
from mbusd.mbus.steps import step_of
from mbusd.mbus.telegram import Telegram
from mbusd.model import Alarm, Identity, MeterInfo, Reading
from mbusd.names import Names
from mbusd.pace.activity import Activity
from mbusd.pace.budget import Budget
from mbusd.pace.condition import condition_of
from mbusd.pace.cron import CronLine
from mbusd.pace.kindness import advice_on
from mbusd.pace.schedule import Schedule
from mbusd.pace.timetable import Timetable
from mbusd.trust.plausibility import Counters
from mbusd.values.shaping import Shape

log = logging.getLogger(__name__)

KNOCK_SHARE = 0.1  # of the wire, that one silent meter may take
KNOCKS, KNOCK_BITS, WINDOW_SECONDS = 2, 400, 0.05  # it consists of two requests; each with its silence


@dataclass(slots=True, eq=False)
class Meter:
    """One meter, as long as the daemon lives."""

    settings: MeterSettings
    schedule: Schedule | Timetable
    zone: tzinfo
    bus: str
    baudrate: int  # that it is asked at
    recipe: Recipe
    shape: Shape = field(default_factory=Shape)
    alarms: Schedule | None = None  # None: it is not asked for any
    activity: Activity | None = None
    budget: Budget | None = None
    counters: Counters | None = None  # None: whatever it says is believed
    implausible: int = 0  # read-outs that were dropped for their counters
    link: LinkState = field(default_factory=LinkState)
    identity: Identity | None = None
    last_read: datetime | None = None
    answers: bool | None = None  # None: not asked yet
    keys: tuple[tuple[str, str | None, str], ...] = ()
    alarm: Alarm | None = None  # the last one
    knock_at: float = math.inf  # when it is tried once, between read-outs that it has failed to answer
    names: Names | None = None  # of all meters
    has_double: bool = False  # another one has its secondary address for a name

    @classmethod
    def of(cls, meter: MeterSettings, bus: BusSettings, now: float, phase: float) -> "Meter":
        """A meter nothing is known of yet; `now` in seconds of the monotonic clock, `phase` 0..1 of its interval."""
        interval = bus.interval if meter.interval is None else meter.interval
        zone = zone_of(meter)
        active, most, patience = meter.active, meter.max_reads_per_day, meter.offline_after
        return cls(
            meter,
            schedule=_schedule(interval, zone, now, phase, patience),
            zone=zone,
            bus=bus.name,
            baudrate=meter.baudrate or bus.baudrate,
            recipe=_shared(recipe_for(_chosen(meter), _quirks_of(meter))),
            shape=meter.shape,
            alarms=None if meter.alarms is None else Schedule(meter.alarms, now, phase, patience),
            activity=None if active is None else Activity(condition_of(active.when), active.interval, patience),
            budget=None if most is None else Budget(most, zone),
            counters=Counters() if _is_checked(meter, bus) else None,
        )

    @property
    def name(self) -> str | None:
        """The configured name, else the secondary address as soon as it is known.

        What does not tell who it is, or says that it is another one, goes by the place where it was asked.
        """
        if self.settings.name or self.identity is None:
            return self.settings.name
        if self.has_double or not self.identity.identification:
            return f"{self.bus}-{self.settings.address}"
        return self.told_apart(self.identity).address

    @property
    def place(self) -> tuple[str, str]:
        """Bus and address."""
        return self.bus, str(self.settings.address)

    @property
    def label(self) -> str:
        """What the log calls it."""
        return self.name or f"{self.bus}/{self.settings.address}"

    @property
    def due(self) -> float:
        """When it is to be asked, in seconds of the monotonic clock: for its values, or whether it is back."""
        due = self.schedule.due if self.activity is None else self._values_due
        return due if due < self.knock_at else self.knock_at  # noqa: FURB136 - asked of each meter in each turn

    @property
    def task(self) -> Literal["values", "knock"]:
        """What it is asked for then."""
        return "knock" if self.knock_at < self._values_due else "values"

    @property
    def _values_due(self) -> float:
        """At work it is quick, and still keeps a cron line."""
        if self.activity is None or self.activity.schedule is None:
            return self.schedule.due
        usual = self.schedule.due if isinstance(self.schedule, Timetable) else math.inf
        return min(usual, self.activity.due)

    def look(self, now: float, wall: float) -> None:
        """What the monotonic clock and the one on the wall show: a budget that is used up puts all off to tomorrow."""
        if isinstance(self.schedule, Timetable):
            self.schedule.look(now, wall)
        if self.budget is not None and self.budget.is_spent(wall):
            full = now + self.budget.full_at(wall) - wall
            self.knock_at = math.inf
            for one in self._schedules():
                one.skip(full)

    def refusal(self, wall: float) -> str | None:
        """Why its budget does not let it be asked now; None if it may be."""
        return None if self.budget is None else self.budget.refusal(wall)

    def spend(self, wall: float) -> None:
        """It is being asked, for whatever."""
        if self.budget is not None:
            self.budget.spend(wall)

    def was_read(self, taken: Reading, now: float) -> None:
        """A read-out has brought this, as it is published."""
        self.schedule.succeeded(now)
        self.knock_at = math.inf
        if self.activity is None:
            return
        if self.activity.schedule is not None and isinstance(self.schedule, Schedule):
            self.schedule.skip(now + self.activity.interval)  # should it idle from now on: it was read just now
        values = {item.key: item.value for item in taken.measurements}
        strange = self.activity.take(values, now)
        if strange:
            log.warning(
                "%s: active: no number is called %s in its readings, so it does not count as active; there are %s",
                self.label,
                " or ".join(strange),
                ", ".join(values),
            )

    def has_failed(self, now: float) -> None:
        """A read-out has failed."""
        for one in self._schedules(of_alarms=False):
            one.failed(now)
        self.knocked(now)

    def knocked(self, now: float) -> None:
        """It has not answered: before it is due again it is tried in each interval, as far as the wire bears it."""
        schedule, manner = self.schedule, self.recipe.manner
        interval = schedule.interval
        if interval is None or isinstance(schedule, Timetable) or schedule.is_refused or manner.baudrate is not None:
            return  # with a rate of its own it would cost the others two changes
        window = manner.window or max(manner.shortest_window, WINDOW_SECONDS)
        self.knock_at = now + max(interval, KNOCKS * (KNOCK_BITS / self.baudrate + window) / KNOCK_SHARE)

    def is_heard(self, now: float) -> None:
        """It is back: its values are due."""
        self.schedule.due, self.knock_at = now, math.inf

    def goes_silent(self) -> None:
        """It is given up for now; another one may come by the name that it had from its secondary address."""
        self.answers = False
        if self.names is not None:
            self.names.release(self.place)

    def has_refused(self, now: float) -> None:
        """The meter itself says that it was read too often."""
        self.knock_at = math.inf
        for one in self._schedules(of_alarms=False):
            one.refused(now)

    def change_interval(self, value: object, now: float) -> None:
        """Another interval, written as in the configuration, until the daemon ends. Raises ValueError."""
        interval = interval_of(value)
        why = too_often(interval, self.settings.alarms, self.settings.max_reads_per_day)
        if why is not None:
            raise ValueError(why)
        old = self.schedule
        start = now if isinstance(interval, str) else max(now, old.asked_at + interval)
        self.schedule = _schedule(interval, self.zone, start, 0.0, self.settings.offline_after)
        self.schedule.failures, self.schedule.asked_at = old.failures, old.asked_at
        if self.schedule.interval != old.interval:
            self._advise()

    def _schedules(self, *, of_alarms: bool = True) -> "list[Schedule | Timetable]":
        quick = None if self.activity is None else self.activity.schedule
        alarms = self.alarms if of_alarms else None
        return [self.schedule, *(one for one in (quick, alarms) if one is not None)]

    @property
    def secondary(self) -> SecondaryAddress | None:
        """Its whole secondary address, as soon as that is known."""
        if self.identity is not None and self.identity.identification:
            return SecondaryAddress(self.identity.address)
        address = self.settings.address
        return address if isinstance(address, SecondaryAddress) and "F" not in address.digits else None

    @property
    def is_unknown(self) -> bool:
        """Given by primary address, and never asked who it is: it may be any meter of the bus."""
        is_by_primary = isinstance(self.settings.address, PrimaryAddress)
        return is_by_primary and self.identity is None and self.schedule.failures == 0

    def is_at(self, primary: int | None, secondary: SecondaryAddress | None) -> bool:
        """Whether a meter that was found there is this one."""
        mine = self.settings.address
        if isinstance(mine, PrimaryAddress):
            if mine.number == primary:
                return True
            return self.secondary is not None and self.secondary == secondary
        return secondary is not None and mine.matches(secondary)

    def stranger(self, telegram: Telegram) -> SecondaryAddress | None:
        """Who has sent a telegram, if it says so and that is not the meter that was read here."""
        sender = None if telegram.header is None else address_of(telegram.header)
        if self.identity is None or sender is None or SecondaryAddress(self.identity.address).matches(sender):
            return None
        return sender

    def told_apart(self, identity: Identity) -> Identity:
        """The identity that the world sees: with the fabrication number, where only that tells it from another."""
        address = self.settings.address
        number = address.fabrication if isinstance(address, SecondaryAddress) else ""
        return replace(identity, address=f"{identity.address}-{number}") if number else identity

    def recognise(self, identity: Identity) -> None:
        """Who it is; what is known of such meters fills what the owner has not said."""
        if self.names is not None and not self.settings.name and identity.identification:
            self.has_double = not self.names.claim(self.place, self.told_apart(identity).address)
        if identity == self.identity:
            return
        self.identity = identity
        quirks = for_meter(identity.manufacturer, identity.version, identity.medium)
        self.recipe = _shared(recipe_for(_chosen(self.settings), quirks))
        self._advise()

    def _advise(self) -> None:
        """Tell its owner if it is asked more often than is good for its battery."""
        identity = self.identity
        if identity is None:
            return
        quirks = for_meter(identity.manufacturer, identity.version, identity.medium)
        alarms = None if self.alarms is None else self.alarms.interval
        quick = None if self.activity is None else self.activity.interval
        interval = min((one for one in (quick, self.schedule.interval) if one is not None), default=None)
        advice = advice_on(quirks, identity.medium, self.settings.power, interval, alarms)
        if advice is not None:
            log.info("%s: %s", self.label, advice)

    def info(self, *, bus_is_open: bool) -> MeterInfo:
        """What the sinks may know of it."""
        return MeterInfo(
            name=self.name or "",
            bus=self.bus,
            address=str(self.settings.address),
            interval=_text(self.schedule),
            identity=self.identity,
            last_read=self.last_read,
            failures=self.schedule.failures,
            implausible=self.implausible,
            online=self.answers and bus_is_open,
            keys=self.keys,
            has_alarms=self.alarms is not None,
        )


def _schedule(interval: float | str, zone: tzinfo, start: float, phase: float, patience: int) -> Schedule | Timetable:
    """Of an interval as the configuration has it: seconds, "manual" or a cron line."""
    if interval == "manual":
        return Schedule(None, start, phase, patience)
    if isinstance(interval, str):
        return Timetable(CronLine(interval, zone), patience)
    return Schedule(interval, start, phase, patience)


def _is_checked(meter: MeterSettings, bus: BusSettings) -> bool:
    return bus.plausibility if meter.plausibility is None else meter.plausibility


def _text(schedule: Schedule | Timetable) -> str:
    if isinstance(schedule, Timetable):
        return schedule.line.text
    return "manual" if schedule.interval is None else sys.intern(f"{schedule.interval:g}s")  # one text for a house


def _chosen(meter: MeterSettings) -> Recipe:
    """The recipe that the owner has written."""
    wake = None if meter.wake is None else Wake(meter.wake.bytes, meter.wake.pause)
    return Recipe(
        nke=meter.nke,
        before=tuple(step_of(text) for text in meter.before),
        is_plain=meter.plain,
        pages=tuple(step_of(text) for text in meter.pages),
        manner=Manner(meter.timeout, meter.pause, wake, meter.baudrate),
    )


@lru_cache(maxsize=64)
def _shared(recipe: Recipe) -> Recipe:
    """The same one for all meters that are asked alike."""
    return recipe


def _quirks_of(meter: MeterSettings) -> tuple[Quirk, ...]:
    """The rows about a meter whose address says already what it is; wildcards in it fit no row that names the part."""
    address = meter.address
    if not isinstance(address, SecondaryAddress) or address.digits[8:12] == "FFFF":
        return ()
    maker, version, medium = (address.to_bytes()[part] for part in (slice(4, 6), slice(6, 7), slice(7, 8)))
    parts = (None if part == b"\xff" else part[0] for part in (version, medium))
    return for_meter(manufacturer_letters(int.from_bytes(maker, "little")), *parts)
