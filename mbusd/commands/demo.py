"""demo: simulated bus, embedded broker and daemon in one process; prints what is published.

The only file that knows amqtt, which comes with the extra `demo`.
"""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

from mbusd import config
from mbusd.app import Daemon
from mbusd.commands.output import complain, say
from mbusd.printable import log_to
from mbusd.profiles import shelf_of
from mbusd.simulation.meters import household
from mbusd.simulation.simulator import SimulatedBus, SimulatedMeter
from mbusd.simulation.virtual_bus import opened

_WAYS = "scripts/demo brings it; with pipx: pipx inject mbusd amqtt; with uv: uv tool install --with amqtt ."
_CONFIG = """
mqtt: {{host: 127.0.0.1, port: {broker}}}
buses:
  - name: demo
    port: {bus}
    interval: 10s
    meters:
{meters}
"""


async def run(seconds: float | None) -> int:
    """Show everything until Ctrl-C, or for so many seconds; 0 only if readings arrived."""
    for name in ("amqtt", "transitions", "asyncio", "paho"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    log_to(sys.stderr, "%(levelname)s: %(message)s", logging.INFO)
    try:
        return await _show(seconds)
    except ModuleNotFoundError as error:
        complain(f"mbusd: the demo needs '{error.name}': {_WAYS}")
        return 1


async def _show(seconds: float | None) -> int:
    began = datetime.now().astimezone().replace(tzinfo=None)  # meters' clocks know no zone
    bus = SimulatedBus(household(began), began)
    read: set[str] = set()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "bus"
        async with opened(bus, link=link), _broker() as port:
            names = {meter.name for meter in bus.meters}
            settings = config.parse(_configuration(bus, link, port), "demo", {})
            say(f"simulated bus on {link}, broker on mqtt://127.0.0.1:{port}")
            tasks = [
                asyncio.create_task(_print_everything(port, names, read)),
                asyncio.create_task(Daemon(settings, shelf_of(None)[0]).run()),
                asyncio.create_task(stop.wait()),
            ]
            await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            failed = [task for task in tasks if task.done() and not task.cancelled() and task.exception()]
            for task in reversed(tasks):
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            for task in failed:
                task.result()
    missing = names - read
    say(f"readings of {len(read)} of {len(names)} meters arrived" + f"; missing: {sorted(missing)}" * bool(missing))
    return 0 if read else 1


def _configuration(bus: SimulatedBus, link: Path, broker: int) -> str:
    meters = "\n".join(f"      - {{name: {meter.name}, address: {_address(meter)}}}" for meter in bus.meters)
    return _CONFIG.format(bus=link, broker=broker, meters=meters)


def _address(meter: SimulatedMeter) -> str:
    return f'"{meter.secondary.digits}"' if meter.primary is None else str(meter.primary)


@contextlib.asynccontextmanager
async def _broker() -> AsyncIterator[int]:
    from amqtt.broker import Broker  # noqa: PLC0415 - an extra; who does not show the demo does not need it

    plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    with socket.socket() as probe:  # amqtt does not tell which port it got
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    broker = Broker({"listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}}, "plugins": plugins})
    await broker.start()
    try:
        yield port
    finally:
        await broker.shutdown()


async def _print_everything(port: int, names: set[str], read: set[str]) -> None:
    """Subscribe like any other program and print what comes."""
    from amqtt.client import MQTTClient  # noqa: PLC0415

    client = MQTTClient(config={"auto_reconnect": False})
    await client.connect(f"mqtt://127.0.0.1:{port}/")
    await client.subscribe([("#", 1)])
    while True:
        message = await client.deliver_message()
        if message is None:
            continue
        payload = bytes(message.data or b"").decode()
        say(f"{message.topic} " + (payload if len(payload) <= 200 else f"{payload[:200]}… ({len(payload)} characters)"))
        name = message.topic.removeprefix("mbusd/")
        if name in names:
            read.add(name)
