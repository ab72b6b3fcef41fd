"""The health of the container: what docker/healthcheck.py says of the daemon's last will at a real broker."""

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiomqtt
import pytest

from mbusd.configuration.files import USUAL_FILE
from tests.mosquitto import Mosquitto, free_port, mosquitto
from tests.processes import clean_environment

PROGRAM = Path(__file__).parent.parent / "docker" / "healthcheck.py"
SECONDS = 10.0  # that it takes where nobody answers


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path) as running:
        yield running


def health(folder: Path, port: int, more: str = "") -> tuple[int, str]:
    """Exit code and words."""
    return health_of(folder, f"host: 127.0.0.1, port: {port}{more}")


def health_of(folder: Path, mqtt: str) -> tuple[int, str]:
    file = folder / "config.yaml"
    file.write_text(f"mqtt: {{{mqtt}}}\nbuses: [{{name: cellar, port: /dev/ttyUSB0}}]\n")
    said = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, str(PROGRAM), str(file)], capture_output=True, text=True, check=False, env=clean_environment()
    )
    assert not said.stderr
    return said.returncode, said.stdout.strip()


@pytest.mark.parametrize(("state", "expected"), [("online", (0, "online")), ("offline", (1, "'offline'"))])
async def test_the_broker_tells_how_the_daemon_is(
    broker: Mosquitto, tmp_path: Path, state: str, expected: tuple[int, str]
) -> None:
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.publish("other/bridge/state", state, qos=1, retain=True)
    code, said = health(tmp_path, broker.port, ", base_topic: other")
    assert code == expected[0]
    assert said.endswith(expected[1])


def test_without_a_broker_nothing_is_well(tmp_path: Path) -> None:
    with mosquitto(tmp_path, starts=False) as away:
        code, said = health(tmp_path, away.port)
    assert code == 1
    assert "refused" in said


async def test_one_of_several_brokers_is_enough(broker: Mosquitto, tmp_path: Path) -> None:
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.publish("mbusd/bridge/state", "online", qos=1, retain=True)
    assert health_of(tmp_path, f"hosts: ['127.0.0.1:{free_port()}', '127.0.0.1:{broker.port}']") == (0, "online")


def test_a_bad_configuration_is_named(tmp_path: Path) -> None:
    code, said = health(tmp_path, 1883, ", hots: localhost")
    assert code == 1
    assert "did you mean 'hosts'?" in said


def test_the_environment_alone_is_a_configuration(tmp_path: Path) -> None:
    if USUAL_FILE.exists():
        pytest.skip(f"{USUAL_FILE} is there")
    with mosquitto(tmp_path, starts=False) as away:
        variables = {"MBUSD_MQTT__HOST": "127.0.0.1", "MBUSD_MQTT__PORT": str(away.port)}
        said = subprocess.run(  # noqa: S603 - ourselves
            [sys.executable, str(PROGRAM)],
            capture_output=True,
            text=True,
            check=False,
            env=clean_environment() | variables | {"MBUSD_BUSES__0__PORT": "/dev/mbus"},
        )
    assert said.returncode == 1
    assert "refused" in said.stdout
    assert not said.stderr


@pytest.fixture
def silent() -> Iterator[int]:
    """A port where connections are taken and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


async def test_silent_brokers_do_not_make_the_good_one_wait(broker: Mosquitto, tmp_path: Path, silent: int) -> None:
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.publish("mbusd/bridge/state", "online", qos=1, retain=True)
    hosts = [f"127.0.0.1:{silent}", f"localhost:{silent}", f"127.0.0.1:{broker.port}"]
    began = time.monotonic()
    assert health_of(tmp_path, f"hosts: {hosts}") == (0, "online")
    assert time.monotonic() - began < SECONDS, "one after the other, each of the silent ones takes as long"


def test_silent_brokers_take_no_longer_than_docker_waits(tmp_path: Path, silent: int) -> None:
    text = (PROGRAM.parent.parent / "Dockerfile").read_text("utf-8")
    waits = re.search(r"^HEALTHCHECK .*--timeout=(\d+)s", text, re.MULTILINE)
    assert waits is not None
    began = time.monotonic()
    code, said = health_of(tmp_path, f"hosts: ['127.0.0.1:{silent}', 'localhost:{silent}']")
    assert time.monotonic() - began < float(waits[1])
    why = "no word on mbusd/bridge/state within 10 s"
    assert (code, said) == (1, f"127.0.0.1:{silent}: {why}; localhost:{silent}: {why}")
