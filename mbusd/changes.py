"""Carries out what a request over MQTT wants changed in a meter: the procedures of mbus/ on a running bus."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import tzinfo

from mbusd.bus import Bus, Run
from mbusd.exact_json import JsonValue
from mbusd.mbus.address import Address
from mbusd.mbus.clocks import set_clock
from mbusd.mbus.link import Conversation, in_manner
from mbusd.mbus.quirks import Manner
from mbusd.mbus.rates import BETWEEN_LOOKS, set_baudrate
from mbusd.mbus.sighting import alone
from mbusd.mbus.writing import application_reset, set_address, set_identification
from mbusd.mbus.written import Written
from mbusd.model import ChangeMeter
from mbusd.writes import Pause, T, clock_type, document, follow, local_clock, moment, number, secondary, subcode


async def carry_out(
    change: ChangeMeter,
    address: Address,
    baudrate: int,
    bus: Bus,
    *,
    zone: tzinfo | None = None,
    manner: Manner | None = None,
    pause: Pause = asyncio.sleep,
) -> JsonValue:
    """Write, verify, and say what came of it. `zone` is that of the meter's clock, None: this computer's.

    Raises ValueError for a bad value, MBusError, TransportError.
    """
    manner = manner or Manner()
    if change.what != "set_baudrate":
        write = in_manner(_conversation(change, address, zone), manner)
        return document(await bus.run(alone(write, bus.recent)))
    plan = set_baudrate(address, baudrate, number(_given(change)))
    turn = _Turn(bus, manner, pause)
    try:
        return document(await follow(plan, turn.tune, turn.pause))
    finally:
        await turn.end()


class _Turn:
    """The wire for the steps of a plan; while a meter is given minutes to come back, others are read."""

    def __init__(self, bus: Bus, manner: Manner, pause: Pause) -> None:
        self._bus = bus
        self._manner = manner
        self._pause = pause
        self._stack = AsyncExitStack()
        self._run: Run | None = None

    async def tune(self, rate: int) -> Run:
        """The same wire, each request at this rate; the port goes back with the next request to anybody else."""
        if self._run is None:
            self._run = await self._stack.enter_async_context(self._bus.reserve())
        run, recent = self._run, self._bus.recent
        manner = replace(self._manner, baudrate=rate)

        async def run_at_rate(conversation: Conversation[T]) -> T:
            return await run(alone(in_manner(conversation, manner), recent))

        return run_at_rate

    async def pause(self, seconds: float) -> None:
        if seconds >= BETWEEN_LOOKS:
            await self.end()
        await self._pause(seconds)

    async def end(self) -> None:
        self._run = None
        await self._stack.aclose()


def _conversation(change: ChangeMeter, address: Address, zone: tzinfo | None) -> Conversation[Written]:
    value = change.value
    match change.what:
        case "set_address":
            return set_address(address, number(_given(change)))
        case "set_identification":
            return set_identification(address, secondary(_given(change)))
        case "set_clock":
            given = None if value is None else moment(value)
            return set_clock(address, local_clock(given, zone), clock_type(given))
        case "reset":
            return application_reset(address, None if value is None else subcode(value))
        case "set_baudrate":
            raise AssertionError  # has its own way, above


def _given(change: ChangeMeter) -> str:
    if change.value is None:
        raise ValueError(f'{change.what} needs a value: {{"meter": "{change.meter}", "value": …}}')
    return change.value
