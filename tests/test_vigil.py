"""Alarms of meters on a bus that is polled: when they are asked for, what is told, and that readings stay right."""

import asyncio
import logging
from pathlib import Path

import pytest

from mbusd.mbus.frames import Frame, LongFrame, ShortFrame, encode
from mbusd.model import AlarmTaken, MeterChanged, ReadingTaken
from mbusd.polling import vigil
from mbusd.simulation.simulator import Answer, FcbMemory, SimulatedMeter
from tests.test_meter import SNAPPY, Truth, by, reads, strict
from tests.test_poller import Seen, Wiretap, asked, house, meter

REQ_UD1 = (0x5A, 0x7A)


def alarms(seen: Seen) -> list[AlarmTaken]:
    return [event for event in seen.events if isinstance(event, AlarmTaken)]


def codes(seen: Seen) -> list[tuple[int, bool]]:
    return [(event.alarm.code, event.is_news) for event in alarms(seen)]


def asks_for_alarms(frame: Frame) -> bool:
    return isinstance(frame, ShortFrame) and frame.control in REQ_UD1


@pytest.mark.parametrize("address", [5, "00000005"])
async def test_what_a_meter_has_to_say_is_told_and_what_is_new_of_it(tmp_path: Path, address: object) -> None:
    simulated = strict(Truth(7))
    wire = Wiretap(simulated)
    async with house(wire, tmp_path, by(address, alarms="1s"), interval="1d", window=SNAPPY) as (_, seen):
        await seen.until(lambda: codes(seen)[-1:] == [(0, False)])
        simulated.alarm = 0x12
        await seen.until(lambda: codes(seen)[-2:] == [(0x12, True), (0x12, False)])
        simulated.alarm = None
        await seen.until(lambda: codes(seen)[-2:] == [(0, True), (0, False)])
        (reading,) = seen.readings("m5")
    assert {event.alarm.meter for event in alarms(seen)} == {"m5"}
    assert {event.identity for event in alarms(seen)} == {reading.identity}
    assert next(event.alarm.bits for event in alarms(seen) if event.is_news) == (1, 4)
    assert all(info.has_alarms for info in seen.infos("m5"))


async def test_only_who_is_to_be_asked_is_asked(tmp_path: Path) -> None:
    wire = Wiretap(strict(Truth(7)), meter(6))
    meters = [by(5, alarms="1s"), {"name": "m6", "address": 6}]
    async with house(wire, tmp_path, *meters, interval="1d", window=SNAPPY) as (_, seen):
        await seen.until(lambda: len(alarms(seen)) == 2)
    assert {frame.address for frame in wire.heard if isinstance(frame, ShortFrame) and asks_for_alarms(frame)} == {5}
    assert not any(info.has_alarms for info in seen.infos("m6"))


async def test_a_meter_that_is_read_by_hand_only_is_asked_before_it_was_ever_read(tmp_path: Path) -> None:
    simulated = strict(Truth(7))
    simulated.alarm = 1
    async with house(Wiretap(simulated), tmp_path, by(5, alarms="1s"), window=SNAPPY) as (_, seen):
        await seen.until(lambda: alarms(seen))
        (first, *_) = alarms(seen)
    assert (first.alarm.meter, first.alarm.code, first.identity, first.is_news) == ("m5", 1, None, True)
    assert not seen.of(ReadingTaken)


async def test_a_meter_without_a_name_is_read_first(tmp_path: Path) -> None:
    wire = Wiretap(strict(Truth(7)))
    async with house(wire, tmp_path, {"address": 5, "alarms": "1s"}, window=SNAPPY) as (poller, seen):
        await asyncio.wait_for(poller.read_all(), 20)
        await seen.until(lambda: alarms(seen))
    assert alarms(seen)[0].alarm.meter == "00000005EE4D0104"
    first_alarm = next(index for index, frame in enumerate(wire.heard) if asks_for_alarms(frame))
    assert any(isinstance(frame, ShortFrame) and frame.control == 0x7B for frame in wire.heard[:first_alarm])


@pytest.mark.parametrize("address", [5, "00000005"])
@pytest.mark.parametrize("fcb", ["shared", "separate"])
async def test_values_are_fresh_between_alarms(tmp_path: Path, address: object, fcb: FcbMemory) -> None:
    """Whoever asks for alarms, too, has to know the FCB of both."""
    truth = Truth(telegrams=2)
    simulated = strict(truth, fcb)
    async with house(Wiretap(simulated), tmp_path, by(address, alarms="1s"), window=SNAPPY) as (poller, seen):
        for _ in range(3):
            assert await reads(poller, truth, 2) == []
            count = len(alarms(seen))
            await seen.until(lambda: len(alarms(seen)) > count)  # noqa: B023 - waited for in this turn
        assert await reads(poller, truth) == []


class DeafToAlarms(Wiretap):
    """Meters that know no REQ_UD1, as some do: silence."""

    def answers(self, request: Frame, seconds: float) -> list[Answer]:
        answers = super().answers(request, seconds)
        return [] if asks_for_alarms(request) else answers


async def test_silence_about_alarms_makes_no_meter_silent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mbusd")
    truth = Truth()
    wire = DeafToAlarms(strict(truth))
    async with house(wire, tmp_path, by(5, alarms="1s", offline_after=1), window=0.02) as (poller, seen):
        assert await reads(poller, truth) == []

        def requests() -> int:
            return sum(map(asks_for_alarms, wire.heard))

        wire.before = seen.look_again
        await seen.until(lambda: requests() >= 4)
        assert await reads(poller, truth, 2) == []
        assert await asked(poller, "m5")
        infos = seen.infos("m5")
    assert alarms(seen) == []
    assert [info.failures for info in infos] == [0] * len(infos)
    assert infos[-1].online is True
    assert [event.change for event in seen.of(MeterChanged) if event.change] == ["found"]
    assert "m5: no answer about alarms, 1 in a row: no answer" in caplog.messages
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


class Stranger(Wiretap):
    """An answer about alarms, with records, that names another meter."""

    def answers(self, request: Frame, seconds: float) -> list[Answer]:
        answers = super().answers(request, seconds)
        if not asks_for_alarms(request):
            return answers
        header = bytes.fromhex("99 99 99 99 EE 4D 01 04 01 00 00 00")
        return [Answer(encode(LongFrame(0x08, 5, 0x72, header + bytes.fromhex("01 FD 17 04"))), 0.0)]


async def test_the_alarm_of_another_meter_is_nobodys(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, vigil.__name__)
    wire = Stranger(strict(Truth(7)))
    async with house(wire, tmp_path, by(5, alarms="1s"), interval="1d", window=SNAPPY) as (_, seen):
        wire.before = seen.look_again
        await seen.until(lambda: any(record.name == vigil.__name__ for record in caplog.records))
    told = [record.getMessage() for record in caplog.records if record.name == vigil.__name__]
    assert told[0] == "m5: no answer about alarms, 1 in a row: asked for m5, 99999999EE4D0104 answered"
    assert alarms(seen) == []


async def test_alarms_with_records_are_told_with_their_values(tmp_path: Path) -> None:
    simulated: SimulatedMeter = strict(Truth(7))
    simulated.class_1 = lambda _: [bytes.fromhex("01 FD 17 04")]
    async with house(Wiretap(simulated), tmp_path, by(5, alarms="1s"), interval="1d", window=SNAPPY) as (_, seen):
        await seen.until(lambda: alarms(seen))
    (first, *_) = alarms(seen)
    assert [item.key for item in first.alarm.measurements] == ["error_flags"]
    assert first.is_news
