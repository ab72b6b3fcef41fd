"""The shipped unit under a real systemd, the first process of namespaces of its own: it restarts a daemon that hangs.

Of the unit only what this machine cannot have is changed: where the program lies, and how long systemd is patient.
"""

import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.mosquitto import PATIENCE, Mosquitto, ear, mosquitto
from tests.processes import Running, program

ROOT = Path(__file__).parent.parent
SYSTEMD = Path("/usr/lib/systemd/systemd")
CGROUPS = Path("/sys/fs/cgroup/systemd")  # where systemd keeps its own on a machine with cgroups of both kinds
UNIT = """
[Unit]
DefaultDependencies=no
Wants=
After=
[Service]
ExecStart=
ExecStart={python} -m tests.hanging_daemon {bug} run -c {file}
WorkingDirectory={root}
StandardError=append:{log}
WatchdogSec=2
RestartSec=1
DynamicUser=no
ProtectHome=no
PrivateTmp=no
ReadWritePaths={folder}
"""
BOOT = """
set -e
echo $$ > {cgroup}/cgroup.procs
exec unshare --pid --fork --mount --cgroup --uts --ipc --kill-child sh -ec '
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
for place in /etc /var/lib; do
  mkdir -p /run/new/$place/upper /run/new/$place/work
  mount -t overlay -o lowerdir=$place,upperdir=/run/new/$place/upper,workdir=/run/new/$place/work overlay $place
done
mkdir -p /run/systemd/system/mbusd.service.d
cp {unit} /run/systemd/system/mbusd.service
cp {folder}/test.conf /run/systemd/system/mbusd.service.d/
printf "[Unit]\\nDefaultDependencies=no\\nWants=mbusd.service\\n" > /run/systemd/system/test.target
umount -l /sys/fs/cgroup
mount -t tmpfs tmpfs /sys/fs/cgroup
mkdir /sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
container=test exec {systemd} --system --unit=test.target --log-target=console --show-status=no
'
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path) as one:
        yield one


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A place among the cgroups for a systemd of our own."""
    if os.geteuid() != 0 or not SYSTEMD.exists() or not CGROUPS.is_dir() or shutil.which("unshare") is None:
        pytest.skip("a systemd of our own needs root, systemd, unshare and cgroups of the first version")
    made = CGROUPS / f"mbusd-test-{os.getpid()}"
    try:
        made.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    yield made
    give_up = time.monotonic() + PATIENCE
    while any(path.read_text("ascii").strip() for path in made.rglob("cgroup.procs")) and time.monotonic() < give_up:
        time.sleep(0.05)  # what was killed needs its time to be gone
    for place, _, _ in os.walk(made, topdown=False):
        Path(place).rmdir()


@asynccontextmanager
async def booted(folder: Path, cgroup: Path, bug: str, broker: Mosquitto) -> AsyncIterator[Running]:
    """A systemd that starts mbusd.service; what it says itself."""
    file, log = folder / "config.yaml", folder / "journal"
    file.write_text(
        f"mqtt: {{host: 127.0.0.1, port: {broker.port}}}\n"
        f"buses: [{{name: cellar, port: {folder}/no_port, meters: [{{name: heat, address: 5, interval: manual}}]}}]\n"
    )
    words = {"python": sys.executable, "bug": bug, "file": file, "root": ROOT, "log": log, "folder": folder}
    (folder / "test.conf").write_text(UNIT.format(**words))
    boot = BOOT.format(cgroup=cgroup, unit=ROOT / "systemd" / "mbusd.service", folder=folder, systemd=SYSTEMD)
    async with program("sh", "-c", boot) as running:  # its end is the end of the first process, and so of all others
        yield running


@pytest.mark.parametrize("bug", ["blocks", "waits"])
async def test_a_daemon_that_hangs_is_started_again(tmp_path: Path, broker: Mosquitto, cgroup: Path, bug: str) -> None:
    log = tmp_path / "journal"
    log.touch()
    async with ear(broker.port) as listener, booted(tmp_path, cgroup, bug, broker) as systemd:
        state = "mbusd/bridge/state"
        for lives in (1, 2):
            try:
                await listener.until(lambda ear, lives=lives: ear.payloads(state).count("online") >= lives)  # type: ignore[misc]  # a default argument
            except AssertionError:
                pytest.skip(f"systemd does not get as far as that here: {systemd.said} {log.read_text('utf-8')}")
            assert "Traceback" not in log.read_text("utf-8")
            await listener.say("mbusd/bridge/request/read", "heat")
            await listener.until(lambda ear, lives=lives: ear.payloads(state).count("offline") >= lives)  # type: ignore[misc]  # a default argument
        await listener.until(lambda ear: ear.payloads(state).count("online") >= 3)
    said = log.read_text("utf-8")
    assert said.count("no progress on cellar" if bug == "waits" else "Fatal Python error: Aborted") == 2
