"""Reads the meters of one bus: which is due, what to ask, what to do when it is silent.

Requests of people come before the schedule; of the scheduled meters the one that has waited longest is next, so that
none starves another.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

from mbusd.bus import Bus
from mbusd.changes import carry_out
from mbusd.finder import Finder
from mbusd.mbus.errors import MBusError, NoAnswer, Refused
from mbusd.mbus.link import Conversation, in_manner
from mbusd.mbus.master import LinkState, ReadOut, read_out
from mbusd.meter import Meter
from mbusd.model import (
    BusChanged,
    BusStatistics,
    Change,
    ChangeMeter,
    Event,
    Identity,
    MeterChanged,
    Outcome,
    Reading,
    ReadingTaken,
    ScanMode,
    StatisticsTaken,
)
from mbusd.normalise import reading
from mbusd.scanner import Finding
from mbusd.settings import BusSettings, MeterSettings
from mbusd.shared_bus import SharedBus
from mbusd.transport import Port, RateError, TransportError, host_and_port

log = logging.getLogger(__name__)

STATISTICS_SECONDS = 60.0
HEARTBEAT_SECONDS = 10.0
LOOK_AGAIN_SECONDS = 30.0  # after a scan at start that the port did not survive
TOO_MANY_READ_OUTS = 0x09  # application error: the battery's budget is used up

T = TypeVar("T")
Emit = Callable[[Event], None]


class Poller:
    """The life of one bus: opens it, reads its meters, tells `emit` what came of it."""

    def __init__(self, settings: BusSettings, bus: Bus, emit: Emit, phases: random.Random | None = None) -> None:
        self.name = settings.name
        self._bus = bus
        self._emit = emit
        self._wake = asyncio.Event()
        self._asked: list[Meter] = []
        self._down: str | None = "not open yet"
        self._read_outs = 0
        self._failures = 0
        self._beat = time.monotonic()
        self._shared: SharedBus | None = None
        if settings.serve is not None:
            listen = host_and_port(settings.serve)
            self._shared = SharedBus(
                bus.reserve, listen, allow_writes=settings.serve_writes, used=lambda _: self._forget_links()
            )
        self._settings = settings
        self._opened = asyncio.Event()
        self._finder = Finder(self.name, self._probe, emit)
        self._phases = phases = phases or random.Random()  # noqa: S311 - no secret, only not in step
        now = time.monotonic()
        self._meters = [Meter.of(meter, settings, now, phases.random()) for meter in settings.meters]

    @classmethod
    def of(cls, settings: BusSettings, emit: Emit) -> "Poller":
        """A poller with a bus of its own."""
        port = Port(settings.port, settings.baudrate, settings.dtr, settings.rts)
        bus = Bus(port, settings.timeout, echo=settings.echo)
        return cls(settings, bus, emit)

    @property
    def alive_at(self) -> float:
        """When this poller last did anything, in seconds of the monotonic clock: food for a watchdog."""
        return max(self._beat, self._bus.last_request_at)

    def knows(self, name: str) -> bool:
        """Whether a meter of this bus has that name."""
        return any(name == meter.name for meter in self._meters)

    async def run(self) -> None:
        """Keep the bus open and read its meters, for ever."""
        for meter in self._meters:
            self._tell(meter)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._bus.keep_open(self._bus_changed, self._bus_reopened), name=f"{self.name}: port")
                group.create_task(self._poll(), name=f"{self.name}: poll")
                group.create_task(self._report(), name=f"{self.name}: statistics")
                group.create_task(self._discover(), name=f"{self.name}: discover")
                if self._shared is not None:
                    group.create_task(self._shared.serve(), name=f"{self.name}: shared")
        finally:
            for meter in self._meters:
                self._answer(meter, Outcome(error="mbusd stops", failed={meter.label: "mbusd stops"}))

    async def read(self, name: str) -> Outcome:
        """Read one meter before anything that is scheduled."""
        wanted = [meter for meter in self._meters if meter.name == name]
        return await self._ask_for(wanted[0]) if wanted else Outcome(error=f"there is no meter {name} on {self.name}")

    async def read_all(self) -> Outcome:
        """Read every meter once, before anything that is scheduled."""
        outcomes = await asyncio.gather(*(self._ask_for(meter) for meter in self._meters))
        readings = tuple(reading for outcome in outcomes for reading in outcome.readings)
        return Outcome(readings=readings, failed={k: v for outcome in outcomes for k, v in outcome.failed.items()})

    async def scan(self, mode: ScanMode) -> Outcome:
        """Look for meters between the polls; new ones are read from now on."""
        known = [meter.secondary for meter in self._meters if meter.secondary is not None]
        survey, outcome = await self._finder.scan(mode, known)
        if survey is not None:
            for finding in survey.findings:
                if finding.safest not in survey.crowded:
                    self._adopt(finding)
            self._wake.set()
        return outcome

    async def _probe(self, conversation: Conversation[T]) -> T:
        """One probe of a scan, which may reset the link with any meter, or select another."""
        try:
            return await self._bus.run(conversation)
        finally:
            self._forget_links()

    async def change(self, command: ChangeMeter) -> Outcome:
        """Write to a meter. The file is the owner's: a new address or rate is to be written there, too."""
        meter = next(meter for meter in self._meters if meter.name == command.meter)
        baudrate = meter.settings.baudrate or self._settings.baudrate
        try:
            written = await carry_out(command, meter.settings.address, baudrate, self._bus)
        except (MBusError, TransportError, ValueError) as error:
            return Outcome(error=str(error))
        finally:
            self._forget_links()
        log.warning("%s: %s by request", meter.label, command.what)
        return Outcome(written=written)

    def cancel_scan(self) -> Outcome:
        """End the scan that runs."""
        return self._finder.cancel()

    def _adopt(self, finding: Finding) -> None:
        """Read a meter that was found, unless it is one of ours."""
        address = finding.safest
        if address is None or any(meter.is_at(finding.primary, finding.address) for meter in self._meters):
            return
        settings = MeterSettings(address=address if isinstance(address, int) else address.digits)
        meter = Meter.of(settings, self._settings, time.monotonic(), self._phases.random())
        self._meters.append(meter)
        self._tell(meter)

    async def _discover(self) -> None:
        """The scan at start, as soon as the bus is open; once more where the port was lost in it."""
        mode = self._settings.scan_at_start
        while mode is not None:
            await self._opened.wait()
            outcome = await self.scan(mode)
            if outcome.error is None:
                return
            await asyncio.sleep(LOOK_AGAIN_SECONDS)

    async def _ask_for(self, meter: Meter) -> Outcome:
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        meter.waiting.append(future)
        if meter not in self._asked:
            self._asked.append(meter)
        self._wake.set()
        return await future

    async def _poll(self) -> None:
        while True:
            self._beat = time.monotonic()
            meter = self._next(self._beat)
            if meter is not None:
                await self._read(meter)
                continue
            pause = min((meter.schedule.due for meter in self._meters), default=float("inf")) - self._beat
            pause = min(max(pause, 0.0), HEARTBEAT_SECONDS) if self._is_up else HEARTBEAT_SECONDS
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                continue
            self._wake.clear()

    def _next(self, now: float) -> Meter | None:
        if self._asked:
            return self._asked.pop(0)
        if not self._is_up or not self._meters:
            return None
        first = min(self._meters, key=lambda meter: meter.schedule.due)
        return first if first.schedule.due <= now else None

    @property
    def _is_up(self) -> bool:
        """Whether meters can be read now: not while a port is opened again that everybody thinks is open."""
        return self._down is None and self._bus.is_open

    async def _read(self, meter: Meter) -> None:
        try:
            result = await self._read_out(meter)
        except RateError as error:
            self._failed(meter, error)
        except TransportError as error:  # the wire's fault: the meter stays due
            self._answer(meter, Outcome(error=str(error), failed={meter.label: str(error)}))
            await asyncio.sleep(0)
        except MBusError as error:
            self._failed(meter, error)
        else:
            self._succeeded(meter, result)

    async def _read_out(self, meter: Meter) -> ReadOut:
        """One read-out; a second one before a stranger is believed.

        The answers of two meters at one address, one upon the other, can pass the checksum by chance: a meter that
        does not exist. Whoever is no more than that does not come twice.
        """
        result = await self._converse(meter)
        if not self._is_stranger(meter, result):
            return result
        meter.link = LinkState()
        again = await self._converse(meter)
        if again.address != result.address:
            raise NoAnswer(f"{result.address} answers, then {again.address}: are there two meters at this address?")
        return again

    async def _converse(self, meter: Meter) -> ReadOut:
        """One read-out as the meter wants it; after anything that went wrong the state of its link is unknown."""
        result = await self._bus.run(_when_it_is_our_turn(meter))
        meter.link = result.link
        return result

    def _is_stranger(self, meter: Meter, result: ReadOut) -> bool:
        """Not the meter that was here, or the first one to be understood after failures."""
        if meter.identity is None:
            return meter.schedule.failures > 0
        return not result.is_from(meter.identity.address)

    def _succeeded(self, meter: Meter, result: ReadOut) -> None:
        taken_at = datetime.now(UTC)
        was_silent = meter.answers is False
        taken = reading(meter.name or "", result.telegrams, taken_at, meter.zone, meter.identity)
        name = meter.settings.name or taken.identity.address
        taken = replace(taken, meter=name, problems=(*taken.problems, *result.problems))
        self._read_outs += 1
        meter.schedule.succeeded(time.monotonic())
        change: Change = "back" if was_silent else "found" if meter.identity is None else ""
        self._recognise(meter, taken)
        meter.last_read, meter.answers = taken_at, True
        if change:
            log.info("%s: %s", meter.label, "answers again" if was_silent else f"found, {_describe(taken.identity)}")
        self._emit(MeterChanged(meter.info(bus_is_open=True), change))
        self._emit(ReadingTaken(taken))
        self._answer(meter, Outcome(readings=(taken,)))

    def _recognise(self, meter: Meter, taken: Reading) -> None:
        if meter.identity is not None and meter.identity != taken.identity:
            log.warning("%s: another meter answers here now: %s", meter.label, _describe(taken.identity))
        if set(taken.problems) and meter.last_read is None:
            log.info("%s: not everything could be decoded: %s", meter.label, "; ".join(taken.problems))
        meter.recognise(taken.identity)
        meter.keys = tuple((item.key, item.unit, item.quantity) for item in taken.measurements)

    def _failed(self, meter: Meter, error: MBusError | RateError) -> None:
        self._failures += 1
        now = time.monotonic()
        if isinstance(error, Refused) and error.code == TOO_MANY_READ_OUTS:
            meter.schedule.refused(now)
        else:
            meter.schedule.failed(now)
        failures = meter.schedule.failures
        goes_silent = failures == meter.settings.offline_after
        if goes_silent:
            meter.answers = False
        level = logging.WARNING if goes_silent else logging.INFO if failures & failures - 1 == 0 else logging.DEBUG
        log.log(level, "%s: read-out failed, %d in a row: %s", meter.label, failures, error)
        info = meter.info(bus_is_open=self._down is None)
        self._emit(MeterChanged(info, "silent" if goes_silent else "", str(error)))
        self._answer(meter, Outcome(error=f"{meter.label}: {error}", failed={meter.label: str(error)}))

    def _answer(self, meter: Meter, outcome: Outcome) -> None:
        waiting, meter.waiting = meter.waiting, []
        self._asked = [other for other in self._asked if other is not meter]  # asked while it was being read
        for future in waiting:
            if not future.done():
                future.set_result(outcome)

    def _tell(self, meter: Meter) -> None:
        self._emit(MeterChanged(meter.info(bus_is_open=self._down is None)))

    def _bus_changed(self, up: bool, why: str) -> None:  # noqa: FBT001 - the shape of the bus's callback
        self._down = None if up else why
        if up:
            self._opened.set()
        else:
            self._opened.clear()
        log.log(logging.INFO if up else logging.WARNING, "bus %s: %s", self.name, "open" if up else f"away: {why}")
        self._emit(BusChanged(self.name, up, why))
        self._forget_links()
        for meter in self._meters:
            self._tell(meter)
        self._wake.set()

    def _bus_reopened(self) -> None:
        self._forget_links()
        self._wake.set()

    def _forget_links(self) -> None:
        """Somebody else may have spoken to the meters, or they had no power: nobody knows their FCB memory."""
        for meter in self._meters:
            meter.link = meter.link.forgotten()

    async def _report(self) -> None:
        while True:
            self._emit(StatisticsTaken(self.name, self.statistics()))
            await asyncio.sleep(STATISTICS_SECONDS)

    def statistics(self) -> BusStatistics:
        """Counts since the start; utilisation since the last call."""
        now = time.monotonic()
        overload = self._down is None and any(meter.schedule.lateness(now) > 1 for meter in self._meters)
        return replace(self._bus.statistics(), read_outs=self._read_outs, failures=self._failures, overload=overload)


def _when_it_is_our_turn(meter: Meter) -> Conversation[ReadOut]:
    """The read-out, with the link as it is when the wire is ours: until then somebody else may speak to the meter."""
    recipe, link = meter.recipe, meter.link
    meter.link = link.forgotten()
    return (yield from in_manner(read_out(meter.settings.address, recipe, link), recipe.manner))


def _describe(identity: Identity) -> str:
    maker = identity.manufacturer or "unknown maker"
    return f"{maker} {identity.identification}, {identity.medium_name} ({identity.address})"
