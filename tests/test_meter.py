"""One meter from read-out to read-out: its link, what its recipe makes of a read-out, what is known of its kind.

Read through a poller on a real pseudo-terminal, from meters that are strict about the FCB. Each shows `Truth`, which
changes before every read-out, so that an old value cannot pass for a new one.
"""

import asyncio
import logging
import os
import termios
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from mbusd.configuration.settings import BusSettings
from mbusd.line.bus import Bus
from mbusd.line.transport import Port, ProtocolFactory, open_port
from mbusd.mbus.address import SecondaryAddress
from mbusd.mbus.frames import RSP_UD, SND_UD, Frame, LongFrame, ShortFrame, encode, parse
from mbusd.mbus.quirks import Manner, Recipe, Step, Wake
from mbusd.model import BusChanged, Identity, Outcome, ReadingTaken
from mbusd.poller import Poller
from mbusd.polling.meter import Meter
from mbusd.simulation.simulator import Answer, Behaviour, Fault, FcbMemory, Moment, SimulatedMeter, identity
from mbusd.simulation.virtual_bus import opened
from tests.test_poller import CountingBus, Seen, Wiretap, asked, house, meter, named, polled, settings
from tests.wires import PATIENCE, Peer, converter

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)
SNAPPY = 0.15  # the bus's window: silence shall not cost the tests much
HEAT_OF_SON = Identity("00000005", "SON", 1, 4, "heat", "00000005EE4D0104")


@dataclass
class Truth:
    """What the meter measures now, in kWh; with it the number of telegrams that a read-out takes."""

    value: int = 0
    telegrams: int = 1

    def __call__(self, moment: Moment) -> list[bytes]:
        del moment
        more = [bytes([0x01, 0x10 + number, number]) for number in range(1, self.telegrams)]
        return [b"\x04\x06" + self.value.to_bytes(4, "little"), *more]


def strict(truth: Truth, fcb: FcbMemory = "shared", manufacturer: str = "SON", medium: int = 4) -> SimulatedMeter:
    secondary = identity("00000005", manufacturer, 1, medium)
    return SimulatedMeter(secondary, truth, primary=5, behaviour=Behaviour(fcb=fcb))


async def reads(poller: Poller, truth: Truth, times: int = 1) -> list[object]:
    """Read the meter m5; before each time what it measures changes. Gives what came that was not the truth."""
    wrong: list[object] = []
    for _ in range(times):
        truth.value += 1
        outcome = await asked(poller, "m5")
        if energy(outcome) != truth.value:
            wrong.append(energy(outcome))
    return wrong


def energy(outcome: Outcome) -> object:
    """The energy that was read, or why there is none."""
    if outcome.error is not None:
        return outcome.error
    return next(item.value for item in outcome.readings[0].measurements if item.key == "energy")


def by(address: object, **more: object) -> dict[str, object]:
    return {"name": "m5", "address": address, **more}


every_link = pytest.mark.parametrize(
    ("fcb", "address"),
    [("shared", 5), ("separate", 5), ("shared", "00000005"), ("separate", "00000005")],
)


# -------------------------------------------------------------------------------------------- the link between reads


@every_link
@pytest.mark.parametrize("telegrams", [1, 2, 3])
async def test_between_clean_read_outs_no_reset_is_sent(
    tmp_path: Path, fcb: FcbMemory, address: object, telegrams: int
) -> None:
    truth = Truth(telegrams=telegrams)
    wire = Wiretap(strict(truth, fcb))
    async with house(wire, tmp_path, by(address), window=SNAPPY) as (poller, _):
        assert await reads(poller, truth, 6) == []
        assert poller.statistics().retries == 0
    assert wire.resets() == [5 if address == 5 else 253]  # the first contact


@every_link
@pytest.mark.parametrize("before", [1, 2])
async def test_values_are_fresh_after_the_daemon_was_started_again(
    tmp_path: Path, fcb: FcbMemory, address: object, before: int
) -> None:
    truth = Truth()
    wire = Wiretap(strict(truth, fcb))
    for _ in range(3):
        async with house(wire, tmp_path, by(address), window=SNAPPY) as (poller, _):
            assert await reads(poller, truth, before) == []
    assert len(wire.resets()) == 3


@every_link
@pytest.mark.parametrize("fault", [Fault.DROP, Fault.GARBLE, Fault.CUT, Fault.NOISE_BEFORE, Fault.NOISE_AFTER])
@pytest.mark.parametrize("times", [1, 2, 3, 4])
async def test_values_are_fresh_whatever_happens_to_replies(
    tmp_path: Path, fcb: FcbMemory, address: object, fault: Fault, times: int
) -> None:
    truth = Truth()
    simulated = strict(truth, fcb)
    async with house(Wiretap(simulated), tmp_path, by(address), window=0.05) as (poller, seen):
        assert await reads(poller, truth) == []
        simulated.faults.extend([fault] * times)
        wrong = await reads(poller, truth, 2)
        simulated.faults.clear()
        assert await reads(poller, truth, 3) == []
        values = [item.value for event in seen.of(ReadingTaken) for item in event.reading.measurements]
    assert all(isinstance(why, str) for why in wrong)  # a failure at the worst, never an old value
    assert values == sorted(set(map(int, map(str, values))))


@every_link
@pytest.mark.parametrize("before", [1, 2])
async def test_values_are_fresh_after_the_meter_had_no_power(
    tmp_path: Path, fcb: FcbMemory, address: object, before: int
) -> None:
    truth = Truth(telegrams=2)
    wire = Wiretap(strict(truth, fcb))
    async with house(wire, tmp_path, by(address), window=SNAPPY) as (poller, _):
        assert await reads(poller, truth, before) == []
        wire.meters[:] = [strict(truth, fcb)]  # remembers nothing
        assert await reads(poller, truth, 3) == []


@every_link
async def test_after_a_read_out_that_failed_the_link_is_reset(tmp_path: Path, fcb: FcbMemory, address: object) -> None:
    truth = Truth()
    simulated = strict(truth, fcb)
    wire = Wiretap(simulated)
    async with house(wire, tmp_path, by(address), window=SNAPPY) as (poller, _):
        assert await reads(poller, truth, 2) == []
        simulated.behaviour.deaf = True
        assert await reads(poller, truth) == ["m5: no answer"]
        simulated.behaviour.deaf = False
        resets = len(wire.resets())
        assert await reads(poller, truth, 3) == []
        assert len(wire.resets()) == resets + 1


@pytest.mark.parametrize("address", [5, "00000005"])
async def test_nke_always_resets_before_every_read_out(tmp_path: Path, address: object) -> None:
    truth = Truth()
    wire = Wiretap(strict(truth))
    async with house(wire, tmp_path, by(address, nke="always"), window=SNAPPY) as (poller, _):
        assert await reads(poller, truth, 3) == []
    assert wire.resets() == [5 if address == 5 else 253] * 3


@pytest.mark.parametrize("address", [5, "00000005"])
@pytest.mark.parametrize("telegrams", [1, 3])
async def test_nke_never_sends_none_and_values_are_fresh_all_the_same(
    tmp_path: Path, address: object, telegrams: int
) -> None:
    truth = Truth(telegrams=telegrams)
    simulated = strict(truth)
    wire = Wiretap(simulated)
    for _ in range(2):
        async with house(wire, tmp_path, by(address, nke="never"), window=0.05) as (poller, _):
            assert await reads(poller, truth, 3) == []
            simulated.behaviour.deaf = True
            assert len(await reads(poller, truth)) == 1
            simulated.behaviour.deaf = False
            assert await reads(poller, truth, 2) == []
    assert wire.resets() == []


@dataclass(slots=True)
class Repeating(SimulatedMeter):
    """Sends its last telegram once more, access number and all, until its link is reset; or even then."""

    is_stuck: bool = False
    heeds_resets: bool = True
    sent: Answer | None = None

    def answer(self, request: Frame, moment: Moment) -> Answer | None:
        if isinstance(request, ShortFrame) and request.control == 0x40:
            self.is_stuck = self.is_stuck and not self.heeds_resets
        fresh = SimulatedMeter.answer(self, request, moment)
        if not isinstance(request, ShortFrame) or request.control == 0x40 or fresh is None:
            return fresh
        if not self.is_stuck or self.sent is None:
            self.sent = fresh
        return self.sent


@pytest.mark.parametrize("address", [5, "00000005"])
async def test_a_telegram_that_comes_again_is_asked_for_anew_and_never_told_as_news(
    tmp_path: Path, address: object
) -> None:
    truth = Truth()
    simulated = Repeating(identity("00000005", "SON", 1, 4), truth, primary=5)
    wire = Wiretap(simulated)
    async with house(wire, tmp_path, by(address), window=SNAPPY) as (poller, seen):
        assert await reads(poller, truth, 2) == []
        resets = len(wire.resets())
        simulated.is_stuck = True
        assert await reads(poller, truth) == []
        assert len(wire.resets()) == resets + 1
        simulated.is_stuck, simulated.heeds_resets = True, False
        (why,) = await reads(poller, truth)
        assert "repeats its last telegram" in str(why)
        simulated.is_stuck = False
        assert await reads(poller, truth) == []
        assert len(seen.of(ReadingTaken)) == 4


async def test_a_meter_that_does_not_count_its_telegrams_may_send_the_same_twice(tmp_path: Path) -> None:
    """Gateways and old meters: an access number that stands still says nothing."""
    simulated = Repeating(identity("00000005", "SON", 1, 4), Truth(), primary=5, is_stuck=True, heeds_resets=False)
    async with house(Wiretap(simulated), tmp_path, by(5), window=SNAPPY) as (poller, seen):
        for _ in range(3):
            assert (await asked(poller, "m5")).error is None
        assert len(seen.of(ReadingTaken)) == 3


# ------------------------------------------------------------------------------------------------------- recipes


@dataclass(slots=True)
class Snapshotting(SimulatedMeter):
    """Shows what it measured at the last application reset, as Supercal 531 does."""

    truth: Truth = field(default_factory=Truth)
    shown: Truth = field(default_factory=Truth)

    def _choose_application(self, subcode: bytes) -> None:
        self.shown.value = self.truth.value
        SimulatedMeter._choose_application(self, subcode)  # noqa: SLF001 - it is one


@pytest.mark.parametrize("address", [5, "00000005"])
@pytest.mark.parametrize(("before", "is_fresh"), [(["50"], True), ([], False)])
async def test_an_application_reset_before_each_read_out(
    tmp_path: Path, address: object, before: list[str], *, is_fresh: bool
) -> None:
    shown, truth = Truth(), Truth()
    simulated = Snapshotting(identity("00000005", "SON", 1, 4), shown, primary=5, truth=truth, shown=shown)
    async with house(Wiretap(simulated), tmp_path, by(address, before=before), window=SNAPPY) as (poller, _):
        assert await reads(poller, truth, 3) == ([] if is_fresh else [0] * 3)


async def test_an_application_select_brings_other_telegrams(tmp_path: Path) -> None:
    simulated = strict(Truth(7))
    simulated.applications = {0x10: lambda _: [bytes.fromhex("04 13 02 00 00 00")]}
    wire = Wiretap(simulated)
    chosen = by(5, before=["50 10"])
    async with house(wire, tmp_path, chosen, window=SNAPPY) as (poller, _):
        outcomes = [await asked(poller, "m5") for _ in range(3)]
    assert [[item.key for item in outcome.readings[0].measurements] for outcome in outcomes] == [["volume"]] * 3
    sent = [frame for frame in wire.heard if isinstance(frame, LongFrame)]
    assert {(frame.ci, frame.data) for frame in sent} == {(0x50, b"\x10")}


VOLTAGE = bytes.fromhex("02 FD 48 FB 08")  # 229.9 V


@dataclass(slots=True)
class Eastron(SimulatedMeter):
    """Sends its instantaneous values as the answer to a SND_UD with CI B1, as SDM120 to SDM630 do."""

    pages_sent: int = 0

    def answer(self, request: Frame, moment: Moment) -> Answer | None:
        if not (isinstance(request, LongFrame) and request.ci == 0xB1 and self._is_meant(request.address)):
            return SimulatedMeter.answer(self, request, moment)
        assert request.control & ~0x20 == SND_UD
        self.pages_sent += 1
        header = self.secondary.to_bytes() + bytes([200 + self.pages_sent, 0, 0, 0])
        return Answer(encode(LongFrame(RSP_UD, self.primary or 0, 0x72, header + VOLTAGE)), self.delay)


@pytest.mark.parametrize("address", [5, "00000005"])
@pytest.mark.parametrize(("plain", "keys"), [(True, ["energy", "voltage"]), (False, ["voltage"])])
async def test_a_page_is_answered_with_data(tmp_path: Path, address: object, keys: list[str], *, plain: bool) -> None:
    simulated = Eastron(identity("00000005", "SON", 1, 2), Truth(7), primary=5)
    chosen = by(address, pages=["B1"], plain=plain)
    async with house(Wiretap(simulated), tmp_path, chosen, window=SNAPPY) as (poller, _):
        for number in range(1, 4):
            (reading,) = (await asked(poller, "m5")).readings
            assert [item.key for item in reading.measurements] == keys
            assert simulated.pages_sent == number
        assert poller.statistics().retries == 0


async def test_a_page_that_is_acknowledged_is_fetched(tmp_path: Path) -> None:
    simulated = strict(Truth(7))
    simulated.applications = {0x10: lambda _: [bytes.fromhex("04 13 02 00 00 00")]}
    chosen = by(5, before=["50"], pages=["50 10"])
    async with house(Wiretap(simulated), tmp_path, chosen, window=SNAPPY) as (poller, _):
        for _ in range(3):
            (reading,) = (await asked(poller, "m5")).readings
            assert [item.key for item in reading.measurements] == ["energy", "volume"]


async def says(peer: Peer, simulated: SimulatedMeter) -> Frame:
    """Answer the next short frame as this meter does."""
    request = parse(await peer.hears(5))
    answer = simulated.answer(request, Moment(0.0, NOON))
    if answer is not None:
        peer.says(answer.data.hex())
    return request


async def test_a_preamble_rouses_an_interface_that_sleeps() -> None:
    simulated = strict(Truth(7))
    async with converter() as gateway:
        seen = Seen()
        bus_settings = settings(gateway.port.name, by(5, wake={"bytes": 20, "pause": "0.08s"}))
        async with polled(bus_settings, seen, Bus(gateway.port, window=PATIENCE)) as poller:
            outcome = asyncio.create_task(poller.read("m5"))
            peer = await gateway.peer()
            for _ in range(3):  # the first telegram of a wire is asked for twice
                assert await peer.hears(20) == b"\x55" * 20
                roused = time.monotonic()
                await says(peer, simulated)
                assert time.monotonic() - roused >= 0.08
            assert (await asyncio.wait_for(outcome, PATIENCE)).error is None


async def test_a_slow_meter_gets_its_own_window(tmp_path: Path) -> None:
    slow, slower = strict(Truth(7)), meter(6)
    slow.delay = slower.delay = 0.8  # later than three requests take
    meters = [by(5, timeout="5s"), {"name": "m6", "address": 6}]
    async with house(Wiretap(slow, slower), tmp_path, *meters, window=0.01) as (poller, _):
        assert (await asked(poller, "m5")).error is None
        assert poller.statistics().retries == 0
        assert (await asked(poller, "m6")).error is not None


async def test_a_pause_before_each_request(tmp_path: Path) -> None:
    wire = Wiretap(strict(Truth(telegrams=3)), meter(6))
    heard: dict[int, list[float]] = {5: [], 6: []}

    def note(frame: Frame) -> None:
        assert isinstance(frame, ShortFrame)
        heard[frame.address].append(time.monotonic())

    wire.before = note
    async with house(wire, tmp_path, by(5, pause="0.12s"), *named(6), window=SNAPPY) as (poller, _):
        for _ in range(2):
            assert (await asked(poller, "m5")).error is None
        await asked(poller, "m6")
    assert len(heard[5]) == 1 + 3 + 3 + 1  # the first telegram of a wire twice
    assert min(after - before for before, after in pairwise(heard[5])) >= 0.12


class Switched(Wiretap):
    """Meters with rates of their own, on a converter that follows the rate of the port."""

    device = ""

    def __init__(self, *meters: SimulatedMeter) -> None:
        super().__init__(*meters)
        self.rates: list[int] = []

    def answers(self, request: Frame, seconds: float) -> list[Answer]:
        end = os.open(self.device, os.O_RDWR | os.O_NOCTTY)
        speed = termios.tcgetattr(end)[5]
        os.close(end)
        self.rate = {termios.B300: 300, termios.B2400: 2400, termios.B38400: 38400}[speed]
        self.rates.append(self.rate)
        return super().answers(request, seconds)


async def test_each_meter_is_asked_at_its_own_rate(tmp_path: Path) -> None:
    wire = Switched(strict(Truth(7)), meter(6), meter(7))
    for simulated, rate in zip(wire.meters, (300, 38400, 2400), strict=True):
        simulated.rate = rate
    meters = [by(5, baudrate=300, timeout="0.2s"), *named(6), {"name": "m7", "address": 7, "baudrate": 2400}]
    seen = Seen()
    async with opened(wire, link=tmp_path / "port", baudrate=0) as served:
        assert served.device is not None
        wire.device = served.device
        bus = Bus(Port(served.device, 38400), SNAPPY)
        async with polled(settings(served.device, *meters), seen, bus) as poller:
            for name in ("m6", "m5", "m7", "m6", "m5"):
                assert (await asked(poller, name)).error is None
            assert bus.baudrate == 300
            assert poller.statistics().retries == 0
    assert wire.rates == [38400] * 3 + [300] * 2 + [2400] * 2 + [38400] + [300]


async def test_meters_that_are_due_together_are_read_rate_by_rate(tmp_path: Path) -> None:
    """At the start, and when somebody wants all of them: once to the other rate and once back."""
    wire = Switched(*(meter(number) for number in range(1, 7)))
    slow = [{**one, "baudrate": 300} for one in named(1, 3, 5)]
    listed = [one for pair in zip(slow, named(2, 4, 6), strict=True) for one in pair]
    for simulated in wire.meters:
        simulated.rate = 300 if simulated.primary in (1, 3, 5) else 38400
    seen = Seen()
    async with opened(wire, link=tmp_path / "port", baudrate=0) as served:
        assert served.device is not None
        wire.device = served.device
        bus = Bus(Port(served.device, 38400), SNAPPY)
        async with polled(settings(served.device, *listed, interval="1d"), seen, bus) as poller:
            await seen.until(lambda: len(seen.of(ReadingTaken)) == 6)
            at_start, wire.rates = wire.rates, []
            assert len((await asyncio.wait_for(poller.read_all(), PATIENCE)).readings) == 6
            by_request = wire.rates
    assert [before != after for before, after in pairwise(at_start)].count(True) == 1
    assert [before != after for before, after in pairwise(by_request)].count(True) == 1
    assert at_start[-1] == by_request[0]  # the rate that the port has is the first


async def test_a_rate_that_the_port_cannot_have_is_the_meters_trouble_alone(caplog: pytest.LogCaptureFixture) -> None:
    """A transparent converter keeps its rate. The others are read on, and nothing spins."""
    seen, wire = Seen(), Wiretap(strict(Truth(7)), meter(6))
    async with opened(wire, tcp=("127.0.0.1", 0), baudrate=0) as served:
        assert served.tcp is not None
        gateway = Port("tcp://{}:{}".format(*served.tcp), 38400)

        async def opener(_: Port, protocol: ProtocolFactory) -> asyncio.Transport:
            return await open_port(gateway, protocol)

        bus = CountingBus(Port("/dev/converter", 38400), SNAPPY, opener)
        meters = [by(5, baudrate=300), *named(6)]
        async with polled(settings("/dev/converter", *meters, interval="1s"), seen, bus) as poller:
            await seen.until(lambda: len(seen.readings("m6")) >= 3)
            outcome = await asked(poller, "m5")
            assert bus.runs < 20
            failures = seen.infos("m5")[-1].failures
    assert str(outcome.error).endswith("a transparent converter keeps its rate: no 300 Bd here")
    assert failures >= 2
    assert [event.up for event in seen.of(BusChanged)] == [True]
    assert all("m5" in record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)


# ------------------------------------------------------------------------------------------------ what is known of it


async def test_a_slow_meter_of_kamstrup_is_waited_for_as_soon_as_it_is_known(tmp_path: Path) -> None:
    kamstrup, other = strict(Truth(7), manufacturer="KAM"), meter(6)
    async with house(Wiretap(kamstrup, other), tmp_path, by(5), *named(6), window=0.01) as (poller, _):
        assert (await asked(poller, "m5")).error is None
        assert (await asked(poller, "m6")).error is None
        kamstrup.delay = other.delay = 0.5
        before = poller.statistics().retries
        assert (await asked(poller, "m5")).error is None
        assert poller.statistics().retries == before
        assert (await asked(poller, "m6")).error is not None


async def test_electricity_meters_of_abb_are_reset_before_every_read_out(tmp_path: Path) -> None:
    wire = Wiretap(strict(Truth(7), manufacturer="ABB", medium=2))
    async with house(wire, tmp_path, by(5), window=SNAPPY) as (poller, _):
        for _ in range(3):
            assert (await asked(poller, "m5")).error is None
    assert wire.resets() == [5] * 3


async def test_who_reads_a_battery_too_often_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mbusd")
    wire = Wiretap(strict(Truth(7), manufacturer="ELS"))
    async with house(wire, tmp_path, by(5), interval="1s", window=SNAPPY) as (poller, seen):
        await seen.until(lambda: len(seen.readings("m5")) == 2)
        assert (await asked(poller, "m5")).error is None
    (advice,) = [message for message in caplog.messages if "kinder" in message]
    assert advice.startswith("m5: asked every 1s, but on battery it refuses quicker read-outs (manual F96 Plus, p. 17)")
    assert advice.endswith("; 180s or more is kinder to it")


@pytest.mark.parametrize("interval", ["manual", "180s", "1h"])
def test_who_leaves_it_its_rest_is_told_nothing(caplog: pytest.LogCaptureFixture, interval: str) -> None:
    caplog.set_level(logging.INFO, "mbusd")
    known = a_meter(interval=interval)
    known.recognise(Identity("00000005", "ELS", 1, 4, "heat", "0000000593150104"))
    assert not caplog.messages


SENSOSTAR = Identity("00000005", "EFE", 1, 4, "heat", "00000005C5140104")


@pytest.mark.parametrize(
    ("identity", "options", "words"),
    [
        (SENSOSTAR, {"interval": "10m"}, "asked every 600s, but read-outs a day fall with the meters on the bus"),
        (SENSOSTAR, {"interval": "15m"}, None),
        (SENSOSTAR, {"interval": "1h", "alarms": "1m"}, "asked every 60s, but read-outs a day fall"),
        (SENSOSTAR, {"interval": "1m", "power": "mains"}, None),
        (HEAT_OF_SON, {"interval": "14m"}, "asked every 840s, but such meters live on a battery as a rule"),
        (HEAT_OF_SON, {"interval": "15m"}, None),
        (HEAT_OF_SON, {"interval": "manual"}, None),
        (HEAT_OF_SON, {"interval": "manual", "alarms": "1m"}, "asked every 60s, but such meters live on a battery"),
        (HEAT_OF_SON, {"interval": "14m", "power": "mains"}, None),
        (Identity("1", "SON", 1, 2, "electricity", "00000001EE4D0102"), {"interval": "10s"}, None),
        (
            Identity("1", "SON", 1, 2, "electricity", "00000001EE4D0102"),
            {"interval": "10s", "power": "battery"},
            "asked every 10s, but a battery pays for each answer; 900s or more is kinder to it",
        ),
        (Identity("1", "SEN", 1, 4, "heat", "00000001AE4C0104"), {"interval": "180s"}, None),  # its maker says 120 s
    ],
)
def test_who_may_harm_a_battery_is_told_once(
    caplog: pytest.LogCaptureFixture, identity: Identity, options: dict[str, object], words: str | None
) -> None:
    caplog.set_level(logging.INFO, "mbusd")
    known = a_meter(**options)
    for _ in range(3):
        known.recognise(identity)
    assert len(caplog.messages) == (words is not None)
    assert words is None or words in caplog.messages[0]
    assert all(record.levelno == logging.INFO for record in caplog.records)


def test_who_is_to_be_read_more_often_by_request_may_harm_its_battery_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mbusd")
    known = a_meter(interval="1h")
    known.recognise(HEAT_OF_SON)
    for interval in ("30s", "30s", "1h"):
        known.change_interval(interval, now=0.0)
    (advice,) = caplog.messages
    assert "asked every 30s, but such meters live on a battery as a rule" in advice


@pytest.mark.parametrize(
    ("address", "recipe"),
    [
        ("000000052D2C0104", Recipe(manner=Manner(shortest_window=1.0))),
        ("000000052D2CFF04", Recipe(manner=Manner(shortest_window=1.0))),
        ("000000052D2C01FF", Recipe()),  # a heat meter? nobody says so
        ("0000000542040102", Recipe(nke="always")),
        ("00000005", Recipe()),
        ("00000005FFFF0104", Recipe()),
        (5, Recipe()),
    ],
)
def test_an_address_that_says_what_the_meter_is_tells_how_to_ask_it_the_first_time(
    address: object, recipe: Recipe
) -> None:
    assert a_meter(address=address).recipe == recipe


async def test_a_slow_meter_is_found_where_its_address_says_that_it_is_slow(tmp_path: Path) -> None:
    kamstrup = strict(Truth(7), manufacturer="KAM")
    kamstrup.delay = 0.5
    async with house(Wiretap(kamstrup), tmp_path, by("000000052D2C0104"), window=0.01) as (poller, _):
        assert (await asked(poller, "m5")).error is None
        assert poller.statistics().retries == 0


def a_meter(**of_meter: object) -> Meter:
    entry = {"address": 5, **of_meter}
    bus = BusSettings.model_validate({"name": "cellar", "port": "/dev/x", "interval": "10s", "meters": [entry]})
    return Meter.of(bus.meters[0], bus, now=0.0, phase=0.5)


def silent(**of_meter: object) -> Meter:
    """It was asked at second 100 for the tenth time, in vain."""
    known = a_meter(**of_meter)
    for _ in range(10):
        known.has_failed(100.0)
    return known


def test_who_is_silent_is_tried_once_in_each_interval_until_it_is_due_again() -> None:
    known = silent()
    assert (known.task, known.due) == ("knock", 110.0)
    known.knocked(110.0)
    assert (known.task, known.due) == ("knock", 120.0)
    for moment in (120.0, 130.0, 140.0, 150.0, 160.0):
        known.knocked(moment)
    assert known.task == "values"  # with all tries


def test_who_is_heard_again_is_read_at_once() -> None:
    known = silent()
    known.is_heard(110.5)
    assert (known.task, known.due) == ("values", 110.5)


def test_the_wire_is_not_filled_with_tries() -> None:
    """A tenth of it at the most, for one silent meter."""
    quick, slow = silent(interval="1s"), silent(interval="1s", timeout="2s")
    assert 103.0 < quick.due < 106.0  # at 2400 Bd
    assert slow.due > 140.0


@pytest.mark.parametrize("options", [{"interval": "1h"}, {"interval": "manual"}, {"interval": "0 0 * * *"}])
def test_who_is_asked_seldom_is_not_tried_in_between(options: dict[str, object]) -> None:
    assert silent(**options).task == "values"


def test_a_battery_meter_that_refuses_is_left_in_peace() -> None:
    known = a_meter()
    for _ in range(3):
        known.has_refused(100.0)
    known.has_failed(110.0)
    assert known.task == "values"
    assert known.due > 160.0


def test_the_recipe_of_the_configuration() -> None:
    chosen = a_meter(
        nke="never",
        before=["50", "50 10"],
        plain=False,
        pages=["B1", "51 08 06"],
        timeout="2s",
        pause="0.3s",
        baudrate=300,
        wake={"bytes": 100, "pause": "0.2s"},
    )
    assert chosen.recipe == Recipe(
        nke="never",
        before=(Step(0x50), Step(0x50, b"\x10")),
        is_plain=False,
        pages=(Step(0xB1), Step(0x51, b"\x08\x06")),
        manner=Manner(2.0, 0.3, Wake(100, 0.2), 300),
    )
    assert a_meter().recipe == Recipe()


def test_what_the_owner_wrote_stays_when_the_meter_is_known() -> None:
    kamstrup = Identity("00000005", "KAM", 1, 4, "heat", "000000052D2C0104")
    chosen = a_meter(timeout="0.3s")
    chosen.recognise(kamstrup)
    assert chosen.recipe.manner == Manner(window=0.3)
    plain = a_meter()
    plain.recognise(kamstrup)
    assert plain.recipe.manner == Manner(shortest_window=1.0)
    plain.recognise(HEAT_OF_SON)  # another meter in its place
    assert plain.recipe == Recipe()


def test_names() -> None:
    nameless = a_meter()
    assert (nameless.name, nameless.label) == (None, "cellar/5")
    nameless.recognise(HEAT_OF_SON)
    assert (nameless.name, nameless.label) == (HEAT_OF_SON.address, HEAT_OF_SON.address)
    assert a_meter(name="heat").name == "heat"


def test_a_meter_that_does_not_say_who_it_is_goes_by_its_place() -> None:
    """Short headers: each of them would have the name of nobody."""
    nameless = a_meter()
    nameless.recognise(Identity("", "", None, None, "unknown", "F" * 16))
    assert nameless.name == "cellar-5"


SON_5, SON_6 = SecondaryAddress("00000005EE4D0104"), SecondaryAddress("00000006EE4D0104")


@pytest.mark.parametrize(
    ("address", "primary", "secondary", "is_it"),
    [
        (5, 5, SON_5, True),
        (5, 5, None, True),
        (5, None, SON_5, False),
        (5, 6, SON_5, False),
        ("00000005", None, SON_5, True),
        ("00000005", 5, SON_6, False),
        ("00000005", 5, None, False),
        ("00000005EE4D0104", 7, SON_5, True),
        ("00000005EE4D0204", 7, SON_5, False),
    ],
)
def test_whether_a_meter_that_was_found_is_this_one(
    address: object, primary: int | None, secondary: SecondaryAddress | None, *, is_it: bool
) -> None:
    assert a_meter(address=address).is_at(primary, secondary) is is_it


def test_a_meter_that_has_been_read_is_known_by_its_secondary_address_too() -> None:
    known = a_meter(address=5)
    assert known.secondary is None
    known.recognise(HEAT_OF_SON)
    assert known.secondary == SON_5
    assert known.is_at(None, SON_5)
    assert not known.is_at(None, SON_6)


def test_a_secondary_address_with_wildcards_is_not_the_whole_one() -> None:
    assert a_meter(address="00000005").secondary is None
    assert a_meter(address="00000005EE4D0104").secondary == SON_5


@pytest.mark.parametrize(
    ("answers", "is_open", "online"), [(None, True, None), (True, True, True), (True, False, False)]
)
def test_whether_it_is_online(*, answers: bool | None, online: bool | None, is_open: bool) -> None:
    one = a_meter()
    one.answers = answers
    info = one.info(bus_is_open=is_open)
    assert (info.online, info.address, info.interval, info.name) == (online, "5", "10s", "")
