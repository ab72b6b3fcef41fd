"""The broker: one connection, kept for ever; an outbox that never makes anybody wait and never loses what still counts.

The only file that knows aiomqtt. State is kept by topic, the latest counts; after each connection, and when Home
Assistant has started, all of it is said again, so nothing stale stays behind.
"""

import asyncio
import itertools
import logging
import random
import ssl
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import aiomqtt

from mbusd.settings import MqttSettings
from mbusd.sinks.topics import Message

log = logging.getLogger(__name__)

RECONNECT_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)  # the last for ever
LAST_WORDS_SECONDS = 3.0
SUBSCRIPTION_REFUSED = 0x80
MOST_UNIQUE = 1000  # answers and events that wait for a broker that is away; the oldest go first

Received = Callable[[str, str, bool], None]
"""Takes topic, payload, retained."""


class Broker:
    """What is to be said to the broker, and the task that says it."""

    def __init__(self, settings: MqttSettings, will: Message, subscriptions: Iterable[str], received: Received) -> None:
        self._settings = settings
        self._will = will
        self._subscriptions = tuple(subscriptions)
        self._received = received
        self._retained: dict[str, Message] = {}
        self._outbox: dict[tuple[str, int], Message] = {}
        self._numbers = itertools.count(1)
        self._news = asyncio.Event()
        self._logger = logging.getLogger("paho")
        # the same for all connections of this process: the broker ends the one before when the next one begins
        self._client_id = settings.client_id or f"mbusd-{random.getrandbits(48):012x}"
        self.connected = asyncio.Event()

    @property
    def name(self) -> str:
        """Where the broker is, for a log."""
        return f"{self._settings.host}:{self._port}"

    @property
    def _port(self) -> int:
        return self._settings.port or (1883 if self._settings.tls is None else 8883)

    def publish(self, message: Message) -> None:
        """Say it as soon as the broker listens; returns at once."""
        if message.is_fleeting and not self.connected.is_set():
            return
        if message.retain:
            self._retained.pop(message.topic, None)
            if message.payload:
                self._retained[message.topic] = message
        self._outbox.pop((message.topic, 0), None)  # a later message on the topic stands in for this one
        self._outbox[message.topic, next(self._numbers) if message.is_unique else 0] = message
        if len(self._outbox) > MOST_UNIQUE:
            passing = [key for key, waiting in self._outbox.items() if waiting.is_unique and not waiting.retain]
            for key in passing[:-MOST_UNIQUE]:
                del self._outbox[key]
        self._news.set()

    def say_everything(self) -> None:
        """Queue all that is retained once more; what waits already keeps its order, behind it."""
        waiting = {message.topic for message in self._outbox.values()}
        again = {(topic, 0): message for topic, message in self._retained.items() if topic not in waiting}
        self._outbox = again | self._outbox
        self._news.set()

    async def run(self, last_words: Callable[[], Iterable[Message]]) -> NoReturn:
        """Connect, talk, reconnect, until cancelled; then say `last_words` and disconnect."""
        asyncio.get_running_loop().set_exception_handler(_overhear)
        failures = 0
        reason = ""
        while True:
            try:
                async with self._client() as client:
                    log.info("connected to the broker %s", self.name)
                    failures, reason = 0, ""
                    await self._talk(client, last_words)
            except (aiomqtt.MqttError, OSError, ssl.SSLError) as error:
                trouble = self._trouble(error)
                if trouble != reason:
                    log.warning("%s; trying again", trouble)
                reason = trouble
            finally:
                self.connected.clear()
            _insist_on_cancellation()
            pause = RECONNECT_SECONDS[min(failures, len(RECONNECT_SECONDS) - 1)]
            failures += 1
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - no secret, only not in step

    def _client(self) -> aiomqtt.Client:
        settings = self._settings
        return aiomqtt.Client(
            settings.host,
            self._port,
            username=settings.username,
            password=settings.read_password(),
            identifier=self._client_id,
            keepalive=settings.keepalive,
            will=aiomqtt.Will(self._will.topic, self._will.payload, qos=1, retain=True),
            tls_context=self._tls(),
            logger=self._logger,
        )

    def _tls(self) -> ssl.SSLContext | None:
        tls = self._settings.tls
        if tls is None:
            return None
        for path in filter(None, (tls.ca_file, tls.cert_file, tls.key_file)):
            path.open("rb").close()  # the ssl module does not tell which file is missing
        context = ssl.create_default_context(cafile=None if tls.ca_file is None else str(tls.ca_file))
        if tls.cert_file is not None:
            context.load_cert_chain(tls.cert_file, tls.key_file)
        return context

    def _trouble(self, error: Exception) -> str:
        text = str(error).strip() or type(error).__name__
        if isinstance(error, OSError) and error.filename is not None:
            return f"cannot read {error.filename}: {error.strerror}"
        if isinstance(error, ssl.SSLError):
            return f"mqtt.tls: ca_file, cert_file or key_file is no certificate or key in PEM: {text}"
        lower = text.lower()
        if "not authori" in lower or "bad user name" in lower:
            who = self._settings.username
            return f"the broker {self.name} refuses the login of {who or 'nobody (no username is set)'}: {text}"
        return f"the broker {self.name} is away: {text}"

    async def _talk(self, client: aiomqtt.Client, last_words: Callable[[], Iterable[Message]]) -> None:
        """Listen and speak until the connection breaks (MqttError) or we are told to stop."""
        tasks = {
            asyncio.create_task(self._listen(client), name="mqtt: listen"),
            asyncio.create_task(self._speak(client), name="mqtt: speak"),
        }
        try:
            _insist_on_cancellation()
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except asyncio.CancelledError:
            await _stop(tasks)
            await self._take_leave(client, last_words())
            raise
        finally:
            self.connected.clear()
            await _stop(tasks)

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            payload = (
                message.payload if isinstance(message.payload, bytes | bytearray) else str(message.payload).encode()
            )
            self._received(str(message.topic), payload.decode("utf-8", "replace"), bool(message.retain))

    async def _speak(self, client: aiomqtt.Client) -> None:
        await self._subscribe(client)
        self._outbox = {key: message for key, message in self._outbox.items() if not message.is_fleeting}
        self.say_everything()
        self.connected.set()
        while True:
            while self._outbox:
                key, message = next(iter(self._outbox.items()))
                await self._send(client, message)
                if self._outbox.get(key) is message:
                    del self._outbox[key]
            self._news.clear()
            await self._news.wait()

    async def _subscribe(self, client: aiomqtt.Client) -> None:
        for topic in self._subscriptions:
            granted = await client.subscribe(topic, qos=1)
            if any(getattr(code, "is_failure", code == SUBSCRIPTION_REFUSED) for code in granted):
                log.warning("the broker %s does not let us subscribe to %s", self.name, topic)

    async def _send(self, client: aiomqtt.Client, message: Message) -> None:
        payload = message.payload.encode("utf-8", "replace")  # an answer may quote half a surrogate pair
        await client.publish(message.topic, payload, qos=message.qos, retain=message.retain)

    async def _take_leave(self, client: aiomqtt.Client, last_words: Iterable[Message]) -> None:
        last = {message.topic: message for message in last_words}
        waiting = [message for message in self._outbox.values() if message.topic not in last]
        try:
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                for message in (*last.values(), *waiting):
                    await self._send(client, message)
        except (aiomqtt.MqttError, TimeoutError) as error:
            log.info("the broker did not hear our leave: %s", error)


def _overhear(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Keep the log free of what aiomqtt leaves behind where a connection breaks: we know of that already.

    It may still ask to write to its closed socket, and one of its futures may keep the reason to itself.
    """
    error, what = context.get("exception"), str(context["message"])
    writes = isinstance(error, OSError | ValueError) and "add_writer" in what
    keeps = isinstance(error, OSError | aiomqtt.MqttError) and what == "Future exception was never retrieved"
    if writes or keeps:
        log.debug("%s: %s", what, error)
    else:
        loop.default_exception_handler(context)


def _insist_on_cancellation() -> None:
    """asyncio.wait_for, on which aiomqtt is built, loses a cancellation that comes with the answer (Python < 3.12)."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _stop(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel until it is heard, see above; what broke meanwhile has been told by the first that broke."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        done, pending = await asyncio.wait(pending, timeout=0.1)
        await asyncio.gather(*done, return_exceptions=True)
