"""The life of one bus: keeps its port open, has its meters read, and is where requests of people come in."""

import asyncio
import logging
import random
import time
from dataclasses import replace

from mbusd.bus import Bus
from mbusd.health import Health, of_port
from mbusd.interludes import Interludes
from mbusd.model import BusChanged, BusStatistics, ChangeMeter, Emit, Outcome, ScanMode, StatisticsTaken
from mbusd.profiles import Shelf
from mbusd.roster import Roster
from mbusd.rounds import Rounds
from mbusd.settings import BusSettings
from mbusd.shared_bus import SharedBus
from mbusd.transport import Port, host_and_port

log = logging.getLogger(__name__)

STATISTICS_SECONDS = 60.0
_NONE = Shelf()


class Poller:
    """One bus and its meters; tells `emit` what comes of them."""

    def __init__(
        self, settings: BusSettings, bus: Bus, emit: Emit, phases: random.Random | None = None, shelf: Shelf = _NONE
    ) -> None:
        self.name = settings.name
        self._settings = settings
        self._bus = bus
        self._emit = emit
        self._roster = Roster(settings, emit, phases or random.Random())  # noqa: S311 - no secret, only not in step
        self._health = Health(self.name, bus, self._roster.meters, emit)
        self._rounds = Rounds(bus, self._roster, self._health, emit, shelf)
        self._interludes = Interludes(self.name, bus, self._roster, emit, self._rounds.wake)
        self._shared = self._served()

    @classmethod
    def of(cls, settings: BusSettings, emit: Emit, shelf: Shelf = _NONE) -> "Poller":
        """A poller with a bus of its own; `shelf` has what is known of makers' meters."""
        port = Port(settings.port, settings.baudrate, settings.dtr, settings.rts)
        bus = Bus(port, settings.timeout, echo=settings.echo)
        return cls(settings, bus, emit, shelf=shelf)

    @property
    def alive_at(self) -> float:
        """When this poller last did anything, in seconds of the monotonic clock: food for a watchdog."""
        return max(self._rounds.alive_at, self._bus.last_request_at)

    def knows(self, name: str) -> bool:
        """Whether a meter of this bus has that name."""
        return self._roster.named(name) is not None

    async def run(self) -> None:
        """Keep the bus open and read its meters, for ever."""
        self._roster.tell_all()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._bus.keep_open(self._bus_changed, self._bus_reopened), name=f"{self.name}: port")
            group.create_task(self._rounds.go(), name=f"{self.name}: poll")
            group.create_task(self._report(), name=f"{self.name}: statistics")
            group.create_task(self._interludes.discover(self._settings.scan_at_start), name=f"{self.name}: discover")
            if self._shared is not None:
                group.create_task(self._shared.serve(), name=f"{self.name}: shared")

    async def read(self, name: str) -> Outcome:
        """Read one meter before anything that is scheduled."""
        meter = self._roster.named(name)
        return await self._rounds.read(meter) if meter else Outcome(error=f"there is no meter {name} on {self.name}")

    async def read_all(self) -> Outcome:
        """Read every meter once, before anything that is scheduled."""
        outcomes = await asyncio.gather(*(self._rounds.read(meter) for meter in self._roster.meters))
        readings = tuple(reading for outcome in outcomes for reading in outcome.readings)
        return Outcome(readings=readings, failed={k: v for outcome in outcomes for k, v in outcome.failed.items()})

    async def scan(self, mode: ScanMode) -> Outcome:
        """Look for meters between the polls; new ones are read from now on."""
        return await self._interludes.scan(mode)

    def cancel_scan(self) -> Outcome:
        """End the scan that runs."""
        return self._interludes.cancel_scan()

    async def change(self, command: ChangeMeter) -> Outcome:
        """Write to a meter."""
        return await self._interludes.change(command)

    def statistics(self) -> BusStatistics:
        """Counts since the start; utilisation since the last call."""
        now = time.monotonic()
        roster = self._roster
        overload = roster.bus_is_open and any(meter.schedule.lateness(now) > 1 for meter in roster.meters)
        read_outs, failures = self._rounds.counts
        return replace(self._bus.statistics(), read_outs=read_outs, failures=failures, overload=overload)

    async def _report(self) -> None:
        while True:
            self._emit(StatisticsTaken(self.name, self.statistics()))
            await asyncio.sleep(STATISTICS_SECONDS)

    def _served(self) -> SharedBus | None:
        """The bus for other programs, where it is to be served on."""
        if self._settings.serve is None:
            return None
        return SharedBus(
            self._bus.reserve,
            host_and_port(self._settings.serve),
            allow_writes=self._settings.serve_writes,
            used=lambda _: self._roster.forget_links(),
        )

    def _bus_changed(self, up: bool, why: str) -> None:  # noqa: FBT001 - the shape of the bus's callback
        self._roster.bus_is_open = up
        told = "" if up else of_port(why)
        if up:
            self._interludes.opened.set()
        else:
            self._interludes.opened.clear()
        log.log(logging.INFO if up else logging.WARNING, "bus %s: %s", self.name, "open" if up else f"away: {told}")
        self._emit(BusChanged(self.name, up, told))
        self._bus_reopened()
        self._roster.tell_all()

    def _bus_reopened(self) -> None:
        self._health.reopened()
        self._roster.forget_links()
        self._rounds.wake()
