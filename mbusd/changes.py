"""Carries out what a request over MQTT wants changed in a meter: the procedures of mbus/ on a running bus."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import tzinfo

from mbusd.configuration.settings import MeterSettings
from mbusd.line.bus import Bus, Run
from mbusd.mbus.address import Address, PrimaryAddress, SecondaryAddress
from mbusd.mbus.clocks import set_clock
from mbusd.mbus.link import Conversation, in_manner
from mbusd.mbus.quirks import Manner
from mbusd.mbus.rates import BETWEEN_LOOKS, set_baudrate
from mbusd.mbus.sighting import alone
from mbusd.mbus.writing import application_reset, set_address, set_identification
from mbusd.mbus.written import Written
from mbusd.model import ChangeMeter
from mbusd.writes import Pause, T, clock_type, follow, local_clock, moment, number, secondary, subcode


async def carry_out(
    change: ChangeMeter,
    address: Address,
    baudrate: int,
    bus: Bus,
    *,
    zone: tzinfo | None = None,
    manner: Manner | None = None,
    pause: Pause = asyncio.sleep,
) -> Written:
    """Write, verify, and say what came of it. `zone` is that of the meter's clock, None: this computer's.

    Raises ValueError for a bad value, MBusError, TransportError.
    """
    manner = manner or Manner()
    if change.what != "set_baudrate":
        write = in_manner(_conversation(change, address, zone), manner)
        return await bus.run(alone(write, bus.recent))
    plan = set_baudrate(address, baudrate, number(_given(change)))
    turn = _Turn(bus, manner, pause)
    try:
        return await follow(plan, turn.tune, turn.pause)
    finally:
        await turn.end()


def moved(settings: MeterSettings, change: ChangeMeter, written: Written) -> MeterSettings:
    """How the meter is reached after a write that went well; the same where that is as before."""
    if not written.has_changed:
        return settings
    address = settings.address
    match change.what, address:
        case "set_address", PrimaryAddress():
            return settings.model_copy(update={"address": PrimaryAddress(number(_given(change)))})
        case "set_identification", SecondaryAddress() if written.meter is not None:
            return settings.model_copy(update={"address": _as_exact_as(address, written.meter)})
        case "set_baudrate", _:
            return settings.model_copy(update={"baudrate": number(_given(change))})
    return settings


def _as_exact_as(before: SecondaryAddress, now: SecondaryAddress) -> SecondaryAddress:
    """The new address, with wildcards where the one before had some, and its fabrication number, which stays."""
    kept = (now.digits[at : at + 2] if before.digits[at : at + 2] != "FF" else "FF" for at in range(8, 16, 2))
    return SecondaryAddress(now.identification + "".join(kept), before.fabrication)


def to_be_written(before: MeterSettings, now: MeterSettings) -> tuple[str, ...]:
    """What the owner has to change in the file, as remarks; a meter that was found by a scan may not stand there."""
    where = f"meter {before.name}" if before.name else f"the meter with address {before.address}, if it stands there"
    lines = []
    if now.address != before.address:
        address = str(now.address) if isinstance(now.address, PrimaryAddress) else f'"{now.address}"'
        lines.append(f"address: {address}")
    if now.baudrate != before.baudrate:
        lines.append(f"baudrate: {now.baudrate}")
    return tuple(
        f"it is read there until mbusd stops; change the configuration, {where}, to `{line}`" for line in lines
    )


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
