"""When a meter with a cron line is due; both clocks are numbers, and may part."""

import math
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbusd.pace.cron import CronLine
from mbusd.pace.timetable import LONGEST_REST, RETRY_SECONDS, Timetable

BERLIN = ZoneInfo("Europe/Berlin")
EVENING = datetime(2026, 11, 20, 22, tzinfo=BERLIN).timestamp()  # two hours before midnight
HOUR, DAY = 3600.0, 86400.0


class House:
    """A meter, and a wall clock and a monotonic one that can part; looked at every few seconds, as a wire does."""

    def __init__(self, text: str = "0 0 * * *", wall: float = EVENING) -> None:
        self.now = 1000.0
        self.wall = wall
        self.one = Timetable(CronLine(text, BERLIN), 3)
        self.read: list[float] = []  # by the monotonic clock
        self.answers = True
        self.look()

    def look(self) -> None:
        self.one.look(self.now, self.wall)

    def passes(self, seconds: float, every: float = 10.0) -> None:
        """Time goes by, and the meter is read whenever it is due."""
        end = self.now + seconds
        while self.now < end:
            self.look()
            step = min(max(0.001, self.one.due - self.now), every, end - self.now)
            if self.one.due <= self.now:
                self.read.append(self.now)
                step = 0.7
            self.now, self.wall = self.now + step, self.wall + step
            if step == 0.7:
                (self.one.succeeded if self.answers else self.one.failed)(self.now)

    def clock(self) -> str:
        return f"{datetime.fromtimestamp(self.wall, BERLIN):%H:%M}"


def test_nothing_is_read_at_the_start_but_at_the_moment_itself() -> None:
    house = House()
    house.passes(3 * DAY)
    assert house.read == pytest.approx([1000 + 2 * HOUR + DAY * number for number in range(3)], abs=0.01)


def test_all_meters_of_a_house_are_due_at_the_same_moment() -> None:
    due = set()
    for started in (0.0, 17.3, 3000.0):
        one = Timetable(CronLine("0 0 * * *", BERLIN), 3)
        one.look(1000.0 + started, EVENING + started)
        due.add(round(one.due, 3))
    assert due == {1000 + 2 * HOUR}


def test_over_a_change_of_daylight_saving_it_stays_midnight() -> None:
    house = House(wall=datetime(2026, 10, 24, 22, tzinfo=BERLIN).timestamp())
    house.passes(3 * DAY)
    assert house.read == pytest.approx([1000 + 2 * HOUR, 1000 + 27 * HOUR, 1000 + 51 * HOUR], abs=0.01)


# ------------------------------------------------------------------------------------------------ clocks that part


def test_a_clock_that_leaps_over_the_moment_has_it_done_at_once_and_once() -> None:
    house = House()
    house.passes(HOUR)
    house.wall += 5 * HOUR
    house.passes(HOUR)
    assert house.read == [1000 + HOUR]
    house.passes(DAY)
    assert len(house.read) == 2


def test_after_years_without_a_clock_everything_is_due_once() -> None:
    house = House("*/5 * * * *", wall=100.0)
    house.passes(1)
    house.wall = EVENING + 60
    house.passes(200)
    assert len(house.read) == 1
    assert house.one.lateness(house.now) == 0.0


@pytest.mark.parametrize("back", [2.0, 30.0, 500.0])
def test_a_clock_set_back_a_little_after_midnight_does_not_repeat_midnight(back: float) -> None:
    house = House()
    house.passes(2 * HOUR + 5)
    assert len(house.read) == 1
    house.wall -= back
    house.passes(DAY - HOUR)
    assert len(house.read) == 1
    house.passes(HOUR + back + 60)
    assert len(house.read) == 2


@pytest.mark.parametrize("ahead", [0.0, HOUR])
def test_a_clock_that_somebody_sets_back_by_an_hour_does_not_repeat_midnight_nor_skip_the_next(ahead: float) -> None:
    """Whether it was right until then, or an hour ahead."""
    house = House()
    house.wall += ahead
    house.passes(2 * HOUR - ahead + 5)
    assert len(house.read) == 1
    house.wall -= HOUR
    house.passes(DAY - HOUR)
    assert len(house.read) == 1
    house.passes(2 * HOUR + 60)
    assert len(house.read) == 2


def test_a_clock_that_goes_back_by_an_hour_and_forward_again_changes_nothing() -> None:
    house = House()
    house.passes(2 * HOUR + 5)
    house.wall -= HOUR
    house.passes(60)
    house.wall += HOUR
    house.passes(3 * DAY)
    assert house.read == pytest.approx([1000 + 2 * HOUR + number * DAY for number in range(4)], abs=0.01)


def test_a_line_for_all_hours_goes_on_at_once_where_the_clock_was_set_back_by_an_hour() -> None:
    house = House("*/5 * * * *")
    house.passes(2 * HOUR + 5)
    house.wall -= HOUR
    house.read.clear()
    house.passes(HOUR)
    assert len(house.read) == 12


@pytest.mark.parametrize(("line", "day"), [("30 2 * * *", "2027-03-27"), ("30 2 * * *", "2026-10-24")])
def test_what_is_due_in_the_hour_that_is_left_out_or_comes_twice_is_done_once_that_night(line: str, day: str) -> None:
    house = House(line, wall=datetime.fromisoformat(f"{day}T22:00").replace(tzinfo=BERLIN).timestamp())
    for nights in (1, 2, 3):
        house.passes(DAY)
        assert len(house.read) == nights


def test_a_clock_set_back_by_years_does_not_stop_the_reading() -> None:
    house = House(wall=EVENING + 3650 * DAY)
    house.passes(DAY)
    house.wall = EVENING
    house.read.clear()
    house.passes(2 * HOUR + 5)
    assert house.read == pytest.approx([1000 + DAY + 2 * HOUR], abs=0.01)


def test_a_clock_set_back_just_before_the_moment_waits_for_it() -> None:
    house = House()
    house.passes(2 * HOUR - 3)
    house.wall -= 60
    house.passes(60)
    assert house.read == []
    house.passes(5)
    assert len(house.read) == 1


def test_what_is_due_stays_due_whatever_the_clock_does() -> None:
    house = House()
    house.now, house.wall = house.now + 2 * HOUR, house.wall + 2 * HOUR
    house.look()
    assert house.one.due <= house.now
    house.now, house.wall = house.now + 1, house.wall - HOUR
    house.look()
    assert house.one.due <= house.now


@given(st.lists(st.tuples(st.floats(1, 20000), st.floats(-90000, 90000)), max_size=12))
def test_however_the_clock_is_set_there_is_no_burst_and_no_end(steps: list[tuple[float, float]]) -> None:
    house = House("0 * * * *")
    for seconds, step in steps:
        house.passes(seconds, every=600)
        house.wall += step
    assert len(house.read) <= (house.now - 1000) / HOUR + 1 + len(steps)
    before = len(house.read)
    house.passes(2 * HOUR, every=600)
    assert 1 <= len(house.read) - before <= 4


@given(st.floats(-0.01, 0.01))
def test_a_clock_that_is_slewed_reads_at_its_own_midnight(drift: float) -> None:
    house = House()
    for _ in range(800):
        house.passes(10)
        house.wall += 10 * drift
        if house.read:
            break
    assert house.clock() == "00:00"


# ------------------------------------------------------------------------------------------------ requests


def test_a_request_before_the_moment_does_not_take_its_place() -> None:
    house = House()
    house.passes(HOUR)
    house.one.succeeded(house.now)
    house.passes(HOUR + 5)
    assert len(house.read) == 1


def test_a_request_that_lasts_over_midnight_was_not_the_reading_of_midnight() -> None:
    house = House()
    house.passes(2 * HOUR - 1)
    house.look()
    house.now, house.wall = house.now + 3, house.wall + 3
    house.one.succeeded(house.now)
    house.passes(1)
    assert len(house.read) == 1


# ------------------------------------------------------------------------------------------------ failures


def test_a_reading_that_failed_is_tried_again_twice_that_day() -> None:
    house = House()
    house.answers = False
    house.passes(DAY)
    wanted = [1000 + 2 * HOUR + number * (RETRY_SECONDS + 0.7) for number in range(3)]
    assert house.read == pytest.approx(wanted, abs=0.1)
    house.passes(DAY)
    assert len(house.read) == 6


def test_after_one_answer_nothing_more_is_tried() -> None:
    house = House()
    house.answers = False
    house.passes(2 * HOUR + 5)
    house.answers = True
    house.passes(DAY - HOUR)
    assert len(house.read) == 2
    assert house.one.failures == 0


def test_a_meter_that_stays_silent_is_asked_more_rarely_than_its_line_says() -> None:
    house = House("* * * * *")
    house.answers = False
    house.passes(DAY)
    assert 40 <= len(house.read) <= 60
    house.answers = True
    house.passes(HOUR)
    house.read.clear()
    house.passes(HOUR)
    assert len(house.read) == 60


def test_a_meter_that_was_read_too_often_is_left_alone_but_its_line_of_a_day_stays() -> None:
    one = Timetable(CronLine("*/10 * * * *", BERLIN), 3)
    now = 0.0
    one.look(now, EVENING)
    pauses = []
    for _ in range(8):
        now = one.due
        one.look(now, EVENING + now)
        one.look(now, EVENING + now)
        one.refused(now)
        pauses.append(one.due - now)
    assert pauses[:3] == pytest.approx([HOUR + 600, 2 * HOUR + 600, 4 * HOUR + 600])
    assert pauses[-1] == pytest.approx(LONGEST_REST + 600)


def test_what_a_budget_leaves_out_is_left_out() -> None:
    house = House("0 */6 * * *")
    house.one.skip(house.now + 2 * HOUR)
    assert house.one.due == pytest.approx(1000 + 2 * HOUR)
    house.one.skip(house.now + 3 * HOUR)
    assert house.one.due == pytest.approx(1000 + 8 * HOUR)


def test_it_is_due_never_until_somebody_has_looked_at_the_clock() -> None:
    one = Timetable(CronLine("* * * * *", UTC), 3)
    one.succeeded(5.0)
    one.skip(7.0)
    assert one.due == math.inf
