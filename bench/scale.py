"""One process with many buses and many meters: what a reading costs, how late the event loop is, who slows whom.

    python -m bench.scale                     # 1 x 1 to 64 x 250, about six minutes
    python -m bench.scale --seconds 60 1x1 64x250

Simulated TCP converters at 9600 Bd (bench/converters.py) in one process, mosquitto in another, and in a third the
daemon as it is, with Home Assistant discovery and one topic a value, reading back to back. The daemon's process
measures itself each second: processor time, memory, and by how much a timer that is due each 10 ms is late.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mbusd import config
from mbusd.app import Daemon
from mbusd.profiles import shelf_of
from tests.mosquitto import mosquitto

CASES = ("1x1", "1x10", "1x100", "1x250", "8x250", "64x250")
TICK = 0.01  # seconds
WARM_UP = 10.0  # seconds, at the least; and until every meter was read so often: the first ones are learnt from
READ_BEFORE = 3
PATIENCE = 600.0


@dataclass
class Child:
    """A process of ours that tells a line of JSON a second."""

    process: subprocess.Popen[str]
    lines: list[dict[str, object]] = field(default_factory=list)

    def listen(self) -> None:
        """Keep what it says."""
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None  # noqa: S101 - it was opened with a pipe
        for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def between(self, begin: float, end: float) -> list[dict[str, object]]:
        """What it said from `begin` to `end` of the monotonic clock."""
        return [line for line in self.lines if begin <= _number(line["at"]) <= end]


@dataclass(frozen=True)
class Row:
    """What was measured in one case."""

    buses: int
    meters: int
    readings: int
    seconds: float
    slowest: float  # readings a second of the slowest bus
    processor: float  # seconds
    late: list[float]  # seconds
    memory: int  # bytes, resident


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=30.0, help="of measuring, for each case")
    options.add_argument("--daemon", type=Path, help=argparse.SUPPRESS)
    options.add_argument("cases", nargs="*", default=CASES, metavar="BUSESxMETERS")
    chosen = options.parse_args()
    if chosen.daemon is not None:
        asyncio.run(_daemon(chosen.daemon))
        return
    print("| buses x meters | readings/s | of alone, slowest bus | CPU s per 1000 readings | loop late p99, ms | MB |")
    print("|--:|--:|--:|--:|--:|--:|")
    alone: float | None = None
    for case in chosen.cases:
        buses, meters = map(int, case.split("x"))
        row = measured(buses, meters, chosen.seconds)
        alone = row.slowest if alone is None else alone
        cost = 1000 * row.processor / max(1, row.readings)
        p99 = 1000 * statistics.quantiles(row.late, n=100)[98]
        print(
            f"| {row.buses} x {row.meters} | {row.readings / row.seconds:.1f} | {row.slowest / alone:.3f} | {cost:.2f} "
            f"| {p99:.1f} | {row.memory / 1e6:.1f} |",
            flush=True,
        )


def measured(buses: int, meters: int, seconds: float) -> Row:
    """One case: start everything, wait until each meter was read, measure."""
    with tempfile.TemporaryDirectory() as name, mosquitto(Path(name)) as broker:
        simulator = [sys.executable, "-m", "bench.converters", "--buses", str(buses), "--meters", str(meters)]
        with _child(simulator) as converters:
            assert converters.process.stdout is not None  # noqa: S101 - it was opened with a pipe
            ports: list[int] = json.loads(converters.process.stdout.readline())
            converters.listen()
            file = Path(name) / "config.yaml"
            file.write_text(_config(ports, meters, broker.port))
            with _child([sys.executable, "-m", "bench.scale", "--daemon", str(file)]) as daemon:
                daemon.listen()
                return _measured(converters, daemon, (buses, meters), seconds)


def _measured(converters: Child, daemon: Child, case: tuple[int, int], seconds: float) -> Row:
    began = time.monotonic()
    while time.monotonic() - began < WARM_UP or min(_answers(converters), default=0) < READ_BEFORE * case[1]:
        if daemon.process.poll() is not None or time.monotonic() - began > PATIENCE:
            raise SystemExit("the daemon does not read its meters")
        time.sleep(0.2)
    begin = time.monotonic()
    time.sleep(seconds + 1)
    said, counted = daemon.between(begin, begin + seconds), converters.between(begin, begin + seconds)
    first, last = _list(counted[0]["answers"]), _list(counted[-1]["answers"])
    span = _number(counted[-1]["at"]) - _number(counted[0]["at"])
    own = _number(said[-1]["at"]) - _number(said[0]["at"])
    given = [after - before for before, after in zip(first, last, strict=True)]
    return Row(
        *case,
        readings=int(sum(given)),
        seconds=span,
        slowest=min(given) / span,
        processor=(_number(said[-1]["processor"]) - _number(said[0]["processor"])) * span / own,
        late=[late for line in said for late in _list(line["late"])],
        memory=int(_number(said[-1]["memory"])),
    )


def _answers(converters: Child) -> list[float]:
    return _list(converters.lines[-1]["answers"]) if converters.lines else []


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _list(value: object) -> list[float]:
    return [_number(item) for item in value] if isinstance(value, list) else []


@contextmanager
def _child(command: list[str]) -> Iterator[Child]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ours
    try:
        yield Child(process)
    finally:
        process.terminate()
        process.wait()


def _config(ports: list[int], meters: int, broker: int) -> str:
    buses = [
        {
            "name": f"bus_{number}",
            "port": f"tcp://127.0.0.1:{port}",
            "baudrate": 9600,
            "interval": "1s",
            "meters": [{"name": f"meter_{number}_{address}", "address": address} for address in range(1, meters + 1)],
        }
        for number, port in enumerate(ports, 1)
    ]
    return json.dumps({"mqtt": {"host": "127.0.0.1", "port": broker}, "log_level": "error", "buses": buses})


async def _daemon(file: Path) -> None:
    """The daemon as it is, and a clock beside it."""
    settings = config.load(file, {})
    daemon = Daemon(settings, shelf_of(None)[0])
    async with asyncio.TaskGroup() as group:
        group.create_task(daemon.run())
        group.create_task(_watch())


async def _watch() -> None:
    page = os.sysconf("SC_PAGESIZE")
    while True:
        late: list[float] = []
        until = time.monotonic() + 1.0
        while (now := time.monotonic()) < until:
            await asyncio.sleep(TICK)
            late.append(time.monotonic() - now - TICK)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        memory = int(Path("/proc/self/statm").read_text().split()[1]) * page  # noqa: ASYNC240 - no disk behind it
        line = {"at": time.monotonic(), "processor": usage.ru_utime + usage.ru_stime, "memory": memory, "late": late}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
