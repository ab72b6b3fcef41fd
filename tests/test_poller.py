"""The life of one bus with virtual meters: what is asked and when, and what is told of it."""

import asyncio
import logging
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import TypeVar

import pytest

from mbusd.configuration.settings import BusSettings
from mbusd.line import bus as bus_module
from mbusd.line import deafness
from mbusd.line.bus import Bus
from mbusd.line.transport import Port, ProtocolFactory, open_port
from mbusd.mbus.frames import Frame, LongFrame, ShortFrame, encode
from mbusd.mbus.link import Conversation
from mbusd.model import (
    BusChanged,
    BusTroubled,
    ChangeMeter,
    Event,
    MeterChanged,
    MeterInfo,
    Outcome,
    Reading,
    ReadingTaken,
    ScanChanged,
    StatisticsTaken,
)
from mbusd.poller import Poller
from mbusd.polling import rounds
from mbusd.simulation.meter_file import meter_from
from mbusd.simulation.simulator import Answer, Fault, SimulatedBus, SimulatedMeter
from mbusd.simulation.virtual_bus import opened
from tests.wires import PATIENCE, converter, oversleeping

E = TypeVar("E", ReadingTaken, MeterChanged, BusChanged, StatisticsTaken, ScanChanged, BusTroubled)
T = TypeVar("T")


class Wiretap(SimulatedBus):
    """A virtual bus that remembers what it was asked."""

    def __init__(self, *meters: SimulatedMeter, began: datetime = datetime(2025, 6, 1, 12, tzinfo=UTC)) -> None:
        super().__init__(list(meters), began)
        self.heard: list[Frame] = []
        self.before: Callable[[Frame], None] = lambda _: None

    def answers(self, request: Frame, seconds: float) -> list[Answer]:
        self.heard.append(request)
        self.before(request)
        return super().answers(request, seconds)

    def resets(self) -> list[int]:
        """The addresses of all SND_NKE: whom read-outs began with. A repeated one is the same: machines may be busy."""
        begun = [frame for before, frame in pairwise((None, *self.heard)) if frame != before]
        return [frame.address for frame in begun if isinstance(frame, ShortFrame) and frame.control == 0x40]


class CountingBus(Bus):
    """Counts the conversations that it is given."""

    runs = 0

    async def run(self, conversation: Conversation[T]) -> T:
        self.runs += 1
        return await super().run(conversation)


class Seen:
    """All events, and a way to wait for one."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._news = asyncio.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self._news.set()

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def readings(self, meter: str) -> list[Reading]:
        return [event.reading for event in self.of(ReadingTaken) if event.reading.meter == meter]

    def infos(self, name: str) -> list[MeterInfo]:
        return [event.info for event in self.of(MeterChanged) if event.info.name == name]

    def look_again(self, *_: object) -> None:
        """Something has happened that is no event: whoever waits may look."""
        self._news.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._news.clear()
                await self._news.wait()


def meter(address: int = 5, **more: object) -> SimulatedMeter:
    entry: dict[str, object] = {
        "address": address,
        "identification": f"{address:08}",
        "manufacturer": "SON",  # of whom no quirk is known: the bus's window holds
        "medium": 4,
        "records": ["04 06 0A 00 00 00"],
    }
    return meter_from(entry | more)


def settings(port: str, *meters: dict[str, object], interval: str = "manual", **more: object) -> BusSettings:
    entry = {"name": "cellar", "port": port, "baudrate": 38400, "interval": interval, "meters": meters}
    return BusSettings.model_validate(entry | more)


def named(*addresses: int) -> list[dict[str, object]]:
    return [{"name": f"m{address}", "address": address} for address in addresses]


@asynccontextmanager
async def polled(settings: BusSettings, seen: Seen, bus: Bus | None = None) -> AsyncIterator[Poller]:
    """A poller at work."""
    bus = bus or Bus(Port(settings.port, settings.baudrate), window=0.5)
    poller = Poller(settings, bus, seen, Random(1))  # noqa: S311 - places in the grid
    task = asyncio.create_task(poller.run())
    try:
        await seen.until(lambda: task.done() or seen.of(BusChanged))
        yield poller
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def house(
    wire: SimulatedBus,
    folder: Path,
    *meters: dict[str, object],
    interval: str = "manual",
    window: float = 0.5,
    pace: int = 0,
    **more: object,
) -> AsyncIterator[tuple[Poller, Seen]]:
    """Virtual meters on a pseudo-terminal, and a poller that reads these of them.

    `window` 0: silence shall not cost the test much. `pace`: of the wire in Bd, 0: it takes no time. `more`: further
    options of the bus.
    """
    seen = Seen()
    async with opened(wire, link=folder / "port", baudrate=pace) as served:
        assert served.device is not None
        bus = Bus(Port(served.device, 38400), window)
        async with polled(settings(served.device, *meters, interval=interval, **more), seen, bus) as poller:
            yield poller, seen


async def asked(poller: Poller, name: str) -> Outcome:
    return await asyncio.wait_for(poller.read(name), PATIENCE)


# ------------------------------------------------------------------------------------------------ readings


async def test_every_meter_is_read_at_once() -> None:
    wire, seen = Wiretap(meter(5), meter(6), meter(7)), Seen()
    async with opened(wire, tcp=("127.0.0.1", 0), baudrate=0) as served:
        assert served.tcp is not None
        port = f"tcp://127.0.0.1:{served.tcp[1]}"
        async with polled(settings(port, *named(5, 6, 7), interval="1d"), seen):
            await seen.until(lambda: len(seen.of(ReadingTaken)) == 3)
    assert wire.resets() == [5, 6, 7]
    assert seen.of(BusChanged) == [BusChanged("cellar", up=True)]
    for address in (5, 6, 7):
        (reading,) = seen.readings(f"m{address}")
        assert reading.identity.identification == f"{address:08}"
        assert abs(datetime.now(UTC) - reading.taken_at) < timedelta(minutes=5)
        assert reading.taken_at.utcoffset() == timedelta()
        before, opened_, found = seen.infos(f"m{address}")
        assert (before.online, opened_.online, found.online) == (None, None, True)
        assert (found.bus, found.address, found.interval) == ("cellar", str(address), "86400s")
        assert found.last_read == reading.taken_at
        assert found.keys == (("energy", "kWh", "energy"),)
    assert [event.change for event in seen.of(MeterChanged)][-3:] == ["found"] * 3


async def test_a_meter_is_read_again_and_again(tmp_path: Path) -> None:
    wire = Wiretap(meter(5))
    async with house(wire, tmp_path, *named(5), interval="1s") as (_, seen):
        await seen.until(lambda: len(seen.readings("m5")) == 3)
    taken = [reading.taken_at for reading in seen.readings("m5")]
    assert (taken[2] - taken[1]).total_seconds() > 0.5  # the first two are closer: the grid has a phase


async def test_meters_without_a_name_are_called_by_their_secondary_address(tmp_path: Path) -> None:
    wire = Wiretap(meter(5))
    async with house(wire, tmp_path, {"address": 5}, interval="1d") as (poller, seen):
        await seen.until(lambda: seen.of(ReadingTaken))
        assert poller.knows("00000005EE4D0104")
        assert (await asked(poller, "00000005EE4D0104")).error is None
    assert len(seen.readings("00000005EE4D0104")) == 2
    assert [event.info.name for event in seen.of(MeterChanged)][:2] == ["", ""]


async def test_a_meter_is_reached_by_its_secondary_address(tmp_path: Path) -> None:
    wire = Wiretap(meter(5), meter(6))
    async with house(wire, tmp_path, {"address": "00000006", "name": "six"}) as (poller, _):
        outcome = await asked(poller, "six")
    assert outcome.readings[0].identity.identification == "00000006"


@pytest.mark.parametrize(("zone", "hours"), [("Europe/Berlin", 2), ("America/New_York", -4)])
async def test_the_meters_clock_has_the_zone_of_the_configuration(tmp_path: Path, zone: str, hours: int) -> None:
    wire = Wiretap(meter(5, records=[{"code": "04 6D", "value": "clock"}]), began=datetime(2025, 6, 1, 12))  # noqa: DTZ001 - so meters' clocks are
    async with house(wire, tmp_path, {"address": 5, "name": "m5", "timezone": zone}) as (poller, _):
        outcome = await asked(poller, "m5")
    (measured,) = outcome.readings[0].measurements
    assert isinstance(measured.value, datetime)
    assert measured.value.utcoffset() == timedelta(hours=hours)
    assert measured.value.replace(tzinfo=None) - datetime(2025, 6, 1, 12) < timedelta(minutes=5)  # noqa: DTZ001


async def test_two_buses_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """One hangs on a converter that never answers."""
    seen, wire = Seen(), Wiretap(meter(5))
    async with converter() as dumb:
        stuck = Bus(dumb.port, window=3600)
        async with polled(settings(dumb.port.name, *named(9), interval="1d", name="attic"), seen, stuck):
            await (await dumb.peer()).hears(5)
            async with house(wire, tmp_path, *named(5)) as (poller, _):
                assert (await asked(poller, "m5")).readings
    assert [event.bus for event in seen.of(BusChanged)] == ["attic"]


# ------------------------------------------------------------------------------------------------ requests


async def test_requests_come_before_the_schedule(tmp_path: Path) -> None:
    wire = Wiretap(*(meter(address) for address in range(1, 10)))
    outcome: list[asyncio.Task[Outcome]] = []
    seen = Seen()
    async with opened(wire, link=tmp_path / "port", baudrate=0) as served:
        assert served.device is not None
        bus_settings = settings(served.device, *named(*range(1, 10)), interval="1d")

        def wish(frame: Frame) -> None:
            if not outcome and frame == ShortFrame(0x7B, 1):
                outcome.append(asyncio.create_task(poller.read("m9")))

        wire.before = wish
        async with polled(bus_settings, seen) as poller:
            await seen.until(lambda: len(seen.of(ReadingTaken)) == 9)
    assert wire.resets() == [1, 9, *range(2, 9)]  # whoever was read on request is not due again
    assert outcome[0].result().error is None


async def test_a_wish_for_a_meter_that_is_just_being_read_is_answered_by_that_reading(tmp_path: Path) -> None:
    wire = Wiretap(meter(5), meter(6))
    async with house(wire, tmp_path, *named(5, 6)) as (poller, _):
        more: list[asyncio.Task[Outcome]] = []

        def wish(frame: Frame) -> None:
            if frame == ShortFrame(0x7B, 5):
                more.append(asyncio.create_task(poller.read("m5")))

        wire.before = wish
        first = await asked(poller, "m5")
        assert await asyncio.wait_for(more[0], PATIENCE) == first
        await asked(poller, "m6")
    assert wire.resets() == [5, 6]


async def test_all_meters_on_request(tmp_path: Path) -> None:
    wire = Wiretap(meter(5), meter(7))
    async with house(wire, tmp_path, *named(5, 6, 7), window=0.0) as (poller, _):
        outcome = await asyncio.wait_for(poller.read_all(), PATIENCE)
    assert [reading.meter for reading in outcome.readings] == ["m5", "m7"]
    assert outcome.failed == {"m6": "no answer"}


async def test_a_meter_that_nobody_knows(tmp_path: Path) -> None:
    async with house(Wiretap(), tmp_path, *named(5)) as (poller, _):
        assert not poller.knows("m6")
        assert (await asked(poller, "m6")).error == "there is no meter m6 on cellar"


async def test_a_request_that_is_given_up_leaves_the_poller_alone(tmp_path: Path) -> None:
    wire = Wiretap(meter(5), meter(6))
    async with house(wire, tmp_path, *named(5, 6)) as (poller, _):
        given_up = asyncio.create_task(poller.read("m5"))
        await asyncio.sleep(0)
        given_up.cancel()
        assert (await asked(poller, "m6")).readings
        assert (await asked(poller, "m5")).readings


async def test_requests_are_answered_when_the_daemon_stops() -> None:
    async with converter() as dumb:
        seen = Seen()
        async with polled(settings(dumb.port.name, *named(5)), seen, Bus(dumb.port, window=3600)) as poller:
            waiting = [asyncio.create_task(poller.read("m5")) for _ in range(2)]
            await (await dumb.peer()).hears(5)
        outcomes = await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE)
    assert [outcome.error for outcome in outcomes] == ["mbusd stops"] * 2


# ------------------------------------------------------------------------------------------------ silence


async def test_offline_after_three_failures_and_back_with_the_first_reading(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mbusd")
    mute = meter(5)
    async with house(Wiretap(mute), tmp_path, *named(5), window=0.0) as (poller, seen):
        assert (await asked(poller, "m5")).error is None
        mute.behaviour.deaf = True
        for _ in range(4):
            assert (await asked(poller, "m5")).error == "m5: no answer"
        mute.behaviour.deaf = False
        assert (await asked(poller, "m5")).error is None
    changes = [(event.change, event.info.failures, event.info.online) for event in seen.of(MeterChanged)][2:]
    assert changes == [
        ("found", 0, True),
        ("", 1, True),
        ("", 2, True),
        ("silent", 3, False),
        ("", 4, False),
        ("back", 0, True),
    ]
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warning.startswith("bus cellar: the only meter of this bus, address 5, does not answer")
    assert "m5: answers again" in caplog.messages


async def test_a_silent_meter_does_not_starve_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wire = Wiretap(meter(5), meter(6), meter(7))
    async with house(wire, tmp_path, *named(9, 5, 6, 7), interval="1s", window=0.0) as (_, seen):
        await seen.until(lambda: all(len(seen.readings(f"m{number}")) >= 3 for number in (5, 6, 7)))
        failures = max(info.failures for info in seen.infos("m9"))
    assert failures >= 1
    assert not seen.readings("m9")
    times = {number: len(seen.readings(f"m{number}")) for number in (5, 6, 7)}
    assert max(times.values()) - min(times.values()) <= 1
    assert all("m9" in record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)


async def test_a_garbled_answer_is_asked_for_again_and_nobody_hears_of_it(tmp_path: Path) -> None:
    """Where the machine lets the wire sleep inside an answer, that one is lost as well."""
    for turn in range(6):
        clumsy, folder = meter(5, faults=["none", "garble", "cut"]), tmp_path / str(turn)
        folder.mkdir()
        async with oversleeping() as overslept, house(Wiretap(clumsy), folder, *named(5), pace=38400) as (poller, seen):
            outcome = await asked(poller, "m5")
            counts = poller.statistics()
        if max(overslept) < 0.02:
            assert outcome.readings
            assert (counts.read_outs, counts.failures, counts.retries, counts.noise) == (1, 0, 2, 2)
            assert seen.infos("m5")[-1].failures == 0
            return
    pytest.skip("this machine is too busy to keep the pace of a wire")


async def test_a_meter_whose_budget_is_used_up_is_left_alone_for_twice_as_long(tmp_path: Path) -> None:
    asked_at: list[float] = []

    class Refusing(Wiretap):
        def answers(self, request: Frame, seconds: float) -> list[Answer]:
            if not isinstance(request, ShortFrame) or request.control == 0x40:
                return super().answers(request, seconds)
            asked_at.append(asyncio.get_running_loop().time())
            self.before(request)
            return [Answer(encode(LongFrame(0x08, 5, 0x70, b"\x09")), 0.0)]

    wire = Refusing(meter(5))
    async with house(wire, tmp_path, *named(5), interval="1s") as (_, seen):
        wire.before = seen.look_again
        await seen.until(lambda: len(asked_at) >= 2)
        why = [event.why for event in seen.of(MeterChanged) if event.why]
    assert "too many read-outs" in why[0]
    assert asked_at[1] - asked_at[0] > 1.0


async def test_a_meter_that_has_fewer_telegrams_than_before_is_read_again_once_it_was_called_silent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As long as it may have been a power cut in the middle, what there is is not published."""
    telegrams = [["04 06 0A 00 00 00"], ["04 13 0A 00 00 00"], ["02 5A 0A 00"]]
    who = {"address": 5, "identification": "00000005", "manufacturer": "SON", "medium": 4}
    wire = Wiretap(meter_from(who | {"telegrams": telegrams}))
    async with house(wire, tmp_path, *named(5)) as (poller, seen):
        (whole,) = (await asked(poller, "m5")).readings
        one = meter_from(who | {"telegrams": telegrams[:2]})
        one.behaviour.endless = True
        wire.meters[:] = [one]
        failed = [(await asked(poller, "m5")).error for _ in range(3)]
        assert all("began anew in the middle" in str(error) for error in failed)
        (rest,) = (await asked(poller, "m5")).readings
        assert len(seen.readings("m5")) == 2
    assert (len(whole.measurements), len(rest.measurements)) == (3, 2)
    assert rest.problems
    (told,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "2 of 3 telegrams" in told


# ------------------------------------------------------------------------------------------------ who is it?


async def test_an_exchanged_meter_is_read_twice_before_it_is_believed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wire = Wiretap(meter(5))
    async with house(wire, tmp_path, *named(5)) as (poller, seen):
        await asked(poller, "m5")
        wire.meters[:] = [meter(5, identification="87654321")]
        outcome = await asked(poller, "m5")
        again = await asked(poller, "m5")
    assert outcome.readings[0].identity.identification == "87654321"
    assert again.error is None
    assert wire.resets() == [5] * 3  # at first contact, before the second look, and after that for the one before
    assert seen.infos("m5")[-1].identity == outcome.readings[0].identity
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith("m5: another meter answers here now: SON 87654321")


def takes_turns(wire: Wiretap, *meters: SimulatedMeter) -> None:
    """With each read-out somebody else is at the address, as when telegrams lie one upon the other."""
    reads = iter(range(1_000_000))

    def turn(frame: Frame) -> None:
        if isinstance(frame, ShortFrame) and frame.control in (0x5B, 0x7B):
            wire.meters[:] = [meters[next(reads) % len(meters)]]

    wire.before = turn


async def test_strangers_that_come_only_once_are_not_believed(tmp_path: Path) -> None:
    wire = Wiretap(meter(5))
    async with house(wire, tmp_path, *named(5)) as (poller, seen):
        await asked(poller, "m5")
        takes_turns(wire, meter(5, identification="87654321"), meter(5, identification="07250321"))
        outcome = await asked(poller, "m5")
    assert outcome.error is not None
    assert "87654321" in outcome.error
    assert "are there two meters at this address?" in outcome.error
    assert [reading.identity.identification for reading in seen.readings("m5")] == ["00000005"]


async def test_a_stranger_is_not_believed_while_the_meter_of_this_address_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Louder than the other one, twice running: by its secondary address the other one answers still."""
    caplog.set_level(logging.ERROR, "mbusd")
    mine, stranger = meter(5), meter(5, identification="87654321")
    wire = Wiretap(mine)
    async with house(wire, tmp_path, *named(5)) as (poller, seen):
        await asked(poller, "m5")
        wire.before = lambda frame: wire.meters.__setitem__(
            slice(None), [stranger] if isinstance(frame, ShortFrame) and frame.address == 5 else [mine]
        )
        outcome = await asked(poller, "m5")
        assert outcome.error is not None
        assert "87654321EE4D0104 answers, and 00000005EE4D0104 is the meter of this address" in outcome.error
        wire.before = lambda _: wire.meters.__setitem__(slice(None), [mine])
        assert (await asked(poller, "m5")).error is None
    assert {reading.identity.identification for reading in seen.readings("m5")} == {"00000005"}


async def test_no_look_at_the_one_before_exceeds_a_budget(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "mbusd")
    wire = Wiretap(meter(5))
    listed = named(5)[0] | {"max_reads_per_day": 3}
    async with house(wire, tmp_path, listed) as (poller, _):
        await asked(poller, "m5")
        wire.meters[:] = [meter(5, identification="87654321")]
        assert (await asked(poller, "m5")).error is None  # the second and the third
        assert "3" in str((await asked(poller, "m5")).error)
    assert not any(isinstance(frame, LongFrame) for frame in wire.heard)  # nobody was selected


async def test_after_failures_the_first_to_be_understood_must_come_twice(tmp_path: Path) -> None:
    """Two meters at one address fail as a rule; by chance their answers make a third."""
    wire = Wiretap()
    async with house(wire, tmp_path, *named(5), window=0.0) as (poller, seen):
        assert (await asked(poller, "m5")).error == "m5: no answer"
        takes_turns(wire, meter(5, identification="87654321"), meter(5, identification="07250321"))
        assert "two meters" in str((await asked(poller, "m5")).error)
        wire.before = lambda _: None
        wire.meters[:] = [meter(5)]
        assert (await asked(poller, "m5")).readings
    assert len(seen.of(ReadingTaken)) == 1


async def test_two_meters_at_one_address_give_no_reading(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    both = [meter(5, identification=number, records=["04 06 0A 00 00 00"]) for number in ("12345678", "98765432")]
    async with house(Wiretap(*both), tmp_path, *named(5), window=0.0) as (poller, seen):
        for _ in range(3):
            assert (await asked(poller, "m5")).error is not None
    assert not seen.of(ReadingTaken)
    assert seen.infos("m5")[-1].online is False
    assert caplog.records


# ------------------------------------------------------------------------------------------------ the bus


async def test_without_a_bus_meters_are_offline_and_requests_are_answered_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bus_module, "REOPEN_SECONDS", (0.05,))
    wire, seen = Wiretap(meter(5)), Seen()
    async with opened(wire, tcp=("127.0.0.1", 0), baudrate=0) as served:
        assert served.tcp is not None
        number = served.tcp[1]
        port = f"tcp://127.0.0.1:{number}"
        bus = CountingBus(Port(port, 38400), window=0.0)
        running = polled(settings(port, *named(5), interval="1s"), seen, bus)
        poller = await running.__aenter__()
        await seen.until(lambda: seen.readings("m5"))
    await seen.until(lambda: seen.infos("m5")[-1].online is False)
    runs = bus.runs
    outcome = await asked(poller, "m5")
    assert outcome.error == f"{port}: the port is not open"
    assert outcome.failed == {"m5": outcome.error}
    assert bus.runs == runs + 1
    readings = len(seen.readings("m5"))
    async with opened(wire, tcp=("127.0.0.1", number), baudrate=0):
        await seen.until(lambda: len(seen.readings("m5")) > readings)
        await running.__aexit__(None, None, None)
    assert [event.up for event in seen.of(BusChanged)] == [True, False, True]
    online = [info.online for info in seen.infos("m5")]
    assert online[-1] is True
    assert seen.infos("m5")[-1].failures == 0  # the port's trouble is not the meter's
    assert sum("away" in message for message in caplog.messages) == 1


async def test_meters_are_back_one_poll_after_their_port_however_long_it_was_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bus_module, "REOPEN_SECONDS", (0.02, 3600.0))
    wire, seen, tries = Wiretap(meter(5)), Seen(), 0

    async def opener(port: Port, protocol: ProtocolFactory) -> asyncio.Transport:
        nonlocal tries
        tries += 1
        seen.look_again()
        return await open_port(port, protocol)

    async with opened(wire, tcp=("127.0.0.1", 0), baudrate=0) as served:
        assert served.tcp is not None
        port = f"tcp://127.0.0.1:{served.tcp[1]}"
    house = settings(port, {"name": "m5", "address": 5, "interval": "1s"}, *named(6), interval="1h")
    async with polled(house, seen, Bus(Port(port, 38400), 0.0, opener)):
        await seen.until(lambda: tries == 3)
        async with opened(wire, tcp=("127.0.0.1", served.tcp[1]), baudrate=0):
            await seen.until(lambda: seen.readings("m5"))
    assert [event.up for event in seen.of(BusChanged)] == [False, True]
    assert sum("away" in message for message in caplog.messages) == 1


async def test_a_connection_that_was_made_anew_for_its_silence_is_used_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(deafness, "DEAF_SECONDS", 0.0)
    monkeypatch.setattr(rounds, "HEARTBEAT_SECONDS", 3600.0)
    async with converter() as gateway:
        bus = Bus(gateway.port, window=0.0)
        async with polled(settings(gateway.port.name, *named(5, 6, 7), interval="1s"), Seen(), bus):
            assert len(await (await gateway.peer(1)).hears(5)) == 5
    assert "away" not in caplog.text, "it is no news"


@pytest.mark.parametrize(
    ("meters", "seconds"),
    [
        ([{"address": 5, "interval": "20s"}, {"address": 6}], 20.0),
        ([{"address": 5, "interval": "20s", "alarms": "10s"}], 10.0),
        ([{"address": 5, "interval": "*/5 * * * *"}, {"address": 6, "interval": "manual"}], 300.0),
        ([{"address": 5, "interval": "manual"}], math.inf),
        ([], math.inf),
    ],
)
async def test_a_port_that_is_away_is_looked_for_as_often_as_its_quickest_meter_is_asked(
    meters: list[dict[str, object]], seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[float] = []

    class Curious(Bus):
        async def keep_open(
            self,
            changed: Callable[[bool, str], None],
            reopened: Callable[[], None] = lambda: None,
            longest: Callable[[], float] = lambda: 0.0,
            resumed: Callable[[], None] = lambda: None,
        ) -> None:
            asked.append(longest())
            await super().keep_open(changed, reopened, longest, resumed)

    async with polled(settings("/dev/ttyNONE", *meters, interval="1h"), Seen(), Curious(Port("/dev/ttyNONE"))):
        assert asked == [seconds]
    assert len(warnings(caplog)) == 1, "the port is away"


async def test_a_read_out_that_the_port_leaves_alone_is_told_at_once_and_does_not_spin(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bus_module, "REOPEN_SECONDS", (3600.0,))
    seen = Seen()
    async with converter() as gateway:
        bus = CountingBus(gateway.port, window=3600)
        async with polled(settings(gateway.port.name, *named(5, 6), interval="1d"), seen, bus) as poller:
            waiting = asyncio.create_task(poller.read("m5"))
            peer = await gateway.peer()
            await peer.hears(5)
            peer.hangs_up()
            outcome = await asyncio.wait_for(waiting, PATIENCE)
            await seen.until(lambda: [event.up for event in seen.of(BusChanged)] == [True, False])
            for _ in range(100):
                await asyncio.sleep(0)
            assert bus.runs <= 4
    assert outcome.error == f"{gateway.port.name}: the connection was closed"
    assert "away" in caplog.text


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_bus_on_which_nobody_answers_any_more_has_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    simulated = [meter(number) for number in (5, 6, 7)]
    async with house(Wiretap(*simulated), tmp_path, *named(5, 6, 7), window=0.02) as (poller, seen):
        assert not (await poller.read_all()).failed
        for one in simulated:
            one.behaviour.deaf = True
        for _ in range(4):
            assert len((await poller.read_all()).failed) == 3
        (trouble,) = seen.of(BusTroubled)
        for one in simulated:
            one.behaviour.deaf = False
        assert not (await poller.read_all()).failed
    assert (trouble.bus, trouble.code) == ("cellar", "bus_silent")
    assert "none of 3 addresses answers" in trouble.what
    assert "Check that the converter feeds the bus" in trouble.todo
    assert seen.of(BusTroubled)[1:] == [BusTroubled("cellar", None)]
    assert [event.change for event in seen.of(MeterChanged) if event.change] == ["found"] * 3 + ["silent"] * 3 + [
        "back"
    ] * 3
    assert warnings(caplog) == [f"bus cellar: {trouble.what}. {trouble.todo}."]


async def test_on_a_bus_where_answers_are_lost_now_and_then_nobody_cries_wolf(tmp_path: Path) -> None:
    """Every read-out of every second meter fails once in a while; the log stays quiet."""
    simulated = [meter(number) for number in (5, 6, 7)]
    async with house(Wiretap(*simulated), tmp_path, *named(5, 6, 7), window=0.02) as (poller, seen):
        for kind in (Fault.DROP, Fault.GARBLE, Fault.CUT, Fault.NOISE_BEFORE):
            for one in simulated:
                one.faults.extend([kind] * 5)
                await poller.read_all()
                one.faults.clear()
            assert not (await poller.read_all()).failed
    assert not seen.of(BusTroubled)


async def test_two_meters_at_one_address_are_named_while_others_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    both = [meter(5, identification=number) for number in ("12345678", "98765432")]
    async with house(Wiretap(*both, meter(6)), tmp_path, *named(5, 6), window=0.02) as (poller, seen):
        for _ in range(4):
            assert list((await poller.read_all()).failed) == ["m5"]
        (trouble,) = seen.of(BusTroubled)
    assert trouble.code == "several_meters"
    assert "address 5" in trouble.what
    assert warnings(caplog) == [f"bus cellar: {trouble.what}. {trouble.todo}."]


async def test_a_port_that_another_program_has_open_is_told_with_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen, wire = Seen(), Wiretap(meter(5))
    async with opened(wire, link=tmp_path / "port", baudrate=0) as served:
        assert served.device is not None
        first = Bus(Port(served.device, 38400))
        await first.open()
        async with polled(settings(served.device, *named(5)), seen):
            pass
        first.close()
        await asyncio.sleep(0)
    (away,) = seen.of(BusChanged)
    assert not away.up
    assert "another program has this port open" in away.why
    assert "End that program (fuser -v PORT names it)" in away.why
    assert warnings(caplog) == [f"bus cellar: away: {away.why}"]


async def test_whoever_asks_after_the_end_is_answered_too() -> None:
    async with converter() as dumb:
        seen = Seen()
        async with polled(settings(dumb.port.name, *named(5)), seen, Bus(dumb.port, window=3600)) as poller:
            pass
        assert (await asked(poller, "m5")).error == "mbusd stops"
        assert (await poller.read_all()).failed == {"m5": "mbusd stops"}


async def test_a_write_to_a_meter_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    async with house(Wiretap(), tmp_path, *named(5)) as (poller, _):
        assert (await poller.change(ChangeMeter("m6", "reset"))).error == "there is no meter m6 on cellar"


async def test_statistics_are_told_from_the_start(tmp_path: Path) -> None:
    async with house(Wiretap(meter(5)), tmp_path, *named(5)) as (poller, seen):
        (first,) = seen.of(StatisticsTaken)
        await asked(poller, "m5")
        counts = poller.statistics()
    assert (first.bus, first.statistics.read_outs) == ("cellar", 0)
    assert replace(counts, utilisation=0.0) == replace(
        first.statistics, read_outs=1, requests=3, utilisation=0.0
    )  # one twice: the first
    assert 0 < counts.utilisation <= 1


async def test_a_bus_without_meters_is_kept_open(tmp_path: Path) -> None:
    async with house(Wiretap(), tmp_path) as (poller, seen):
        assert (await asyncio.wait_for(poller.read_all(), PATIENCE)) == Outcome()
    assert seen.of(BusChanged) == [BusChanged("cellar", up=True)]


async def test_what_the_simulator_spoils_never_becomes_a_wrong_reading(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Three telegrams that each carry their own number; every answer is spoilt with a chance of one third."""
    chance = Random(3)  # noqa: S311 - faults, no secret
    bad = meter_from(
        {
            "address": 5,
            "identification": "00000005",
            "manufacturer": "SON",
            "medium": 4,
            "telegrams": [["04 06 01 00 00 00"], ["04 13 02 00 00 00"], ["02 5A 03 00"]],
        }
    )
    kinds = [fault for fault in Fault if fault not in (Fault.NONE, Fault.LATE)]
    bad.faults.extend(chance.choice(kinds) if chance.random() < 1 / 3 else Fault.NONE for _ in range(10_000))
    outcomes: Counter[tuple[tuple[str, str], ...]] = Counter()
    async with house(Wiretap(bad), tmp_path, *named(5), window=0.0) as (poller, _):
        for _ in range(50):  # how many fail is chance: a busy machine is late with answers, too
            if outcomes.total() >= 3:
                break
            for reading in (await asked(poller, "m5")).readings:
                outcomes[tuple((item.key, str(item.value)) for item in reading.measurements)] += 1
    assert list(outcomes) == [(("energy", "1"), ("volume", "0.002"), ("flow_temperature", "0.3"))]
    assert outcomes.total() >= 3
    del caplog  # it may have been offline in between
