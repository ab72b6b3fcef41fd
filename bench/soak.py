"""Weeks of the whole daemon in minutes, with all that goes wrong in them: python -m bench.soak [--read-outs N].

Three buses of eight meters in simulated time, and what is left of it: memory, tasks, file descriptors. Meanwhile
answers are lost, cut, garbled, late or noisy, meters are silent for hours or exchanged, ports and the broker go away
and come back, people ask and search.
"""

import argparse
import asyncio
import gc
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from unittest import mock

from bench.simulated_time import Cellar, MemoryBroker, broker_in_memory, ports_in_memory, simulated_time
from mbusd import app
from mbusd.app import Daemon
from mbusd.configuration.settings import Settings
from mbusd.memory import Memory
from mbusd.scanning import scanner
from mbusd.simulation.faults import Fault, spoilt
from mbusd.simulation.simulator import Moment, SimulatedBus, SimulatedMeter, identity

BEGAN = 1_795_000_000.0  # November 2026
BAUDRATE = 9600
BUSES, METERS = 3, 8
INTERVAL = 15  # seconds
STATISTICS = "/statistics"
LOADED = scanner.__name__  # with the first search as a rule: here before, or it would look like growth
SPOILT = (Fault.DROP, Fault.GARBLE, Fault.CUT, Fault.NOISE_BEFORE, Fault.NOISE_AFTER)
SPOILT_SHARE, LATE_SHARE = 0.02, 0.002
LATE_SECONDS = 1.5
LIST_SECONDS = 30.0  # between two lists of all meters, not 5: writing them would be half of the work
PACE = 120.0  # seconds between two things that happen
QUESTIONS = (
    ("read", '{{"meter": "m{bus}_{meter}"}}'),
    ("read", '{{"meter": "nobody"}}'),
    ("read", "[[["),
    ("read_all", '{{"bus": "b{bus}"}}'),
    ("interval", '{{"meter": "m{bus}_{meter}", "interval": "20s"}}'),
    ("decode", '{{"hex": "E5"}}'),
    ("reload", ""),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """What the process holds after so many read-outs."""

    read_outs: int
    resident: int  # bytes
    blocks: int  # of Python's allocator
    tasks: int
    descriptors: int
    retained: int  # topics at the broker


@dataclass
class Tally:
    """What the daemon itself says that it has done; `failed` read-outs count as such, too."""

    done: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)

    def published(self, topic: str, payload: str) -> None:
        if topic.endswith(STATISTICS) and payload:
            document = json.loads(payload)
            self.done[topic] = int(document["read_outs"])
            self.failed[topic] = int(document["failures"])

    @property
    def read_outs(self) -> int:
        return sum(self.done.values()) + sum(self.failed.values())


class Trouble:
    """Everything that goes wrong, by dice."""

    def __init__(self, cellars: dict[str, Cellar], broker: MemoryBroker, dice: Random) -> None:
        self._cellars = cellars
        self._broker = broker
        self._dice = dice
        self._exchanged = 0
        self.happened: dict[str, int] = {}
        for cellar in cellars.values():
            cellar.spoils = self._spoils

    async def happens(self) -> None:
        """Something, every few minutes, for ever."""
        kinds: list[tuple[float, Callable[[], None]]] = [
            (30, self._silence),
            (5, self._exchange),
            (10, self._unplug),
            (5, self._kill_broker),
            (45, self._ask),
            (0.2, self._search),
        ]
        weights = [weight for weight, _ in kinds]
        while True:
            await asyncio.sleep(self._dice.expovariate(1 / PACE))
            ((_, kind),) = self._dice.choices(kinds, weights)
            name = kind.__name__.strip("_").replace("_", " ")
            self.happened[name] = self.happened.get(name, 0) + 1
            kind()

    def _spoils(self, data: bytes) -> tuple[bytes, float]:
        chance = self._dice.random()
        if chance < LATE_SHARE:
            return data, LATE_SECONDS
        if chance < LATE_SHARE + SPOILT_SHARE:
            return spoilt(data, self._dice.choice(SPOILT), self._dice) or b"", 0.0
        return data, 0.0

    def _later(self, least: float, most: float, what: Callable[[], object]) -> None:
        asyncio.get_running_loop().call_later(self._dice.uniform(least, most), what)

    def _meter(self) -> SimulatedMeter:
        return self._dice.choice(self._dice.choice(list(self._cellars.values())).bus.meters)

    def _silence(self) -> None:
        meter = self._meter()
        meter.behaviour.deaf = True
        self._later(60, 7200, lambda: setattr(meter.behaviour, "deaf", False))

    def _exchange(self) -> None:
        """A new meter in the place of an old one."""
        self._exchanged += 1
        self._meter().secondary = identity(f"{50_000_000 + self._exchanged:08}", "SON", 1, 4)

    def _unplug(self) -> None:
        cellar = self._dice.choice(list(self._cellars.values()))
        cellar.unplug()
        self._later(1, 600, lambda: setattr(cellar, "is_away", False))

    def _kill_broker(self) -> None:
        self._broker.kill()
        self._later(1, 3600, lambda: setattr(self._broker, "is_away", False))

    def _ask(self) -> None:
        request, payload = self._dice.choice(QUESTIONS)
        text = payload.format(bus=self._dice.randrange(BUSES), meter=self._dice.randrange(METERS))
        self._broker.say(f"mbusd/bridge/request/{request}", text)

    def _search(self) -> None:
        self._broker.say("mbusd/bridge/request/scan", f'{{"bus": "b{self._dice.randrange(BUSES)}"}}')


def meter(bus: int, number: int) -> SimulatedMeter:
    """A heat meter whose counter follows the time."""

    def records(moment: Moment) -> list[bytes]:
        energy = int(moment.seconds / 3600)
        return [b"\x04\x06" + energy.to_bytes(4, "little") + bytes.fromhex("04 14 10 01 00 00 02 59 34 08")]

    return SimulatedMeter(identity(f"{bus:02}{number:06}", "SON", 1, 4), records, primary=number + 1)


def settings() -> Settings:
    """Three buses; one meter in five has a budget of read-outs a day, one in five a cron line."""
    buses = [
        {
            "name": f"b{bus}",
            "port": f"memory://b{bus}:1",
            "baudrate": BAUDRATE,
            "interval": f"{INTERVAL}s",
            "meters": [{"name": f"m{bus}_{number}", "address": number + 1} | _own(number) for number in range(METERS)],
        }
        for bus in range(BUSES)
    ]
    return Settings.model_validate({"mqtt": {"host": "memory"}, "buses": buses})


def _own(number: int) -> dict[str, object]:
    match number % 5:
        case 1:
            return {"max_reads_per_day": 5760}
        case 2:
            return {"interval": "* * * * *"}
        case 3:
            return {"active": {"when": "energy > 0", "interval": "10s"}}
    return {}


def _sample(read_outs: int, broker: MemoryBroker) -> Sample:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return Sample(
        read_outs,
        pages * os.sysconf("SC_PAGE_SIZE"),
        sys.getallocatedblocks(),
        len(asyncio.all_tasks()),
        _descriptors(),
        len(broker.retained),
    )


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only how many


def slope(samples: list[Sample], of: Callable[[Sample], float]) -> float:
    """Least squares, per 1000 read-outs."""
    count = len(samples)
    middle = sum(one.read_outs for one in samples) / count
    mean = sum(map(of, samples)) / count
    across = sum((one.read_outs - middle) * (of(one) - mean) for one in samples)
    return 1000 * across / (sum((one.read_outs - middle) ** 2 for one in samples) or 1.0)


@dataclass
class Soaked:
    """What came of it. `left`: tasks and file descriptors that the daemon has left behind."""

    samples: list[Sample]
    tally: Tally
    happened: dict[str, int]
    messages: int
    warnings: int
    days: float
    seconds: float
    left_tasks: int = 0
    left_descriptors: int = 0

    @property
    def warm(self) -> list[Sample]:
        """Without the first third: what there is to be known is known then."""
        return self.samples[len(self.samples) // 3 :]


async def soak(read_outs: int, samples: int, folder: Path, dice: Random, told: Callable[[Sample], None]) -> Soaked:
    """Run the daemon until it has made so many read-outs, look at it as often, and end it."""
    tally, started, began = Tally(), time.perf_counter(), asyncio.get_running_loop().time()
    cellars = {
        f"b{bus}": Cellar(SimulatedBus([meter(bus, number) for number in range(METERS)]), BAUDRATE)
        for bus in range(BUSES)
    }
    broker = MemoryBroker(tally.published)
    trouble = Trouble(cellars, broker, dice)
    before = _descriptors()
    seen: list[Sample] = []
    due = read_outs / samples
    with ports_in_memory(cellars), broker_in_memory(broker), _counted_log() as log:
        daemon = Daemon(settings(), memory=Memory.load(folder), read_again=settings)
        tasks = [asyncio.create_task(daemon.run()), asyncio.create_task(trouble.happens())]
        while tally.read_outs < read_outs:
            await asyncio.sleep(60)
            for task in tasks:
                if task.done():
                    task.result()
            if tally.read_outs >= due:
                due = tally.read_outs + read_outs / samples
                seen.append(_sample(tally.read_outs, broker))
                told(seen[-1])
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    del daemon, tasks
    gc.collect()
    days = (asyncio.get_running_loop().time() - began) / 86400
    seconds = time.perf_counter() - started
    return Soaked(
        seen, tally, trouble.happened, broker.count, log.count, days, seconds, len(left), _descriptors() - before
    )


class _Count(logging.Handler):
    """Makes lines of what is logged, as journald would have it, and throws them away."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.format(record)
        self.count += record.levelno >= logging.WARNING


@contextmanager
def _counted_log() -> Iterator[_Count]:
    root, count = logging.getLogger(), _Count()
    before = root.handlers[:], root.level
    root.handlers[:] = [count]
    root.setLevel(logging.INFO)
    try:
        yield count
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])


def soaked(read_outs: int, samples: int, seed: int, told: Callable[[Sample], None] = lambda _: None) -> Soaked:
    """The whole of it, in a loop and a folder of its own."""
    memory = Path("/dev/shm")  # noqa: S108 - no disk is worn by it
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None))
        _, loop = stack.enter_context(simulated_time(BEGAN))
        dice = Random(seed)  # noqa: S311 - no secret
        stack.enter_context(mock.patch.object(app, "METERS_SECONDS", LIST_SECONDS))
        return loop.run_until_complete(soak(read_outs, samples, Path(folder), dice, told))


def _tell(one: Sample) -> None:
    numbers = f"{one.blocks} | {one.tasks} | {one.descriptors} | {one.retained}"
    print(f"| {one.read_outs} | {one.resident / 1e6:.2f} | {numbers} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--read-outs", type=int, default=1_000_000)
    parser.add_argument("--samples", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print("| read-outs | resident, MB | blocks | tasks | descriptors | retained topics |\n|--:|--:|--:|--:|--:|--:|")
    came = soaked(given.read_outs, given.samples, given.seed, _tell)
    print(
        f"\n{came.tally.read_outs} read-outs ({sum(came.tally.failed.values())} failed) in {came.days:.1f} simulated"
        f" days, {came.messages} messages, {came.warnings} warnings; {came.seconds:.0f} s"
    )
    print("happened:", ", ".join(f"{what} {count}" for what, count in sorted(came.happened.items())))
    print(
        f"slope per 1000 read-outs: {slope(came.warm, lambda one: one.resident):+.0f} bytes resident,"
        f" {slope(came.warm, lambda one: one.blocks):+.2f} blocks"
    )
    print(f"left behind: {came.left_tasks} tasks, {came.left_descriptors} file descriptors")


if __name__ == "__main__":
    main()
