"""What people ask of the daemon, carried out; every failure is an outcome, in words."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
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

LOG_LEVELS: tuple[str, ...] = get_args(LogLevel)


class Orders:
    """Commands in, outcomes out; `reload` reads the configuration again."""

    def __init__(self, buses: Buses, reload: Callable[[], Awaitable[Outcome]], *, allows_writes: bool) -> None:
        self._buses = buses
        self._reload = reload
        self._allows_writes = allows_writes

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
                meter = command.meter or ""
                poller = self._buses.of_meter(meter)
                return await self._on_meter(poller, command) if poller else self._no_meter(meter)

    async def _on_meter(self, poller: Poller, command: ReadNow | ChangeMeter | Forget | SetInterval) -> Outcome:
        match command:
            case ReadNow(meter, is_forced):
                return await poller.read(meter, is_forced=is_forced)
            case Forget(meter):
                return poller.forget(meter)
            case SetInterval(interval, meter):
                return poller.set_interval(interval, meter)
            case ChangeMeter() if not self._allows_writes:
                return Outcome(error=f"{command.what} is refused: mqtt.allow_writes is off")
            case ChangeMeter():
                return await poller.change(command)

    async def _on_bus(self, command: ReadAll | Scan, bus: str | None) -> Outcome:
        wanted = [poller for poller in self._buses.pollers if bus in (poller.name, None)]
        if not wanted:
            return self._no_bus(bus or "")
        if isinstance(command, ReadAll):
            return _joined(await asyncio.gather(*(poller.read_all() for poller in wanted)))
        if len(wanted) > 1:
            return Outcome(error=f'which bus? {{"bus": name}}, one of {", ".join(self._buses.names)}')
        return wanted[0].cancel_scan() if command.is_cancel else await wanted[0].scan(command.mode)

    def _set_intervals(self, interval: str, bus: str) -> Outcome:
        poller = self._buses.named(bus)
        return self._no_bus(bus) if poller is None else poller.set_interval(interval)

    def _no_meter(self, name: str) -> Outcome:
        return Outcome(error=unknown("meter", name, self._buses.meters))

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
