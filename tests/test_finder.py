"""Looking for meters on the bus of a running daemon: one scan at a time, between the polls, and nothing is lost."""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import TypeVar

import pytest

from mbusd.line import bus as bus_module
from mbusd.line.bus import Bus
from mbusd.line.transport import Port, ProtocolFactory, TransportError, open_port
from mbusd.mbus.frames import Frame, LongFrame, ShortFrame, encode, parse
from mbusd.mbus.link import Conversation
from mbusd.mbus.master import req_ud2, snd_nke
from mbusd.memory import Memory, Remembered
from mbusd.model import (
    BusChanged,
    FoundMeter,
    MeterChanged,
    MeterGone,
    Outcome,
    Reading,
    ReadingTaken,
    ScanChanged,
    ScanMode,
)
from mbusd.poller import Poller
from mbusd.polling import interludes
from mbusd.polling.roster import Roster
from mbusd.scanning import scanner
from mbusd.scanning.finder import TOLD_EVERY, Finder
from mbusd.scanning.scanner import Finding, Survey
from mbusd.simulation.meters import household
from mbusd.simulation.simulator import Answer, Moment, SimulatedMeter, identity
from mbusd.simulation.virtual_bus import opened
from tests.mosquitto import free_port
from tests.test_meter import HEAT_OF_SON, Truth, by, energy, reads, strict
from tests.test_poller import CountingBus, Seen, Wiretap, asked, house, meter, named, polled, settings
from tests.test_scanner import OnWire
from tests.test_scanner import house as six_meters
from tests.wires import PATIENCE, converter

UNTIL_THE_END = "discover is off: meters that stand in no file are read until mbusd stops; write them there"
T = TypeVar("T")
NOON = datetime(2026, 11, 20, 12)  # noqa: DTZ001 - a meter's clock has no zone
PACE = 38400
SNAPPY = 0.06  # the window of the bus: a scan consists of silence


class Told:
    """What was told of a scan."""

    def __init__(self) -> None:
        self.events: list[ScanChanged] = []

    def __call__(self, event: ScanChanged) -> None:
        self.events.append(event)

    @property
    def states(self) -> list[str]:
        return [event.state for event in self.events]


class Gate(OnWire):
    """Stops before its probe number `at`, until it is opened; or loses the port there."""

    def __init__(self, meters: list[SimulatedMeter], at: int, error: Exception | None = None) -> None:
        super().__init__(meters)
        self.at = at
        self.error = error
        self.reached, self.opens = asyncio.Event(), asyncio.Event()

    async def __call__(self, conversation: Conversation[T]) -> T:
        if self.conversations == self.at:
            self.reached.set()
            if self.error is not None:
                raise self.error
            await self.opens.wait()
        return await super().__call__(conversation)


async def soon(work: "asyncio.Task[T]") -> T:
    return await asyncio.wait_for(work, PATIENCE)


def found(outcome: Outcome) -> list[FoundMeter]:
    assert outcome.found is not None
    return list(outcome.found)


# -------------------------------------------------------------------------------------------------------- one scan


async def test_everybody_is_found_and_told() -> None:
    meters, told = six_meters(), Told()
    finder = Finder("cellar", OnWire(meters), told)
    survey, outcome = await finder.scan("both", ())
    assert survey is not None
    assert survey.is_complete
    assert (outcome.error, outcome.remarks) == (None, ())
    wanted = {one.secondary.digits: one.primary for one in meters}
    assert {one.address: one.primary for one in found(outcome)} == wanted
    assert {one.identity.address for one in found(outcome) if one.identity} == set(wanted)
    assert {event.found for event in told.events if event.found} == set(wanted)
    assert told.states == ["running"] * (len(told.events) - 1) + ["done"]
    assert (told.events[-1].left, told.events[-1].done) == (0, survey.probes)
    gaps = [after.done - before.done for before, after in zip(told.events, told.events[1:], strict=False)]
    assert max(gaps) <= TOLD_EVERY
    assert {event.bus for event in told.events} == {"cellar"}


async def test_the_log_tells_how_a_scan_is_getting_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mbusd")
    survey, _ = await Finder("cellar", OnWire([]), Told()).scan("primary", ())
    assert survey is not None
    assert caplog.messages == [
        "bus cellar: looking for meters (primary); this can take some minutes",
        *(f"bus cellar: scan: {done} probes done, about {252 - done} left" for done in (100, 200)),
        f"bus cellar: scan done after {survey.probes} probes, 0 meters",
    ]


@pytest.mark.parametrize(("mode", "probes"), [("primary", 252), ("secondary", None)])
async def test_one_way_of_looking(mode: ScanMode, probes: int | None) -> None:
    meters = six_meters()
    survey, outcome = await Finder("cellar", OnWire(meters), Told()).scan(mode, ())
    assert survey is not None
    wanted = [one for one in meters if mode == "secondary" or one.primary is not None]
    assert {one.address for one in found(outcome)} == {one.secondary.digits for one in wanted}
    assert survey.probes == probes or (probes is None and survey.probes < 200)


async def test_what_is_known_saves_probes() -> None:
    meters = six_meters()
    known = [one.secondary for one in meters]
    first, _ = await Finder("cellar", OnWire(meters), Told()).scan("secondary", ())
    second, outcome = await Finder("cellar", OnWire(meters), Told()).scan("secondary", known)
    assert first is not None
    assert second is not None
    assert {one.address for one in found(outcome)} == {address.digits for address in known}
    assert second.probes <= first.probes


def twins_of(
    *fabrications: str | None, primaries: tuple[int | None, int | None] = (None, None)
) -> list[SimulatedMeter]:
    """Two meters with the same secondary address, whose telegrams do not pass for one another's."""
    address = identity("00000005", "SON", 1, 4)
    there = zip((0x5A5A5A5A, 0x25252525), fabrications, primaries, strict=True)
    return [SimulatedMeter(address, Truth(value), primary=own, fabrication=number) for value, number, own in there]


async def test_an_address_that_two_meters_share_is_told_with_what_tells_them_apart() -> None:
    told = Told()
    finder = Finder("cellar", OnWire([*twins_of("11111111", "22222222"), meter(6)]), told)
    _, outcome = await finder.scan("secondary", ())
    both = {"00000005EE4D0104-11111111", "00000005EE4D0104-22222222"}
    assert {one.address for one in found(outcome)} == {"00000006EE4D0104", *both}
    assert all(one.remark for one in found(outcome) if one.address in both)
    assert {event.found for event in told.events if event.found} == {"00000006EE4D0104", *both}


async def test_an_address_that_nothing_tells_apart_is_nobodys() -> None:
    told = Told()
    finder = Finder("cellar", OnWire([*twins_of(None, None), meter(6)]), told)
    _, outcome = await finder.scan("secondary", ())
    assert {one.address for one in found(outcome)} == {"00000006EE4D0104"}
    assert any(remark.startswith("00000005EE4D0104: several meters") for remark in outcome.remarks)


async def test_a_second_scan_is_refused_until_the_first_is_over() -> None:
    gate = Gate(six_meters(), 30)
    finder = Finder("cellar", gate, Told())
    first = asyncio.create_task(finder.scan("both", ()))
    await gate.reached.wait()
    assert await finder.scan("secondary", ()) == (None, Outcome(error="a scan runs on cellar already"))
    gate.opens.set()
    _, outcome = await soon(first)
    assert len(found(outcome)) == 6
    assert len(found((await finder.scan("secondary", ()))[1])) == 6


async def test_what_was_found_is_kept_when_the_scan_is_cancelled() -> None:
    gate, told = Gate(six_meters(), 16), Told()
    finder = Finder("cellar", gate, told)
    scan = asyncio.create_task(finder.scan("both", ()))
    await gate.reached.wait()
    assert finder.cancel() == Outcome()
    survey, outcome = await soon(scan)
    assert survey is not None
    assert not survey.is_complete
    assert outcome.error is None
    assert [one.primary for one in found(outcome)] == [10, 12, 14]
    assert told.states[-1] == "cancelled"
    assert finder.cancel() == Outcome(error="no scan runs on cellar")


async def test_a_port_that_is_lost_is_an_error_and_what_was_found_is_kept() -> None:
    told = Told()
    finder = Finder("cellar", Gate(six_meters(), 16, TransportError("/dev/x", "it was unplugged")), told)
    _, outcome = await finder.scan("both", ())
    assert outcome.error == "/dev/x: it was unplugged"
    assert [one.primary for one in found(outcome)] == [10, 12, 14]
    assert (told.events[-1].state, told.events[-1].why) == ("failed", outcome.error)
    assert finder.cancel().error is not None


async def test_a_bug_is_no_result() -> None:
    finder = Finder("cellar", Gate(six_meters(), 5, ZeroDivisionError()), Told())
    with pytest.raises(ZeroDivisionError):
        await finder.scan("both", ())
    assert finder.cancel().error is not None


async def test_whoever_waits_for_a_scan_may_be_cancelled_and_takes_it_with_him() -> None:
    gate = Gate(six_meters(), 16)
    finder = Finder("cellar", gate, Told())
    scan = asyncio.create_task(finder.scan("both", ()))
    await gate.reached.wait()
    scan.cancel()
    with pytest.raises(asyncio.CancelledError):
        await scan
    gate.opens.set()
    for _ in range(10):
        await asyncio.sleep(0)
    assert gate.conversations == gate.at
    assert finder.cancel().error is not None


# ------------------------------------------------------------------------------------------------ in a running daemon


def addresses(meters: Iterable[SimulatedMeter]) -> set[str]:
    return {one.secondary.digits for one in meters}


def neighbours() -> list[SimulatedMeter]:
    """The built-in house, of meters that answer quickly."""
    meters = household(NOON)
    for one in meters:
        one.delay = 0.002
    return meters


def energy_of(reading: Reading) -> object:
    return next(item.value for item in reading.measurements if item.key == "energy")


def read_by_now(seen: Seen) -> set[str]:
    return {event.reading.meter for event in seen.of(ReadingTaken)}


def ended(seen: Seen) -> list[ScanChanged]:
    return [event for event in seen.of(ScanChanged) if event.state != "running"]


@pytest.fixture
def _few_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Primary addresses 0 to 12: silence at all the others would take the test's time and nothing else."""
    monkeypatch.setattr(scanner, "_ADDRESSES", 13)


@pytest.mark.usefixtures("_few_addresses")
async def test_a_bus_of_which_nothing_is_known_is_searched_at_start_and_everybody_is_read(tmp_path: Path) -> None:
    """Two lines of configuration: a name and a port."""
    meters = neighbours()
    async with house(Wiretap(*meters, began=NOON), tmp_path, interval="1d", window=SNAPPY, pace=PACE) as (poller, seen):
        await seen.until(lambda: read_by_now(seen) == addresses(meters))
        assert [event.state for event in ended(seen)] == ["done"]
        assert all(poller.knows(address) for address in addresses(meters))
        infos = [seen.infos(address)[-1] for address in addresses(meters)]
    assert {info.address for info in infos} == addresses(meters)  # read by what means this meter and no other
    assert all(info.online for info in infos)
    assert len(seen.of(ReadingTaken)) == len(meters)


async def test_the_same_behind_a_converter_in_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanner, "_ADDRESSES", 2)
    meters, seen = neighbours(), Seen()
    async with opened(Wiretap(*meters, began=NOON), tcp=("127.0.0.1", 0), baudrate=PACE) as served:
        assert served.tcp is not None
        own = settings("tcp://{}:{}".format(*served.tcp), interval="1d", timeout=SNAPPY)
        poller = Poller.of(own, seen)
        task = asyncio.create_task(poller.run())
        await seen.until(lambda: task.done() or read_by_now(seen) == addresses(meters))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [event.state for event in ended(seen)] == ["done"]


CONFIGURED: tuple[dict[str, object], ...] = (
    {"name": "electricity", "address": 12},
    {"name": "heat_pump", "address": 68},
    {"name": "water", "address": "21436587"},
    {"name": "gas", "address": "2185034493152103"},
)


@pytest.mark.usefixtures("_few_addresses")
@pytest.mark.parametrize("mode", ["both", "secondary"])
async def test_meters_of_the_file_are_not_read_twice(tmp_path: Path, mode: str) -> None:
    """Given by primary address, by identification, by the whole secondary address; the two others are new."""
    meters = neighbours()
    wire = Wiretap(*meters, began=NOON)
    async with house(wire, tmp_path, *CONFIGURED, interval="1d", window=SNAPPY, pace=PACE, discover=mode) as (
        poller,
        seen,
    ):
        await seen.until(lambda: ended(seen) and len(read_by_now(seen)) == len(meters))
        names = {str(one["name"]) for one in CONFIGURED}
        new = {one.secondary.digits for one in meters if one.name in ("heating", "room")}
        assert read_by_now(seen) == names | new
        outcome = await asyncio.wait_for(poller.read_all(), PATIENCE)
        assert len(outcome.readings) == len(meters)
        again = await asyncio.wait_for(poller.scan("secondary"), PATIENCE)
        assert len(found(again)) == len(meters)
        assert len((await asyncio.wait_for(poller.read_all(), PATIENCE)).readings) == len(meters)


async def test_with_a_list_of_meters_nothing_is_searched_unless_asked(tmp_path: Path) -> None:
    async with house(Wiretap(strict(Truth())), tmp_path, *named(5), interval="1d") as (_, seen):
        await seen.until(lambda: seen.of(ReadingTaken))
        assert not seen.of(ScanChanged)


class OnSimulated(Bus):
    """A bus that takes no time at all, and is open as soon as that is wanted."""

    def __init__(self, *meters: SimulatedMeter) -> None:
        super().__init__(Port("/dev/simulated"))
        self._on_wire = OnWire(meters)

    async def run(self, conversation: Conversation[T]) -> T:
        return await self._on_wire(conversation)

    @property
    def is_open(self) -> bool:
        return True

    async def open(self) -> asyncio.Future[str]:
        return asyncio.get_running_loop().create_future()


async def test_an_address_that_several_meters_answer_is_not_read() -> None:
    seen = Seen()
    poller = Poller(settings("/dev/simulated"), OnSimulated(*twins_of(None, None, primaries=(1, 1)), meter(6)), seen)
    outcome = await poller.scan("both")
    assert any(remark.startswith("address 1: several meters answer") for remark in outcome.remarks)
    assert [event.info.address for event in seen.of(MeterChanged)] == ["00000006EE4D0104"]


TWINS = {"00000005EE4D0104-11111111": 0x5A5A5A5A, "00000005EE4D0104-22222222": 0x25252525}


@pytest.mark.usefixtures("_few_addresses")
@pytest.mark.parametrize("primaries", [(1, 1), (1, 2), (None, None)])
@pytest.mark.parametrize("mode", ["both", "secondary"])
async def test_twins_are_read_by_their_fabrication_numbers_and_remembered(
    tmp_path: Path, mode: str, primaries: tuple[int | None, int | None]
) -> None:
    """At start, after a second scan, and after a restart: two meters under two names, each with its own values."""
    meters = [*twins_of("11111111", "22222222", primaries=primaries), meter(6)]
    names = {*TWINS, "00000006EE4D0104"}
    for life in (1, 2):
        seen, memory = Seen(), Memory.load(tmp_path)
        own = settings("/dev/simulated", interval="1d", discover=mode)
        poller = Poller(own, OnSimulated(*meters), seen, Random(life), memory=memory)  # noqa: S311 - places in the grid
        task = asyncio.create_task(poller.run())
        await seen.until(lambda: task.done() or read_by_now(seen) == names)  # noqa: B023 - waited for
        assert {name: energy_of(seen.readings(name)[-1]) for name in TWINS} == TWINS
        assert len(ended(seen)) == (life == 1)
        again = await poller.scan("secondary")
        assert {one.address for one in found(again)} == names
        assert sorted(poller.names) == sorted(names)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        memory.save()


async def test_one_of_the_twins_may_stand_in_the_file() -> None:
    seen = Seen()
    listed: dict[str, object] = {"name": "flat_1", "address": "00000005EE4D0104-11111111"}
    poller = Poller(settings("/dev/simulated", listed), OnSimulated(*twins_of("11111111", "22222222")), seen)
    await poller.scan("secondary")
    assert [event.info.address for event in seen.of(MeterChanged)] == ["00000005EE4D0104-22222222"]


@pytest.mark.usefixtures("_few_addresses")
async def test_twins_without_numbers_are_read_at_their_places_and_named_by_them() -> None:
    """Their secondary address would name both; it does so in no life, whether they were read by then or not."""
    twins, seen, memory = OnSimulated(*twins_of(None, None, primaries=(1, 2))), Seen(), Memory()
    poller = Poller(settings("/dev/simulated", discover="both"), twins, seen, memory=memory)
    await poller.scan("both")
    assert [(one.name, one.address) for one in poller.infos()] == [("cellar-1", "1"), ("cellar-2", "2")]
    later = Poller(settings("/dev/simulated", discover="both"), twins, seen, memory=memory)
    assert [(one.name, one.address) for one in later.infos()] == [("cellar-1", "1"), ("cellar-2", "2")]
    await later.scan("both")
    assert later.names == ["cellar-1", "cellar-2"]


@pytest.mark.parametrize("before", [1, 2])
@pytest.mark.parametrize("mode", ["primary", "secondary"])
async def test_polls_go_on_between_the_probes_and_their_values_are_fresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: ScanMode, before: int
) -> None:
    """A probe resets links, selects and reads: what the master remembered of a meter holds no longer."""
    monkeypatch.setattr(scanner, "_ADDRESSES", 8)
    truth, shown = Truth(), 0
    wire = Wiretap(strict(truth, "separate"), *neighbours()[:3], began=NOON)

    def measure(frame: Frame) -> None:
        """Whatever is asked of whomever, the meter measures on; what it measures at its request is to be shown.

        A request that is repeated, as on a busy machine, brings what it measured at the first.
        """
        nonlocal shown
        truth.value += 1
        is_repeated = wire.heard[-2:] == [frame, frame]
        if frame in (req_ud2(5, fcb=False), req_ud2(5, fcb=True)) and not is_repeated:
            shown = truth.value

    wire.before = measure
    async with house(wire, tmp_path, by(5), window=SNAPPY, pace=PACE) as (poller, _):
        for _ in range(before):
            assert energy(await asked(poller, "m5")) == shown
        scan = asyncio.create_task(poller.scan(mode))
        times = 0
        while not scan.done():
            assert energy(await asked(poller, "m5")) == shown
            times += 1
        assert times >= 8
        assert scan.result().error is None


async def test_after_a_scan_nobody_relies_on_the_link_of_before(tmp_path: Path) -> None:
    truth = Truth()
    wire = Wiretap(strict(truth))
    for before in (1, 2):
        async with house(wire, tmp_path, by(5), window=SNAPPY, pace=PACE) as (poller, _):
            assert await reads(poller, truth, before) == []
            scan = asyncio.create_task(poller.scan("secondary"))
            await asyncio.wait_for(scan, PATIENCE)
            assert await reads(poller, truth, 2) == []


async def test_a_second_request_and_a_cancellation(tmp_path: Path) -> None:
    meters = neighbours()
    async with house(Wiretap(*meters, began=NOON), tmp_path, *named(9), window=SNAPPY, pace=PACE) as (poller, seen):
        assert poller.cancel_scan().error == "no scan runs on cellar"
        scan = asyncio.create_task(poller.scan("both"))
        await seen.until(lambda: any(event.found for event in seen.of(ScanChanged)))
        assert (await poller.scan("both")).error == "a scan runs on cellar already"
        assert poller.cancel_scan() == Outcome()
        outcome = await soon(scan)
        (first, *_) = found(outcome)
        assert len(found(outcome)) < len(meters)
        assert ended(seen)[-1].state == "cancelled"
        assert first.address is not None
        name = first.address
        await seen.until(lambda: poller.knows(name) or seen.infos(""))
        assert (await asyncio.wait_for(poller.read_all(), PATIENCE)).readings[0].meter == first.address


def homeless(number: int) -> SimulatedMeter:
    """A meter that answers at its primary address, and does not say which that is when it is asked by its secondary."""

    class Shy(SimulatedMeter):
        def answer(self, request: Frame, moment: Moment) -> Answer | None:
            said = super().answer(request, moment)
            if said is None or len(said.data) < 9 or not isinstance(request, ShortFrame) or request.address != 0xFD:
                return said
            frame = parse(said.data)
            assert isinstance(frame, LongFrame)
            return replace(said, data=encode(replace(frame, address=0xFD)))

    return Shy(identity(f"{number:08}", "SON", 1, 4), Truth(7), primary=number)


async def test_a_meter_by_hand_that_was_never_read_is_known_by_the_primary_address_that_it_sends() -> None:
    seen = Seen()
    poller = Poller(settings("/dev/simulated", *named(5)), OnSimulated(strict(Truth(7)), meter(6)), seen)
    outcome = await poller.scan("secondary")
    assert len(found(outcome)) == 2
    assert outcome.remarks == (UNTIL_THE_END,)
    assert [event.info.address for event in seen.of(MeterChanged)] == ["00000006EE4D0104"]


async def test_who_may_be_a_meter_that_was_never_read_is_not_read_twice(tmp_path: Path) -> None:
    """Neither says its primary address: which of them is m5 is known when it was read, for which nobody has to ask."""
    wire = Wiretap(homeless(5), homeless(6))
    by_hand = {"name": "m5", "address": 5, "interval": "manual"}
    async with house(wire, tmp_path, by_hand, interval="1d", window=SNAPPY, pace=PACE) as (poller, seen):
        outcome = await asyncio.wait_for(poller.scan("secondary"), PATIENCE)
        assert [one.address for one in found(outcome)] == ["00000005EE4D0104", "00000006EE4D0104"]
        assert [remark.partition(":")[0] for remark in outcome.remarks] == ["00000005EE4D0104", "00000006EE4D0104"]
        assert all("perhaps it is m5, not read yet" in remark for remark in outcome.remarks)
        await seen.until(lambda: seen.readings("00000006EE4D0104"))
        assert len(seen.readings("m5")) == 1
        assert not poller.knows("00000005EE4D0104")
        assert (await asyncio.wait_for(poller.scan("secondary"), PATIENCE)).remarks == ()
        assert len((await asyncio.wait_for(poller.read_all(), PATIENCE)).readings) == 2


async def test_of_two_meters_at_one_address_the_other_is_read_by_its_secondary_address() -> None:
    """New meters all have address 0; the one of the file is known, and was found, too."""
    first = SimulatedMeter(identity("00000005", "SON", 1, 4), Truth(7), primary=5)
    second = SimulatedMeter(identity("98765432", "SON", 1, 4), Truth(8), primary=5)
    seen = Seen()
    roster = Roster(settings("/dev/simulated", *named(5)), seen, Random(1))  # noqa: S311 - places in the grid
    roster.meters[0].recognise(HEAT_OF_SON)
    both = [Finding(one.secondary, 5, None, is_selectable=True) for one in (first, second)]
    assert roster.adopt(Survey(findings=both)) == [UNTIL_THE_END]
    assert [event.info.address for event in seen.of(MeterChanged)] == [second.secondary.digits]
    exchanged = Roster(settings("/dev/simulated", *named(5)), seen, Random(1))  # noqa: S311
    exchanged.meters[0].recognise(HEAT_OF_SON)
    assert exchanged.adopt(Survey(findings=both[1:])) == []
    assert len(exchanged.meters) == 1  # it stands in the other one's place


@pytest.mark.parametrize("interval", ["1h", "manual", "0 0 1 1 *"])
async def test_who_was_found_does_not_wait_for_the_hour_of_one_that_is_not_known_yet(
    interval: str, tmp_path: Path
) -> None:
    """One was written into the file by its primary address, and may be any of those: it is asked at once who it is."""
    by_hand = {"name": "m5", "address": 5, "interval": interval}
    memory, seen = kept_from_a_scan("00000006EE4D0104"), Seen()
    memory.note_scan("cellar", "secondary")
    async with opened(Wiretap(meter(5), meter(6)), link=tmp_path / "bus", baudrate=0):
        own = settings(str(tmp_path / "bus"), by_hand, interval="1d", discover="secondary")
        bus = Bus(Port(own.port, own.baudrate), window=0.5)
        task = asyncio.create_task(Poller(own, bus, seen, Random(1), memory=memory).run())  # noqa: S311
        await seen.until(lambda: seen.readings("00000006EE4D0104"))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert len(seen.readings("m5")) == 1
    assert not any(isinstance(event, MeterGone) for event in seen.events)


def kept_from_a_scan(*addresses: str) -> Memory:
    memory = Memory()
    memory.keep_meters("cellar", tuple(Remembered(address, NOON.replace(tzinfo=UTC)) for address in addresses))
    return memory


@pytest.mark.parametrize(
    ("own", "discover", "number"),
    [
        ([], None, 0),
        (["00000005"], None, 1),
        (["00000005", "00000006"], None, 0),
        (["00000005"], "off", 0),
        ([5], None, 1),
    ],
)
def test_who_writes_some_of_the_meters_into_the_file_is_told_of_the_others(
    own: list[object], discover: str | None, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    """They were read until then by themselves."""
    listed = [{"address": address} for address in own]
    more = {} if discover is None else {"discover": discover}
    memory = kept_from_a_scan("00000005EE4D0104", "00000006EE4D0104")
    roster = Roster(settings("/dev/simulated", *listed, **more), Seen(), Random(1), memory)  # noqa: S311
    told = [message for message in caplog.messages if "read no more" in message]
    assert len(told) == (number > 0)
    assert all(f"{number} meters that a search has found" in message for message in told)
    assert len(roster.meters) == (len(own) or 2)


# ------------------------------------------------------------------------------------------------ when the port goes


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "REOPEN_SECONDS", (0.05,))
    monkeypatch.setattr(interludes, "LOOK_AGAIN_SECONDS", 0.1)


@pytest.mark.usefixtures("_impatient")
async def test_a_port_that_is_lost_in_a_scan_is_an_error_answer(caplog: pytest.LogCaptureFixture) -> None:
    seen = Seen()
    async with converter() as gateway:
        own = settings(gateway.port.name, *named(5))
        async with polled(own, seen, Bus(gateway.port, window=3600)) as poller:
            scan = asyncio.create_task(poller.scan("both"))
            peer = await gateway.peer()
            await peer.hears(5)
            peer.hangs_up()
            outcome = await soon(scan)
            assert outcome.error == f"{gateway.port.name}: the connection was closed"
            assert outcome.found == ()
            assert [event.state for event in ended(seen)] == ["failed"]
    assert "Traceback" not in caplog.text


@pytest.mark.usefixtures("_impatient", "_few_addresses")
async def test_what_was_found_before_the_port_was_lost_is_in_the_answer_and_is_read(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen, number = Seen(), free_port()
    wire = Wiretap(meter(1), meter(2))
    cut = asyncio.Event()
    wire.before = lambda frame: cut.set() if frame == snd_nke(3) else None
    own = settings(f"tcp://127.0.0.1:{number}", *named(9), timeout=SNAPPY)
    async with opened(wire, tcp=("127.0.0.1", number), baudrate=PACE):
        running = polled(own, seen)
        poller = await running.__aenter__()
        scan = asyncio.create_task(poller.scan("both"))
        await asyncio.wait_for(cut.wait(), PATIENCE)
    outcome = await soon(scan)
    await running.__aexit__(None, None, None)
    assert outcome.error is not None
    assert [one.address for one in found(outcome)] == ["00000001EE4D0104", "00000002EE4D0104"]
    assert {event.info.address for event in seen.of(MeterChanged)} == {"9", *(one.address for one in found(outcome))}
    assert "Traceback" not in caplog.text


@pytest.mark.usefixtures("_impatient")
async def test_a_search_at_start_that_the_port_did_not_survive_is_made_once_more(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(scanner, "_ADDRESSES", 2)
    seen, meters, number = Seen(), neighbours()[:3], free_port()
    wire = Wiretap(*meters, began=NOON)
    cut = asyncio.Event()
    wire.before = lambda frame: cut.set() if frame == snd_nke(1) else None
    own = settings(f"tcp://127.0.0.1:{number}", interval="1d", timeout=SNAPPY)
    async with opened(wire, tcp=("127.0.0.1", number), baudrate=PACE):
        poller = Poller.of(own, seen)
        task = asyncio.create_task(poller.run())
        await asyncio.wait_for(cut.wait(), PATIENCE)
    await seen.until(lambda: ended(seen))
    async with opened(wire, tcp=("127.0.0.1", number), baudrate=PACE):
        await seen.until(lambda: task.done() or read_by_now(seen) == addresses(meters))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    states = [event.state for event in ended(seen)]
    assert (states[0], states[-1]) == ("failed", "done")
    assert "Traceback" not in caplog.text


async def test_the_daemon_may_stop_while_a_scan_runs(caplog: pytest.LogCaptureFixture) -> None:
    seen = Seen()
    async with converter() as gateway:
        own = settings(gateway.port.name)
        async with polled(own, seen, Bus(gateway.port, window=3600)) as poller:
            await (await gateway.peer()).hears(5)
            refused = await poller.scan("both")
            assert refused.error == "a scan runs on cellar already"
    for _ in range(3):
        await asyncio.sleep(0)
    assert [task for task in asyncio.all_tasks() if "scan" in task.get_name()] == []
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_scan_by_request_ends_with_the_daemon() -> None:
    seen = Seen()
    async with converter() as gateway:
        async with polled(settings(gateway.port.name, *named(5)), seen, Bus(gateway.port, window=3600)) as poller:
            scan = asyncio.create_task(poller.scan("both"))
            await (await gateway.peer()).hears(5)
        outcome = await soon(scan)
    assert outcome.error is not None
    assert found(outcome) == []


# ------------------------------------------------------------------------------------------------ a bus that is shared


async def connected(number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection, as soon as somebody listens."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await asyncio.open_connection("127.0.0.1", number)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)


async def test_after_another_master_spoke_the_link_is_opened_anew(tmp_path: Path) -> None:
    """He reads the meter that we read: its FCB memory is his now."""
    truth, number = Truth(), free_port()
    wire = Wiretap(strict(truth))
    serve = f"tcp://127.0.0.1:{number}"
    async with house(wire, tmp_path, by(5), window=SNAPPY, pace=PACE, serve=serve) as (poller, _):
        reader, writer = await connected(number)
        for fcb in (True, False, True, True, False):
            assert await reads(poller, truth, 2) == []
            resets = len(wire.resets())
            truth.value += 1
            writer.write(encode(req_ud2(5, fcb=fcb)))
            assert await asyncio.wait_for(reader.readexactly(6), PATIENCE)
            await asyncio.wait_for(reader.readuntil(b"\x16"), PATIENCE)
            assert await reads(poller, truth) == []
            assert len(wire.resets()) == resets + 1
        writer.close()


async def test_a_gateway_that_hung_up_may_have_let_somebody_else_in(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is reopened without a word to anybody; but who has spoken to the meters meanwhile nobody knows."""
    monkeypatch.setattr(bus_module, "STEADY_SECONDS", -1.0)
    truth, seen = Truth(), Seen()
    simulated = strict(truth)
    wire, number = Wiretap(simulated), free_port()
    own = settings(f"tcp://127.0.0.1:{number}", by(5))
    calls = asyncio.Semaphore(0)

    async def opener(port: Port, protocol: ProtocolFactory) -> asyncio.Transport:
        transport = await open_port(port, protocol)
        calls.release()
        return transport

    async with opened(wire, tcp=("127.0.0.1", number), baudrate=PACE):
        bus = Bus(Port(own.port, 38400), SNAPPY, opener)
        async with polled(own, seen, bus) as poller:
            assert await reads(poller, truth, 2) == []
            before = len(wire.resets())
            await asyncio.wait_for(calls.acquire(), PATIENCE)
            bus.close()  # what it feels when the other end hangs up
            await asyncio.wait_for(calls.acquire(), PATIENCE)
            assert await reads(poller, truth, 2) == []
            assert len(wire.resets()) == before + 1
    assert [event.up for event in seen.of(BusChanged)] == [True]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_poller_does_not_spin_while_a_gateway_is_called_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "STEADY_SECONDS", -1.0)
    seen, calls, answered = Seen(), asyncio.Semaphore(0), asyncio.Event()
    is_first = True

    async def opener(port: Port, protocol: ProtocolFactory) -> asyncio.Transport:
        nonlocal is_first
        if not is_first:
            calls.release()
            await answered.wait()  # the connection takes its time
        is_first = False
        return await open_port(port, protocol)

    async with converter() as gateway:
        bus = CountingBus(gateway.port, 3600, opener)
        async with polled(settings(gateway.port.name, *named(5), interval="1d"), seen, bus):
            peer = await gateway.peer()
            await peer.hears(5)
            peer.hangs_up()
            await asyncio.wait_for(calls.acquire(), PATIENCE)
            for _ in range(100):
                await asyncio.sleep(0)
            assert bus.runs <= 3
            answered.set()
            await (await gateway.peer(1)).hears(5)
