"""A machine whose clock is not set yet; its clocks are simulated."""

import asyncio
import faulthandler
import logging
import os
import signal
from datetime import UTC, datetime

import pytest

from bench.simulated_time import Cellar, Clock, MemoryBroker, broker_in_memory, ports_in_memory, simulated_time
from mbusd.app import serve
from mbusd.clock import FIRST_DAY, MOST_SECONDS, is_set, wait_until_set
from mbusd.settings import Settings
from mbusd.simulator import SimulatedBus
from tests.test_app import heat_meter

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)


@pytest.mark.parametrize(("moment", "expected"), [("1970-01-01T00:00:30", False), ("2025-12-31T23:59:59", False)])
def test_nothing_was_before_there_was_a_daemon(moment: str, expected: bool) -> None:  # noqa: FBT001 - a parameter
    assert is_set(datetime.fromisoformat(f"{moment}+00:00")) is expected
    assert is_set(NOW)
    assert f"{FIRST_DAY}" == "2026-01-01"


def test_a_clock_that_is_right_makes_nobody_wait() -> None:
    with simulated_time(NOW.timestamp()) as (clock, loop):
        began = clock.seconds
        assert loop.run_until_complete(wait_until_set(pytest.fail))
        assert clock.seconds == began


def test_ntp_sets_it_half_a_minute_after_the_start(caplog: pytest.LogCaptureFixture) -> None:
    told: list[float] = []
    with simulated_time(12.0) as (clock, loop):
        began = clock.seconds
        loop.call_later(30, lambda: setattr(clock, "ahead", NOW.timestamp() - clock.seconds))
        assert loop.run_until_complete(wait_until_set(lambda: told.append(clock.seconds)))
        assert 30 <= clock.seconds - began <= 32
    assert len(told) >= 30  # systemd hears as often that we live
    (line,) = caplog.messages
    assert line.startswith("the clock of this machine shows 1970-01-01 00:00:12: waiting for it to be set (NTP)")


def test_a_machine_that_never_learns_the_time_reads_its_meters_too(caplog: pytest.LogCaptureFixture) -> None:
    with simulated_time(12.0) as (clock, loop):
        began = clock.seconds
        assert not loop.run_until_complete(wait_until_set(lambda: None))
        assert clock.seconds - began == pytest.approx(MOST_SECONDS, abs=2)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "nobody has set the clock" in caplog.messages[1]


def test_the_simulated_clock_stands_still_while_there_is_something_to_do() -> None:
    clock = Clock(0.0)
    assert clock.select(0) == []
    assert clock.wall() == 0.0
    clock.select(5.0)
    assert clock.wall() == 5.0
    clock.close()


def test_a_daemon_that_starts_in_1970_reads_nothing_until_it_is_today(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faulthandler, "enable", lambda: None)  # pytest has its own
    meter = {"name": "heat", "address": 5}
    bus = {"name": "cellar", "port": "memory://cellar:1", "meters": [meter]}
    said: list[tuple[float, str]] = []
    wire = SimulatedBus([heat_meter()])
    with simulated_time(12.0) as (clock, loop), ports_in_memory({"cellar": Cellar(wire, 2400)}):
        broker = MemoryBroker(lambda topic, _: said.append((clock.wall(), topic)))

        async def lives() -> None:
            task = asyncio.create_task(serve(Settings.model_validate({"mqtt": {"host": "memory"}, "buses": [bus]})))
            await asyncio.sleep(60)
            assert (said, wire.requests) == ([], 0)
            clock.ahead = NOW.timestamp() - clock.seconds
            await asyncio.sleep(30)
            os.kill(os.getpid(), signal.SIGTERM)
            await task

        with broker_in_memory(broker):
            loop.run_until_complete(lives())
    assert "mbusd/heat" in [topic for _, topic in said]
    assert min(wall for wall, _ in said) >= NOW.timestamp()
    assert "waiting for it to be set" in caplog.text
