"""Every fault that the field knows, on a real pseudo-terminal or TCP connection in time that leaps, and its end.

The whole poller reads numbered meters; the judge knows what each has held. In every case no value is wrong and none is
old, the others are read as if nothing were, and within one poll after the fault all is well again.
"""

import asyncio
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench.hurry import hurried
from bench.numbered import Judge, NumberedMeter
from mbusd.configuration.settings import BusSettings
from mbusd.line.bus import Bus
from mbusd.line.transport import Port
from mbusd.mbus.frames import Frame
from mbusd.model import BusStatistics
from mbusd.poller import Poller
from mbusd.simulation.simulator import Answer, Behaviour, Fault, FcbMemory, SimulatedBus, identity
from mbusd.simulation.virtual_bus import opened
from tests.relay import Break, Relay, relayed

INTERVAL = 20.0  # seconds
MINUTES, DAY = 600.0, 86400.0
REOPENED = 2 * INTERVAL  # until a port that is there again is found, and all are read
UNDER_WAY = 5.0  # seconds until a read-out that the fault has spoilt is over
QUEUE = 5.0  # seconds in which all of them can be read, should all be due at once
BAUDRATE = 2400
PORTS = pytest.mark.parametrize("port", ["pty", "tcp"])
FIRST = 3  # the meter that is spoilt


class Cellar(SimulatedBus):
    """A simulated bus on which something may happen as soon as a meter has begun to speak."""

    def __init__(self, meters: list[NumberedMeter]) -> None:
        super().__init__([meter.slave for meter in meters])
        self.next_answer: tuple[float, Callable[[], object]] | None = None  # so many seconds after it has begun

    def answers(self, request: Frame, seconds: float) -> list[Answer]:
        answers = super().answers(request, seconds)
        if self.next_answer is not None and answers and len(answers[0].data) > 1:
            pause, happens = self.next_answer
            self.next_answer = None
            asyncio.get_running_loop().call_later(answers[0].delay + 11 * self.bit + pause, happens)
        return answers


@dataclass
class House:
    """Meters, their bus, a converter, and a poller that reads them."""

    folder: Path
    port: str
    meters: list[NumberedMeter]
    bus: Cellar = field(init=False)
    judge: Judge = field(init=False)
    interval: float = INTERVAL
    relay: Relay | None = None
    poller: Poller | None = None
    _plug: AsyncExitStack | None = None

    def __post_init__(self) -> None:
        self.bus = Cellar(self.meters)
        self.judge = Judge({meter.name: meter for meter in self.meters})

    @property
    def link(self) -> Path:
        return self.folder / "usb-converter"

    def meter(self, number: int) -> NumberedMeter:
        return next(one for one in self.meters if one.number == number)

    def spoils(self, number: int, *faults: Fault) -> None:
        """The next answers of a meter."""
        self.meter(number).slave.faults.extend(faults)

    async def plug(self) -> str:
        """Connect the converter to the machine; gives the name of the port, a link to a pseudo-terminal's device."""
        self._plug = AsyncExitStack()
        tcp = ("127.0.0.1", 0) if self.port == "tcp" else None
        link = None if tcp else self.link
        served = await self._plug.enter_async_context(
            opened(self.bus, tcp=tcp, link=link, baudrate=BAUDRATE, clock=time.monotonic)
        )
        if served.tcp is None:
            return str(self.link)
        number, self.relay = await self._plug.enter_async_context(relayed(served.tcp[1]))
        return f"tcp://127.0.0.1:{number}"

    async def unplug(self) -> None:
        assert self._plug is not None
        await self._plug.aclose()

    @property
    def statistics(self) -> BusStatistics:
        assert self.poller is not None
        return self.poller.statistics()


@asynccontextmanager
async def house(
    folder: Path, port: str, *meters: NumberedMeter, count: int = 5, interval: float = INTERVAL
) -> AsyncIterator[House]:
    """All meters have been read once, and twice more, when the fault may begin; at the end all were read right."""
    made = House(folder, port, list(meters) or [NumberedMeter(number) for number in range(1, count + 1)], interval)
    listed = [one.listed for one in made.meters]
    name = await made.plug()
    settings = BusSettings.model_validate(
        {"name": "cellar", "port": name, "baudrate": BAUDRATE, "interval": interval, "meters": listed}
    )
    random.seed(1)  # of back-offs
    made.poller = Poller(settings, Bus(Port(name, BAUDRATE)), made.judge, random.Random(1))  # noqa: S311 - no secret
    task = asyncio.create_task(made.poller.run())
    try:
        await asyncio.sleep(3 * interval)
        yield made
        assert not task.done()
        assert made.judge.wrong == []
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await made.unplug()


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    """What goes wrong here is told there; only a fault of mbusd itself fails the test."""
    caplog.set_level(logging.ERROR, "mbusd")


def happens(work: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await work()

    hurried(whole)


async def recovers(home: House) -> None:
    """Within one interval after the fault each meter is asked, however long it was silent, and brings a reading."""
    ended = time.monotonic()
    await asyncio.sleep(UNDER_WAY + home.interval + QUEUE)
    late = [one.name for one in home.meters if home.judge.taken[one.name][-1] <= ended]
    assert late == []


def not_delayed(home: House, since: float, by: float, *but: int) -> None:
    """The others were read as often as ever, but for these seconds."""
    for one in home.meters:
        if one.number not in but:
            assert home.judge.longest_pause(one.name, since) < home.interval + by, one.name


# --------------------------------------------------------------------------------------- faults of one answer

FATAL = (Fault.DROP, Fault.GARBLE, Fault.CUT, Fault.WRONG_ADDRESS, Fault.WRONG_CHECKSUM)
FCB_KINDS: tuple[FcbMemory, ...] = ("shared", "separate", "shared", "ignored", "shared")
KINDS = [fault for fault in Fault if fault not in (Fault.NONE, Fault.MISREAD)]


@PORTS
@pytest.mark.parametrize("fault", KINDS, ids=lambda fault: fault.name.lower())
def test_one_answer_that_is_spoilt_costs_a_repetition_and_nobody_hears_of_it(
    fault: Fault, port: str, tmp_path: Path
) -> None:
    async def work() -> None:
        async with house(tmp_path, port) as home:
            before, began = home.statistics, time.monotonic()
            home.spoils(FIRST, fault)
            await asyncio.sleep(4 * INTERVAL)
            after = home.statistics
            assert home.meter(FIRST).slave.faults == type(home.meter(FIRST).slave.faults)()
            not_delayed(home, began, by=3.0)
            assert after.failures == 0
            assert (after.noise, after.timeouts, after.retries) != (before.noise, before.timeouts, before.retries) or (
                fault in (Fault.GAP, Fault.NOISE_BEFORE)
            )
            assert home.judge.of_meter(f"m{FIRST}") == []

    happens(work)


# ------------------------------------------------------------------------------------------- faults that last


@PORTS
@pytest.mark.parametrize("fault", KINDS, ids=lambda fault: fault.name.lower())
def test_a_meter_whose_answers_are_all_spoilt_goes_silent_alone_and_comes_back(
    fault: Fault, port: str, tmp_path: Path
) -> None:
    async def work() -> None:
        async with house(tmp_path, port) as home:
            one, began = home.meter(FIRST), time.monotonic()
            one.slave.faults.extend([fault] * 10_000)
            await asyncio.sleep(MINUTES)
            one.slave.faults.clear()
            collides = INTERVAL if fault is Fault.LATE else 0.0  # an answer a second late falls into the next one's
            not_delayed(home, began, 5.0 + collides, FIRST)
            went = home.judge.of_meter(one.name)
            assert went == (["silent"] if fault in FATAL else went)
            assert home.statistics.failures >= 3 * (fault in FATAL)
            await recovers(home)
            assert home.judge.of_meter(one.name) == [*went, *["back"] * len(went)]
            assert home.judge.of_bus() == [True]

    happens(work)


@PORTS
@pytest.mark.parametrize(("rate", "padding"), [(1e-3, 0), (1e-3, 100), (1e-2, 0)])
def test_of_damaged_telegrams_none_is_believed(rate: float, padding: int, port: str, tmp_path: Path) -> None:
    """Meters that repeat themselves, some that make a new telegram each time, some with several telegrams."""

    async def work() -> None:
        meters = [
            NumberedMeter(number, telegrams=1 + number % 2, padding=padding, behaviour=Behaviour(fcb=fcb))
            for number, fcb in enumerate(FCB_KINDS, 1)
        ]
        async with house(tmp_path, port, *meters) as home:
            for one in meters:
                one.slave.behaviour.bit_errors = rate
            await asyncio.sleep(MINUTES / 4)
            assert home.statistics.noise > 10
            for one in meters:
                one.slave.behaviour.bit_errors = 0.0
            await recovers(home)

    happens(work)


def test_a_converter_begins_to_send_an_echo_and_ends_it(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path, "pty") as home:
            began = time.monotonic()
            home.bus.echo = True
            await asyncio.sleep(MINUTES)
            home.bus.echo = False
            await asyncio.sleep(2 * INTERVAL)
            not_delayed(home, began, 1.0)
            assert home.statistics.failures == home.statistics.retries == 0

    happens(work)


@PORTS
def test_a_short_circuit_silences_all_and_ends(port: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path, port, count=2) as home:
            home.bus.is_shorted = True
            await asyncio.sleep(MINUTES / 4)
            home.bus.is_shorted = False
            await recovers(home)
            await recovers(home)
            for one in home.meters:
                assert home.judge.of_meter(one.name) == ["silent", "back"]
            assert [event.code for event in home.judge.troubles] == ["short_circuit", None]

    happens(work)


def test_two_meters_at_one_address_give_nothing_and_delay_nobody(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path, "pty") as home:
            began, twin = time.monotonic(), NumberedMeter(FIRST)
            twin.slave.secondary = identity("77777777", "SON", 1, 4)
            twin.slave.delay += 0.004
            home.bus.meters.append(twin.slave)
            await asyncio.sleep(MINUTES)
            home.bus.meters.remove(twin.slave)
            not_delayed(home, began, 5.0, FIRST)
            assert home.judge.of_meter(f"m{FIRST}") == ["silent"]
            await recovers(home)
            assert home.judge.of_meter(f"m{FIRST}") == ["silent", "back"]

    happens(work)


@pytest.mark.parametrize("goes_round", [True, False])
def test_a_meter_that_always_says_more_is_read_to_its_end_and_delays_nobody(
    goes_round: bool,  # noqa: FBT001 - a parameter of the test
    tmp_path: Path,
) -> None:
    async def work() -> None:
        async with house(tmp_path, "pty") as home:
            one, began = home.meter(FIRST), time.monotonic()
            one.slave.behaviour.endless, one.slave.behaviour.goes_round = True, goes_round
            await asyncio.sleep(MINUTES)
            one.slave.behaviour.endless, one.slave.behaviour.goes_round = False, True
            not_delayed(home, began, 3.0, FIRST)
            assert home.judge.longest_pause(one.name, began) < 2 * INTERVAL
            await recovers(home)

    happens(work)


def test_a_meter_that_is_dead_for_a_day_among_nineteen_good_ones(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path, "pty", count=20, interval=7200.0) as home:
            dead, began = home.meter(FIRST).slave.behaviour, time.monotonic()
            dead.deaf = True
            await asyncio.sleep(DAY)
            dead.deaf = False
            not_delayed(home, began, 5.0, FIRST)
            assert home.judge.of_meter(f"m{FIRST}") == ["silent"]
            await recovers(home)
            assert home.judge.of_meter(f"m{FIRST}") == ["silent", "back"]
            assert len(home.judge.events) == 3

    happens(work)


# --------------------------------------------------------------------------------------- the converter itself


def test_an_adapter_unplugged_in_the_middle_of_a_frame_and_back_under_another_name(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path, "pty") as home:
            before, gone = home.link.readlink(), asyncio.Event()
            home.bus.next_answer = (0.05, gone.set)
            await gone.wait()
            await home.unplug()
            await asyncio.sleep(10)
            others = [os.openpty() for _ in range(3)]
            await asyncio.sleep(50)
            await home.plug()
            assert home.link.readlink() != before
            ended = time.monotonic()
            await asyncio.sleep(REOPENED)
            assert all(home.judge.taken[one.name][-1] > ended for one in home.meters)
            assert home.judge.of_bus() == [True, False, True]
            assert home.statistics.reopened == 1
            for ours, theirs in others:
                os.close(ours)
                os.close(theirs)

    happens(work)


@pytest.mark.parametrize("how", ["close", "reset", "mute"])
def test_a_converter_that_leaves_in_the_middle_of_a_frame_is_called_again(how: Break, tmp_path: Path) -> None:
    """Also where it takes every byte for ever and brings nothing: that is found out within a quarter of a minute."""

    async def work() -> None:
        async with house(tmp_path, "tcp") as home:
            assert home.relay is not None
            home.relay.breaks, home.relay.breaks_after = how, 20
            began = time.monotonic()
            await asyncio.sleep(3 * INTERVAL)
            not_delayed(home, began, INTERVAL + 5.0)
            assert home.statistics.reopened == 1
            assert home.judge.of_bus() == [True]

    happens(work)


def test_a_converter_that_stays_mute_on_new_connections_too_is_called_ever_more_rarely(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path, "tcp") as home:
            for one in home.meters:
                one.slave.behaviour.deaf = True
            await asyncio.sleep(DAY / 24)
            assert 3 < home.statistics.reopened < 16  # each 5 min in the end
            assert home.judge.of_bus() == [True]
            assert [event.code for event in home.judge.troubles] == ["bus_silent"]

    happens(work)


@pytest.mark.parametrize("lingers", [None, 40.0])
def test_a_converter_that_refuses_for_a_while_is_away_and_back(lingers: float | None, tmp_path: Path) -> None:
    """Its server is gone for a minute, or it believes for long that its one client is still there."""

    async def work() -> None:
        async with house(tmp_path, "tcp") as home:
            assert home.relay is not None
            home.relay.lingers, home.relay.refuses = lingers, lingers is None
            home.relay.breaks, home.relay.breaks_after = "reset", 20
            await asyncio.sleep(60 if lingers is None else lingers + INTERVAL)
            home.relay.refuses = False
            ended = time.monotonic()
            await asyncio.sleep(REOPENED)
            assert all(home.judge.taken[one.name][-1] > ended for one in home.meters)
            assert home.judge.of_bus()[:2] == [True, False]
            assert home.judge.of_bus()[-1]

    happens(work)


def test_a_converter_that_answers_200_ms_late_costs_time_and_nothing_else(tmp_path: Path) -> None:
    async def work() -> None:
        async with house(tmp_path, "tcp") as home:
            assert home.relay is not None
            began = time.monotonic()
            home.relay.late = 0.2
            await asyncio.sleep(MINUTES)
            not_delayed(home, began, 2.0)
            assert home.statistics.failures == 0

    happens(work)
