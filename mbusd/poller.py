"""The life of one bus: keeps its port open, has its meters read, and is where requests of people come in."""

import asyncio
import logging
import math
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

from mbusd.configuration.settings import BusSettings
from mbusd.exact_json import JsonValue
from mbusd.line.bus import Bus
from mbusd.line.opening import Opening
from mbusd.line.transport import Port, host_and_port
from mbusd.memory import Memory
from mbusd.model import (
    AlarmTaken,
    BusChanged,
    BusStatistics,
    ChangeMeter,
    Emit,
    Event,
    MeterGone,
    MeterInfo,
    Outcome,
    ReadingTaken,
    ScanMode,
    StatisticsTaken,
)
from mbusd.polling.health import Health, of_port
from mbusd.polling.interludes import Interludes
from mbusd.polling.meter import Meter
from mbusd.polling.roster import Roster
from mbusd.polling.rounds import Rounds
from mbusd.profiles import Shelf

if TYPE_CHECKING:
    from mbusd.line.shared_bus import SharedBus

log = logging.getLogger(__name__)

STATISTICS_SECONDS = 60.0
_NONE = Shelf()


class Poller:
    """One bus and its meters; tells `emit` what comes of them.

    `before`: meters of this bus until its settings changed. `memory`: what was found in earlier lives.
    """

    def __init__(
        self,
        settings: BusSettings,
        bus: Bus,
        emit: Emit,
        phases: random.Random | None = None,
        shelf: Shelf = _NONE,
        memory: Memory | None = None,
        before: Sequence[Meter] = (),
    ) -> None:
        self.name = settings.name
        self.opening = Opening()  # of the port, where the bus opens it with this
        self.settings = settings
        self._bus = bus
        self._emit_on = emit
        self._is_over = False
        self._memory = Memory() if memory is None else memory
        self._phases = phases or random.Random()  # noqa: S311 - no secret, only not in step
        self._roster = Roster(settings, self._emit, self._phases, self._memory, before)
        self._health = Health(self.name, bus, self._roster.meters, self._emit)
        self._rounds = Rounds(bus, self._roster, self._health, self._emit, shelf)
        self._interludes = Interludes(self.name, bus, self._roster, self._emit, self._rounds.wake)
        self._shared = self._served()
        self._hurried: set[Meter] = set()  # or slowed down, by request
        self._rounds.take_over(_spent_in(self._memory.note(budgets_of(self.name))))
        self._rounds.recall(self._memory.note(_counters_of(self.name)))

    @classmethod
    def of(
        cls,
        settings: BusSettings,
        emit: Emit,
        shelf: Shelf = _NONE,
        memory: Memory | None = None,
        before: Sequence[Meter] = (),
    ) -> "Poller":
        """A poller with a bus of its own; `shelf` has what is known of makers' meters."""
        port = Port(settings.port, settings.baudrate, settings.dtr, settings.rts)
        opening = Opening()
        bus = Bus(port, settings.timeout, opening, echo=settings.echo)
        poller = cls(settings, bus, emit, shelf=shelf, memory=memory, before=before)
        poller.opening = opening
        return poller

    @property
    def meters(self) -> Sequence[Meter]:
        """The meters as they are now, each read as often as the file says: for the poller that comes after this one."""
        self.restore_intervals()
        return tuple(self._roster.meters)

    @property
    def names(self) -> list[str]:
        """What the meters are called, as far as they have been named."""
        return [meter.name for meter in self._roster.meters if meter.name is not None]

    def tell_all(self) -> None:
        """Tell what there is to say of each meter."""
        self._roster.tell_all()

    def infos(self) -> list[MeterInfo]:
        """What there is to say of each meter now."""
        return [meter.info(bus_is_open=self._roster.bus_is_open) for meter in self._roster.meters]

    @property
    def pending(self) -> list[str]:
        """Addresses of meters that were found, and that wait until others are known: they are not gone."""
        return self._roster.pending

    @property
    def alive_at(self) -> float:
        """When this poller last did anything, in seconds of the monotonic clock: food for a watchdog."""
        since = self.opening.since
        at_work = max(self._rounds.alive_at, self._bus.last_request_at)
        return at_work if since is None else min(at_work, since)

    def knows(self, name: str) -> bool:
        """Whether a meter of this bus has that name."""
        return self._roster.named(name) is not None

    async def run(self) -> None:
        """Keep the bus open and read its meters, for ever; nothing is told any more after that."""
        try:
            await self._live()
        finally:
            self._is_over = True
            self._note_budgets()
            self._memory.set_note(_counters_of(self.name), self._rounds.counted())  # at the end only: it always changes

    async def _live(self) -> None:
        self._roster.tell_all()
        wanted = self.settings.scan_at_start
        if wanted is not None and self._memory.has_scanned(self.name, wanted):
            log.info("bus %s: found by scans before: %d meters; `scan` looks for new ones", self.name, self._found)
            wanted = None
        async with asyncio.TaskGroup() as group:
            keeping = self._bus.keep_open(
                self._bus_changed, self._bus_reopened, self._shortest_interval, self._rounds.wake
            )
            group.create_task(keeping, name=f"{self.name}: port")
            group.create_task(self._rounds.go(), name=f"{self.name}: poll")
            group.create_task(self._report(), name=f"{self.name}: statistics")
            group.create_task(self._interludes.discover(wanted), name=f"{self.name}: discover")
            if self._shared is not None:
                group.create_task(self._shared.serve(), name=f"{self.name}: shared")

    async def read(self, name: str, *, is_forced: bool = False) -> Outcome:
        """Read one meter before anything that is scheduled; `is_forced`: also beyond its budget."""
        meter = self._roster.named(name)
        if meter is None:
            return Outcome(error=f"there is no meter {name} on {self.name}")
        return await self._rounds.read(meter, is_forced=is_forced)

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

    def set_interval(self, interval: str, name: str | None = None) -> Outcome:
        """Read one meter as often, or all that have no interval of their own."""
        own = [meter for meter in self._roster.meters if meter.settings.interval is None]
        meters = own if name is None else [meter for meter in self._roster.meters if meter.name == name]
        try:
            for meter in meters:
                self._pace(meter, interval)
                self._hurried.add(meter)
        except ValueError as error:
            return Outcome(error=f"{meter.label}: {error}")
        told = [meter.label for meter in meters]
        return Outcome(data={"meters": told, "interval": interval, "until": "restart or reload; the file is yours"})

    def restore_intervals(self) -> None:
        """Read every meter as often as the file says."""
        for meter in self._hurried:
            own = meter.settings.interval
            self._pace(meter, self.settings.interval if own is None else own)
        self._hurried.clear()

    def _pace(self, meter: Meter, interval: object) -> None:
        meter.change_interval(interval, time.monotonic())
        self._roster.tell(meter)
        self._rounds.wake()

    def forget(self, name: str) -> Outcome:
        """Read a meter no more that a scan has found."""
        meter = self._roster.named(name)
        if meter is None:
            return Outcome(error=f"there is no meter {name} on {self.name}")
        why = self._roster.forget(meter)
        if why is not None:
            return Outcome(error=why)
        self._emit(MeterGone(meter.info(bus_is_open=self._roster.bus_is_open)))
        return Outcome(data={"meter": name, "forgotten": "until a scan finds it again"})

    def statistics(self) -> BusStatistics:
        """Counts since the start; utilisation since the last call."""
        read_outs, failures, implausible = self._rounds.counts
        return replace(
            self._bus.statistics(),
            read_outs=read_outs,
            failures=failures,
            implausible=implausible,
            overload=self._rounds.overloaded(),
        )

    async def _report(self) -> None:
        while True:
            self._emit(StatisticsTaken(self.name, self.statistics()))
            self._note_budgets()
            await asyncio.sleep(STATISTICS_SECONDS)

    def _served(self) -> "SharedBus | None":
        """The bus for other programs, where it is to be served on."""
        if self.settings.serve is None:
            return None
        from mbusd.line.shared_bus import SharedBus  # noqa: PLC0415 - few buses are served on

        return SharedBus(
            self._bus.reserve,
            host_and_port(self.settings.serve),
            allow_writes=self.settings.serve_writes,
            used=lambda _: self._roster.forget_links(),
        )

    def _emit(self, event: Event) -> None:
        """Tell it, but nothing of a bus that is given up, nor of a meter that was forgotten while it was asked."""
        match event:
            case ReadingTaken(said) | AlarmTaken(said) if not self.knows(said.meter):
                return
        if not self._is_over:
            self._emit_on(event)

    def _note_budgets(self) -> None:
        self._memory.set_note(budgets_of(self.name), self._rounds.spent_today())

    @property
    def _found(self) -> int:
        return len(self._memory.meters(self.name))

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

    def _shortest_interval(self) -> float:
        """Seconds between two polls of the meter that is asked most often, as it is now; infinity where none is."""
        schedules = (
            (one.schedule, one.alarms, None if one.activity is None else one.activity.schedule)
            for one in self._roster.meters
        )
        intervals = (due.interval for several in schedules for due in several if due is not None)
        return min((seconds for seconds in intervals if seconds is not None), default=math.inf)

    def _bus_reopened(self) -> None:
        self._health.reopened()
        self._roster.forget_links()
        self._rounds.wake()


def budgets_of(bus: str) -> str:
    """Where it is noted what the meters of a bus have spent."""
    return f"budgets of {bus}"


def _counters_of(bus: str) -> str:
    return f"counters of {bus}"


def _spent_in(note: JsonValue) -> dict[str, tuple[date, int]]:
    """What meters have spent of their budgets in an earlier life, as it was noted; nothing, if it was not.

    The last day that a calendar has has no tomorrow on which a budget were full again.
    """
    spent = {}
    for place, entry in note.items() if isinstance(note, dict) else ():
        match entry:
            case [str(text), int(count)] if count >= 0:
                with suppress(ValueError):
                    day = date.fromisoformat(text)
                    if day < date.max:
                        spent[place] = (day, count)
    return spent
