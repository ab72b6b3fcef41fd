"""What people ask of the daemon, carried out; every failure is an outcome, in words."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import get_args

from mbusd.buses import Buses
from mbusd.document import document_of
from mbusd.model import (
    ChangeMeter,
    Command,
    Decode,
    Forget,
    LogLevel,
    Outcome,
    ReadAll,
    ReadNow,
    Reload,
    Scan,
    SetInterval,
    SetLogLevel,
)
from mbusd.poller import Poller
from mbusd.sinks.requests import unknown
from mbusd.valve import Valves

READS = (100, 60.0)  # of one meter by request, at once, and seconds until one more
SCANS = (20, 600.0)  # of one bus; each asks every meter on it


def _pace(limit: tuple[int, float]) -> str:
    return f"{limit[0]} requests at once are taken, and one more every {limit[1] / 60:g} min"


TOO_OFTEN = f"it was read by request too often; {_pace(READS)}: set `interval` instead"
LOG_LEVELS: tuple[str, ...] = get_args(LogLevel)


class Orders:
    """Commands in, outcomes out; `reload` reads the configuration again.

    `forget_left` says whether anything was left of a meter that is on no bus any more, and lets it go.
    """

    def __init__(
        self,
        buses: Buses,
        reload: Callable[[], Awaitable[Outcome]],
        forget_left: Callable[[str], bool],
        *,
        allows_writes: bool,
    ) -> None:
        self._buses = buses
        self._reload, self._forget_left = reload, forget_left
        self._allows_writes = allows_writes
        self._reads, self._writes = Valves(*READS), Valves(*READS)  # by meter
        self._rounds, self._scans = Valves(*READS), Valves(*SCANS)  # by bus

    async def execute(self, command: Command) -> Outcome:
        """What a command brings."""
        match command:
            case Decode(text):
                return Outcome(data=document_of(text))
            case SetLogLevel(level):
                return set_log_level(level)
            case Reload():
                return await self._reload()
            case ReadAll(bus) | Scan(bus):
                return await self._on_bus(command, bus)
            case SetInterval(interval, None, bus):
                return self._set_intervals(interval, bus or "")
            case ReadNow() | ChangeMeter() | Forget() | SetInterval():
                meter = self._buses.whole_name(command.meter or "")
                command = replace(command, meter=meter)
                poller = self._buses.of_meter(meter)
                return await self._on_meter(poller, command) if poller else self._on_nobody(meter, command)

    async def _on_meter(self, poller: Poller, command: ReadNow | ChangeMeter | Forget | SetInterval) -> Outcome:
        match command:
            case ReadNow(meter, False) if not self._reads.admits(meter, time.monotonic()):
                return Outcome(error=f"{meter}: {TOO_OFTEN}")
            case ReadNow(meter, is_forced):
                return await poller.read(meter, is_forced=is_forced)
            case Forget(meter):
                return poller.forget(meter)
            case SetInterval(interval, meter):
                return poller.set_interval(interval, meter)
            case ChangeMeter():
                return await self._change(poller, command)

    async def _change(self, poller: Poller, command: ChangeMeter) -> Outcome:
        if not self._allows_writes:
            return Outcome(error=f"{command.what} is refused: mqtt.allow_writes is off")
        if not self._writes.admits(command.meter, time.monotonic()):
            return Outcome(error=f"{command.meter}: it was written to too often; {_pace(READS)}")
        return await poller.change(command)

    async def _on_bus(self, command: ReadAll | Scan, bus: str | None) -> Outcome:
        wanted = [poller for poller in self._buses.pollers if bus in (poller.name, None)]
        if not wanted:
            return self._no_bus(bus or "")
        now = time.monotonic()
        if isinstance(command, ReadAll):
            for poller in wanted:
                if not self._rounds.admits(poller.name, now):
                    return Outcome(error=f"{poller.name}: {TOO_OFTEN}")
            return _joined(await asyncio.gather(*(poller.read_all() for poller in wanted)))
        if command.is_cancel:
            return _searched(wanted, [poller.cancel_scan() for poller in wanted])
        for poller in wanted:
            if not self._scans.admits(poller.name, now):
                return Outcome(error=f"{poller.name}: it was searched too often; {_pace(SCANS)}")
        return _searched(wanted, await asyncio.gather(*(poller.scan(command.mode) for poller in wanted)))

    def _set_intervals(self, interval: str, bus: str) -> Outcome:
        poller = self._buses.named(bus)
        return self._no_bus(bus) if poller is None else poller.set_interval(interval)

    def _on_nobody(self, meter: str, command: Command) -> Outcome:
        if isinstance(command, Forget) and self._forget_left(meter):
            return Outcome(data={"meter": meter, "forgotten": "it was there in an earlier run"})
        return Outcome(error=unknown("meter", meter, self._buses.meters))

    def _no_bus(self, name: str) -> Outcome:
        return Outcome(error=unknown("bus", name, self._buses.names))


def set_log_level(level: str) -> Outcome:
    """Tell more or less from now on."""
    word = level.strip().lower()
    if word not in LOG_LEVELS:
        return Outcome(error=unknown("log level", level, LOG_LEVELS))
    logging.getLogger().setLevel(word.upper())
    return Outcome(data={"level": word, "until": "restart or reload; the file is yours"})


def _joined(outcomes: list[Outcome]) -> Outcome:
    failed = {name: why for outcome in outcomes for name, why in outcome.failed.items()}
    return Outcome(readings=tuple(reading for outcome in outcomes for reading in outcome.readings), failed=failed)


def _searched(pollers: list[Poller], outcomes: list[Outcome]) -> Outcome:
    """Of one bus as it is; of several, what was found on all of them, and an error only if none could be searched."""
    if len(outcomes) == 1:
        return outcomes[0]
    told = list(zip(pollers, outcomes, strict=True))
    errors = [f"{poller.name}: {outcome.error}" for poller, outcome in told if outcome.error]
    found = tuple(meter for one in outcomes for meter in one.found or ())
    remarks = (*(f"{poller.name}: {remark}" for poller, one in told for remark in one.remarks), *errors)
    error = "; ".join(errors) if len(errors) == len(outcomes) else None
    return Outcome(error, found=found if any(one.found is not None for one in outcomes) else None, remarks=remarks)
