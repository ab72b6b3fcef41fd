"""What grows with the number of meters, and how: start, memory, processor time of a reading and of a reload.

    python -m bench.growth               # 1, 10, 100, 1000 meters; about five minutes
    python -m bench.growth memory        # what a meter takes, part by part, in this process; seconds
    python -m bench.growth 1 100

`mbusd run` as a user starts it, a mosquitto, and simulated TCP converters at 9600 Bd with at most 250 meters each, as
in bench/rest.py. First every meter is read once, at an interval of an hour. Then the same file is read again (SIGHUP),
then one with an interval of a second, and the meters are read back to back.
"""

import argparse
import gc
import json
import logging
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

from bench.memory_parts import parts
from bench.rest import MOST_ON_A_BUS, PATIENCE, config, first_request, process_of, run_of, used_by
from mbusd.app import Daemon
from mbusd.config import load
from mbusd.profiles import shelf_of
from tests.mosquitto import mosquitto

SIZES = (1, 10, 100, 1000)
QUIET = 8.0  # seconds after the last reading, until lists and statistics are said
RELOAD = 4.0  # seconds in which a reload is over
MEASURED = 20.0  # seconds of reading back to back
SLOWEST = 0.5  # seconds a reading


@dataclass(frozen=True)
class Row:
    """What was measured with so many meters."""

    meters: int
    start: float  # seconds to the first request
    resident: int  # bytes
    first: float  # seconds of the processor, for a meter's first reading, with discovery
    reload: float  # the same, for a file that has not changed
    again: float  # the same, for a reading


def main() -> None:
    """Print the tables."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("sizes", nargs="*", metavar="METERS", help="default: 1 10 100 1000; or the word memory")
    chosen = options.parse_args().sizes
    if chosen == ["memory"]:
        _tell_parts()
        return
    columns = ("meters", "start to first request, s", "resident, MB", "kB a meter")
    print("|", " | ".join((*columns, "CPU of a first reading, ms", "of a later one, ms", "of a reload, ms")), "|")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    least: Row | None = None
    for meters in map(int, chosen or SIZES):
        row = measured(meters)
        least = least or row
        more = (row.resident - least.resident) / 1000 / max(1, meters - least.meters)
        print(
            f"| {meters} | {row.start:.2f} | {row.resident / 1e6:.1f} | {more:.1f} | {1000 * row.first:.2f} "
            f"| {1000 * row.again:.2f} | {1000 * row.reload:.1f} |",
            flush=True,
        )


def measured(meters: int) -> Row:
    """One size, from the start of the process to its end."""
    buses = -(-meters // MOST_ON_A_BUS)
    each = meters // buses
    simulator = [sys.executable, "-m", "bench.converters", "--buses", str(buses), "--meters", str(each)]
    with tempfile.TemporaryDirectory() as name, mosquitto(Path(name)) as broker, process_of(simulator) as converters:
        assert converters.stdout is not None  # noqa: S101 - it was opened with a pipe
        ports: list[int] = json.loads(converters.stdout.readline())
        file = Path(name) / "config.yaml"
        file.write_text(config(ports, meters, broker.port, "1h"))
        with process_of(run_of(file)) as daemon:
            started = _answers(converters, 1)
            before = used_by(daemon.pid)
            done = _answers(converters, buses * each)
            time.sleep(QUIET)
            after = used_by(daemon.pid)
            daemon.send_signal(signal.SIGHUP)
            time.sleep(RELOAD)
            reloaded = used_by(daemon.pid)
            file.write_text(config(ports, meters, broker.port, "1s"))
            daemon.send_signal(signal.SIGHUP)
            time.sleep(RELOAD)
            first, begin = _answers(converters, 0), used_by(daemon.pid)
            time.sleep(MEASURED)
            last, end = _answers(converters, 0), used_by(daemon.pid)
            return Row(
                meters,
                statistics.median(first_request(meters) for _ in range(3)),
                after.resident,
                (after.processor - before.processor) / max(1, done - started),
                reloaded.processor - after.processor,
                (end.processor - begin.processor) / max(1, last - first),
            )


def _answers(converters: subprocess.Popen[str], wanted: int) -> int:
    """How many telegrams they have sent, as soon as it is so many; with 0: by now."""
    assert converters.stdout is not None  # noqa: S101 - it was opened with a pipe
    until = time.monotonic() + PATIENCE + SLOWEST * wanted
    while time.monotonic() < until:
        told = json.loads(converters.stdout.readline())
        is_now = wanted or time.monotonic() - told["at"] < 1.0
        if is_now and sum(told["answers"]) >= wanted:
            return int(sum(told["answers"]))
    raise SystemExit("the daemon does not read its meters")


def _tell_parts() -> None:
    """What a meter takes before it was read, and after: its settings, what polls it, what is told of it."""
    logging.disable(logging.CRITICAL)
    meters = 4 * MOST_ON_A_BUS
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "config.yaml"
        file.write_text(config([5001, 5002, 5003, 5004], meters, 1))
        load(file, os.environ)  # what is built once is there then
        tracemalloc.start()
        here = _traced()
        settings = load(file, os.environ)
    read = _traced()
    daemon = Daemon(settings, shelf_of(None)[0])
    built = _traced()
    print("| of a meter, before its first reading | bytes |\n|---|--:|")
    print(f"| settings | {(read - here) / meters:.0f} |\n| daemon | {(built - read) / meters:.0f} |")
    print(f"| together | {(built - here) / meters:.0f} |", flush=True)
    tracemalloc.stop()
    del daemon
    print("\n| of a meter with 20 values that was read twice | bytes |\n|---|--:|")
    for part, held in (shares := parts()).items():
        print(f"| {part} | {held:.0f} |")
    print(f"| together | {sum(shares.values()):.0f} |", flush=True)


def _traced() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


if __name__ == "__main__":
    main()
