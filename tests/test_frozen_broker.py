"""A broker that is stopped for a while and goes on: `mbusd run` reads its bus meanwhile, and all of it arrives."""

import json
import re
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from bench.numbered import NumberedMeter
from mbusd.app import SPOOL_FILE as FILE
from mbusd.simulation.simulator import SimulatedBus
from mbusd.simulation.virtual_bus import opened
from tests.mosquitto import Ear, Mosquitto, ear, mosquitto, retained
from tests.processes import Running, started
from tests.test_system import without_trouble

KEEPALIVE = 5  # seconds, the least that there is
STATE, HISTORY, EMONCMS = "mbusd/m1", "mbusd/m1/history", "emon/MBUS"
TELEGRAM = " < 68 "  # of the meter, in the log
STOPPED = re.compile(r"State:\s+T")


@dataclass
class House:
    """One numbered meter on a TCP bus, the daemon, a broker, and somebody who listens."""

    folder: Path
    meter: NumberedMeter
    broker: Mosquitto
    listener: Ear
    daemon: Running

    @property
    def spool(self) -> Path:
        return self.folder / "state" / FILE

    async def reads(self, count: int) -> None:
        """Wait for so many further readings."""
        await self.daemon.says(TELEGRAM, sum(TELEGRAM in line for line in self.daemon.said) + count)

    async def hears(self, number: int) -> None:
        """Wait until both streams and the state have come to that read-out, or a later one."""
        await self.listener.until(
            lambda ear: (
                numbers(ear.payloads(HISTORY))[-1] >= number
                and numbers(ear.payloads(STATE))[-1] >= number
                and numbers(ear.payloads(EMONCMS), "m1_Power")[-1] >= number
            )
        )

    def freeze(self) -> float:
        """It takes no more from now on; gives this moment of the monotonic clock."""
        process = self.broker.process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        while not STOPPED.search(Path(f"/proc/{process.pid}/status").read_text()):
            pass
        return time.monotonic()

    def thaw(self) -> None:
        assert self.broker.process is not None
        self.broker.process.send_signal(signal.SIGCONT)


def numbers(payloads: Sequence[str], key: str = "power") -> list[int]:
    """Of which read-out each is."""
    return [json.loads(payload)[key] // 1000 for payload in payloads]


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[House]:
    """Everything at work: some readings have arrived, and nothing is on the disk."""
    meter = NumberedMeter(1)
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(mosquitto(folder))
        served = await stack.enter_async_context(opened(SimulatedBus([meter.slave]), tcp=("127.0.0.1", 0), baudrate=0))
        assert served.tcp is not None
        file = folder / "config.yaml"
        file.write_text(
            f"""
log_level: debug
mqtt: {{host: 127.0.0.1, port: {broker.port}, keepalive: {KEEPALIVE}, history: true}}
emoncms: {{enabled: true, format: json}}
state_dir: {folder / "state"}
buses:
  - name: cellar
    port: tcp://127.0.0.1:{served.tcp[1]}
    baudrate: 38400
    timeout: 5s  # the machine may be busy
    interval: 1s
    meters: [{{name: m1, address: 1}}]
"""
        )
        listener = await stack.enter_async_context(ear(broker.port))
        daemon = await stack.enter_async_context(started("run", "-c", file))
        made = House(folder, meter, broker, listener, daemon)
        try:
            await listener.until(lambda ear: len(ear.payloads(HISTORY)) > 2 and len(ear.payloads(STATE)) > 2)
            assert not made.spool.exists()
            yield made
        finally:
            made.thaw()


def in_order(payloads: Sequence[str], key: str = "power") -> list[int]:
    """The numbers; each came for the first time when its turn was, and none is missing."""
    heard = numbers(payloads, key)
    assert list(dict.fromkeys(heard)) == list(range(heard[0], heard[-1] + 1))
    return heard


async def all_is_right_again(home: House, last: int, noticed: int) -> None:
    """`last`: the read-out before it thawed; `noticed`: what was read from there on was never said into the ice."""
    await home.hears(last + 1)
    await home.listener.until(lambda _: not home.spool.exists())
    for topic, key in ((HISTORY, "power"), (EMONCMS, "m1_Power")):
        heard = in_order(home.listener.payloads(topic), key)
        assert all(heard.count(number) == 1 for number in range(noticed, last + 1))
    states = numbers(home.listener.payloads(STATE))
    assert states == sorted(states)
    for topic in ("mbusd/bridge/state", "mbusd/bus/cellar/state", "mbusd/m1/availability"):
        await home.listener.until_last(topic, "online")
    known = await retained(home.broker.port)
    assert numbers([known[STATE]])[0] > last
    assert known["mbusd/bridge/state"] == known["mbusd/m1/availability"] == "online"
    assert await home.daemon.ends(signal.SIGTERM) == 0
    assert without_trouble(home.daemon)


@pytest.mark.parametrize("said", ["is away", "does not answer within"])
async def test_a_frozen_broker_costs_no_reading_and_the_bus_waits_for_nobody(said: str, tmp_path: Path) -> None:
    """Until the daemon has noticed it, and until it has also knocked again in vain."""
    async with house(tmp_path) as home:
        began, before = home.freeze(), len(home.meter.told)
        await home.daemon.says("is away")
        noticed, after = time.monotonic() - began, len(home.meter.told)
        assert noticed < 4 * KEEPALIVE
        await home.daemon.says(said)
        await home.reads(3)
        moments = [began, *(at for at, _ in home.meter.told[before:])]
        assert max(later - earlier for earlier, later in pairwise(moments)) < noticed
        assert home.spool.exists()
        last = len(home.meter.told) - 1
        home.thaw()
        await all_is_right_again(home, last, after)


async def test_a_broker_that_stops_for_a_moment_only_is_not_left(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        home.freeze()
        await home.reads(2)
        last = len(home.meter.told) - 1
        home.thaw()
        await all_is_right_again(home, last, last + 1)
