"""set-address, set-baudrate, set-clock, reset and set-id over a real socket to a simulated bus, and what they print."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

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
from mbusd.mbus.address import PrimaryAddress, parse_address
from mbusd.mbus.aiming import LoneMeter
from mbusd.mbus.errors import AddressError
from mbusd.meter_file import meter_from
from mbusd.simulator import Behaviour, SimulatedBus, SimulatedMeter
from mbusd.transport import Port, ProtocolFactory, TransportError, open_port
from mbusd.virtual_bus import opened
from mbusd.writes import local_clock, moment, secondary, subcode, target

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
async def bench(*meters: SimulatedMeter) -> AsyncIterator[Bench]:
    began = datetime.now().astimezone().replace(tzinfo=None)
    made = Bench(SimulatedBus(list(meters), began))
    async with opened(made.bus, tcp=("127.0.0.1", 0), baudrate=0, clock=made.clock) as served:
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
    assert [subcode(word) for word in ("50", "0x10", "5", "a0h")] == [0x50, 0x10, 5, 0xA0]
    for word in ("", "100", "g0", "-1"):
        with pytest.raises(ValueError, match="two hex digits"):
            subcode(word)
    with pytest.raises(ValueError, match="primary address"):
        secondary("12")
    assert moment("2025-03-30T14:05") == datetime(2025, 3, 30, 14, 5)  # noqa: DTZ001
    here = datetime(2025, 3, 30, 12, 5, tzinfo=UTC).astimezone().replace(tzinfo=None)
    assert moment("2025-03-30T12:05:00+00:00") == here
    for word in ("noon", "1999-12-31T00:00", "2080-01-01T00:00", "0001-01-01T00:00+14:00"):
        with pytest.raises(ValueError, match="is no time"):
            moment(word)


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets the time zone of this process until the test ends."""

    def choose(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield choose
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("month", [1, 7])
def test_the_summer_time_flag_is_that_of_the_day(month: int, zone: Callable[[str], None]) -> None:
    zone("CET-1CEST,M3.5.0,M10.5.0/3")
    given = datetime(2025, month, 1, 12)  # noqa: DTZ001
    clock, is_summer = local_clock(given, standard_time=False)
    assert is_summer == (month == 7)
    assert given <= clock() < given + timedelta(seconds=10)
    assert not local_clock(given, standard_time=True)[1]


def test_a_meter_that_knows_no_summer_time_gets_standard_time(zone: Callable[[str], None]) -> None:
    zone("STD0DST-1,0/0,J365/23")  # summer time all the year
    clock, is_summer = local_clock(None, standard_time=False)
    standard, flag = local_clock(None, standard_time=True)
    assert (is_summer, flag) == (True, False)
    assert timedelta(minutes=59) < clock() - standard() < timedelta(minutes=61)
