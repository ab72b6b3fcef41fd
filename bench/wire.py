"""How well the wire is used, and whether the standard is kept on it: python -m bench.wire [--seconds N] [CASE …].

A poller reads simulated meters back to back, at the pace of the real wire. A judge between them looks at each request:
never inside an answer, not before the silence that EN 13757-2 asks for, at most three times the same; and at each
reading: each value carries the number of its read-out, so an old or a mixed one shows.
"""

import argparse
import asyncio
import tempfile
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from mbusd.configuration.settings import BusSettings
from mbusd.mbus.frames import Frame, FrameReader, Noise, encode
from mbusd.model import Event, Reading, ReadingTaken
from mbusd.poller import Poller
from mbusd.simulation.simulator import Answer, Behaviour, Fault, Moment, SimulatedBus, SimulatedMeter, identity
from mbusd.simulation.virtual_bus import opened

DELAY = 0.0346  # seconds until a meter answers
HEADER_AND_FRAME = 21  # bytes of a telegram that are no records
SELECTION, SHORT, ACK = 17, 5, 1  # bytes
TRIES = 3
PATIENCE = 180.0  # seconds until all were read once
CLOCK_ERROR = 1e-4  # seconds
SPOILT = (Fault.DROP, Fault.GARBLE, Fault.CUT, Fault.LATE, Fault.NOISE_BEFORE, Fault.NOISE_AFTER)
MOST_ANSWERS = 10_000  # of one meter in one case


@dataclass(frozen=True, slots=True)
class Case:
    """What hangs on the bus. `faults`: the share of answers that are spoilt."""

    meters: int
    telegrams: int = 1
    size: int = 150  # bytes of a telegram on the wire
    baudrate: int = 2400
    secondary: bool = False
    tcp: bool = False
    faults: float = 0.0
    mixed: bool = False  # telegrams of many sizes

    def size_of(self, number: int) -> int:
        """Bytes of a telegram of this meter on the wire."""
        return 50 + 37 * number % 201 if self.mixed else self.size

    @property
    def character(self) -> float:
        return 11 / self.baudrate

    @property
    def least(self) -> float:
        """Seconds of the wire that one read-out needs: its frames, the meter's own pause, 11 bits before the next."""
        exchanges = [(SHORT, self.size)] * self.telegrams + [(SELECTION, ACK)] * self.secondary
        return sum((asked + answered + 1) * self.character + DELAY for asked, answered in exchanges)


CASES = {
    "primary": Case(20),
    "secondary": Case(8, secondary=True, tcp=True),
    "60 mixed": Case(60, secondary=True, mixed=True),
    "9600 Bd": Case(20, baudrate=9600, tcp=True),
    "5 telegrams": Case(3, telegrams=5),
    "bad wire": Case(8, size=60, faults=0.15),
    "bad wire, 3 telegrams": Case(4, telegrams=3, size=60, faults=0.15, secondary=True, tcp=True),
}


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what became of it, in seconds of the wire's clock."""

    request: bytes
    start: float
    end: float
    answer: bytes
    heard_until: float
    is_good: bool
    is_late: bool
    is_answer: bool = False  # there is a whole frame in it, whatever else there is


class JudgedBus(SimulatedBus):
    """The simulated bus with a judge who sees when each request and each answer is on the wire."""

    def __init__(self, meters: list[SimulatedMeter], baudrate: int) -> None:
        super().__init__(meters)
        self.exchanges: list[Exchange] = []
        self.violations = Counter[str]()
        self.idle: list[float] = []  # after good answers
        self._bit = 1 / baudrate
        self._window = 0.05 + 330 * self._bit
        self._repeated = 0

    def answers(self, request: Frame, seconds: float) -> list[Answer]:
        answers = super().answers(request, seconds)
        data = encode(request)
        start = seconds - 11 * len(data) * self._bit
        if self.exchanges:
            self._judge(self.exchanges[-1], data, start)
        self.exchanges.append(self._exchange(data, start, seconds, answers))
        return answers

    def _exchange(self, request: bytes, start: float, end: float, answers: list[Answer]) -> Exchange:
        if not answers:
            return Exchange(request, start, end, b"", end, is_good=False, is_late=False)
        answer = answers[0]
        begins = end + 11 * self._bit + answer.delay
        until = begins + 11 * len(answer.data) * self._bit
        is_late = begins - end > self._window
        events = _events(answer.data)
        is_good = bool(events) and not isinstance(events[-1], Noise)  # noise before a frame does not spoil it
        is_answer = any(not isinstance(event, Noise) for event in events)
        return Exchange(request, start, end, answer.data, until, is_good, is_late, is_answer)

    def _judge(self, before: Exchange, request: bytes, start: float) -> None:
        idle = start - before.heard_until
        if before.is_good and not before.is_late:
            self.idle.append(idle)
            self._blame("idle < 11 bits", when=idle < 11 * self._bit - CLOCK_ERROR)
        elif before.answer and not before.is_late:
            self._blame("idle < 33 bits", when=idle < 33 * self._bit - CLOCK_ERROR)
        else:
            self._blame("window cut short", when=start - before.end < self._window - CLOCK_ERROR)
        self._repeated = self._repeated + 1 if request == before.request and not before.is_answer else 1
        self._blame("too many repetitions", when=self._repeated > TRIES)

    def _blame(self, what: str, *, when: bool) -> None:
        self.violations[what] += when


def _events(answer: bytes) -> list[Frame | Noise]:
    reader = FrameReader()
    return [*reader.feed(answer), *reader.flush()]


class CountingMeter:
    """A simulated meter whose values are its own number and that of the read-out, in each telegram."""

    def __init__(self, number: int, case: Case, chance: Random) -> None:
        self.number = number
        self.read_outs = 0
        self._case = case
        kinds = [chance.choice(SPOILT) if chance.random() < case.faults else Fault.NONE for _ in range(MOST_ANSWERS)]
        self.slave = SimulatedMeter(
            identity(f"{10_000_000 + 7919 * number:08}", "KAM", 8, 4),
            self._pages,
            None if case.secondary else number,
            delay=DELAY - 11 / case.baudrate,
            behaviour=Behaviour(late_by=0.3, fcb="shared" if number % 2 else "separate"),
            faults=deque(kinds),
            seed=number,
        )

    def _pages(self, _moment: Moment) -> list[bytes]:
        self.read_outs += 1
        return [self._page(index) for index in range(self._case.telegrams)]

    def _page(self, index: int) -> bytes:
        more = index < self._case.telegrams - 1
        room = self._case.size_of(self.number) - HEADER_AND_FRAME - more
        value = (1000 * self.read_outs + self.number).to_bytes(4, "little")
        energies = b"".join(
            bytes([0x84 | (storage & 1) << 6, storage >> 1, 0x06]) + value
            for storage in range(2 + 4 * index, 2 + 4 * index + min(4, room // 7))
        )
        return energies + b"\x2f" * (room - len(energies))


@dataclass(slots=True)
class Judge:
    """Looks at the readings."""

    case: Case
    names: dict[str, CountingMeter]
    readings: int = 0
    wrong: int = 0
    stale: int = 0
    last: dict[str, int] = field(default_factory=dict)
    is_warm: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, event: Event) -> None:
        if isinstance(event, ReadingTaken):
            self._look_at(event.reading)

    def _look_at(self, reading: Reading) -> None:
        self.readings += 1
        meter = self.names[reading.meter]
        values = [item.value for item in reading.measurements if item.key.startswith("energy")]
        read_out, number = divmod(int(str(values[0] or 0)), 1000) if values else (0, 0)
        expected = self.case.telegrams * min(4, (self.case.size - HEADER_AND_FRAME - 1) // 7)
        if len(values) != expected or len(set(values)) > 1 or number != meter.number:
            self.wrong += 1
        elif read_out <= self.last.get(reading.meter, 0):
            self.stale += 1
        self.last[reading.meter] = max(read_out, self.last.get(reading.meter, 0))
        if len(self.last) == len(self.names):
            self.is_warm.set()


@asynccontextmanager
async def served(case: Case, bus: JudgedBus) -> AsyncIterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "bus"
        tcp = ("127.0.0.1", 0) if case.tcp else None
        async with opened(bus, tcp=tcp, link=None if case.tcp else link, baudrate=case.baudrate) as there:
            yield str(link) if there.tcp is None else f"tcp://127.0.0.1:{there.tcp[1]}"


async def measured(name: str, case: Case, seconds: float) -> str:
    """One row of the table: the meters are all read once, then for so many seconds under the eyes of the judge."""
    chance = Random(name)  # noqa: S311 - spoils answers, keeps no secret
    meters = {f"m{number}": CountingMeter(number, case, chance) for number in range(1, case.meters + 1)}
    bus = JudgedBus([meter.slave for meter in meters.values()], case.baudrate)
    judge = Judge(case, meters)
    async with served(case, bus) as port:
        listed = [
            {"name": name, "address": meter.slave.secondary.digits if case.secondary else meter.number}
            for name, meter in meters.items()
        ]
        settings = BusSettings.model_validate(
            {"name": "bench", "port": port, "baudrate": case.baudrate, "interval": 1, "meters": listed}
        )
        task = asyncio.create_task(Poller.of(settings, judge.take).run())
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await judge.is_warm.wait()
        first, before = len(bus.exchanges), judge.readings
        await asyncio.sleep(seconds)
        row = _row(name, case, bus, judge, (first, before))
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    return row


def _row(name: str, case: Case, bus: JudgedBus, judge: Judge, since: tuple[int, int]) -> str:
    first, before = since
    exchanges, readings = bus.exchanges[first:], judge.readings - before
    whole = exchanges if case.faults else exchanges[: readings * (case.telegrams + case.secondary)]
    used = whole[-1].heard_until + case.character - whole[0].start
    clean = sum((len(one.request) + len(one.answer) + 1) * case.character + DELAY for one in whole)
    share = f"{(readings * case.least if case.faults else clean) / used:.3f}"
    violations = bus.violations + Counter({"inside an answer": bus.early_requests})
    faults = ", ".join(f"{number} x {what}" for what, number in (+violations).items()) or "0"
    frames = f"{len(whole) / max(readings, 1):.2f}"
    idle = f"{1000 * min(bus.idle):.1f} ({11000 / case.baudrate:.1f})"
    cells = [name, readings, frames, share, idle, faults, judge.wrong, judge.stale]
    return "| " + " | ".join(map(str, cells)) + " |"


async def main(names: list[str], seconds: float) -> None:
    print(
        "| case | readings | frames a reading | least ÷ used | shortest idle, ms (asked) | violations | wrong | stale |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for name in names:
        print(await measured(name, CASES[name], seconds), flush=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("cases", nargs="*", metavar="CASE", help=f"of: {', '.join(CASES)}; default: all")
    arguments.add_argument("--seconds", type=float, default=8.0, help="of each case, after all were read once")
    given = arguments.parse_args()
    if unknown := set(given.cases) - set(CASES):
        arguments.error(f"no such case: {', '.join(sorted(unknown))}")
    if given.seconds < 1:
        arguments.error("--seconds: at least 1")
    asyncio.run(main(given.cases or list(CASES), given.seconds))
