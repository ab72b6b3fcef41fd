"""What is known of one meter of a bus: how it is asked, when it is due, who it is, how it has answered."""

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import datetime, tzinfo

from mbusd.mbus.address import PrimaryAddress, SecondaryAddress
from mbusd.mbus.master import LinkState
from mbusd.mbus.quirks import Manner, Recipe, Step, Wake, for_meter, recipe_for
from mbusd.model import Identity, MeterInfo, Outcome
from mbusd.schedule import Schedule
from mbusd.settings import BusSettings, MeterSettings, zone_of

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Meter:
    """One meter, as long as the daemon lives."""

    settings: MeterSettings
    schedule: Schedule
    zone: tzinfo
    bus: str
    recipe: Recipe
    link: LinkState = field(default_factory=LinkState)
    identity: Identity | None = None
    last_read: datetime | None = None
    answers: bool | None = None  # None: not asked yet
    keys: tuple[tuple[str, str | None, str], ...] = ()
    waiting: list[asyncio.Future[Outcome]] = field(default_factory=list)

    @classmethod
    def of(cls, meter: MeterSettings, bus: BusSettings, now: float, phase: float) -> "Meter":
        """A meter nothing is known of yet; `now` in seconds of the monotonic clock, `phase` 0..1 of its interval."""
        interval = bus.interval if meter.interval is None else meter.interval
        seconds = None if isinstance(interval, str) else interval
        schedule = Schedule(seconds, now, phase, meter.offline_after)
        return cls(meter, schedule, zone_of(meter), bus.name, _chosen(meter))

    @property
    def name(self) -> str | None:
        """The configured name, else the secondary address as soon as it is known."""
        return self.settings.name or (self.identity.address if self.identity else None)

    @property
    def label(self) -> str:
        """What the log calls it."""
        return self.name or f"{self.bus}/{self.settings.address}"

    @property
    def secondary(self) -> SecondaryAddress | None:
        """Its whole secondary address, as soon as that is known."""
        if self.identity is not None and self.identity.identification:
            return SecondaryAddress(self.identity.address)
        address = self.settings.address
        return address if isinstance(address, SecondaryAddress) and "F" not in address.digits else None

    def is_at(self, primary: int | None, secondary: SecondaryAddress | None) -> bool:
        """Whether a meter that was found there is this one."""
        mine = self.settings.address
        if isinstance(mine, PrimaryAddress):
            if mine.number == primary:
                return True
            return self.secondary is not None and self.secondary == secondary
        return secondary is not None and mine.matches(secondary)

    def recognise(self, identity: Identity) -> None:
        """Who it is; what is known of such meters fills what the owner has not said."""
        if identity == self.identity:
            return
        self.identity = identity
        quirks = for_meter(identity.manufacturer, identity.version, identity.medium)
        self.recipe = recipe_for(_chosen(self.settings), quirks)
        interval = self.schedule.interval
        for quirk in quirks:
            if quirk.rest is not None and interval is not None and interval < quirk.rest:
                advice = f"{quirk.advice} ({quirk.source}); an interval of {quirk.rest:g}s or more is kinder to it"
                log.info("%s: read every %gs, but %s", self.label, interval, advice)

    def info(self, *, bus_is_open: bool) -> MeterInfo:
        """What the sinks may know of it."""
        interval = self.schedule.interval
        return MeterInfo(
            name=self.name or "",
            bus=self.bus,
            address=str(self.settings.address),
            interval="manual" if interval is None else f"{interval:g}s",
            identity=self.identity,
            last_read=self.last_read,
            failures=self.schedule.failures,
            online=self.answers and bus_is_open,
            keys=self.keys,
        )


def _chosen(meter: MeterSettings) -> Recipe:
    """The recipe that the owner has written."""
    wake = None if meter.wake is None else Wake(meter.wake.bytes, meter.wake.pause)
    return Recipe(
        nke=meter.nke,
        before=tuple(Step(text[0], text[1:]) for text in meter.before),
        is_plain=meter.plain,
        pages=tuple(Step(text[0], text[1:]) for text in meter.pages),
        manner=Manner(meter.timeout, meter.pause, wake, meter.baudrate),
    )
