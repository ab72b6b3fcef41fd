"""A wrong counter with a right checksum, on a real wire: what is asked once more, what is published, what is said."""

import logging
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from mbusd.line.transport import Port
from mbusd.mbus.frames import ShortFrame
from mbusd.model import Outcome, Reading
from mbusd.poller import Poller
from mbusd.simulation.simulator import Fault, Moment, SimulatedMeter, identity
from tests.test_poller import Wiretap, asked, house, named

DOCS = (Path(__file__).parent.parent / "docs" / "troubleshooting.md").read_text("utf-8")
WRONG = 1 << 24  # what a misread counter of four bytes is off by


@pytest.fixture(autouse=True)
def port_that_hears_parity(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong counter is the meter's own here: without parity a telegram that surprises is asked for again before."""
    monkeypatch.setattr(Port, "hears_parity", True)


class Register:
    """What the meter counts, in kWh, and lies that it tells: one for each of the next read-outs."""

    def __init__(self, value: int, *lies: int) -> None:
        self.value = value
        self.lies = list(lies)

    def __call__(self, moment: Moment) -> list[bytes]:
        del moment
        return [b"\x04\x06" + (self.lies.pop(0) if self.lies else self.value).to_bytes(4, "little")]


def meter_of(register: Register, address: int = 5) -> SimulatedMeter:
    return SimulatedMeter(identity(f"{address:08}", "SON", 1, 4), register, primary=address)


def requests(wire: Wiretap) -> int:
    """How often data were asked for."""
    return sum(isinstance(frame, ShortFrame) and frame.control & 0x4F == 0x4B for frame in wire.heard)


def energies(readings: list[Reading]) -> list[object]:
    return [item.value for reading in readings for item in reading.measurements if item.key == "energy"]


async def read(poller: Poller, register: Register, *values: int) -> list[Outcome]:
    """Read the meter m5, with these true values of the counter."""
    outcomes = []
    for value in values:
        register.value = value
        outcomes.append(await asked(poller, "m5"))
    return outcomes


def of_mbusd(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith("m5: energy")]


async def test_a_misread_telegram_is_read_again_and_never_published(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    register = Register(1000)
    wrong = meter_of(register)
    wire = Wiretap(wrong)
    async with house(wire, tmp_path, *named(5)) as (poller, seen):
        await read(poller, register, 1000)
        wrong.faults.append(Fault.MISREAD)
        before = requests(wire)
        (outcome,) = await read(poller, register, 1001)
        assert requests(wire) == before + 2
        (after,) = await read(poller, register, 1002)
        assert energies(seen.readings("m5")) == [1000, 1001, 1002]
        assert (outcome.error, after.error) == (None, None)
        assert [info.implausible for info in seen.infos("m5")][-1] == 1
    (line,) = of_mbusd(caplog)
    assert line.startswith(f"m5: energy rose from 1000 to {1001 + WRONG} kWh, by more than the 13.")
    assert line.endswith(" kWh that are likely; a second read-out says 1001: the first is dropped")
    told = line.replace("m5", "flat_1", 1)
    assert told[:60] in DOCS
    assert told[-50:] in DOCS


async def test_a_counter_that_was_set_back_is_published_after_one_more_read_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    register = Register(1000)
    wire = Wiretap(meter_of(register))
    async with house(wire, tmp_path, *named(5)) as (poller, seen):
        await read(poller, register, 1000)
        before = requests(wire)
        await read(poller, register, 0, 1)
        assert requests(wire) == before + 3
        assert energies(seen.readings("m5")) == [1000, 0, 1]
        assert seen.infos("m5")[-1].implausible == 0
    assert of_mbusd(caplog) == ["m5: energy fell from 1000 to 0 kWh; confirmed by a second read-out: published"]
    assert "flat_1: energy fell from 1000 to 0 kWh; confirmed by a second read-out: published" in DOCS


async def test_the_second_read_out_is_no_repetition_of_the_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A meter that keeps its telegram until the FCB toggles, or its link is reset, would confirm any lie."""
    caplog.set_level(logging.ERROR)
    register = Register(1000)
    wire = Wiretap(meter_of(register))
    async with house(wire, tmp_path, *named(5)) as (poller, seen):
        await read(poller, register, 1000)
        resets = len(wire.resets())
        register.lies = [77]
        await read(poller, register, 1001)
        assert len(wire.resets()) == resets + 1
        assert energies(seen.readings("m5")) == [1000, 1001]


async def test_a_meter_that_lies_twice_in_another_way_is_not_believed_and_heard_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    register = Register(1000)
    async with house(Wiretap(meter_of(register)), tmp_path, *named(5)) as (poller, seen):
        await read(poller, register, 1000)
        register.lies = [5, 70_000]
        (outcome,) = await read(poller, register, 1001)
        await read(poller, register, 1002)
        assert energies(seen.readings("m5")) == [1000, 1002]
        assert seen.infos("m5")[-1].implausible == 2
    assert outcome.error is not None
    assert outcome.error.startswith("m5: energy fell from 1000 to 5 kWh; in a second read-out energy rose from 1000")
    assert of_mbusd(caplog) == []
    (line,) = [record.getMessage() for record in caplog.records if "neither is published" in record.getMessage()]
    assert line.replace("m5", "flat_1", 1)[:130] in DOCS


async def test_a_second_look_respects_the_budget_and_the_next_read_out_is_it(tmp_path: Path) -> None:
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    register = Register(1000)
    entry = {"name": "m5", "address": 5, "max_reads_per_day": 2, "timezone": "UTC"}
    wire = Wiretap(meter_of(register))
    async with house(wire, tmp_path, entry) as (poller, seen):
        await read(poller, register, 1000)
        before = requests(wire)
        (outcome,) = await read(poller, register, 3)
        assert requests(wire) == before + 1 or day != f"{datetime.now(UTC):%Y-%m-%d}"
        assert await poller.read("m5", is_forced=True)
        if day != f"{datetime.now(UTC):%Y-%m-%d}":
            pytest.skip("midnight fills the budget")
        assert energies(seen.readings("m5")) == [1000, 3]
    assert "not published, the next read-out decides: its budget of 2 read-outs a day is used up" in str(outcome.error)


async def test_a_meter_that_does_not_answer_a_second_time_is_believed_the_next_time(tmp_path: Path) -> None:
    register = Register(1000)
    one = meter_of(register)
    async with house(Wiretap(one), tmp_path, *named(5), window=0.15) as (poller, seen):
        await read(poller, register, 1000)
        one.faults.extend([Fault.NONE, *[Fault.DROP] * 5])
        (outcome,) = await read(poller, register, 3)
        assert "not published, the next read-out decides: a second one has failed: " in str(outcome.error)
        assert energies(seen.readings("m5")) == [1000]
        one.faults.clear()
        await read(poller, register, 4)
        assert energies(seen.readings("m5")) == [1000, 4]


async def test_a_second_read_out_of_another_meter_proves_nothing(tmp_path: Path) -> None:
    register = Register(1000)
    wire = Wiretap(meter_of(register))
    async with house(wire, tmp_path, *named(5)) as (poller, seen):
        await read(poller, register, 1000)
        other = SimulatedMeter(identity("77777777", "SON", 1, 4), Register(9), primary=5)

        def changes(_: object) -> None:
            if not register.lies:
                wire.meters[:] = [other]

        register.lies = [3]
        wire.before = changes
        (outcome,) = await read(poller, register, 1001)
        assert "a second read-out is from another meter, 77777777" in str(outcome.error)
        assert energies(seen.readings("m5")) == [1000]


async def test_whoever_does_not_want_it_gets_what_the_meter_says(tmp_path: Path) -> None:
    register = Register(1000)
    checked = Register(7)
    wire = Wiretap(meter_of(register), meter_of(checked, 6))
    unchecked = [{"name": "m5", "address": 5}, {"name": "m6", "address": 6, "plausibility": True}]
    async with house(wire, tmp_path, *unchecked, plausibility=False) as (poller, seen):
        await read(poller, register, 1000)
        before = requests(wire)
        await read(poller, register, 3)
        assert requests(wire) == before + 1
        assert energies(seen.readings("m5")) == [1000, 3]
        for value in (7, 3):
            checked.value = value
            before = requests(wire)
            assert energies(list((await asked(poller, "m6")).readings)) == [value]
        assert requests(wire) == before + 2  # at the bus it is off, at this meter on


async def test_a_register_that_does_what_it_likes_is_published_again_after_three_polls(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    register = Register(1000)
    async with house(Wiretap(meter_of(register)), tmp_path, *named(5)) as (poller, seen):
        await read(poller, register, 1000)
        register.lies = [7, 90_000, 30, 800_000, 2, 44_444, 9]
        outcomes = await read(poller, register, 0, 0, 0, 0)
        assert [outcome.error is None for outcome in outcomes] == [False, False, True, True]
        assert energies(seen.readings("m5")) == [1000, 44_444, 9]
        assert seen.infos("m5")[-1].online
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert line.startswith("m5: energy rose from 1000 to 44444 kWh, by more than")
    assert line.endswith("; it goes on like that and is not checked any more: published")


async def test_of_many_read_outs_with_damaged_counters_none_is_published_wrong_and_none_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    chance = Random(5)  # noqa: S311 - faults, no secret
    register = Register(1000)
    one = meter_of(register)
    damaged = 0
    async with house(Wiretap(one), tmp_path, *named(5)) as (poller, seen):
        await read(poller, register, 1000)
        for value in range(1001, 1101):
            if chance.random() < 0.2:
                one.faults.append(Fault.MISREAD)
                damaged += 1
            await read(poller, register, value)
        assert energies(seen.readings("m5")) == list(range(1000, 1101))
        assert seen.infos("m5")[-1].implausible == damaged > 10
