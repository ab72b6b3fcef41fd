"""The shipped unit under a real systemd: with its restrictions the daemon opens its port and keeps what must wait.

What a machine without cgroups for devices cannot show: that no other device can be opened (DevicePolicy). What the test
gives up for itself: DynamicUser and PrivateTmp, since its files lie in /tmp and belong to root.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mbusd.simulation.simulator import SimulatedBus
from mbusd.simulation.virtual_bus import opened
from tests.mosquitto import PATIENCE, Ear, Mosquitto, ear, mosquitto
from tests.processes import program
from tests.test_app import heat_meter
from tests.test_under_systemd import BOOT, ROOT, SYSTEMD, cgroup

__all__ = ["cgroup"]

UNIT = """
[Unit]
DefaultDependencies=no
Wants=
After=
[Service]
ExecStart=
ExecStart={python} -m mbusd run -c {file}
WorkingDirectory={root}
StandardError=append:{log}
DynamicUser=no
ProtectHome=no
PrivateTmp=no
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path) as one:
        yield one


@asynccontextmanager
async def unit(folder: Path, cgroup: Path, broker: Mosquitto) -> AsyncIterator[Path]:
    """The unit, with a bus on a pseudo terminal; gives the file of its log."""
    file, log, bus = folder / "config.yaml", folder / "journal", folder / "bus"
    log.touch()
    file.write_text(
        f"mqtt: {{host: 127.0.0.1, port: {broker.port}, history: true}}\n"
        f"buses: [{{name: cellar, port: {bus}, baudrate: 38400, interval: 1s, meters: [{{name: heat, address: 5}}]}}]\n"
    )
    words = {"python": sys.executable, "file": file, "root": ROOT, "log": log}
    (folder / "test.conf").write_text(UNIT.format(**words))
    boot = BOOT.format(cgroup=cgroup, unit=ROOT / "systemd" / "mbusd.service", folder=folder, systemd=SYSTEMD)
    # the end of the shell is the end of the first process, and so of all others
    async with opened(SimulatedBus([heat_meter()]), link=bus, baudrate=38400), program("sh", "-c", boot):
        yield log


def status(file: Path) -> dict[str, str]:
    """What the kernel says of the daemon that reads this file."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text("utf-8").split("\0")
            if "mbusd" in words and str(file) in words:
                told = (process / "status").read_text("utf-8").splitlines()
                mounts = (process / "mountinfo").read_text("utf-8").splitlines()
        except OSError:
            continue
        else:
            if "mbusd" in words and str(file) in words:
                said = dict(line.split(":\t", 1) for line in told if ":\t" in line)
                root = next(line.split()[5] for line in mounts if line.split()[4] == "/")
                return {name: value.strip() for name, value in said.items()} | {"root": root}
    raise AssertionError("there is no such process")


def lines(log: Path) -> str:
    return log.read_text("utf-8")


def has_spooled(process: str) -> bool:
    """Whether there is something in its StateDirectory, seen from where it lives itself."""
    return (Path("/proc") / process / "root/var/lib/mbusd/spool.sqlite").exists()


async def heard_or_skipped(listener: Ear, topic: str, log: Path) -> None:
    try:
        await listener.said(topic)
    except AssertionError:
        if lines(log):
            raise
        pytest.skip("systemd does not get as far as that here")


async def test_with_its_restrictions_it_reads_a_serial_port_and_keeps_what_must_wait(
    tmp_path: Path, broker: Mosquitto, cgroup: Path
) -> None:
    async with unit(tmp_path, cgroup, broker) as log:
        async with ear(broker.port) as listener:
            await heard_or_skipped(listener, "mbusd/heat", log)
            await listener.until_last("mbusd/bus/cellar/state", "online")
            first = json.loads(await listener.said("mbusd/heat/history"))["time"]
        said = status(tmp_path / "config.yaml")
        assert (said["Seccomp"], said["NoNewPrivs"]) == ("2", "1")
        assert {said[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {"0" * 16}
        assert said["root"].split(",")[0] == "ro"
        broker.kill()
        async with asyncio.timeout(PATIENCE):
            while not has_spooled(said["Pid"]):  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.1)
        broker.start()
        async with ear(broker.port) as listener:
            await listener.until(lambda ear: len(ear.payloads("mbusd/heat/history")) > 5)
            times = [json.loads(one)["time"] for one in listener.payloads("mbusd/heat/history")]
        assert times == sorted(times)
        assert times[0] >= first  # it may not have been acknowledged yet
        told = lines(log)
        assert "Traceback" not in told
        assert "in memory" not in told
        assert "spool" not in told
