"""read: one complete read-out of one meter, all its telegrams merged."""

import asyncio
import sys
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console

from mbusd import exact_json
from mbusd.bus import Bus
from mbusd.commands.tables import reading_table
from mbusd.document import merged
from mbusd.exact_json import JsonValue
from mbusd.mbus.address import Address
from mbusd.mbus.diagnosis import Observations, diagnose
from mbusd.mbus.errors import MBusError, NoAnswer
from mbusd.mbus.master import ReadOut, read_out
from mbusd.normalise import reading
from mbusd.transport import Port


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
    bus = Bus(Port(question.port, question.baudrate), question.timeout)
    try:
        result = await _read(bus, question)
    except MBusError as error:
        print(f"mbusd: {question.port}: address {question.address} at {question.baudrate} Bd: {error}", file=sys.stderr)
        verdict = diagnose(Observations(tuple(bus.recent), bus.idle_noise, expected=1))
        if isinstance(error, NoAnswer) and verdict is not None:
            print(f"       {verdict}", file=sys.stderr)
        return 1
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
        print(exact_json.dumps(document))
        return 0
    console = Console(highlight=False)
    console.print(reading_table(taken))
    for problem in (*taken.problems, *result.problems):
        console.print(f"remark: {problem}", markup=False)
    return 0


async def _read(bus: Bus, question: Question) -> ReadOut:
    await bus.open()
    try:
        return await bus.run(read_out(question.address, attempts=question.retries + 1))
    finally:
        bus.close()
        await asyncio.sleep(0)  # the transport closes its port in its own next turn
