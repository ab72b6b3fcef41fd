"""The composition root: builds the bus side and the sink side, lets them meet, supervises, stops."""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime

from mbusd import __version__, config, systemd
from mbusd.model import ChangeMeter, Command, Event, Outcome, ReadAll, ReadNow, Scan
from mbusd.poller import Poller
from mbusd.profiles import Shelf, shelf_of
from mbusd.settings import Settings
from mbusd.sinks.mqtt import Broker
from mbusd.sinks.publisher import Publisher
from mbusd.sinks.topics import Asked, Message

log = logging.getLogger(__name__)

STUCK_SECONDS = 600.0  # longer than the longest read-out: 32 telegrams at 300 Bd, each asked for three times
METERS_SECONDS = 5.0  # the list of meters is said this often at the most
LEARNING_SECONDS = 2.0  # for the broker to tell what was retained before we came
BIRTH_SECONDS = 2.0  # Home Assistant has said that it is there; let it take a breath


class Daemon:
    """Buses, meters and one broker, alive until cancelled. `shelf`: what is known of makers' meters."""

    def __init__(self, settings: Settings, shelf: Shelf | None = None) -> None:
        self.started = datetime.now(UTC)
        self.publisher = Publisher(settings, __version__, self.started, config.public(settings))
        self.broker = Broker(
            settings.mqtt,
            will=self.publisher.will,
            subscriptions=self.publisher.subscriptions,
            received=self._received,
        )
        self.pollers = [Poller.of(bus, self._emit, shelf or Shelf()) for bus in settings.buses]
        self._allows_writes = settings.mqtt.allow_writes
        self._tasks: set[asyncio.Task[None]] = set()
        self._meters_said = False

    async def run(self) -> None:
        """Everything at once, until cancelled. A bug in one part ends all of it: systemd starts it again."""
        self._say(self.publisher.greeting())
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.broker.run(self.publisher.farewell), name="mqtt")
                group.create_task(self._after_learning(), name="leftovers")
                for poller in self.pollers:
                    group.create_task(poller.run(), name=f"bus {poller.name}")
                group.create_task(self._feed_watchdog(), name="watchdog")
                systemd.notify("READY=1")
        finally:
            systemd.notify("STOPPING=1")
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _emit(self, event: Event) -> None:
        self._say(self.publisher.take(event))
        if self.publisher.meters_changed and not self._meters_said:
            self._meters_said = True
            asyncio.get_running_loop().call_later(METERS_SECONDS, self._say_meters)

    def _say_meters(self) -> None:
        self._meters_said = False
        self._say(self.publisher.meters())

    def _say(self, messages: Iterator[Message]) -> None:
        for message in messages:
            self.broker.publish(message)

    def _received(self, topic: str, payload: str, retained: bool) -> None:  # noqa: FBT001 - the broker's callback
        if self.publisher.is_birth(topic, payload):
            self._start(self._after_birth())
            return
        if self.publisher.learn(topic, payload):
            return
        if not retained:
            self._say(self.publisher.correction(topic, payload))
        asked = self.publisher.asked(topic, payload)
        if asked is None:
            return
        if retained:
            log.warning("ignored a retained request on %s; publish requests without retain", topic)
            return
        self._start(self._obey(asked))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _obey(self, asked: Asked) -> None:
        outcome = Outcome(error=asked.error) if asked.command is None else await self.execute(asked.command)
        if outcome.error:
            log.info("request failed: %.300s", outcome.error)
        self._say(self.publisher.answer(asked, outcome))

    async def execute(self, command: Command) -> Outcome:
        """What a command brings; every failure is an outcome."""
        match command:
            case ReadNow(meter) | ChangeMeter(meter):
                poller = next((poller for poller in self.pollers if poller.knows(meter)), None)
                if poller is None:
                    return Outcome(error=f"there is no meter '{meter}'")
                return await (poller.read(meter) if isinstance(command, ReadNow) else self._change(poller, command))
            case Scan():
                return await self._scan(command)
            case ReadAll():
                outcomes = await asyncio.gather(*(poller.read_all() for poller in self.pollers))
                failed = {name: why for outcome in outcomes for name, why in outcome.failed.items()}
                return Outcome(readings=tuple(r for o in outcomes for r in o.readings), failed=failed)

    async def _change(self, poller: Poller, command: ChangeMeter) -> Outcome:
        if not self._allows_writes:
            return Outcome(error=f"{command.what} is refused: mqtt.allow_writes is off")
        return await poller.change(command)

    async def _scan(self, command: Scan) -> Outcome:
        names = ", ".join(poller.name for poller in self.pollers)
        wanted = [poller for poller in self.pollers if command.bus in (poller.name, None)]
        if len(wanted) != 1:
            return Outcome(error=f'which bus? {{"bus": name}}, one of {names}')
        return wanted[0].cancel_scan() if command.is_cancel else await wanted[0].scan(command.mode)

    async def _after_birth(self) -> None:
        await asyncio.sleep(BIRTH_SECONDS)
        self.broker.say_everything()
        self._say(self.publisher.after_birth())

    async def _after_learning(self) -> None:
        await self.broker.connected.wait()
        await asyncio.sleep(LEARNING_SECONDS)
        self._say(self.publisher.learnt())

    async def _feed_watchdog(self) -> None:
        wanted = systemd.watchdog_seconds()
        while wanted is not None:
            stuck = [poller.name for poller in self.pollers if time.monotonic() - poller.alive_at > STUCK_SECONDS]
            if stuck:
                log.error("no progress on %s for %d s: leaving it to systemd", ", ".join(stuck), STUCK_SECONDS)
                return
            systemd.notify("WATCHDOG=1")
            await asyncio.sleep(wanted / 3)


async def serve(settings: Settings) -> None:
    """Run the daemon until SIGTERM or SIGINT."""
    shelf, problems = shelf_of(settings.profiles)
    for problem in problems:
        log.warning("%s; this profile is left out", problem)
    task = asyncio.create_task(Daemon(settings, shelf).run(), name="daemon")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
    log.info("stopped")
