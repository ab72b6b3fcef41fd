"""SIGHUP and state folders of a daemon that is a process of its own, as systemd has it."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import pytest

from mbusd.simulation.simulator import SimulatedBus
from mbusd.simulation.virtual_bus import opened
from tests.mosquitto import Mosquitto, ear, mosquitto
from tests.processes import Running, clean_environment, started
from tests.test_app import heat_meter

NOON = datetime(2026, 11, 20, 12)  # noqa: DTZ001 - a meter's clock has no zone
MOUNT = ("unshare", "--mount", "sh", "-c")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path) as one:
        yield one


class House:
    """Two buses, each with one meter at 5, and the file of a daemon that reads them."""

    def __init__(self, broker: Mosquitto, file: Path) -> None:
        self.broker = broker
        self.file = file
        self.buses = [SimulatedBus([heat_meter(f"1234567{number}")], NOON) for number in range(2)]
        self.ports: list[str] = []

    @asynccontextmanager
    async def wired(self) -> AsyncIterator[None]:
        first, second = self.buses
        here = ("127.0.0.1", 0)
        async with opened(first, tcp=here, baudrate=0) as one, opened(second, tcp=here, baudrate=0) as other:
            self.ports = [f"tcp://127.0.0.1:{served.tcp[1]}" for served in (one, other) if served.tcp]
            yield

    def write(self, *names: str, more: str = "") -> None:
        buses = [
            {"name": f"b{number}", "port": port, "meters": [{"name": name, "address": 5, "interval": "1d"}]}
            for number, (port, name) in enumerate(zip(self.ports, names, strict=True))
        ]
        mqtt = {"host": "127.0.0.1", "port": self.broker.port}
        self.file.write_text(json.dumps({"mqtt": mqtt, "buses": buses}) + more)


@pytest.fixture
def house(broker: Mosquitto, tmp_path: Path) -> House:
    return House(broker, tmp_path / "config.yaml")


async def test_sighup_does_what_has_changed_and_leaves_the_rest_alone(house: House) -> None:
    async with house.wired(), ear(house.broker.port) as listener:
        house.write("heat", "top")
        async with started("run", "-c", house.file) as daemon:
            for topic in ("mbusd/heat", "mbusd/top"):
                await listener.said(topic)
            asked = [bus.requests for bus in house.buses]
            house.write("heat", "roof")
            daemon.process.send_signal(signal.SIGHUP)
            await listener.said("mbusd/roof/availability")
            await daemon.says('configuration read again: {"unchanged": ["b0"], "restarted": ["b1"]')
            await listener.said("mbusd/roof")
            assert house.buses[0].requests == asked[0]  # its wire is the same, and when it is due
            assert house.buses[1].requests > asked[1]
            assert len([line for line in daemon.said if "bus b0: open" in line]) == 1
            assert await daemon.ends(signal.SIGTERM) == 0


async def test_a_bad_file_is_told_line_by_line_and_changes_nothing(house: House) -> None:
    async with house.wired(), ear(house.broker.port) as listener:
        house.write("heat", "top")
        async with started("run", "-c", house.file) as daemon:
            for topic in ("mbusd/heat", "mbusd/top"):
                await listener.said(topic)
            asked = [bus.requests for bus in house.buses]
            house.write("heat", "roof", more="\nadress: 5\n")
            daemon.process.send_signal(signal.SIGHUP)
            await daemon.says("ERROR   reload: the configuration is wrong, nothing was changed:")
            await daemon.says(f"ERROR   reload: {house.file}:")
            await listener.say("mbusd/bridge/request/reload", '{"transaction": 1}')
            answer = json.loads(await listener.said("mbusd/bridge/response/reload"))
            assert answer["status"] == "error"
            assert answer["error"].startswith("the configuration is wrong, nothing was changed:\n")
            assert [bus.requests for bus in house.buses] == asked
            await listener.say("mbusd/top/get", "")
            await listener.until(lambda ear: len(ear.payloads("mbusd/top")) == 2)
            assert await daemon.ends(signal.SIGTERM) == 0


@asynccontextmanager
async def daemon_on_a_disk(house: House, folder: Path, disk: str) -> AsyncIterator[Running]:
    """A daemon whose state folder is a file system of its own."""
    command = f'{disk} && exec "$0" -m mbusd run -c {house.file}'
    process = await asyncio.create_subprocess_exec(
        *(*MOUNT, command, sys.executable),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=clean_environment() | {"STATE_DIRECTORY": str(folder)},
    )
    assert process.stdout is not None
    running = Running(process)
    running.readers = [asyncio.create_task(running.read(process.stdout))]
    try:
        yield running
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await asyncio.gather(*running.readers)


async def _can_mount(folder: Path) -> bool:
    trial = await asyncio.create_subprocess_exec(
        *(*MOUNT, f"mount -t tmpfs -o size=4k tmpfs {folder}"), stderr=asyncio.subprocess.DEVNULL
    )
    return await trial.wait() == 0


@pytest.mark.parametrize(
    ("disk", "why"),
    [
        ("mount -t tmpfs -o size=4k tmpfs {0} && echo > {0}/full", "No space left on device"),
        ("mount -t tmpfs -o ro tmpfs {0}", "Read-only file system"),
    ],
    ids=["full", "read-only"],
)
async def test_on_a_disk_that_takes_nothing_the_meters_are_read(
    house: House, tmp_path: Path, disk: str, why: str
) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    if not await _can_mount(folder):
        pytest.skip("no file system can be mounted here (root, and unshare, are needed)")
    async with house.wired(), ear(house.broker.port) as listener:
        house.write("heat", "top")
        async with daemon_on_a_disk(house, folder, disk.format(folder)) as daemon:
            for topic in ("mbusd/heat", "mbusd/top"):
                await listener.said(topic)
            assert await daemon.ends(signal.SIGTERM) == 0
            lines = [line for line in daemon.said if str(folder) in line]
            assert len(lines) == 1
            assert f"the state cannot be saved in {folder}: {why}; reading goes on" in lines[0]
            assert not [line for line in daemon.said if "Traceback" in line]
