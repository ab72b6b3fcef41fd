"""Carries out what a request over MQTT wants changed in a meter: the procedures of mbus/writing.py on a running bus."""

from mbusd.bus import Bus, Run
from mbusd.exact_json import JsonValue
from mbusd.mbus.address import Address
from mbusd.mbus.link import Conversation, in_manner
from mbusd.mbus.quirks import Manner
from mbusd.mbus.writing import Written, application_reset, set_address, set_baudrate, set_clock, set_identification
from mbusd.model import ChangeMeter
from mbusd.writes import T, document, follow, local_clock, moment, secondary, subcode


async def carry_out(change: ChangeMeter, address: Address, baudrate: int, bus: Bus) -> JsonValue:
    """Write, verify, and say what came of it. Raises ValueError for a bad value, MBusError, TransportError."""
    if change.what != "set_baudrate":
        return document(await bus.run(_conversation(change, address)))
    plan = set_baudrate(address, baudrate, _number(change))
    async with bus.reserve() as run:

        async def tune(rate: int) -> Run:
            return _at_rate(run, rate)

        return document(await follow(plan, tune))


def _at_rate(run: Run, rate: int) -> Run:
    """The same wire, each request at this rate; the port goes back with the next request to anybody else."""

    async def run_at_rate(conversation: Conversation[T]) -> T:
        return await run(in_manner(conversation, Manner(baudrate=rate)))

    return run_at_rate


def _conversation(change: ChangeMeter, address: Address) -> Conversation[Written]:
    value = change.value
    match change.what:
        case "set_address":
            return set_address(address, _number(change))
        case "set_identification":
            return set_identification(address, secondary(_given(change)))
        case "set_clock":
            clock, summer_time = local_clock(None if value is None else moment(value), standard_time=False)
            return set_clock(address, clock, summer_time=summer_time)
        case "reset":
            return application_reset(address, None if value is None else subcode(value))
        case "set_baudrate":
            raise AssertionError  # has its own way, above


def _given(change: ChangeMeter) -> str:
    if change.value is None:
        raise ValueError(f'{change.what} needs a value: {{"meter": "{change.meter}", "value": …}}')
    return change.value


def _number(change: ChangeMeter) -> int:
    text = _given(change)
    if not text.isdecimal():
        raise ValueError(f"'{text}' is no number")
    return int(text)
