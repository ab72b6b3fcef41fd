"""set-address, set-baudrate, set-clock, reset and set-id over a real socket to a simulated bus, and what they print."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from mbusd.commands.write import (
    Line,
    Reset,
    SetAddress,
    SetBaudrate,
    SetClock,
    SetIdentification,
    run_reset,
    run_set_address,
    run_set_baudrate,
    run_set_clock,
    run_set_identification,
)
from mbusd.line.transport import Port, ProtocolFactory, TransportError, open_port
from mbusd.mbus.address import PrimaryAddress, parse_address
from mbusd.mbus.aiming import LoneMeter
from mbusd.mbus.errors import AddressError
from mbusd.simulation.meter_file import meter_from
from mbusd.simulation.simulator import Behaviour, SimulatedBus, SimulatedMeter
from mbusd.simulation.virtual_bus import opened
from mbusd.writes import AT_THE_CHANGE, clock_type, local_clock, moment, number, secondary, subcode, target

LINE = Line("/dev/ttyBench", 2400, 0.01, 2)
ONE = PrimaryAddress(1)
METER = "000000012D2C0104"


def meter(address: int = 1, **more: object) -> SimulatedMeter:
    entry: dict[str, object] = {
        "address": address,
        "identification": f"{address:08}",
        "manufacturer": "KAM",
        "medium": 4,
        "records": ["04 06 0A 00 00 00", {"code": "04 6D", "value": "clock"}],
    }
    return meter_from(entry | more)


@dataclass
class Bench:
    """A serial port whose wire is a simulated bus; what changes its rate changes the wire's. Pauses take no time."""

    bus: SimulatedBus
    tcp: str = ""
    skipped: float = 0.0  # seconds
    rates: list[int] = field(default_factory=list)

    async def open(self, port: Port, protocol: ProtocolFactory) -> asyncio.Transport:
        self.bus.rate = port.baudrate
        self.rates.append(port.baudrate)
        return await open_port(replace(port, name=self.tcp), protocol)

    def clock(self) -> float:
        return time.monotonic() + self.skipped

    async def pause(self, seconds: float) -> None:
        self.skipped += seconds


@asynccontextmanager
async def bench(*meters: SimulatedMeter, baudrate: int = 0) -> AsyncIterator[Bench]:
    began = datetime.now().astimezone().replace(tzinfo=None)
    made = Bench(SimulatedBus(list(meters), began))
    async with opened(made.bus, tcp=("127.0.0.1", 0), baudrate=baudrate, clock=made.clock) as served:
        assert served.tcp is not None
        made.tcp = f"tcp://{served.tcp[0]}:{served.tcp[1]}"
        yield made


async def test_set_address(capsys: pytest.CaptureFixture[str]) -> None:
    one = meter()
    async with bench(one, meter(7)) as on:
        assert await run_set_address(SetAddress(LINE, ONE, 5), as_json=True, opener=on.open) == 0
    assert one.primary == 5
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "done": "primary address 5 instead of 1",
        "secondary_address": METER,
        "verified": [f"it answers at 5 as {METER}"],
        "not_verified": [],
        "remarks": [],
    }
    assert err == ""


async def test_set_address_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    one = meter()
    async with bench(one, meter(7)) as on:
        assert await run_set_address(SetAddress(LINE, ONE, 7), as_json=False, opener=on.open) == 1
    assert one.primary == 1
    expected = "mbusd: /dev/ttyBench at 2400 Bd: address 7 is taken (000000072D2C0104)\n"
    assert capsys.readouterr() == ("", expected)


async def test_the_test_address_goes_with_the_users_word_only(capsys: pytest.CaptureFixture[str]) -> None:
    one = meter()
    async with bench(one) as on:
        assert await run_set_address(SetAddress(LINE, LoneMeter(), 5), as_json=False, opener=on.open) == 2
        assert await run_set_address(SetAddress(LINE, ONE, 5, lone=True), as_json=False, opener=on.open) == 2
        assert one.primary == 1
        assert on.rates == [], "the port was not even opened"
        assert await run_set_address(SetAddress(LINE, LoneMeter(), 5, lone=True), as_json=False, opener=on.open) == 0
    assert one.primary == 5
    out, err = capsys.readouterr()
    assert err.count("--lone") == 4
    assert out.splitlines() == [
        f"{METER}: primary address 5 instead of 254 (the only meter on the bus)",
        f"  verified: it answers at 5 as {METER}",
    ]


async def test_a_slow_meter_is_no_lone_one_though_its_answers_are_clean(capsys: pytest.CaptureFixture[str]) -> None:
    """It answers behind the jumble of the quick ones, and nothing else is readable."""
    quick, other, slow = meter(3), meter(4), meter(1)
    slow.delay = 0.15
    async with bench(quick, other, slow, baudrate=2400) as on:
        line = replace(LINE, timeout=0.2)
        assert await run_set_address(SetAddress(line, LoneMeter(), 5, lone=True), as_json=False, opener=on.open) == 1
    assert (quick.primary, other.primary, slow.primary) == (3, 4, 1)
    assert "a write wants exactly one meter that answers" in capsys.readouterr().err


async def test_set_clock(capsys: pytest.CaptureFixture[str]) -> None:
    one = meter()
    async with bench(one) as on:
        given = datetime(2031, 5, 6, 7, 8)  # noqa: DTZ001 (a meter's clock has no zone)
        assert await run_set_clock(SetClock(LINE, ONE, given), as_json=False, opener=on.open) == 0
        out, err = capsys.readouterr()
        assert out.splitlines() == [
            f"{METER}: clock 2031-05-06 07:08:00",
            "  verified: its clock shows 2031-05-06 07:08:00",
        ]
        assert err == ""
        assert await run_set_clock(SetClock(LINE, ONE), as_json=True, opener=on.open) == 0
    assert abs(one.clock_offset) < timedelta(minutes=1)
    assert json.loads(capsys.readouterr().out)["not_verified"] == []


async def test_set_clock_near_the_full_hour_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    async with bench(meter()) as on:
        given = datetime(2031, 5, 6, 7, 59, 30)  # noqa: DTZ001
        assert await run_set_clock(SetClock(LINE, ONE, given), as_json=False, opener=on.open) == 0
    out, err = capsys.readouterr()
    assert "near the full hour" in err
    assert "  remark: set near the full hour" in out


async def test_a_write_that_a_meter_ignores_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    one = meter()
    one.behaviour.writes = "ignored"
    async with bench(one) as on:
        question = SetIdentification(LINE, ONE, secondary("00000009"))
        assert await run_set_identification(question, as_json=True, opener=on.open) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "the meter acknowledges the command and is 000000012D2C0104" in err


async def test_set_id_and_reset(capsys: pytest.CaptureFixture[str]) -> None:
    one = meter()
    one.applications = {0x50: lambda _: [b"\x01\x13\x09"]}
    async with bench(one) as on:
        question = SetIdentification(LINE, parse_address("00000001"), secondary("00000009"))
        assert await run_set_identification(question, as_json=False, opener=on.open) == 0
        assert await run_reset(Reset(LINE, ONE, 0x50), as_json=False, opener=on.open) == 0
        assert await run_reset(Reset(LINE, parse_address("00000009")), as_json=False, opener=on.open) == 0
    assert one.secondary.digits == "000000092D2C0104"
    assert [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")] == [
        "000000092D2C0104: secondary address 000000092D2C0104",
        "000000092D2C0104: application select 50 (instantaneous values, telegram 0)",
        "000000092D2C0104: application reset",
    ]


async def test_set_baudrate(capsys: pytest.CaptureFixture[str]) -> None:
    one = meter()
    one.rate = 2400
    async with bench(one) as on:
        code = await run_set_baudrate(SetBaudrate(LINE, ONE, 9600), as_json=False, opener=on.open, pause=on.pause)
    assert (code, one.rate) == (0, 9600)
    assert on.rates == [2400, 9600, 2400, 9600], "there, to see that nobody is; back, to ask; there again"
    assert capsys.readouterr().out.splitlines() == [
        f"{METER}: 9600 Bd instead of 2400",
        f"  verified: it answers at 9600 Bd as {METER}",
    ]


async def test_set_baudrate_of_a_meter_that_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    """It acknowledges, switches, and hears nothing at the new rate."""
    one = meter()
    one.rate, one.behaviour = 2400, Behaviour(falls_back_after=30)
    async with bench(one) as on:

        async def open_badly(port: Port, protocol: ProtocolFactory) -> asyncio.Transport:
            transport = await on.open(port, protocol)
            on.bus.rate = 2400 if port.baudrate == 2400 else 0
            return transport

        code = await run_set_baudrate(SetBaudrate(LINE, ONE, 9600), as_json=False, opener=open_badly, pause=on.pause)
    assert (code, one.rate, on.rates[-1]) == (1, 2400, 2400)
    assert 30 < on.skipped < 60
    err = capsys.readouterr().err
    assert "waiting" in err
    assert err.endswith("is silent at 9600 Bd and answers at 2400 Bd as before\n")


async def test_set_baudrate_by_a_transparent_converter(capsys: pytest.CaptureFixture[str]) -> None:
    async with bench(meter()) as on:
        line = replace(LINE, port=on.tcp)
        assert await run_set_baudrate(SetBaudrate(line, ONE, 9600), as_json=False, opener=on.open) == 2
        assert on.rates == []
    assert "a transparent TCP converter keeps its own rate" in capsys.readouterr().err


async def test_a_port_that_is_lost_after_the_switch_leaves_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    one = meter()
    one.rate = 2400
    async with bench(one) as on:

        async def lose(port: Port, protocol: ProtocolFactory) -> asyncio.Transport:
            if one.rate == 9600:
                raise TransportError(port.name, "unplugged")
            return await on.open(port, protocol)

        with pytest.raises(TransportError, match="unplugged"):
            await run_set_baudrate(SetBaudrate(LINE, ONE, 9600), as_json=False, opener=lose, pause=on.pause)
    assert "the meter may be at 2400 or at 9600 Bd now" in capsys.readouterr().err


def test_the_words_of_the_command_line() -> None:
    assert target("254") == LoneMeter()
    assert target("12") == PrimaryAddress(12)
    with pytest.raises(AddressError):
        target("255")
    with pytest.raises(ValueError, match="1234567F may be several meters"):
        target("1234567F")
    assert number("12") == 12
    for word in ("", "-1", "²", "٣"):
        with pytest.raises(ValueError, match="is no number"):
            number(word)
    assert [subcode(word) for word in ("50", "0x10", "5", "a0h")] == [0x50, 0x10, 5, 0xA0]
    for word in ("", "100", "g0", "-1"):
        with pytest.raises(ValueError, match="two hex digits"):
            subcode(word)
    with pytest.raises(ValueError, match="primary address"):
        secondary("12")
    for word in ("1234567F", "0102030A", "010203042D2CFF04"):
        with pytest.raises(ValueError, match="cannot be written"):
            secondary(word)
    assert moment("2025-03-30T14:05") == datetime(2025, 3, 30, 14, 5)  # noqa: DTZ001
    assert moment("2025-03-30T12:05:00Z") == datetime(2025, 3, 30, 12, 5, tzinfo=UTC)
    assert type(moment("2025-03-30")) is date
    for word in ("noon", "14:05", "1999-12-31T00:00", "1999-12-31", "2080-01-01T00:00", "0001-01-01T00:00+14:00"):
        with pytest.raises(ValueError, match="is no time"):
            moment(word)


def test_the_type_of_clock_that_goes_with_what_is_given() -> None:
    day, noon = date(2025, 3, 30), datetime(2025, 3, 30, 12)  # noqa: DTZ001
    assert [clock_type(given) for given in (None, noon, day)] == [None, None, "G"]
    assert [clock_type(given, "I") for given in (None, noon)] == ["I", "I"]
    assert [clock_type(given, "G") for given in (None, noon, day)] == ["G", "G", "G"]
    with pytest.raises(ValueError, match="type I has a time of day: 2025-03-30T14:05:36"):
        clock_type(day, "I")


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets the time zone of this process until the test ends."""

    def choose(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield choose
    monkeypatch.undo()
    time.tzset()


BERLIN = ZoneInfo("Europe/Berlin")
POSIX_BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"


@pytest.mark.parametrize("month", [1, 7])
@pytest.mark.parametrize("of_meter", [None, BERLIN])
def test_the_summer_time_flag_is_that_of_the_day(
    month: int, of_meter: ZoneInfo | None, zone: Callable[[str], None]
) -> None:
    zone(POSIX_BERLIN if of_meter is None else "UTC")
    given = datetime(2025, month, 1, 12)  # noqa: DTZ001
    clock = local_clock(given, of_meter)
    assert clock.is_summer_time == (month == 7)
    assert given <= clock.shows() < given + timedelta(seconds=10)
    assert clock.remarks == ()
    assert not local_clock(given, of_meter, standard_time=True).is_summer_time


@pytest.mark.parametrize("of_meter", [None, BERLIN])
def test_a_time_with_a_zone_is_converted_to_that_of_the_meter(
    of_meter: ZoneInfo | None, zone: Callable[[str], None]
) -> None:
    zone(POSIX_BERLIN if of_meter is None else "UTC")
    given = datetime(2025, 7, 1, 12, tzinfo=UTC)
    assert local_clock(given, of_meter).shows().replace(microsecond=0) == datetime(2025, 7, 1, 14)  # noqa: DTZ001
    winter = local_clock(given, of_meter, standard_time=True)
    assert winter.shows().replace(microsecond=0) == datetime(2025, 7, 1, 13)  # noqa: DTZ001


def test_the_time_now_is_that_of_the_meters_zone(zone: Callable[[str], None]) -> None:
    zone("UTC")
    ahead = local_clock(None, ZoneInfo("Pacific/Kiritimati")).shows() - local_clock(None, None).shows()
    assert abs(ahead - timedelta(hours=14)) < timedelta(seconds=10)


@pytest.mark.parametrize(
    ("hour", "near"), [("2025-03-30T00:30", True), ("2025-03-30T03:30", True), ("2025-03-30T05:30", False)]
)
@pytest.mark.parametrize("of_meter", [None, BERLIN])
def test_near_a_change_of_summer_time_it_is_said(
    hour: str,
    near: bool,  # noqa: FBT001
    of_meter: ZoneInfo | None,
    zone: Callable[[str], None],
) -> None:
    zone(POSIX_BERLIN if of_meter is None else "UTC")
    given = datetime.fromisoformat(hour)
    assert local_clock(given, of_meter).remarks == ((AT_THE_CHANGE,) if near else ())
    assert local_clock(given, of_meter, standard_time=True).remarks == ()


def test_a_meter_that_knows_no_summer_time_gets_standard_time(zone: Callable[[str], None]) -> None:
    zone("STD0DST-1,0/0,J365/23")  # summer time all the year
    clock, standard = local_clock(None, None), local_clock(None, None, standard_time=True)
    assert (clock.is_summer_time, standard.is_summer_time) == (True, False)
    assert timedelta(minutes=59) < clock.shows() - standard.shows() < timedelta(minutes=61)


async def test_a_date_alone(capsys: pytest.CaptureFixture[str]) -> None:
    one = meter()
    async with bench(one) as on:
        question = SetClock(LINE, ONE, date(2031, 5, 6))
        assert await run_set_clock(question, as_json=False, opener=on.open) == 0
        assert await run_set_clock(replace(question, kind="F"), as_json=False, opener=on.open) == 2
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == f"{METER}: date 2031-05-06"
    assert "type F has a time of day" in err


async def test_an_interrupted_write_says_that_the_meter_may_have_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    one = meter()
    async with bench(one) as on:
        asked = asyncio.create_task(run_set_address(SetAddress(LINE, ONE, 5), as_json=False, opener=on.open))
        async with asyncio.timeout(20):
            while one.primary == 1:  # noqa: ASYNC110 - a meter that obeys rings no bell
                await asyncio.sleep(0.001)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
    assert "not finished: the command was sent already" in capsys.readouterr().err
