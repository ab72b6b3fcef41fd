"""Writing to meters by request: what may be asked, what comes of it on a simulated bus, and that it must be allowed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from mbusd.app import Daemon
from mbusd.changes import carry_out, moved, to_be_written
from mbusd.config import parse
from mbusd.configuration.settings import BusSettings, MeterSettings
from mbusd.line.bus import Bus
from mbusd.line.transport import Port, TransportError
from mbusd.mbus.address import PrimaryAddress, SecondaryAddress, parse_address
from mbusd.mbus.aiming import WriteRefused
from mbusd.mbus.master import ReadOut, read_out
from mbusd.mbus.quirks import Manner
from mbusd.mbus.rates import BETWEEN_LOOKS
from mbusd.mbus.written import Written
from mbusd.model import BusChanged, ChangeMeter, Event, MeterChanged, ReadNow
from mbusd.poller import Poller
from mbusd.simulation.meters import household
from mbusd.simulation.simulator import SimulatedBus
from mbusd.simulation.virtual_bus import opened
from mbusd.sinks.requests import Asked
from mbusd.sinks.topics import Topics
from tests.wires import PATIENCE

BEGAN = datetime(2026, 11, 20, 12, 10)  # noqa: DTZ001 - meters' clocks know no zone


@asynccontextmanager
async def house() -> AsyncIterator[tuple[SimulatedBus, Bus]]:
    wire = SimulatedBus(household(BEGAN), BEGAN)
    async with opened(wire, tcp=("127.0.0.1", 0), baudrate=0) as served:
        assert served.tcp is not None
        bus = Bus(Port("tcp://{}:{}".format(*served.tcp), 38400))
        await bus.open()
        try:
            yield wire, bus
        finally:
            bus.close()


async def test_a_new_primary_address_is_verified() -> None:
    async with house() as (wire, bus):
        written = await carry_out(ChangeMeter("gas", "set_address", "77"), PrimaryAddress(3), 38400, bus)
        assert [meter.primary for meter in wire.meters if meter.name == "gas"] == [77]
    assert written.verified


async def test_an_address_that_is_taken_is_refused_and_nothing_changes() -> None:
    async with house() as (wire, bus):
        with pytest.raises(WriteRefused):
            await carry_out(ChangeMeter("gas", "set_address", "12"), PrimaryAddress(3), 38400, bus)
        assert [meter.primary for meter in wire.meters if meter.name == "gas"] == [3]


@pytest.mark.parametrize(
    ("what", "value"), [("set_address", "x"), ("set_address", None), ("set_clock", "noon"), ("reset", "XYZ")]
)
async def test_a_value_that_is_none_is_said_before_anything_is_sent(what: str, value: str | None) -> None:
    async with house() as (wire, bus):
        with pytest.raises(ValueError, match=r"no number|needs a value|no time|no subcode"):
            await carry_out(ChangeMeter("gas", what, value), PrimaryAddress(3), 38400, bus)  # type: ignore[arg-type]  # a parameter of the test
        assert wire.requests == 0


async def test_the_clock_is_set_to_the_time_of_the_meters_zone() -> None:
    async with house() as (wire, bus):
        gas = next(meter for meter in wire.meters if meter.name == "gas")
        elsewhere = ZoneInfo("Pacific/Kiritimati")
        written = await carry_out(ChangeMeter("gas", "set_clock"), PrimaryAddress(3), 38400, bus, zone=elsewhere)
        shown = wire.began + gas.clock_offset
    assert written.verified
    assert abs(shown - datetime.now(elsewhere).replace(tzinfo=None)) < timedelta(minutes=3)


async def test_a_date_alone_sets_the_date_alone() -> None:
    async with house() as (wire, bus):
        written = await carry_out(ChangeMeter("gas", "set_clock", "2031-05-06"), PrimaryAddress(3), 38400, bus)
        gas = next(meter for meter in wire.meters if meter.name == "gas")
    assert written.done == "date 2031-05-06"
    assert abs(gas.clock_offset - timedelta(days=(date(2031, 5, 6) - BEGAN.date()).days)) < timedelta(seconds=1)


async def test_a_meter_with_a_manner_of_its_own_is_written_to_in_that_manner() -> None:
    async with house() as (_, bus):
        manner = Manner(baudrate=300)
        with pytest.raises(TransportError, match="no 300 Bd here"):
            await carry_out(ChangeMeter("gas", "reset"), PrimaryAddress(3), 38400, bus, manner=manner)


async def test_while_a_meter_is_given_minutes_to_come_back_others_are_read(tmp_path: Path) -> None:
    wire = SimulatedBus(household(BEGAN), BEGAN)
    gas = next(meter for meter in wire.meters if meter.name == "gas")
    gas.rate = 9600
    async with opened(wire, link=tmp_path / "tty", baudrate=9600):
        bus = Bus(Port(str(tmp_path / "tty"), 9600))
        await bus.open()
        read: list[ReadOut] = []

        async def pause(seconds: float) -> None:
            if seconds >= BETWEEN_LOOKS:
                read.append(await asyncio.wait_for(bus.run(read_out(PrimaryAddress(68))), PATIENCE))
                gas.rate = 9600
            elif seconds:
                gas.rate = 300  # nobody finds it

        change = ChangeMeter("gas", "set_baudrate", "19200")
        try:
            with pytest.raises(WriteRefused, match="is silent at 19200 Bd and answers at 9600 Bd as before"):
                await carry_out(change, PrimaryAddress(3), 9600, bus, pause=pause)
        finally:
            bus.close()
            await asyncio.sleep(0)
    assert [str(one.address) for one in read] == ["681044022D2C0904"]


async def test_a_new_rate_is_verified_and_the_port_goes_back_to_its_own(tmp_path: Path) -> None:
    wire = SimulatedBus(household(BEGAN), BEGAN)
    gas = next(meter for meter in wire.meters if meter.name == "gas")
    gas.rate = 9600
    async with opened(wire, link=tmp_path / "tty", baudrate=9600):
        bus = Bus(Port(str(tmp_path / "tty"), 9600))
        await bus.open()
        try:
            written = await carry_out(ChangeMeter("gas", "set_baudrate", "19200"), PrimaryAddress(3), 9600, bus)
            other = await bus.run(read_out(PrimaryAddress(68)))
        finally:
            bus.close()
            await asyncio.sleep(0)
    assert written.verified == ("it answers at 19200 Bd as 2185034493152103",)
    assert gas.rate == 19200
    assert str(other.address) == "681044022D2C0904"


@pytest.mark.parametrize(
    ("before", "change", "now", "remarks"),
    [
        (
            {"name": "gas", "address": 3},
            ChangeMeter("gas", "set_address", "77"),
            {"address": 77},
            ["change the configuration, meter gas, to `address: 77`"],
        ),
        ({"name": "gas", "address": "21850344"}, ChangeMeter("gas", "set_address", "77"), {}, []),
        ({"name": "gas", "address": 3}, ChangeMeter("gas", "set_identification", "12345678"), {}, []),
        (
            {"address": "21850344"},
            ChangeMeter("21850344", "set_identification", "12345678"),
            {"address": "12345678"},
            ['the meter with address 21850344, if it stands there, to `address: "12345678"`'],
        ),
        (
            {"name": "gas", "address": "2185034493152103"},
            ChangeMeter("gas", "set_identification", "12345678"),
            {"address": "1234567893152103"},
            ['`address: "1234567893152103"`'],
        ),
        (
            {"name": "gas", "address": "2185034493152103-11111111"},
            ChangeMeter("gas", "set_identification", "12345678"),
            {"address": "1234567893152103-11111111"},
            ['`address: "1234567893152103-11111111"`'],
        ),
        (
            {"name": "gas", "address": 3},
            ChangeMeter("gas", "set_baudrate", "9600"),
            {"baudrate": 9600},
            ["`baudrate: 9600`"],
        ),
        ({"name": "gas", "address": 3}, ChangeMeter("gas", "reset"), {}, []),
    ],
)
def test_a_meter_is_reached_where_a_write_has_put_it_and_the_owner_is_told_the_line_to_write(
    before: dict[str, object], change: ChangeMeter, now: dict[str, object], remarks: list[str]
) -> None:
    settings = MeterSettings.model_validate(before)
    moved_to = moved(settings, change, Written("…", SecondaryAddress("1234567893152103")))
    assert moved_to == MeterSettings.model_validate(before | now)
    said = to_be_written(settings, moved_to)
    assert len(said) == len(remarks)
    assert all(wanted in remark for wanted, remark in zip(remarks, said, strict=True))
    assert moved(settings, change, Written("nothing", None, has_changed=False)) == settings


async def test_the_daemon_reads_a_meter_on_at_its_new_address(caplog: pytest.LogCaptureFixture) -> None:
    wire = SimulatedBus(household(BEGAN), BEGAN)
    events: list[Event] = []
    async with opened(wire, tcp=("127.0.0.1", 0), baudrate=0) as served:
        assert served.tcp is not None
        bus = {"name": "b", "port": "tcp://{}:{}".format(*served.tcp), "baudrate": 38400, "interval": "manual"}
        meters = [{"name": "gas", "address": 3}]
        poller = Poller.of(BusSettings.model_validate(bus | {"meters": meters}), events.append)
        life = asyncio.create_task(poller.run())
        try:
            while not any(isinstance(event, BusChanged) and event.up for event in events):  # noqa: ASYNC110 - no event of asyncio
                await asyncio.sleep(0.01)
            assert (await poller.read("gas")).error is None
            outcome = await poller.change(ChangeMeter("gas", "set_address", "77"))
            assert (await poller.read("gas")).error is None
            renumbered = await poller.change(ChangeMeter("gas", "set_identification", "12345678"))
            reading = (await poller.read("gas")).readings[0]
        finally:
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)
    assert isinstance(outcome.written, dict)
    line = "it is read there until mbusd stops; change the configuration, meter gas, to `address: 77`"
    assert outcome.written["remarks"] == [line]
    assert f"gas: {line}" in caplog.text
    assert renumbered.error is None
    assert reading.identity.identification == "12345678"
    assert "another meter answers" not in caplog.text
    infos = [event.info.address for event in events if isinstance(event, MeterChanged)]
    assert (infos[0], infos[-1]) == ("3", "77")


async def test_a_transparent_converter_cannot_follow_a_new_rate() -> None:
    async with house() as (_, bus):
        with pytest.raises(Exception, match="keeps its rate"):
            await carry_out(ChangeMeter("gas", "set_baudrate", "9600"), parse_address("2185034493152103"), 38400, bus)


@pytest.mark.parametrize(
    ("request_", "payload", "command"),
    [
        ("set_address", '{"meter": "gas", "address": 5}', ChangeMeter("gas", "set_address", "5")),
        ("set_address", '{"meter": "gas", "value": "5"}', ChangeMeter("gas", "set_address", "5")),
        ("set_clock", '{"meter": "gas"}', ChangeMeter("gas", "set_clock")),
        ("reset", "gas", ChangeMeter("gas", "reset")),
        ("set_baudrate", '{"meter": "gas", "baudrate": 9600}', ChangeMeter("gas", "set_baudrate", "9600")),
        ("read", "gas", ReadNow("gas")),
    ],
)
def test_what_may_be_asked(request_: str, payload: str, command: ChangeMeter) -> None:
    asked = Topics().asked(f"mbusd/bridge/request/{request_}", payload)
    assert asked == Asked(command, response_topic=f"mbusd/bridge/response/{request_}")


@pytest.mark.parametrize("payload", ["{}", '{"meter": 5, "value": [1]}', '{"meter": "gas", "address": true}'])
def test_what_cannot_be_asked(payload: str) -> None:
    asked = Topics().asked("mbusd/bridge/request/set_address", payload)
    assert asked is not None
    assert asked.command is None
    assert asked.error == 'set_address takes {"meter": name, "value": …}'


async def test_nothing_is_written_unless_the_owner_allows_it() -> None:
    settings = parse("buses: [{name: b, port: /dev/none, meters: [{name: gas, address: 3}]}]", "test", {})
    outcome = await Daemon(settings).execute(ChangeMeter("gas", "set_address", "5"))
    assert outcome.error == "set_address is refused: mqtt.allow_writes is off"
