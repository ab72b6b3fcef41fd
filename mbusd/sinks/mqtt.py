"""The broker: one connection, kept for ever, to one of those that are listed; nobody waits for it.

What it acknowledges is done, and nothing else is. After each connection, when Home Assistant has started, and when an
old connection was heard to end, all that is retained is said again, so nothing stale stays behind.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from mbusd.configuration.settings import BrokerAddress, MqttSettings
from mbusd.sinks.connection import Connection, LoginRefused, Lost, connected, overhear
from mbusd.sinks.obituaries import Obituaries
from mbusd.sinks.rota import Rota
from mbusd.sinks.talk import Patience, Talk
from mbusd.sinks.topics import ONLINE, Message

if TYPE_CHECKING:
    from mbusd.spool import Spool

log = logging.getLogger(__name__)

LONGEST_SUBSCRIBE = 600.0
RESTLESS = 3  # connections in a row that did not hold: something is wrong that another try does not mend

Received = Callable[[str, str, bool], None]
"""Takes topic, payload, retained."""


class Broker:
    """What is to be said to the broker, and the task that says it. `spool`: keeps what must not be lost."""

    def __init__(
        self,
        settings: MqttSettings,
        will: Message,
        subscriptions: Iterable[str],
        received: Received,
        *,
        spool: "Spool | None" = None,
        patience: Patience | None = None,
    ) -> None:
        self._settings = settings
        self._will = will
        self._subscriptions = tuple(subscriptions)
        self._received = received
        self._patience = own = patience or Patience()
        self._rota = Rota(settings.addresses, own.reconnect, own.steady, own.back)
        self._talk = Talk(own, spool, self._answered)
        self._obituaries = Obituaries(self._is_called_dead, self.say_everything)
        self._told: dict[BrokerAddress, str] = {}  # what is known to be wrong
        self._tried_at = time.monotonic()
        # the same for all connections of this process: the broker ends the one before when the next one begins
        self._client_id = settings.client_id or f"mbusd-{random.getrandbits(48):012x}"
        self.connected = asyncio.Event()

    @property
    def name(self) -> str:
        """Where the broker is, for a log."""
        return str(self._rota.turn)

    @property
    def alive_at(self) -> float:
        """When this side last made progress, be it a vain try to connect, by time.monotonic()."""
        return max(self._tried_at, self._talk.alive_at)

    def publish(self, message: Message) -> None:
        """Say it as soon as the broker listens; returns at once."""
        self._talk.add(message)

    def say_everything(self) -> None:
        """Queue all that is retained once more; what waits already keeps its order, behind it."""
        self._talk.outbox.say_everything()
        self._talk.news.set()

    async def run(self, last_words: Callable[[], Iterable[Message]]) -> NoReturn:
        """Connect, talk, reconnect, until cancelled; then say `last_words`, disconnect, and make safe what waits."""
        asyncio.get_running_loop().set_exception_handler(overhear)
        stream = self._talk.stream
        if stream is None:
            await self._stay_connected(last_words)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(stream.keep(), name="mqtt: keep")
                await self._stay_connected(last_words)
        finally:
            await stream.close()

    async def _stay_connected(self, last_words: Callable[[], Iterable[Message]]) -> NoReturn:
        patience = self._patience
        while True:
            address = self._rota.turn
            self._tried_at = time.monotonic()
            began: float | None = None
            try:
                async with connected(address, self._settings, self._client_id, self._will, patience.answer) as line:
                    began = time.monotonic()
                    await self._use(line, last_words)
                    pause = self._rota.back()
            except Lost as error:
                pause = self._rota.failed() if began is None else self._rota.lost(time.monotonic() - began)
                if isinstance(error, LoginRefused) and pause:
                    pause = max(pause, patience.refused)
                self._complain(address, str(error))
            finally:
                self.connected.clear()
            _insist_on_cancellation()
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - no secret, only not in step

    def _complain(self, address: BrokerAddress, trouble: str) -> None:
        """Once, until the broker takes what we say."""
        if self._rota.short == RESTLESS:
            trouble = (
                f"the broker {address} ends each connection as soon as it is made: is mqtt.client_id in use elsewhere, "
                f"or does it not take what is published? ({trouble})"
            )
        elif self._rota.short > RESTLESS:
            return
        if self._told.get(address) != trouble:
            next_one = "again" if self._rota.turn == address else self.name
            log.warning("%s; trying %s", trouble, next_one)
        self._told[address] = trouble

    async def _use(self, line: Connection, last_words: Callable[[], Iterable[Message]]) -> None:
        """Listen and speak until the connection breaks (Lost), we are told to stop, or the first broker is back."""
        speaking = asyncio.create_task(self._speak(line), name="mqtt: speak")
        tasks = {speaking, asyncio.create_task(self._listen(line), name="mqtt: listen")}
        if self._rota.look_back is not None:
            tasks.add(asyncio.create_task(self._look_back(self._rota.look_back), name="mqtt: look back"))
        left = set(tasks)
        try:
            _insist_on_cancellation()
            while speaking in left:
                done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            await self._turn_away(line)
        except Lost:
            await self._turn_away(line)
            raise
        except asyncio.CancelledError:
            self._talk.leave()
            await asyncio.wait({speaking}, timeout=self._patience.leave / 3)
            await _stop(tasks)
            await self._take_leave(line, last_words())
            raise
        finally:
            self.connected.clear()
            self._obituaries.forget()
            await _stop(tasks)

    async def _turn_away(self, line: Connection) -> None:
        """We go to another broker; those who are left at this one, which may not be dead, shall not wait for us."""
        if len(self._settings.addresses) > 1:
            with suppress(Lost, TimeoutError):
                async with asyncio.timeout(self._patience.leave / 3):
                    await line.publish(replace(self._will, qos=0))

    async def _look_back(self, seconds: float) -> None:
        """Ends when the first broker lets us in."""
        first = self._rota.first
        while True:
            await asyncio.sleep(seconds)
            try:
                async with connected(first, self._settings, f"{self._client_id}-back", None, self._patience.answer):
                    break
            except Lost as error:
                log.debug("%s", error)
        log.info("the broker %s is back; leaving %s", first, self.name)
        self._talk.leave()

    async def _listen(self, line: Connection) -> None:
        async for topic, payload, retained in line.received():
            if not retained:
                self._talk.echo.heard(topic)
                if topic == self._will.topic and payload != ONLINE:
                    self._obituaries.heard()
                    continue
            self._received(topic, payload, retained)

    def _is_called_dead(self) -> None:
        self._received(self._will.topic, self._will.payload, False)  # noqa: FBT003 - the shape of the callback

    async def _speak(self, line: Connection) -> None:
        refused = await line.subscribe(self._subscriptions)
        insisting = asyncio.create_task(self._insist(line, refused), name="mqtt: subscribe")
        holds = asyncio.get_running_loop().call_later(self._patience.steady, self._holds)
        self.connected.set()
        try:
            granted = [topic for topic in self._subscriptions if topic not in refused]
            await self._talk.speak(line, granted, is_careful=self._rota.short >= RESTLESS)
        finally:
            holds.cancel()
            insisting.cancel()
            await asyncio.gather(insisting, return_exceptions=True)

    async def _insist(self, line: Connection, refused: list[str]) -> None:
        """A cluster that has just lost a node refuses what it grants a moment later."""
        if not refused:
            return
        log.warning("the broker %s does not let us subscribe to %s", line.name, " and ".join(refused))
        pause = self._patience.subscribe
        with suppress(Lost):  # the listener has met it, too
            while refused:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_SUBSCRIBE)
                refused = await line.subscribe(refused)
            log.info("the broker %s lets us subscribe now", line.name)

    def _answered(self) -> None:
        """The broker not only accepts, it also takes what we say."""
        if self._rota.short < RESTLESS:
            self._told.clear()
            log.info("connected to the broker %s", self.name)

    def _holds(self) -> None:
        """It does not throw us out, either."""
        if self._rota.short >= RESTLESS:
            self._told.clear()
            log.info("connected to the broker %s", self.name)
        self._rota.holds()

    async def _take_leave(self, line: Connection, last_words: Iterable[Message]) -> None:
        last = {message.topic: message for message in last_words}
        waiting = [message for message in self._talk.outbox.waiting if message.topic not in last]
        try:
            async with asyncio.timeout(self._patience.leave):
                await asyncio.gather(*(line.publish(message) for message in (*last.values(), *waiting)))
        except (Lost, TimeoutError) as error:
            log.info("the broker did not hear our leave: %s", error)


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
