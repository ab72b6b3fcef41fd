"""How often a meter is asked: cron lines, activity, budgets and changed intervals together; the clocks are numbers."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbusd.configuration.settings import BusSettings
from mbusd.model import Identity, Measurement, Outcome, Reading, Value
from mbusd.polling.agenda import Agenda
from mbusd.polling.meter import Meter

START = 1000.0
WALL = datetime(2026, 11, 20, 22, tzinfo=UTC).timestamp()
HOUR, DAY, TOOK = 3600.0, 86400.0, 0.7


def meters(*entries: dict[str, object], interval: object = "1h") -> list[Meter]:
    listed = [{"address": n, "name": f"m{n}", "timezone": "UTC", **entry} for n, entry in enumerate(entries, 1)]
    bus = BusSettings.model_validate({"name": "cellar", "port": "/dev/x", "interval": interval, "meters": listed})
    return [Meter.of(one, bus, START, index / len(listed)) for index, one in enumerate(bus.meters)]


def reading(**values: Value) -> Reading:
    items = tuple(Measurement(key, key, "number", value, None, None) for key, value in values.items())
    who = Identity("00000001", "SON", 1, 4, "heat", "00000001EE4D0104")
    return Reading("m1", who, datetime(2026, 11, 20, tzinfo=UTC), (), items)


class Wire:
    """Does what is on the agenda; each read-out takes its time and shows the power that there is."""

    def __init__(self, listed: list[Meter]) -> None:
        self.listed = listed
        self.agenda = Agenda(listed)
        self.now = START
        self.power: Value = 0
        self.answers = True
        self.done: list[tuple[float, str]] = []  # when each began, since the start

    @property
    def wall(self) -> float:
        return WALL + self.now - START

    def passes(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.agenda.look(self.now, self.wall)
            errand = self.agenda.next(self.now, 2400, is_open=True)
            if errand is None:
                self.now += min(max(0.001, self.agenda.pause(self.now)), 10.0, end - self.now)
                continue
            meter = errand.meter
            assert errand.is_forced or meter.refusal(self.wall) is None
            self.done.append((round(self.now - START, 2), meter.label))
            meter.spend(self.wall)
            self.now += TOOK
            if errand.task == "alarms":
                assert meter.alarms is not None
                meter.alarms.succeeded(self.now)
            elif self.answers:
                meter.was_read(reading(power=self.power, energy=Decimal("1.5")), self.now)
            else:
                meter.has_failed(self.now)
            self.agenda.answer(meter, Outcome())

    def times(self) -> list[float]:
        return [when for when, _ in self.done]


def test_a_house_with_one_cron_line_is_read_at_midnight_one_meter_after_the_other() -> None:
    wire = Wire(meters(*[{} for _ in range(5)], interval="0 0 * * *"))
    wire.passes(DAY)
    assert [name for _, name in wire.done] == ["m1", "m2", "m3", "m4", "m5"]
    assert wire.times() == pytest.approx([2 * HOUR + number * TOOK for number in range(5)], abs=0.05)


def test_what_the_sinks_are_told_of_an_interval() -> None:
    listed = meters({}, {"interval": "manual"}, {"interval": "0 0 * * *"})
    assert [one.info(bus_is_open=True).interval for one in listed] == ["3600s", "manual", "0 0 * * *"]


# ------------------------------------------------------------------------------------------------ activity


def test_it_is_quick_while_it_works_and_quiet_when_it_idles() -> None:
    wire = Wire(meters({"active": {"when": "power > 0", "interval": "10s"}}))
    wire.passes(3 * HOUR)
    assert len(wire.done) in (3, 4)
    wire.power = 2000
    wire.passes(HOUR)
    wire.done.clear()
    wire.passes(600)
    assert len(wire.done) == 60
    wire.power = 0
    wire.passes(20)
    wire.done.clear()
    wire.passes(3 * HOUR)
    assert len(wire.done) == 3


@given(st.lists(st.tuples(st.floats(1, 3000), st.booleans()), max_size=15))
def test_two_read_outs_are_never_closer_than_the_quick_interval(spans: list[tuple[float, bool]]) -> None:
    wire = Wire(meters({"active": {"when": "power > 0", "interval": "17s"}, "interval": "2m"}))
    wire.passes(120 + 1)  # the first one at the start has its own place, the phase
    wire.done.clear()
    for seconds, works in spans:
        wire.power = 5 if works else 0
        wire.passes(seconds)
    assert all(after - before >= 17 - TOOK - 0.01 for before, after in pairwise(wire.times()))


def test_a_meter_at_work_is_read_at_the_moments_of_its_cron_line_as_well() -> None:
    wire = Wire(meters({"active": {"when": "power > 0", "interval": "7m"}, "interval": "0 0 * * *"}))
    wire.listed[0].was_read(reading(power=1), START)
    wire.power = 1
    wire.passes(2 * HOUR + 1)
    assert wire.times()[-1] == pytest.approx(2 * HOUR, abs=0.05)
    assert len(wire.done) == 18


def test_a_meter_at_work_that_falls_silent_is_asked_ever_more_rarely() -> None:
    wire = Wire(meters({"active": {"when": "power > 0", "interval": "10s"}}))
    wire.power = 1
    wire.passes(100)
    wire.answers = False
    wire.passes(DAY)
    assert len(wire.done) < 60


def test_a_key_that_is_not_there_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire(meters({"active": {"when": "powr > 0", "interval": "10s"}}))
    wire.power = 1
    wire.passes(3 * HOUR)
    assert len(wire.done) in (3, 4)
    assert caplog.messages == [
        "m1: active: no number is called powr in its readings, so it does not count as active; there are power, energy"
    ]


# ------------------------------------------------------------------------------------------------ budgets


def test_an_active_meter_keeps_to_its_budget() -> None:
    wire = Wire(meters({"active": {"when": "power > 0", "interval": "10s"}, "max_reads_per_day": 30}))
    wire.power = 1
    wire.passes(2 * HOUR - 1)
    assert len(wire.done) == 30
    wire.passes(DAY)
    assert len(wire.done) == 60


def test_failures_cost_as_much_as_readings_and_so_do_alarms() -> None:
    wire = Wire(meters({"alarms": "4h", "interval": "4h", "max_reads_per_day": 12}))
    wire.answers = False
    for _ in range(12):
        wire.listed[0].spend(wire.wall)
    wire.passes(2 * HOUR - 1)
    assert wire.done == []
    wire.passes(DAY)
    assert 0 < len(wire.done) <= 12


def test_a_budget_that_is_used_up_is_no_overload() -> None:
    wire = Wire(meters({"interval": "1h", "max_reads_per_day": 24}))
    for _ in range(24):
        wire.listed[0].spend(wire.wall)
    wire.passes(2 * HOUR - 1)
    assert wire.listed[0].schedule.lateness(wire.now) == 0.0


def test_a_cron_line_leaves_out_what_the_budget_forbids() -> None:
    wire = Wire(meters({"interval": "0 1,23 * * *", "max_reads_per_day": 2}))
    for _ in range(2):
        wire.listed[0].spend(wire.wall)
    wire.passes(DAY)
    assert wire.times() == pytest.approx([3 * HOUR], abs=0.05)
    wire.passes(2 * HOUR)
    assert len(wire.done) == 2


def test_a_request_with_force_is_done_beyond_the_budget() -> None:
    async def forced() -> None:
        wire = Wire(meters({"interval": "manual", "max_reads_per_day": 1}))
        wire.listed[0].spend(wire.wall)
        answer = wire.agenda.ask(wire.listed[0], wire.now)
        wire.agenda.ask(wire.listed[0], wire.now, is_forced=True)
        wire.passes(1)
        assert len(wire.done) == 1
        assert answer.done()

    asyncio.run(forced())


# ------------------------------------------------------------------------------------------------ another interval


@pytest.mark.parametrize(("wanted", "shown"), [("10m", "600s"), (600, "600s"), ("manual", "manual")])
def test_an_interval_can_be_changed(wanted: object, shown: str) -> None:
    wire = Wire(meters({}))
    wire.passes(60)
    wire.listed[0].change_interval(wanted, wire.now)
    assert wire.listed[0].info(bus_is_open=True).interval == shown
    wire.passes(HOUR)
    assert wire.times() == ([0.0] if wanted == "manual" else pytest.approx([0, *range(600, 3601, 600)], abs=6))


def test_an_interval_can_become_a_cron_line_and_back() -> None:
    wire = Wire(meters({}))
    wire.passes(60)
    wire.listed[0].change_interval("30 22 * * *", wire.now)
    wire.passes(HOUR)
    assert wire.times() == pytest.approx([0, 1800], abs=0.05)
    wire.listed[0].change_interval("1h", wire.now)
    wire.passes(HOUR)
    assert wire.times()[2:] == pytest.approx([5400.7], abs=0.05)


def test_changing_it_again_and_again_reads_no_more_often() -> None:
    wire = Wire(meters({}))
    for number in range(100):
        wire.passes(30)
        wire.listed[0].change_interval("1h" if number % 2 else "10m", wire.now)
    assert len(wire.done) <= 6


def test_failures_are_remembered_over_a_change() -> None:
    wire = Wire(meters({}))
    wire.answers = False
    wire.passes(3 * HOUR)
    before = wire.listed[0].schedule.failures
    wire.listed[0].change_interval("10m", wire.now)
    assert wire.listed[0].schedule.failures == before > 0


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ("never", "'never' is no duration"),
        (0, "'0' is out of range: 1s to 366d"),
        (None, "'None' is no duration"),
        ("0 0 30 2 *", "never fires"),
        ("10m", "interval 600s asks the meter 144 times a day, but max_reads_per_day is 24"),
    ],
)
def test_a_change_that_cannot_be_is_refused_and_changes_nothing(wanted: object, why: str) -> None:
    (one,) = meters({"max_reads_per_day": 24})
    before = one.schedule
    with pytest.raises(ValueError, match=r".") as caught:
        one.change_interval(wanted, START)
    assert why in str(caught.value)
    assert one.schedule is before
