"""A daemon that hangs: it is found out, systemd is told no more, and the log says where it was."""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bench.simulated_time import simulated_time
from mbusd import watchdog
from mbusd.systemd import notify
from mbusd.watchdog import STUCK_SECONDS, Stuck, watch
from tests.mosquitto import PATIENCE, Mosquitto, ear, mosquitto
from tests.processes import Running, program

WATCHDOG = "WATCHDOG=1"


class Systemd(asyncio.DatagramProtocol):
    """The other end of the notification socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._heard: asyncio.Queue[str] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: object) -> None:
        del addr
        self._heard.put_nowait(data.decode())

    def environment(self, seconds: float) -> dict[str, str]:
        return {"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": str(round(1e6 * seconds))}

    async def hears(self, state: str) -> None:
        """Wait for it; what came before is forgotten."""
        async with asyncio.timeout(PATIENCE):
            while await self._heard.get() != state:
                pass

    async def hears_in(self, seconds: float) -> list[str]:
        """All that comes in that time, and nothing of what came before."""
        while not self._heard.empty():
            self._heard.get_nowait()
        heard: list[str] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    heard.append(await self._heard.get())
        return heard


@pytest.fixture
async def systemd(tmp_path: Path) -> AsyncIterator[Systemd]:
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.bind(str(tmp_path / "notify"))
    loop = asyncio.get_running_loop()
    transport, one = await loop.create_datagram_endpoint(lambda: Systemd(tmp_path / "notify"), sock=ours)
    yield one
    transport.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path) as one:
        yield one


@asynccontextmanager
async def daemon_with(bug: str, file: Path, systemd: Systemd) -> AsyncIterator[Running]:
    words = (sys.executable, "-m", "tests.hanging_daemon", bug, "run", "-c", str(file))
    async with program(*words, environment=systemd.environment(0.6)) as running:
        yield running


def configuration(folder: Path, broker: Mosquitto) -> Path:
    file = folder / "config.yaml"
    file.write_text(
        f"mqtt: {{host: 127.0.0.1, port: {broker.port}}}\n"
        f"buses: [{{name: cellar, port: {folder}/no_port, meters: [{{name: heat, address: 5, interval: manual}}]}}]\n"
    )
    return file


# ------------------------------------------------------------------------------------------------ processes


async def test_a_bus_that_hangs_ends_the_daemon_and_the_log_says_where(
    tmp_path: Path, broker: Mosquitto, systemd: Systemd
) -> None:
    async with daemon_with("waits", configuration(tmp_path, broker), systemd) as daemon, ear(broker.port) as listener:
        await systemd.hears("READY=1")
        await listener.until_last("mbusd/bridge/state", "online")
        await systemd.hears(WATCHDOG)
        await listener.say("mbusd/bridge/request/read", "heat")
        await daemon.says("no progress on cellar for 3 s: ending, to be started again")
        await daemon.says("< waits_for_ever line ")
        await systemd.hears("STOPPING=1")
        assert await daemon.ends() == 1
        await listener.until_last("mbusd/bridge/state", "offline")


async def test_the_side_of_the_broker_that_hangs_is_found_as_well(
    tmp_path: Path, broker: Mosquitto, systemd: Systemd
) -> None:
    async with daemon_with("mqtt", configuration(tmp_path, broker), systemd) as daemon:
        await systemd.hears(WATCHDOG)
        await daemon.says("no progress on mqtt for 3 s: ending, to be started again")
        assert await daemon.ends() == 1


@pytest.mark.parametrize("bug", ["deaf", "blocks"])
async def test_what_cannot_even_end_is_left_to_systemd(
    tmp_path: Path, broker: Mosquitto, systemd: Systemd, bug: str
) -> None:
    async with daemon_with(bug, configuration(tmp_path, broker), systemd) as daemon, ear(broker.port) as listener:
        await listener.until_last("mbusd/bridge/state", "online")
        await systemd.hears(WATCHDOG)
        await listener.say("mbusd/bridge/request/read", "heat")
        if bug == "deaf":
            await daemon.says("no progress on cellar")
        else:
            await asyncio.sleep(1)  # until it has heard; it says nothing any more
        assert WATCHDOG not in await systemd.hears_in(1.2)  # two of its times
        assert daemon.process.returncode is None
        assert await daemon.ends(signal.SIGABRT) == -signal.SIGABRT  # as systemd does then
        assert "Fatal Python error: Aborted" in daemon.said
        if bug == "blocks":
            assert any("in blocks_the_loop" in line for line in daemon.said)


def test_a_systemd_that_does_not_read_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full:
        full.bind(str(path))
        for _ in range(5000):  # more than any kernel keeps
            notify(WATCHDOG)
        assert full.recv(100) == WATCHDOG.encode()


# ------------------------------------------------------------------------------------------------ simulated time


def test_parts_that_make_progress_are_never_stuck() -> None:
    with simulated_time(0.0) as (clock, loop):

        async def days() -> None:
            task = asyncio.create_task(watch(lambda: [("cellar", clock.seconds - STUCK_SECONDS)]))
            await asyncio.sleep(3 * 86400)
            assert not task.done()
            task.cancel()

        loop.run_until_complete(days())


def test_one_that_does_not_is_named_in_time(caplog: pytest.LogCaptureFixture) -> None:
    with simulated_time(0.0) as (clock, loop):
        began = clock.seconds
        with pytest.raises(Stuck, match=r"^attic$"):
            loop.run_until_complete(watch(lambda: [("cellar", time.monotonic()), ("attic", began)]))
        assert STUCK_SECONDS < clock.seconds - began <= STUCK_SECONDS + watchdog.LOOK_SECONDS
    assert caplog.record_tuples == [
        ("mbusd.watchdog", logging.ERROR, "no progress on attic for 600 s: ending, to be started again")
    ]


def test_a_process_that_was_stopped_for_an_hour_does_not_blame_its_parts() -> None:
    with simulated_time(0.0) as (clock, loop):
        alive = [clock.seconds]

        async def works() -> None:
            while True:
                alive[0] = clock.seconds
                await asyncio.sleep(30)

        async def stopped() -> None:
            watching = asyncio.create_task(watch(lambda: [("cellar", alive[0])]))
            working = asyncio.create_task(works())
            await asyncio.sleep(100)
            clock.seconds += 3600
            await asyncio.sleep(1000)
            assert not watching.done()
            for task in (watching, working):
                task.cancel()

        loop.run_until_complete(stopped())
