"""read: one complete read-out of one meter, all its telegrams merged."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

from mbusd import exact_json
from mbusd.commands.output import complain, say
from mbusd.commands.tables import PlainConsole, reading_table
from mbusd.document import merged
from mbusd.exact_json import JsonValue
from mbusd.line.bus import Bus
from mbusd.line.ear import Ear
from mbusd.line.transport import Port
from mbusd.mbus.address import Address, SecondaryAddress
from mbusd.mbus.diagnosis import diagnose
from mbusd.mbus.errors import MBusError, NoAnswer
from mbusd.mbus.master import ReadOut, read_out
from mbusd.mbus.sighting import alone, only
from mbusd.mbus.verdict import Observations
from mbusd.normalise import reading


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be read, and how patiently."""

    port: str
    address: Address
    baudrate: int
    timeout: float | None  # seconds
    retries: int


async def run(question: Question, *, as_json: bool) -> int:
    """Read and print; 1 where the meter gave nothing. Raises TransportError."""
    ear = Ear()
    bus = Bus(Port(question.port, question.baudrate), question.timeout, ear.open)
    await bus.open()
    try:
        result = await _read(bus, question)
    except MBusError as error:
        complain(f"mbusd: {question.port}: address {question.address} at {question.baudrate} Bd: {error}")
        if isinstance(error, NoAnswer):
            idle = bus.idle_noise + await ear.idle_noise(bus)
            verdict = diagnose(Observations(tuple(bus.recent), idle, expected=1, sets_rate=bus.port.sets_rate))
            if verdict is not None:
                complain(f"       {verdict}")
        return 1
    finally:
        bus.close()
        await asyncio.sleep(0)  # the transport closes its port in its own next turn
    _show(question, result, as_json=as_json)
    return 0


async def _read(bus: Bus, question: Question) -> ReadOut:
    """All telegrams; of a mask with wildcards, if it means one meter only, those of this one."""
    address, attempts = question.address, question.retries + 1
    if isinstance(address, SecondaryAddress) and not address.is_exact:
        address = await bus.run(alone(only(address, attempts), bus.recent))
    return await bus.run(read_out(address, attempts=attempts))


def _show(question: Question, result: ReadOut, *, as_json: bool) -> None:
    taken = reading(str(question.address), result.telegrams, datetime.now(UTC))
    if as_json:
        document: dict[str, JsonValue] = {
            **merged(result.telegrams),
            "address": str(question.address),
            "secondary_address": taken.identity.address,
            "time": taken.taken_at.replace(microsecond=0),
            "status": list(taken.status),
            "values": {item.key: item.value for item in taken.measurements},
            "units": {item.key: item.unit for item in taken.measurements},
            "problems": [*taken.problems, *result.problems],
            "telegrams": [telegram.hex().upper() for telegram in taken.telegrams],
        }
        say(exact_json.dumps(document))
        return
    console = PlainConsole()
    console.print(reading_table(taken))
    for problem in (*taken.problems, *result.problems):
        console.print(f"remark: {problem}")
