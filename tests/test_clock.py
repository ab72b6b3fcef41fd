"""A machine whose clock is not set yet; its clocks are simulated."""

import asyncio
import faulthandler
import json
import logging
import os
import signal
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from bench.numbered import NumberedMeter
from bench.simulated_time import Cellar, Clock, MemoryBroker, broker_in_memory, ports_in_memory, simulated_time
from mbusd import clock as clock_room
from mbusd.app import serve
from mbusd.clock import FIRST_DAY, MOST_SECONDS, is_set, start_of_machine, wait_until_set
from mbusd.configuration.settings import Settings
from mbusd.simulation.simulator import SimulatedBus
from mbusd.writes import local_clock
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


def test_each_start_of_the_machine_has_a_name_also_where_proc_is_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOT_ID", "0123")
    assert start_of_machine() == start_of_machine() != "0123"
    monkeypatch.setattr(clock_room, "_BOOT_ID", tmp_path / "boot_id")
    assert start_of_machine() == "0123"
    monkeypatch.delenv("BOOT_ID")
    assert start_of_machine() is None


def test_a_clock_that_is_not_set_sets_none_of_a_meter() -> None:
    with simulated_time(datetime(2021, 1, 1, tzinfo=UTC).timestamp()) as (clock, _):
        with pytest.raises(ValueError, match="the clock of this machine is not set"):
            local_clock(None, UTC)
        assert local_clock(NOW, UTC).shows() == NOW.replace(tzinfo=None)
        clock.ahead = NOW.timestamp() - clock.seconds
        assert local_clock(None, UTC).shows() == NOW.replace(tzinfo=None)


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


HISTORY, EMONCMS = "mbusd/m1/history", "emon/MBUS"


class Told:
    """What a broker in memory is told, with what the clock on the wall shows then."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.said: list[tuple[float, str, str]] = []

    def __call__(self, topic: str, payload: str) -> None:
        self.said.append((self._clock.wall(), topic, payload))

    def numbered(self, topic: str, key: str = "power") -> list[tuple[int, int | None]]:
        """Of the documents on a topic the number of the read-out and its time, in Unix seconds."""
        documents = [json.loads(payload) for _, one, payload in self.said if one == topic]
        return [(document[key], _seconds(document["time"])) for document in documents]

    def times(self, topic: str) -> list[tuple[float, int | None]]:
        """When each of these documents was said, and the time that it has."""
        moments = [wall for wall, one, _ in self.said if one == topic]
        return list(zip(moments, (moment for _, moment in self.numbered(topic)), strict=True))

    def until(self, moment: float) -> set[str]:
        """The topics that had anything before."""
        return {topic for wall, topic, _ in self.said if wall < moment}


@pytest.mark.parametrize("is_away", [False, True])
def test_a_daemon_that_never_learned_the_time_tells_none_until_it_does(
    is_away: bool,  # noqa: FBT001 - a parameter: whether the broker comes only when the clock has been set
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(faulthandler, "enable", lambda: None)
    meter = NumberedMeter(1)
    document = {
        "mqtt": {"host": "memory", "history": True},
        "emoncms": {"enabled": True, "format": "json"},
        "buses": [{"name": "cellar", "port": "memory://cellar:1", "interval": "5m", "meters": [meter.listed]}],
    }
    with simulated_time(12.0) as (clock, loop), ports_in_memory({"cellar": Cellar(SimulatedBus([meter.slave]), 2400)}):
        settings, told = Settings.model_validate(document), Told(clock)
        broker = MemoryBroker(told)
        broker.is_away = is_away

        async def lives() -> None:
            task = asyncio.create_task(serve(settings))
            await asyncio.sleep(MOST_SECONDS + 3600)
            if not is_away:
                assert json.loads(broker.retained["mbusd/bridge/meters"])[0]["last_read"] is None
            clock.ahead = NOW.timestamp() - clock.seconds
            broker.is_away = False
            await asyncio.sleep(3600)
            os.kill(os.getpid(), signal.SIGTERM)
            await task

        with broker_in_memory(broker):
            loop.run_until_complete(lives())
    right = {values[1]: seconds + clock.ahead for seconds, values in meter.told}
    assert sum(moment < NOW.timestamp() for moment in right.values()) >= 10
    assert not {HISTORY, EMONCMS} & told.until(NOW.timestamp())
    history, states = told.numbered(HISTORY), told.numbered("mbusd/m1")
    assert told.numbered(EMONCMS, "m1_Power") == history
    assert [number for number, _ in history] == list(right)
    assert all(moment is not None and 0 <= moment + 1 - right[number] <= 3 for number, moment in history)
    undated = [number for number, moment in states if moment is None]
    assert all(moment == dict(history)[number] for number, moment in states if moment is not None)
    assert all(right[number] < NOW.timestamp() for number in undated)
    assert undated or is_away  # the next reading may have come before the broker
    assert states[-1] == history[-1]
    assert "readings have no time (null) until somebody does, and history and emoncms JSON wait" in caplog.text


def _seconds(time: str | int | None) -> int | None:
    return int(datetime.fromisoformat(time).timestamp()) if isinstance(time, str) else time


@pytest.mark.parametrize("leap", [3600.0, -3600.0, 400 * 86400.0, -400 * 86400.0])
def test_a_clock_that_leaps_while_the_daemon_runs_disturbs_no_interval(
    leap: float, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the rounds nor what is said; only the times are those that the clock then shows."""
    monkeypatch.setattr(faulthandler, "enable", lambda: None)
    meter = NumberedMeter(1)
    bus = {"name": "cellar", "port": "memory://cellar:1", "interval": "1m", "meters": [meter.listed]}
    began = NOW.timestamp() + 800 * 86400.0
    with simulated_time(began) as (clock, loop), ports_in_memory({"cellar": Cellar(SimulatedBus([meter.slave]), 2400)}):
        settings = Settings.model_validate({"mqtt": {"host": "memory", "history": True}, "buses": [bus]})
        told = Told(clock)

        async def lives() -> None:
            task = asyncio.create_task(serve(settings))
            await asyncio.sleep(1800)
            clock.ahead += leap
            await asyncio.sleep(1800)
            os.kill(os.getpid(), signal.SIGTERM)
            await task

        with broker_in_memory(MemoryBroker(told)):
            loop.run_until_complete(lives())
    moments = [seconds for seconds, _ in meter.told]
    assert len(moments) >= 59
    assert max(later - earlier for earlier, later in pairwise(moments[1:])) < 61
    assert min(later - earlier for earlier, later in pairwise(moments[1:])) > 59
    heard = told.numbered("mbusd/m1")
    assert [number for number, _ in heard if number] == [values[1] for _, values in meter.told]
    assert told.numbered(HISTORY) == heard
    assert all(moment is not None and 0 <= wall - moment < 3 for wall, moment in told.times("mbusd/m1"))
    assert "Traceback" not in caplog.text
