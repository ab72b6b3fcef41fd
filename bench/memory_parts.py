"""What a meter takes in the daemon's memory, part by part: `python -m bench.growth memory`.

The whole daemon in simulated time (bench/simulated_time.py) with few meters and with many, each read twice; tracemalloc
says what the difference between the two is, and in which rooms of the program it was made. The broker passes on what is
announced, as brokers do, and keeps nothing.
"""

import asyncio
import gc
import logging
import tracemalloc
from collections.abc import Iterable

from bench.converters import RECORDS
from bench.simulated_time import Cellar, MemoryBroker, broker_in_memory, ports_in_memory, simulated_time
from mbusd.app import Daemon
from mbusd.configuration.settings import Settings
from mbusd.profiles import shelf_of
from mbusd.simulation.simulator import Moment, SimulatedBus, SimulatedMeter, identity
from mbusd.sinks.topics import Message

BEGAN = 1_795_000_000.0  # November 2026
FEW, MANY = 50, 250
INTERVAL = 3600  # seconds
READ = 2  # times
QUIET = 120.0  # seconds, in which lists and statistics are said
LANDING = 100  # turns of the loop: nothing is on its way to the broker any more
PARTS = {
    "what Home Assistant and the broker are told again": ("*/mbusd/sinks/*",),
    "what its counters have shown (plausibility)": (
        "*/plausibility.py",
        "*/counting.py",
        "*/register.py",
        "*/ledger.py",
    ),
    "the last reading": (
        "*/mbusd/mbus/*",
        "*/form.py",
        "*/slots.py",
        "*/normalise.py",
        "*/value_texts.py",
        "*/recognition.py",
        "*/model.py",
        "*/meaning.py",
        "*/measures.py",
    ),
}
"""By where it was allocated; the first that fits counts."""
REST = "address, schedule and all else of the meter itself"
NOT_OURS = ("*/bench/*", "*/simulat*", "*/virtual_meter.py", tracemalloc.__file__)


class ForgetfulBroker(MemoryBroker):
    """Passes on what is announced, and keeps nothing."""

    def take(self, message: Message) -> None:
        self.count += 1
        if message.topic.startswith("homeassistant/device/"):
            self.say(message.topic, message.payload.encode().decode())  # as a text of its own


def parts() -> dict[str, float]:
    """Bytes a meter by part, of meters that were read twice."""
    logging.disable(logging.CRITICAL)
    _after(1)  # what is built once is there then
    before, after = _after(FEW), _after(MANY)
    taken = {part: _held(after, patterns) - _held(before, patterns) for part, patterns in PARTS.items()}
    return {part: held / (MANY - FEW) for part, held in (taken | {REST: _rest(after) - _rest(before)}).items()}


def _after(meters: int) -> tracemalloc.Snapshot:
    """What the daemon holds of so many meters, with what was there before it."""
    with simulated_time(BEGAN) as (_, loop):
        return loop.run_until_complete(_life(meters))


async def _life(meters: int) -> tracemalloc.Snapshot:
    cellar = Cellar(SimulatedBus([_meter(number) for number in range(1, meters + 1)]), 9600)
    broker = ForgetfulBroker(lambda _topic, _payload: None)
    with ports_in_memory({"b": cellar}), broker_in_memory(broker):
        tracemalloc.start()
        daemon = Daemon(_settings(meters), shelf_of(None)[0])
        task = asyncio.create_task(daemon.run())
        await asyncio.sleep(READ * INTERVAL - QUIET)
        await asyncio.sleep(QUIET)
        for _ in range(LANDING):
            await asyncio.sleep(0)
        gc.collect()
        snapshot = tracemalloc.take_snapshot()
        tracemalloc.stop()
        if task.done():
            task.result()
        task.cancel()
        await asyncio.wait([task])
    return snapshot


def _held(snapshot: tracemalloc.Snapshot, patterns: Iterable[str]) -> int:
    kept = [tracemalloc.Filter(inclusive=True, filename_pattern=pattern) for pattern in patterns]
    return sum(one.size for one in snapshot.filter_traces(kept).statistics("filename"))


def _rest(snapshot: tracemalloc.Snapshot) -> int:
    others = [pattern for patterns in PARTS.values() for pattern in patterns]
    left = [tracemalloc.Filter(inclusive=False, filename_pattern=pattern) for pattern in (*others, *NOT_OURS)]
    return sum(one.size for one in snapshot.filter_traces(left).statistics("filename"))


def _meter(number: int) -> SimulatedMeter:
    """A heat meter with 20 values, some of which move."""

    def records(moment: Moment) -> list[bytes]:
        counter, flow = (int(value).to_bytes(4, "little").hex() for value in (moment.seconds / 3600, number % 7))
        return [bytes.fromhex(RECORDS.format(counter, flow, (1000).to_bytes(4, "little").hex()))]

    return SimulatedMeter(identity(f"{number:08}", "KAM", 8, 4), records, primary=number)


def _settings(meters: int) -> Settings:
    bus = {
        "name": "bus_1",
        "port": "memory://b:1",
        "baudrate": 9600,
        "interval": f"{INTERVAL}s",
        "meters": [{"name": f"meter_1_{number}", "address": number} for number in range(1, meters + 1)],
    }
    return Settings.model_validate({"mqtt": {"host": "memory"}, "log_level": "error", "buses": [bus]})
