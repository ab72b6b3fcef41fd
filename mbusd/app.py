"""The composition root: builds the bus side and the sink side, lets them meet, supervises, stops."""

import asyncio
import contextlib
import faulthandler
import gc
import logging
import signal
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from mbusd import __version__, clock, config, exact_json, systemd, watchdog
from mbusd.buses import Buses
from mbusd.configuration.settings import Settings
from mbusd.exact_json import JsonValue
from mbusd.flood import FloodGate
from mbusd.memory import Memory
from mbusd.model import Command, Event, Outcome, SetLogLevel
from mbusd.orders import Orders, set_log_level
from mbusd.profiles import Shelf, shelf_of
from mbusd.sinks.mqtt import Broker
from mbusd.sinks.publisher import Publisher
from mbusd.sinks.requests import Asked
from mbusd.sinks.topics import Message

if TYPE_CHECKING:
    from mbusd.spool import Spool

log = logging.getLogger(__name__)

SELDOM = 50  # the collector looks at all meters a fifth as often as Python would: no bus is served meanwhile
METERS_SECONDS = 5.0  # the list of meters is said this often at the most
METERS_SHARE = 0.01  # of the processor's time, for the same: a block of flats has a long one
METERS_RATE = 50_000  # characters a second, for the same
LEARNING_SECONDS = 2.0  # for the broker to tell what was retained before we came
LASTING = ("mqtt", "homeassistant", "emoncms", "state_dir")  # settings that only a restart changes
SPOOL_FILE = "spool.sqlite"
BIRTH_SECONDS = 2.0  # Home Assistant has said that it is there; let it take a breath


Reread = Callable[[], Settings]
"""Reads the configuration again. Raises ConfigError."""


def _nothing_to_read() -> Settings:
    raise LookupError("there is no configuration file to read again")


class Daemon:
    """Buses, meters and one broker, alive until cancelled. `shelf`: what is known of makers' meters."""

    def __init__(
        self,
        settings: Settings,
        shelf: Shelf | None = None,
        memory: Memory | None = None,
        read_again: Reread = _nothing_to_read,
        *,
        spool: "Spool | None" = None,
    ) -> None:
        self._settings = settings
        self._read_again = read_again
        self._reloading = asyncio.Lock()
        self._memory = Memory() if memory is None else memory
        self.started = clock.now()
        self.publisher = Publisher(settings, __version__, self.started, config.public(settings))
        self.publisher.recall(self._memory.note)
        self.broker = Broker(
            settings.mqtt,
            will=self.publisher.will,
            subscriptions=self.publisher.subscriptions,
            received=self._received,
            spool=spool,
        )
        self._buses = Buses(settings.buses, self._emit, shelf or Shelf(), self._memory)
        self._orders = Orders(self._buses, self.reload, self._forget_left, allows_writes=settings.mqtt.allow_writes)
        self._tasks: set[asyncio.Task[None]] = set()
        self._spool = spool
        self._gate = FloodGate(lambda seconds, tell: asyncio.get_running_loop().call_later(seconds, tell))
        self._is_birth_heard = False
        self._meters_said = False
        self._meters_cost = 0.0  # seconds of the processor
        self._meters_size = 0  # characters

    async def run(self) -> None:
        """Everything at once, until cancelled. A bug in one part ends all of it: systemd starts it again."""
        gc.freeze()  # code and settings live as long as we do: the collector need not look at them again and again
        gc.set_threshold(*gc.get_threshold()[:2], SELDOM)
        self._say(self.publisher.greeting())
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.broker.run(self.publisher.farewell), name="mqtt")
                group.create_task(self._after_learning(), name="leftovers")
                group.create_task(self._buses.run(), name="buses")
                group.create_task(self._memory.keep(), name="memory")
                group.create_task(watchdog.watch(self._signs_of_life), name="watchdog")
                systemd.notify("READY=1")
                systemd.notify("STATUS=")
        finally:
            systemd.notify("STOPPING=1")
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._note()
            self._memory.save()  # what the buses have left at their end
            if self._spool is not None:
                self._spool.close()

    @property
    def requests_dropped(self) -> int:
        """How many, because there were too many at once."""
        return self._gate.dropped

    def _emit(self, event: Event) -> None:
        self._say(self.publisher.take(event))
        if self.publisher.meters_changed and not self._meters_said:
            self._meters_said = True
            pause = max(METERS_SECONDS, self._meters_cost / METERS_SHARE, self._meters_size / METERS_RATE)
            asyncio.get_running_loop().call_later(pause, self._say_meters)

    def _say_meters(self) -> None:
        self._meters_said = False
        began = time.thread_time()
        messages = tuple(self.publisher.meters())
        self._say(messages)
        self._note()  # kill -9 leaves no time for it
        self._meters_size = sum(len(message.payload) for message in messages)
        self._meters_cost = time.thread_time() - began

    def _note(self) -> None:
        for section, note in self.publisher.notes.items():
            self._memory.set_note(section, note)

    def _say(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self.broker.publish(message)

    def _received(self, topic: str, payload: str, retained: bool) -> None:  # noqa: FBT001 - the broker's callback
        if self.publisher.is_birth(topic, payload):
            if not self._is_birth_heard:
                self._is_birth_heard = True
                self._start(self._after_birth())
            return
        if self.publisher.learn(topic, payload):
            return
        if topic == self.publisher.will.topic:
            self._say(() if retained else self.publisher.correction(topic, payload))
            return
        if not self._gate.admits(time.monotonic()):
            return
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
        began = time.monotonic()
        outcome = Outcome(error=asked.error) if asked.command is None else await self.execute(asked.command)
        if outcome.error:
            log.info("request failed: %.300s", outcome.error)
        elif isinstance(asked.command, SetLogLevel):
            self._say(self.publisher.log_level(asked.command.level.strip().lower()))
        self._say(self.publisher.answer(asked, replace(outcome, took=time.monotonic() - began)))

    async def execute(self, command: Command) -> Outcome:
        """What a command brings; every failure is an outcome."""
        return await self._orders.execute(command)

    def _forget_left(self, meter: str) -> bool:
        """Whether an earlier life has left anything of a meter at the broker: it goes."""
        left = tuple(self.publisher.forget_left(meter))
        self._say(left)
        return bool(left)

    def hang_up(self) -> None:
        """SIGHUP: as the request `reload`."""
        self._start(self._reload_for_nobody())

    async def _reload_for_nobody(self) -> None:
        await self.reload()

    async def reload(self) -> Outcome:
        """Read the configuration again and do what has changed; what cannot be done now changes nothing at all."""
        async with self._reloading:
            try:
                settings = self._read_again()
            except config.ConfigError as error:
                return _refused(f"the configuration is wrong, nothing was changed:\n{error}")
            except LookupError as error:
                return _refused(str(error))
            lasting = [name for name in LASTING if getattr(settings, name) != getattr(self._settings, name)]
            if lasting:
                return _refused(f"{', '.join(lasting)}: this needs a restart; nothing was changed")
            shelf, remarks = shelf_of(settings.profiles)
            _complain(remarks)
            before = {bus.name for bus in self._settings.buses}
            self._settings = settings
            set_log_level(settings.log_level)
            self._say(self.publisher.reload(settings, config.public(settings)))
            data: dict[str, JsonValue] = {}
            data |= await self._buses.change(settings.buses, shelf)
            for name in before - set(self._buses.names):
                self._say(self.publisher.no_bus(name))
            log.info("configuration read again: %s", exact_json.dumps(data))
            return Outcome(data=data | {"remarks": list(remarks)})

    async def _after_birth(self) -> None:
        await asyncio.sleep(BIRTH_SECONDS)
        self._is_birth_heard = False
        self.broker.say_everything()
        self._say(self.publisher.after_birth())
        self._note()

    async def _after_learning(self) -> None:
        await self.broker.connected.wait()
        await asyncio.sleep(LEARNING_SECONDS)
        self._say(self.publisher.learnt())

    def _signs_of_life(self) -> Iterator[tuple[str, float]]:
        yield "mqtt", self.broker.alive_at
        for poller in self._buses.pollers:
            yield poller.name, poller.alive_at


def _refused(why: str) -> Outcome:
    """What the log says, too: whoever has changed the file looks there."""
    for line in why.splitlines():
        log.error("reload: %s", line)
    return Outcome(error=why)


def _complain(problems: Iterable[str]) -> None:
    for problem in problems:
        log.warning("%s; this profile is left out", problem)


async def serve(settings: Settings, read_again: Reread = _nothing_to_read) -> None:
    """Run the daemon until SIGTERM or SIGINT; SIGHUP reads the configuration again. Raises SystemExit if it hangs."""
    with contextlib.suppress(OSError, ValueError):
        faulthandler.enable()  # when systemd's watchdog has to kill us, the journal shows where we were
    task = asyncio.create_task(_live(settings, read_again), name="daemon")
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, log.warning, "SIGHUP came too early: there is nothing to reload yet")
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        log.info("stopped")
    except BaseExceptionGroup as errors:
        if errors.subgroup(watchdog.Stuck) is None:
            raise
        raise SystemExit(1) from None


async def _live(settings: Settings, read_again: Reread) -> None:
    """From the time of day to the end."""
    await clock.wait_until_set(_say_that_we_wait)
    shelf, problems = shelf_of(settings.profiles)
    _complain(problems)
    memory = Memory.load(settings.state_dir or systemd.state_directory())
    daemon = Daemon(settings, shelf, memory, read_again, spool=_spool(settings))
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, daemon.hang_up)
    await daemon.run()


def _spool(settings: Settings) -> "Spool | None":
    """Where waits what must not be lost; None where nothing must, and no earlier life has left anything."""
    folder = settings.state_dir or systemd.state_directory()
    path = None if folder is None else folder / SPOOL_FILE
    is_wanted = settings.mqtt.history or (settings.emoncms.enabled and settings.emoncms.format == "json")
    if not is_wanted and (path is None or not path.exists()):
        return None
    from mbusd.spool import Spool  # noqa: PLC0415 - most daemons have none

    return Spool(path, settings.mqtt.history_size, settings.mqtt.history_age)


def _say_that_we_wait() -> None:
    for state in ("READY=1", "STATUS=waiting for the time of day", "WATCHDOG=1"):
        systemd.notify(state)
