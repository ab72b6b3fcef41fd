"""`mbusd run` as a process of its own, against `mbusd simulate` and a real mosquitto, as at a user's home."""

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.mosquitto import PATIENCE, Mosquitto, ear, free_port, mosquitto, retained
from tests.processes import Running, started
from tests.test_app import DISCOVERY, MULTICAL

RATE = 38400  # faster than at home, for the sake of the test


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path) as one:
        yield one


def configuration(folder: Path, broker: Mosquitto, port: object, more: str = "") -> Path:
    """A file with the Multical at 68."""
    file = folder / "config.yaml"
    file.write_text(
        f"""
mqtt: {{host: 127.0.0.1, port: {broker.port}{more}}}
buses:
  - name: cellar
    port: {port}
    baudrate: {RATE}
    interval: 1h
    meters:
      - {{name: heat_pump, address: 68}}
"""
    )
    return file


def without_trouble(running: Running) -> bool:
    return not [line for line in running.said if "Traceback" in line or "never" in line or "unclosed" in line.lower()]


async def test_a_house_on_a_pseudo_terminal_under_systemd(tmp_path: Path, broker: Mosquitto) -> None:
    link, notify = tmp_path / "ttyMBUS", tmp_path / "notify"
    environment = {"NOTIFY_SOCKET": str(notify), "WATCHDOG_USEC": "300000", "JOURNAL_STREAM": "8:1"}
    async with (
        supervised(notify) as supervisor,
        started("simulate", "--link", link, "--baudrate", RATE) as bus,
        ear(broker.port) as listener,
    ):
        await bus.says("heat_pump: primary 68")
        file = configuration(tmp_path, broker, link)
        async with started("run", "-c", file, environment=environment) as daemon:
            await supervisor.hears("READY=1")
            document = json.loads(await listener.said("mbusd/heat_pump"))
            del document["time"]
            assert document == {"status": [], **MULTICAL}
            await listener.said(DISCOVERY.format("681044022D2C0904"))
            await supervisor.hears("WATCHDOG=1")
            listener.last.clear()
            await listener.say("homeassistant/status", "online")
            await listener.until(lambda ear: DISCOVERY.format("681044022D2C0904") in ear.last)
            assert json.loads(await listener.said("mbusd/heat_pump"))["energy"] == 10
            async with asyncio.timeout(8):  # systemd would wait for 90 s, a user would not
                assert await daemon.ends(signal.SIGTERM) == 0
            await supervisor.hears("STOPPING=1")
            assert without_trouble(daemon)
            assert "INFO: stopped" in daemon.said
            await listener.until_last("mbusd/heat_pump/availability", "offline")
            await listener.until_last("mbusd/bus/cellar/state", "offline")
            await listener.until_last("mbusd/bridge/state", "offline")
        assert await bus.ends(signal.SIGTERM) == 0
        assert not link.is_symlink()


async def test_two_lines_and_a_stop_in_the_middle_of_the_search(tmp_path: Path, broker: Mosquitto) -> None:
    port = free_port()
    file = tmp_path / "config.yaml"
    async with (
        started("simulate", "--tcp", f"127.0.0.1:{port}", "--baudrate", RATE) as bus,
        ear(broker.port) as listener,
    ):
        await bus.says("bus on tcp://127.0.0.1")
        file.write_text(
            f"mqtt: {{host: 127.0.0.1, port: {broker.port}}}\n"
            f"buses: [{{name: cellar, port: 'tcp://127.0.0.1:{port}', baudrate: {RATE}}}]\n"
        )
        async with started("run", "-c", file) as daemon:
            await daemon.says("bus cellar: looking for meters (both)")
            await listener.until(lambda ear: "scan_progress" in ear.last.get("mbusd/bridge/event", ""))
            async with asyncio.timeout(8):
                assert await daemon.ends(signal.SIGTERM) == 0
            assert without_trouble(daemon)
            assert daemon.said[-1].endswith("stopped")
        await listener.until_last("mbusd/bridge/state", "offline")


async def test_a_bus_that_is_searched_by_secondary_addresses(tmp_path: Path, broker: Mosquitto) -> None:
    link = tmp_path / "ttyMBUS"
    file = tmp_path / "config.yaml"
    async with (
        started("simulate", "--link", link, "--baudrate", RATE) as bus,
        ear(broker.port) as listener,
    ):
        await bus.says("heat_pump: primary 68")
        file.write_text(
            f"mqtt: {{host: 127.0.0.1, port: {broker.port}}}\n"
            f"buses: [{{name: cellar, port: {link}, baudrate: {RATE}, discover: secondary}}]\n"
        )
        async with started("run", "-c", file) as daemon:
            document = json.loads(await listener.said("mbusd/681044022D2C0904"))
            assert {key: document[key] for key in MULTICAL} == MULTICAL
            await listener.said(DISCOVERY.format("681044022D2C0904"))
            await daemon.says("scan done after")
            assert await daemon.ends(signal.SIGTERM) == 0
            assert without_trouble(daemon)


class Supervisor(asyncio.DatagramProtocol):
    """systemd's end of the notification socket."""

    def __init__(self) -> None:
        self._states: asyncio.Queue[str] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: object) -> None:
        del addr
        self._states.put_nowait(data.decode())

    async def hears(self, state: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while await self._states.get() != state:
                pass


@asynccontextmanager
async def supervised(path: Path) -> AsyncIterator[Supervisor]:
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.bind(str(path))
    transport, supervisor = await asyncio.get_running_loop().create_datagram_endpoint(Supervisor, sock=ours)
    try:
        yield supervisor
    finally:
        transport.close()


async def test_a_daemon_that_is_killed_is_offline_by_its_will(tmp_path: Path, broker: Mosquitto) -> None:
    port = free_port()
    async with started("simulate", "--tcp", f"127.0.0.1:{port}", "--baudrate", RATE) as bus:
        await bus.says("bus on tcp://127.0.0.1")
        file = configuration(tmp_path, broker, f"tcp://127.0.0.1:{port}", ", base_topic: house/mbus")
        async with started("run", "-c", file) as daemon, ear(broker.port) as listener:
            document = json.loads(await listener.said("house/mbus/heat_pump"))
            assert {key: document[key] for key in MULTICAL} == MULTICAL
            await listener.until_last("house/mbus/bridge/state", "online")
            assert await daemon.ends(signal.SIGKILL) == -signal.SIGKILL
            await listener.until_last("house/mbus/bridge/state", "offline")
        assert (await retained(broker.port))["house/mbus/bridge/state"] == "offline"


async def test_a_port_that_comes_late_goes_and_comes_back(tmp_path: Path, broker: Mosquitto) -> None:
    link = tmp_path / "ttyMBUS"
    state = "mbusd/bus/cellar/state"
    async with started("run", "-c", configuration(tmp_path, broker, link)) as daemon, ear(broker.port) as listener:
        await daemon.says(f"{link}: there is no such device; is the converter plugged in?")
        await listener.until_last(state, "offline")
        async with started("simulate", "--link", link, "--baudrate", RATE) as bus:
            await listener.until_last(state, "online")
            await listener.until_last("mbusd/heat_pump/availability", "online")
            await listener.said("mbusd/heat_pump")
            await bus.ends(signal.SIGKILL)
        await listener.until_last(state, "offline")
        await listener.until_last("mbusd/heat_pump/availability", "offline")
        await listener.say("mbusd/bridge/request/read", "heat_pump")
        assert json.loads(await listener.said("mbusd/bridge/response/read"))["status"] == "error"
        async with started("simulate", "--link", link, "--baudrate", RATE):
            await listener.until_last(state, "online")
            await listener.until_last("mbusd/heat_pump/availability", "online")
            await listener.say("mbusd/bridge/request/read", "heat_pump")
            await listener.until(lambda ear: '"ok"' in ear.last["mbusd/bridge/response/read"])
        assert await daemon.ends(signal.SIGINT) == 0
        assert without_trouble(daemon)


async def test_a_broker_that_is_not_there_at_the_start_and_is_lost_later(tmp_path: Path) -> None:
    port = free_port()
    with mosquitto(tmp_path, starts=False) as broker:
        file = configuration(tmp_path, broker, f"tcp://127.0.0.1:{port}")
        async with (
            started("simulate", "--tcp", f"127.0.0.1:{port}", "--baudrate", RATE),
            started("run", "-c", file) as daemon,
        ):
            await daemon.says(f"the broker 127.0.0.1:{broker.port} is away")
            await daemon.says("heat_pump: found, KAM 68104402")
            broker.start()
            async with ear(broker.port) as listener:
                await listener.said(DISCOVERY.format("681044022D2C0904"))
                await listener.said("mbusd/heat_pump")
            broker.kill()
            await daemon.says("is away", count=2)
            broker.start()
            async with ear(broker.port) as listener:
                await listener.until_last("mbusd/bridge/state", "online")
                await listener.said(DISCOVERY.format("681044022D2C0904"))
                await listener.said("mbusd/heat_pump/energy")
            broker.kill()
            assert await daemon.ends(signal.SIGTERM) == 0
            assert without_trouble(daemon)


async def test_a_bad_configuration_opens_nothing(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    with socket.create_server(("127.0.0.1", 0)) as trap:
        port = trap.getsockname()[1]
        file.write_text(
            f"mqtt: {{host: 127.0.0.1, port: {port}, qos: 5}}\n"
            f"buses: [{{name: a, port: 'tcp://127.0.0.1:{port}', meters: [{{address: 300}}, {{adress: 5}}]}}]\n"
        )
        async with started("run", "-c", file) as daemon:
            assert await daemon.ends() == 2
        assert [line.split(": ")[1] for line in daemon.said] == [
            "mqtt.qos",
            "buses[0].meters[0].address",
            "buses[0].meters[1].address",
            "buses[0].meters[1].adress",
        ]
        trap.setblocking(False)  # noqa: FBT003 - the argument's name is flag
        with pytest.raises(BlockingIOError):
            trap.accept()


async def test_a_secret_from_the_environment_is_not_told(tmp_path: Path, broker: Mosquitto) -> None:
    file = configuration(tmp_path, broker, "/dev/nothing", ", username: somebody")
    secret = {"MBUSD_MQTT__PASSWORD": "hunter2", "MBUSD_LOG_LEVEL": "debug"}
    async with started("run", "-c", file, environment=secret) as daemon, ear(broker.port) as listener:
        info = json.loads(await listener.said("mbusd/bridge/info"))
        assert info["config"]["mqtt"]["username"] == "somebody"
        assert await daemon.ends(signal.SIGTERM) == 0
        assert not [line for line in daemon.said if "hunter2" in line]
        assert not [heard for heard in listener.heard if "hunter2" in heard.payload]
