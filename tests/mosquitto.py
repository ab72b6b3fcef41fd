"""A real mosquitto on a free port, to be killed and started again, and an ear that hears what is published there."""

import asyncio
import shutil
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiomqtt
import pytest

PATIENCE = 30.0  # seconds, for a machine that is busy with other things


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@dataclass
class Mosquitto:
    """The broker. It keeps nothing on disk: started again it is empty."""

    port: int
    config: Path
    process: subprocess.Popen[str] | None = None
    log: list[str] = field(default_factory=list)
    _reader: threading.Thread | None = None

    def start(self) -> None:
        """Come back when it listens."""
        self.process = subprocess.Popen(  # noqa: S603 - the broker that the test asked for
            [_program(), "-c", str(self.config)], stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if line.rstrip().endswith("running"):
                break
        else:
            raise AssertionError(f"mosquitto did not start: {self.log}")
        self._reader = threading.Thread(target=self.log.extend, args=(self.process.stderr,), daemon=True)
        self._reader.start()

    def kill(self) -> None:
        """End it without a word to its clients."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            if self._reader is not None:
                self._reader.join()
            assert self.process.stderr is not None
            self.process.stderr.close()
            self.process = self._reader = None


def _program() -> str:
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("mosquitto is not installed")
    return program


@contextmanager
def mosquitto(folder: Path, *options: str, starts: bool = True) -> Iterator[Mosquitto]:
    """A broker with lines of mosquitto.conf; `starts=False`: only a port, start it yourself."""
    _program()
    port = free_port()
    lines = [f"listener {port} 127.0.0.1", "log_type information", "log_dest stderr", "connection_messages false"]
    if not any(option.startswith("allow_anonymous") for option in options):
        lines.append("allow_anonymous true")
    if Path("/").owner() == Path.home().owner():
        lines.append("user root")  # or it would become a user who may not read the test's folder
    config = folder / "mosquitto.conf"
    config.write_text("\n".join([*lines, *options, ""]))
    broker = Mosquitto(port, config)
    try:
        if starts:
            broker.start()
        yield broker
    finally:
        broker.kill()


def with_password(folder: Path, user: str, password: str) -> tuple[str, ...]:
    """Options of a broker that knows this one user."""
    file = folder / "passwords"
    file.write_text(f"{user}:{password}\n")
    subprocess.run(["mosquitto_passwd", "-U", str(file)], check=True)  # noqa: S603, S607 - encrypts it in place
    return ("allow_anonymous false", f"password_file {file}")


def with_tls(folder: Path, names: str = "IP:127.0.0.1,DNS:localhost", days: int = 2) -> tuple[str, ...]:
    """Options of a broker with a certificate for these names by the authority in `folder`/ca.pem."""
    authority(folder, "ca")
    certificate, key = certified(folder, "broker", names, days)
    return (f"cafile {folder / 'ca.pem'}", f"certfile {certificate}", f"keyfile {key}")


def certified(folder: Path, name: str, names: str = "", days: int = 2) -> tuple[Path, Path]:
    """A certificate by the authority in `folder`/ca.pem, and its key; of negative days: it has expired."""
    key, request, certificate, extra = (folder / f"{name}.{end}" for end in ("key", "csr", "pem", "ext"))
    extra.write_text(f"subjectAltName={names}\n" if names else "")
    _openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={name}")
    signed = ("-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-CAcreateserial", "-extfile", extra)
    _openssl("x509", "-req", "-in", request, *signed, "-out", certificate, "-days", str(days))
    return certificate, key


def authority(folder: Path, name: str) -> Path:
    """A certificate authority of its own; gives the file of its certificate."""
    certificate = folder / f"{name}.pem"
    out = ("-keyout", folder / f"{name}.key", "-out", certificate)
    extensions = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", *out, "-days", "2", "-subj", f"/CN={name}", *extensions)
    return certificate


def _openssl(*words: str | Path) -> None:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed")
    subprocess.run([program, *map(str, words)], check=True, capture_output=True)  # noqa: S603


@dataclass(frozen=True)
class Heard:
    """One message as a subscriber gets it; `retained` = it was there before the subscription."""

    topic: str
    payload: str
    retained: bool


@dataclass
class Ear:
    """Everything that was published since, in order, and the last payload of each topic."""

    client: aiomqtt.Client
    listening: asyncio.Task[None] | None = None
    heard: list[Heard] = field(default_factory=list)
    last: dict[str, str] = field(default_factory=dict)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def listen(self) -> None:
        async for message in self.client.messages:
            assert isinstance(message.payload, bytes)
            heard = Heard(str(message.topic), message.payload.decode("utf-8", "replace"), bool(message.retain))
            async with self._news:
                self.heard.append(heard)
                self.last[heard.topic] = heard.payload
                self._news.notify_all()

    async def stop(self) -> None:
        """Hear no more; the broker may go."""
        if self.listening is not None:
            self.listening.cancel()
            await asyncio.gather(self.listening, return_exceptions=True)

    async def until(self, fulfilled: Callable[["Ear"], bool]) -> None:
        """Wait until that is true of what was heard."""
        try:
            async with asyncio.timeout(PATIENCE), self._news:
                await self._news.wait_for(lambda: fulfilled(self))
        except TimeoutError:
            raise AssertionError(f"not heard within {PATIENCE} s; the last of each topic: {self.last}") from None

    async def until_last(self, topic: str, payload: str) -> None:
        """Wait until that is the last word on a topic."""
        await self.until(lambda ear: ear.last.get(topic) == payload)

    async def said(self, topic: str) -> str:
        """What is said on a topic, as soon as anything is."""
        await self.until(lambda ear: bool(ear.last.get(topic)))
        return self.last[topic]

    async def say(self, topic: str, payload: str | bytes, *, retain: bool = False) -> None:
        await self.client.publish(topic, payload, qos=1, retain=retain)

    def payloads(self, topic: str) -> list[str]:
        """All that was said on a topic."""
        return [heard.payload for heard in self.heard if heard.topic == topic]


@asynccontextmanager
async def ear(port: int, topic: str = "#", **login: str) -> AsyncIterator[Ear]:
    """Somebody who is subscribed to everything."""
    async with aiomqtt.Client("127.0.0.1", port, **login) as client:  # type: ignore[arg-type]  # username, password
        one = Ear(client)
        await client.subscribe(topic, qos=1)
        one.listening = asyncio.create_task(one.listen())
        try:
            yield one
        finally:
            await one.stop()


async def retained(port: int) -> dict[str, str]:
    """What the broker has retained. A message of our own marks the end: it comes after all of that."""
    async with ear(port) as listener:
        await listener.say("end/of/what/is/retained", "1")
        await listener.said("end/of/what/is/retained")
        return {heard.topic: heard.payload for heard in listener.heard if heard.retained}
