"""What the daemon costs while nothing happens: memory, processor time, and how soon it asks the first meter.

    python -m bench.rest                # under three minutes
    python -m bench.rest start memory   # some of it: start, memory, idle

`mbusd run` as a user starts it, a mosquitto, and simulated TCP converters (bench/converters.py) in processes of their
own. The kernel says what it costs: /proc/PID/statm and /proc/PID/task/*/schedstat (nanoseconds). Its bytecode is there
before, as pip and the package leave it: a daemon that compiles itself keeps a megabyte of what that takes.
"""

import argparse
import compileall
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.mosquitto import mosquitto

PARTS = ("start", "memory", "idle")
MODULES = {
    "pyserial-asyncio": "serial_asyncio",
    "aiomqtt": "aiomqtt",
    "pydantic": "pydantic",
    "pyyaml": "yaml",
    "cronsim": "cronsim",
}
"""Of the dependencies that the daemon has; rich belongs to the commands for people."""
_NEEDED = " ".join(tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]["dependencies"])
IMPORTS = f"import asyncio, {', '.join(module for name, module in MODULES.items() if name in _NEEDED)}"
_MODEL = "\nclass One(pydantic.BaseModel):\n    one: int\nOne(one=1)"
DEPENDENCIES = {
    "the dependencies imported, no more": IMPORTS,
    "the same and one pydantic model of one field": f"{IMPORTS}{_MODEL}",
}
"""The first alone loads half of pydantic, the rest of which comes with the first model."""
_RESIDENT = "\nprint(int(open('/proc/self/statm').read().split()[1]), flush=True)"
SETTLED = 12.0  # seconds after the last reading: start-up, list of meters, first statistics are over
PATIENCE = 60.0
MOST_ON_A_BUS = 250  # meters


@dataclass(frozen=True)
class Used:
    """What a process has had until now."""

    at: float  # monotonic
    processor: float  # seconds
    wakes: int  # how often it slept and was woken
    resident: int  # bytes


def main() -> None:
    """Print the tables."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=60.0, help="of idling that are measured")
    options.add_argument("--starts", type=int, default=10)
    options.add_argument("parts", nargs="*", metavar="PART", help="one or more of " + ", ".join(PARTS))
    chosen = options.parse_args()
    parts = chosen.parts or PARTS
    compileall.compile_dir("mbusd", quiet=1)
    if "start" in parts:
        _tell_start(chosen.starts)
    if "memory" in parts:
        _tell_memory()
    if "idle" in parts:
        _tell_idle(chosen.seconds)


def _tell_start(times: int) -> None:
    bare, whole = [], []
    for _ in range(times):
        bare.append(_seconds_of([sys.executable, "-c", next(iter(DEPENDENCIES.values()))]))
        whole.append(first_request())
    print("| seconds | median | from | to |")
    print("|---|--:|--:|--:|")
    for what, taken in (("start of Python, dependencies imported", bare), ("start to first byte at the bus", whole)):
        print(f"| {what} | {statistics.median(taken):.3f} | {min(taken):.3f} | {max(taken):.3f} |", flush=True)


def _tell_memory() -> None:
    print("\n| resident | MB | ÷ dependencies | ÷ with a model |")
    print("|---|--:|--:|--:|")
    bare = {what: statistics.median(_resident_after(code) for _ in range(3)) for what, code in DEPENDENCIES.items()}
    with _daemon(1) as process:
        bare["mbusd, one bus, one meter, read and connected"] = used_by(process.pid).resident
    least, model, *_ = bare.values()
    for what, resident in bare.items():
        print(f"| {what} | {resident / 1e6:.1f} | {resident / least:.2f} | {resident / model:.2f} |", flush=True)


def _tell_idle(seconds: float) -> None:
    with _daemon(20) as process:
        before = used_by(process.pid)
        time.sleep(seconds)
        after = used_by(process.pid)
    span = after.at - before.at
    share, wakes = (after.processor - before.processor) / span, (after.wakes - before.wakes) / span
    print("\n| idle, 20 meters at 1 h, broker connected | |")
    print("|---|--:|")
    print(f"| processor | {100 * share:.3f} % |\n| woken, times a second | {wakes:.1f} |", flush=True)


def first_request(meters: int = 1) -> float:
    """Seconds from the start of the process until the first byte of a request comes to the converter."""
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as server:
        file = Path(name) / "config.yaml"
        file.write_text(config([server.getsockname()[1], *range(1, -(-meters // MOST_ON_A_BUS))], meters, 1))
        began = time.monotonic()
        with process_of(run_of(file)):
            server.settimeout(PATIENCE)
            connection, _ = server.accept()
            with connection:
                connection.settimeout(PATIENCE)
                connection.recv(1)
                return time.monotonic() - began


def config(ports: list[int], meters: int, broker: int, interval: str = "1h") -> str:
    """A configuration with buses at converters on this machine, which share the meters."""
    buses = [
        {
            "name": f"bus_{number}",
            "port": f"tcp://127.0.0.1:{port}",
            "baudrate": 9600,
            "interval": interval,
            "meters": [
                {"name": f"meter_{number}_{address}", "address": address}
                for address in range(1, meters // len(ports) + 1)
            ],
        }
        for number, port in enumerate(ports, 1)
    ]
    return json.dumps({"mqtt": {"host": "127.0.0.1", "port": broker}, "log_level": "error", "buses": buses})


@contextmanager
def _daemon(meters: int) -> Iterator[subprocess.Popen[str]]:
    """With all its meters read, and nothing to do since a while."""
    with tempfile.TemporaryDirectory() as name, mosquitto(Path(name)) as broker:
        simulator = [sys.executable, "-m", "bench.converters", "--buses", "1", "--meters", str(meters)]
        with process_of(simulator) as converters:
            assert converters.stdout is not None  # noqa: S101 - it was opened with a pipe
            file = Path(name) / "config.yaml"
            file.write_text(config(json.loads(converters.stdout.readline()), meters, broker.port))
            with process_of(run_of(file)) as daemon:
                until = time.monotonic() + PATIENCE
                while json.loads(converters.stdout.readline())["answers"][0] < meters and time.monotonic() < until:
                    pass  # it says a line a second
                time.sleep(SETTLED)
                if daemon.poll() is not None:
                    raise SystemExit("mbusd has ended")
                yield daemon


def run_of(file: Path) -> list[str]:
    """The command that starts the daemon."""
    return [sys.executable, "-m", "mbusd", "run", "-c", str(file)]


@contextmanager
def process_of(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """One of ours, as long as it is needed."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ours
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _seconds_of(command: list[str]) -> float:
    began = time.monotonic()
    subprocess.run(command, check=True)  # noqa: S603 - ours
    return time.monotonic() - began


def _resident_after(code: str) -> int:
    command = [sys.executable, "-c", code + _RESIDENT]
    told = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - ours
    return int(told.stdout) * os.sysconf("SC_PAGESIZE")


def used_by(pid: int) -> Used:
    """By all threads of a process."""
    home = Path(f"/proc/{pid}")
    tasks = list((home / "task").iterdir())
    processor = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    told = [line.partition(":") for task in tasks for line in (task / "status").read_text().splitlines()]
    wakes = sum(int(value) for key, _, value in told if key == "voluntary_ctxt_switches")
    resident = int((home / "statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    return Used(time.monotonic(), processor, wakes, resident)


if __name__ == "__main__":
    main()
