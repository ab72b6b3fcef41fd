"""Readings of a machine whose clock is not set: no wrong time is told of them, and the right one once it is known."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mbusd.configuration.settings import Settings
from mbusd.exact_json import dumps
from mbusd.model import Alarm, Outcome, ReadingTaken, ReadNow
from mbusd.sinks.emoncms import Emoncms
from mbusd.sinks.publisher import Publisher
from mbusd.sinks.requests import Asked
from mbusd.sinks.state import state, utc
from mbusd.sinks.topics import Topics
from mbusd.sinks.undated import DatedSpool, dated, is_dated
from mbusd.spool import Kept, Spool
from tests.sinks.readings import NOON, info, reading

THEN = datetime(1970, 1, 1, 0, 5, tzinfo=UTC)  # what such a clock shows
BEGAN = 1000.0  # seconds that the machine had run
DAY = 86400.0
HISTORY, EMONCMS = "mbusd/m/history", "emon/MBUS"


# ------------------------------------------------------------------------------------------------ what is said


def test_a_time_that_cannot_be_is_null_wherever_a_time_stands() -> None:
    taken, topics = replace(reading(energy=10), taken_at=THEN), Topics(history=True)
    assert state(taken) == '{"time": null, "status": [], "energy": 10}'
    assert [message.payload for message in topics.of_history(taken)] == [state(taken)]
    (answer,) = topics.of_outcome(Asked(ReadNow("m"), response_topic="r"), Outcome(readings=(taken,)))
    assert json.loads(answer.payload)["data"]["reading"]["time"] is None
    (meter,) = json.loads(topics.of_meters([info(last_read=THEN)]).payload)
    assert meter["last_read"] is None
    assert json.loads(topics.of_alarm(Alarm("m", THEN)).payload)["time"] is None
    assert json.loads(topics.of_info("1", THEN, {}, {}).payload)["started"] is None


def test_a_reading_without_a_time_is_news_where_a_value_changed() -> None:
    settings = Settings.model_validate(
        {"mqtt": {"only_on_change": True}, "homeassistant": {"enabled": False}, "buses": []}
    )
    publisher = Publisher(settings, "1", NOON, {})

    def told(moment: datetime, energy: int) -> list[str]:
        taken = replace(reading(text="steady", energy=energy), taken_at=moment)
        return [message.payload for message in publisher.take(ReadingTaken(taken)) if message.payload[0] == "{"]

    assert told(THEN, 1) == ['{"time": null, "status": [], "text": "steady", "energy": 1}']
    assert told(THEN, 1) == []
    assert told(NOON, 1) == []
    assert told(THEN, 2) == ['{"time": null, "status": [], "text": "steady", "energy": 2}']


@pytest.mark.parametrize("format_", ["history", "json"])
def test_what_gets_its_time_later_is_what_it_would_have_been(format_: str) -> None:
    right, wrong = (replace(reading(), taken_at=moment) for moment in (NOON + timedelta(seconds=0.7), THEN))
    now, late = (
        next(Topics(history=True).of_history(one) if format_ == "history" else Emoncms(format="json").of_reading(one))
        for one in (right, wrong)
    )
    assert is_dated(now.payload)
    assert not is_dated(late.payload)
    assert dated(late.payload, NOON.timestamp() + 0.7) == now.payload
    assert dated(now.payload, 5.0) == now.payload


# ------------------------------------------------------------------------------------------------ what waits


@dataclass
class Machine:
    """One whose clock begins in 1970 whenever it is started."""

    folder: Path
    start: str | None = "first"
    runs: float = BEGAN  # seconds
    wall: float = BEGAN
    spool: Spool | None = None

    def passes(self, seconds: float) -> None:
        self.runs += seconds
        self.wall += seconds

    def started(self) -> DatedSpool:
        """The daemon begins; what it had open before is closed, as by its end."""
        if self.spool is not None:
            self.spool.close()
        self.spool = Spool(self.folder / "spool.sqlite", 1 << 24, DAY)
        return DatedSpool(self.spool, lambda: self.wall, lambda: self.runs, lambda: self.start)

    def reads(self, spool: DatedSpool, number: int) -> None:
        """A reading of now."""
        moment = datetime.fromtimestamp(self.wall, UTC)
        time = utc(moment)
        seconds = 0 if time is None else int(self.wall)
        spool.extend(
            [
                spool.entry(HISTORY, dumps({"time": time, "n": number})),
                spool.entry(EMONCMS, dumps({"time": seconds, "n": number})),
            ]
        )


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    if made.spool is not None:
        made.spool.close()


def told(kept: tuple[Kept, ...]) -> list[tuple[int, datetime]]:
    """The numbers and times of what can be sent; both streams tell the same."""
    history = [json.loads(one.payload) for one in kept if one.topic == HISTORY]
    emoncms = [json.loads(one.payload) for one in kept if one.topic == EMONCMS]
    moments = [(one["n"], datetime.fromisoformat(one["time"])) for one in history]
    assert [(one["n"], datetime.fromtimestamp(one["time"], UTC)) for one in emoncms] == moments
    return moments


def test_it_waits_for_the_clock_and_gets_the_time_at_which_it_was_read(machine: Machine, tmp_path: Path) -> None:
    spool = machine.started()
    for number in range(3):
        machine.reads(spool, number)
        machine.passes(3600)
    assert spool.head(100) == ()
    assert (len(spool), spool.undated, spool.is_due()) == (6, 6, False)
    machine.wall = NOON.timestamp()
    assert spool.is_due()
    machine.reads(spool, 3)
    assert told(spool.head(100)) == [(number, NOON - timedelta(hours=3 - number)) for number in range(4)]
    assert (len(spool), spool.undated) == (8, 0)
    assert [file.name for file in tmp_path.glob("undated*")] == []


def test_a_clock_that_jumps_before_it_is_set_changes_nothing(machine: Machine) -> None:
    spool = machine.started()
    machine.reads(spool, 0)
    machine.passes(60)
    machine.wall += 10 * 365 * DAY
    machine.reads(spool, 1)
    machine.passes(60)
    machine.wall = NOON.timestamp()
    spool.date()
    assert told(spool.head(100)) == [(0, NOON - timedelta(minutes=2)), (1, NOON - timedelta(minutes=1))]


def test_what_waits_longer_than_a_message_may_grow_old_is_young_when_it_has_its_time(machine: Machine) -> None:
    """Its age counts from when it was read, not from 1970."""
    spool = machine.started()
    for number in range(4):
        machine.reads(spool, number)
        machine.passes(DAY / 2)
    assert spool.lost == 2  # older than a day by more than the youngest
    machine.wall = NOON.timestamp()
    machine.reads(spool, 4)
    assert told(spool.head(100)) == [(number, NOON - timedelta(days=(4 - number) / 2)) for number in (2, 3, 4)]


@pytest.mark.parametrize("is_killed", [True, False])
def test_another_life_of_the_daemon_knows_it_still(is_killed: bool, machine: Machine) -> None:  # noqa: FBT001
    spool = machine.started()
    machine.reads(spool, 0)
    if is_killed:
        assert spool._undated is not None  # noqa: SLF001 - the lock on its file goes with the process
        assert spool._undated._file is not None  # noqa: SLF001
        spool._undated._file.close()  # noqa: SLF001
    else:
        spool.close()
    machine.passes(60)
    machine.wall = NOON.timestamp()
    again = machine.started()
    assert again.is_due()
    machine.reads(again, 1)
    assert told(again.head(100)) == [(0, NOON - timedelta(minutes=1)), (1, NOON)]


def test_of_what_waited_when_the_machine_was_switched_off_nobody_knows_the_time(
    machine: Machine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = machine.started()
    for number in range(3):
        machine.reads(spool, number)
    spool.close()
    machine.start, machine.runs, machine.wall = "second", 2 * BEGAN, NOON.timestamp()
    again = machine.started()
    assert (again.lost, again.undated) == (6, 0)
    machine.reads(again, 3)
    assert told(again.head(100)) == [(3, NOON)]
    assert list(tmp_path.glob("undated*")) == []
    (line,) = caplog.messages
    assert line.startswith("6 messages to the broker are lost: this machine was off before its clock was ever set")


def test_a_machine_that_does_not_count_its_starts_keeps_it_in_memory(machine: Machine, tmp_path: Path) -> None:
    machine.start = None
    spool = machine.started()
    machine.reads(spool, 0)
    assert list(tmp_path.glob("undated*")) == []
    machine.passes(5)
    machine.wall = NOON.timestamp()
    machine.reads(spool, 1)
    assert told(spool.head(100)) == [(0, NOON - timedelta(seconds=5)), (1, NOON)]


def test_a_machine_whose_clock_is_set_has_no_further_file(machine: Machine, tmp_path: Path) -> None:
    machine.wall = NOON.timestamp()
    spool = machine.started()
    machine.reads(spool, 0)
    assert told(spool.head(100)) == [(0, NOON)]
    assert list(tmp_path.glob("undated*")) == []
