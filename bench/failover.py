"""A cluster of brokers under load, of which one node after the other is killed: python -m bench.failover [--seconds N].

Three nodes of NATS with JetStream and MQTT on this machine, one Broker with all three as `hosts`, and somebody who is
subscribed at the last. The first is killed, comes back, and the second is killed. Every message is numbered.
"""

import argparse
import asyncio
import logging
import shutil
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiomqtt

from mbusd.configuration.settings import MqttSettings
from mbusd.sinks.mqtt import Broker
from mbusd.sinks.talk import Patience
from mbusd.sinks.topics import Message
from mbusd.spool import Spool

NODES = 3
START_SECONDS = 90.0
STREAM, STATE, WILL = "load/event", "load/state", "load/bridge/state"


@dataclass
class Node:
    """One server; what it stores stays when it is killed."""

    program: str
    config: Path
    port: int  # of MQTT
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.config.with_suffix(".log").open("ab") as log:
            self.process = subprocess.Popen([self.program, "-c", str(self.config)], stdout=log, stderr=log)  # noqa: S603

    def kill(self) -> None:
        """End it without a word to its clients and to the others."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    async def serves(self) -> None:
        """Wait until it takes a message, keeps it and hands it on."""
        async with asyncio.timeout(START_SECONDS):
            while not await self._passes_on():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.2)

    async def _passes_on(self) -> bool:
        try:
            async with asyncio.timeout(10), aiomqtt.Client("127.0.0.1", self.port, timeout=5) as client:
                await client.subscribe(f"is/there/{self.port}", qos=1)
                await client.publish(f"is/there/{self.port}", "1", qos=1)
                await anext(aiter(client.messages))
        except (aiomqtt.MqttError, OSError):
            return False
        return True


@dataclass
class Outcome:
    """What came of it."""

    published: int = 0
    heard: Counter[int] = field(default_factory=Counter)
    state: str = ""
    silences: list[float] = field(default_factory=list)
    """The longest, in seconds, that the listener heard nothing after each kill."""

    @property
    def lost(self) -> int:
        return len(set(range(self.published)) - self.heard.keys())

    @property
    def repeated(self) -> int:
        return sum(count - 1 for count in self.heard.values())


def program() -> str | None:
    """The server, where it is installed."""
    return shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/usr/local/sbin")


@asynccontextmanager
async def cluster(name: str, folder: Path) -> AsyncIterator[list[Node]]:
    """Three nodes that serve."""
    ports = [_free_ports(NODES) for _ in range(3)]
    nodes = [Node(name, folder / f"n{number}.conf", port) for number, port in enumerate(ports[0])]
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports[2])
    for number, node in enumerate(nodes):
        node.config.write_text(f"""
server_name: n{number}
listen: "127.0.0.1:{ports[1][number]}"
jetstream {{ store_dir: "{folder}/js{number}", max_mem: 64M, max_file: 512M }}
mqtt {{ listen: "127.0.0.1:{node.port}" }}
cluster {{ name: C, listen: "127.0.0.1:{ports[2][number]}", routes: [{routes}] }}
""")
    try:
        for node in nodes:
            node.start()
        for node in nodes:
            await node.serves()
        yield nodes
    finally:
        for node in nodes:
            node.kill()


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


async def tried(name: str, folder: Path, seconds: float, rate: float, patience: Patience | None = None) -> Outcome:
    """Publish at that rate, kill the node in use in each third of the time; gives what was heard."""
    outcome = Outcome()
    async with cluster(name, folder) as nodes:
        hosts = tuple(f"127.0.0.1:{node.port}" for node in nodes)
        offline = Message(WILL, "offline")
        spool = Spool(folder / "spool.sqlite", most_bytes=1 << 26, most_age=86400.0)
        settings = MqttSettings(hosts=hosts)
        broker = Broker(settings, offline, (WILL,), lambda *_: None, spool=spool, patience=patience)
        async with aiomqtt.Client("127.0.0.1", nodes[-1].port, timeout=30) as client:
            await client.subscribe("load/#", qos=1)
            listening = asyncio.create_task(_listen(client, outcome))
            running = asyncio.create_task(broker.run(lambda: (offline,)))
            await broker.connected.wait()
            broker.publish(Message(WILL, "online"))
            await _load(broker, outcome, seconds / 4, rate)
            nodes[0].kill()
            outcome.silences.append(0.0)
            await _load(broker, outcome, seconds / 4, rate)
            await _all_heard(outcome)
            nodes[0].start()
            await nodes[0].serves()
            await _load(broker, outcome, seconds / 4, rate)
            nodes[1].kill()
            outcome.silences.append(0.0)
            await _load(broker, outcome, seconds / 4, rate)
            await _all_heard(outcome)
            running.cancel()
            listening.cancel()
            await asyncio.gather(running, listening, return_exceptions=True)
        spool.close()
    return outcome


async def _load(broker: Broker, outcome: Outcome, seconds: float, rate: float) -> None:
    for _ in range(int(seconds * rate)):
        number = str(outcome.published)
        broker.publish(Message(STREAM, number, retain=False, is_unique=True, is_stream=True))
        broker.publish(Message(STATE, number))
        outcome.published += 1
        await asyncio.sleep(1 / rate)


async def _listen(client: aiomqtt.Client, outcome: Outcome) -> None:
    last = time.monotonic()
    async for message in client.messages:
        payload = message.payload.decode() if isinstance(message.payload, bytes) else ""
        now = time.monotonic()
        if outcome.silences:
            outcome.silences[-1] = max(outcome.silences[-1], now - last)
        last = now
        if message.topic.value == STREAM:
            outcome.heard[int(payload)] += 1
        elif message.topic.value == STATE:
            outcome.state = payload


async def _all_heard(outcome: Outcome) -> None:
    try:
        async with asyncio.timeout(START_SECONDS):
            while outcome.lost or outcome.state != str(outcome.published - 1):  # noqa: ASYNC110 - two conditions
                await asyncio.sleep(0.1)
    except TimeoutError:
        pass


def main() -> None:
    """Prints the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=40.0)
    arguments.add_argument("--rate", type=float, default=50.0, help="events a second; as many states besides")
    given = arguments.parse_args()
    name = program()
    if name is None:
        raise SystemExit("nats-server is not installed (Debian: apt-get install nats-server)")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with tempfile.TemporaryDirectory() as folder:
        outcome = asyncio.run(tried(name, Path(folder), given.seconds, given.rate))
    print("| events | lost | heard twice | last state right | silence after each kill |\n|--:|--:|--:|---|---|")
    is_right = "yes" if outcome.state == str(outcome.published - 1) else f"no: {outcome.state}"
    silences = ", ".join(f"{seconds:.1f} s" for seconds in outcome.silences)
    print(f"| {outcome.published} | {outcome.lost} | {outcome.repeated} | {is_right} | {silences} |")


if __name__ == "__main__":
    main()
