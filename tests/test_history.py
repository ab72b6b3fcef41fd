"""Every reading arrives: `mbusd run`, killed and started again while a real mosquitto comes and goes."""

import json
import signal
import sys
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from mbusd.app import SPOOL_FILE as FILE
from mbusd.clock import start_of_machine
from mbusd.sinks.undated import FILES
from tests.mosquitto import PATIENCE, Ear, ear, free_port, mosquitto
from tests.processes import Running, program, started
from tests.test_system import RATE, without_trouble

HISTORY = "mbusd/heat_pump/history"
EMONCMS = "emon/MBUS"


def configuration(folder: Path, broker: int, bus: int) -> Path:
    file = folder / "config.yaml"
    file.write_text(
        f"""
log_level: debug
mqtt: {{host: 127.0.0.1, port: {broker}, history: true}}
emoncms: {{enabled: true, format: json}}
state_dir: {folder / "state"}
buses:
  - name: cellar
    port: tcp://127.0.0.1:{bus}
    baudrate: {RATE}
    interval: 1s
    meters:
      - {{name: heat_pump, address: 68}}
"""
    )
    return file


def read(*daemons: Running) -> int:
    """How many telegrams of the meter have come: each is a reading."""
    return sum(" < 68 " in line for daemon in daemons for line in daemon.said)


async def reads(daemon: Running, count: int) -> None:
    """Wait for so many further readings."""
    await daemon.says(" < 68 ", read(daemon) + count)


def check(listener: Ear) -> None:
    """Both streams tell of the same readings in their order."""
    history = [json.loads(payload) for payload in listener.payloads(HISTORY)]
    emoncms = [json.loads(payload) for payload in listener.payloads(EMONCMS)]
    moments = [datetime.fromisoformat(document["time"]).timestamp() for document in history]
    assert moments == sorted(moments)
    others = [document["time"] for document in emoncms]
    assert others == sorted(others)
    begin, end = max(others[0], moments[0]), min(others[-1], moments[-1])  # one may have been the last that arrived
    assert {one for one in others if begin <= one <= end} == {one for one in moments if begin <= one <= end}
    assert {document["energy"] for document in history} == {10}
    assert not any(heard.retained for heard in listener.heard if heard.topic in (HISTORY, EMONCMS))


async def test_what_was_read_while_the_broker_was_away_arrives_even_after_kill_9(tmp_path: Path) -> None:
    bus, spool = free_port(), tmp_path / "state" / FILE
    with mosquitto(tmp_path) as broker:
        file = configuration(tmp_path, broker.port, bus)
        async with started("simulate", "--tcp", f"127.0.0.1:{bus}", "--baudrate", RATE):
            async with started("run", "-c", file) as first:
                async with ear(broker.port) as listener:
                    await listener.until(lambda ear: len(ear.payloads(HISTORY)) >= 2)
                    check(listener)
                    assert not spool.exists()
                broker.kill()
                await first.says("is away")
                before = read(first)
                await reads(first, 3)
                await first.ends(signal.SIGKILL)
                assert spool.exists()
            async with started("run", "-c", file) as second:
                await reads(second, 2)
                second.process.send_signal(signal.SIGSTOP)  # or it would be back before anybody listens
                broker.start()
                async with ear(broker.port) as listener:
                    second.process.send_signal(signal.SIGCONT)

                    def is_told(ear: Ear) -> bool:
                        """But what kill -9 may take: what is on its way to the disk, and was logged a moment before."""
                        return not spool.exists() and len(ear.payloads(HISTORY)) >= read(first, second) - before - 2

                    await listener.until(is_told)
                    check(listener)
                    assert len(listener.payloads(HISTORY)) <= read(first, second) - before + 1
                broker.kill()
                await second.says("is away", 2)
                assert await second.ends(signal.SIGTERM) == 0
                assert without_trouble(second)


async def test_without_history_there_is_none(tmp_path: Path) -> None:
    bus = free_port()
    with mosquitto(tmp_path) as broker:
        file = configuration(tmp_path, broker.port, bus)
        file.write_text(file.read_text().replace("history: true", "history: false").replace("json", "values"))
        async with (
            started("simulate", "--tcp", f"127.0.0.1:{bus}", "--baudrate", RATE),
            ear(broker.port) as listener,
            started("run", "-c", file) as daemon,
        ):
            await listener.said("mbusd/heat_pump/energy")
            await listener.said(f"{EMONCMS}/heat_pump_Energy")
            await reads(daemon, 1)
            assert listener.payloads(HISTORY) == listener.payloads(EMONCMS) == []
            broker.kill()
            await daemon.says("is away")
            await reads(daemon, 2)
            assert not (tmp_path / "state" / FILE).exists()


async def test_what_was_read_before_the_clock_was_set_comes_with_its_time_even_after_kill_9(
    tmp_path: Path,
) -> None:
    bus, start = free_port(), start_of_machine()
    if start is None:
        pytest.skip("this machine does not name its starts")
    undated = tmp_path / "state" / FILES.format(start)
    daemon = (sys.executable, "-X", "dev", "-m", "tests.unset_clock", "run", "-c")
    with mosquitto(tmp_path) as broker:
        file = str(configuration(tmp_path, broker.port, bus))
        async with (
            started("simulate", "--tcp", f"127.0.0.1:{bus}", "--baudrate", RATE),
            ear(broker.port) as listener,
        ):
            began = time.time()
            async with program(*daemon, file) as first:
                await reads(first, 3)
                assert json.loads(await listener.said("mbusd/heat_pump"))["time"] is None
                await first.ends(signal.SIGKILL)
            assert undated.exists()
            async with program(*daemon, file) as second:
                await reads(second, 3)
                assert listener.payloads(HISTORY) == listener.payloads(EMONCMS) == []
                known = read(first, second)
                second.process.send_signal(signal.SIGUSR1)
                await listener.until(lambda ear: len(ear.payloads(HISTORY)) > known)
                await listener.until(lambda ear: bool(json.loads(ear.last["mbusd/heat_pump"])["time"]))
                assert not undated.exists()
                assert await second.ends(signal.SIGTERM) == 0
                assert without_trouble(second)
            check(listener)
            moments = [datetime.fromisoformat(json.loads(one)["time"]) for one in listener.payloads(HISTORY)]
            assert int(began) <= moments[0].timestamp()
            assert moments[-1].timestamp() <= time.time()
            assert len(moments) >= read(first, second) - 3  # kill -9 takes what is on its way to the disk
            assert all((later - earlier).total_seconds() < PATIENCE for earlier, later in pairwise(moments))
