"""The loop that keeps a wire busy: takes what is next on the agenda and has it done, or waits for something to do."""

import asyncio
import time
from collections.abc import Mapping
from datetime import date

from mbusd.exact_json import JsonValue
from mbusd.line.bus import Bus
from mbusd.model import Emit, Outcome
from mbusd.polling.agenda import Agenda
from mbusd.polling.attendance import Attendance
from mbusd.polling.health import Health
from mbusd.polling.meter import Meter
from mbusd.polling.overload import Overload
from mbusd.polling.roster import Roster
from mbusd.polling.vigil import Vigil
from mbusd.profiles import Shelf

HEARTBEAT_SECONDS = 10.0


class Rounds:
    """All asking of meters on one bus, by their schedules and by request."""

    def __init__(self, bus: Bus, roster: Roster, health: Health, emit: Emit, shelf: Shelf) -> None:
        self.alive_at = time.monotonic()
        self._bus = bus
        self._roster = roster
        self._agenda = Agenda(roster.meters)
        self._attendance = Attendance(bus, roster, health, emit, self._agenda.answer, shelf)
        self._vigil = Vigil(bus, health, emit)
        self._overload = Overload()
        self._wake = asyncio.Event()

    @property
    def counts(self) -> tuple[int, int, int]:
        """Read-outs that brought a reading, those that failed, and what was dropped for its counters."""
        return self._attendance.read_outs, self._attendance.failures, self._attendance.implausible

    def overloaded(self) -> bool:
        """Whether the schedules asked for more than the wire could carry since the last call."""
        return self._overload.take(self._roster.meters, time.monotonic())

    async def read(self, meter: Meter, *, is_forced: bool = False) -> Outcome:
        """Read one meter before anything that is scheduled; `is_forced`: also beyond its budget."""
        future = self._agenda.ask(meter, time.monotonic(), is_forced=is_forced)
        self._wake.set()
        return await future

    def spent_today(self) -> dict[str, tuple[date, int]]:
        """What meters have spent of their budgets, by address: for the next run of the daemon."""
        meters = [one for one in self._roster.meters if one.budget and one.budget.spent[1]]
        return {str(one.settings.address): one.budget.spent for one in meters if one.budget is not None}

    def take_over(self, spent: Mapping[str, tuple[date, int]]) -> None:
        """The same from an earlier run."""
        for one in self._roster.meters:
            before = spent.get(str(one.settings.address))
            if one.budget is not None and before is not None:
                one.budget.take_over(*before)

    def counted(self) -> dict[str, JsonValue]:
        """What is known of meters' counters, by address: for the next run of the daemon."""
        now, wall = time.monotonic(), time.time()
        known = [(one, one.counters) for one in self._roster.meters if one.counters is not None]
        return {str(one.settings.address): what.noted(now, wall) for one, what in known if what.is_known}

    def recall(self, counted: JsonValue) -> None:
        """The same from an earlier run."""
        now, wall = time.monotonic(), time.time()
        for one in self._roster.meters:
            if one.counters is not None and isinstance(counted, Mapping):
                one.counters.take_over(counted.get(str(one.settings.address)), now, wall)

    def wake(self) -> None:
        """Something has changed: perhaps there is something to do."""
        self._wake.set()

    async def go(self) -> None:
        """Ask whoever is due, for ever; at the end nobody waits for an answer any more."""
        try:
            while True:
                await self._take_turn()
        finally:
            self._agenda.close("mbusd stops")

    async def _take_turn(self) -> None:
        self.alive_at = now = time.monotonic()
        self._agenda.look(now, time.time())
        is_open = self._roster.bus_is_open and self._bus.is_open  # not while it is reopened and all think it is open
        self._overload.wire(now, is_open=is_open)
        errand = self._agenda.next(now, self._bus.baudrate, is_open=is_open)
        if errand is None:
            await self._rest(min(self._agenda.pause(now), HEARTBEAT_SECONDS) if is_open else HEARTBEAT_SECONDS)
            return
        if errand.task == "knock":
            await self._attendance.knock(errand.meter)
            return
        self._overload.asks(errand.meter, now)
        if errand.task == "values":
            await self._attendance.read(errand.meter, is_forced=errand.is_forced)
        else:
            await self._vigil.ask(errand.meter)

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()
