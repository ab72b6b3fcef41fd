"""What a meter's battery may be asked in a day; the clock is a number."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbusd.pace.budget import Budget

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 11, 20, 12, tzinfo=BERLIN).timestamp()
HOUR = 3600.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def spent(most: int = 2) -> Budget:
    budget = Budget(most, BERLIN)
    for _ in range(most):
        budget.spend(NOON)
    return budget


def test_it_is_used_up_by_as_many_questions_and_full_again_at_midnight() -> None:
    budget = Budget(2, BERLIN)
    assert budget.refusal(NOON) is None
    budget.spend(NOON)
    assert not budget.is_spent(NOON)
    budget.spend(NOON)
    assert str(budget.refusal(NOON)).startswith(
        "its budget of 2 read-outs a day is used up; it is full again at 00:00;"
    )
    assert budget.full_at(NOON) == NOON + 12 * HOUR
    assert budget.is_spent(NOON + 12 * HOUR - 1)
    assert not budget.is_spent(NOON + 12 * HOUR)


@pytest.mark.parametrize(("day", "hours"), [(28, 24), (29, 23)])
def test_a_day_is_as_long_as_the_calendar_has_it(day: int, hours: int) -> None:
    midnight = datetime(2026, 3, day, tzinfo=BERLIN).timestamp()
    assert Budget(1, BERLIN).full_at(midnight) == midnight + hours * HOUR


def test_where_midnight_is_left_out_the_day_begins_an_hour_later_by_the_clock() -> None:
    cairo = ZoneInfo("Africa/Cairo")  # on 2026-04-24 the clock goes from 23:59 to 01:00
    evening = datetime(2026, 4, 23, 20, tzinfo=cairo).timestamp()
    budget = Budget(1, cairo)
    budget.spend(evening)
    assert "full again at 01:00" in str(budget.refusal(evening))
    assert budget.full_at(evening) == evening + 4 * HOUR


def test_a_clock_set_back_over_midnight_fills_nothing_and_blocks_nothing() -> None:
    budget = spent()
    assert budget.is_spent(NOON - 24 * HOUR)
    assert budget.is_spent(NOON - 3650 * 24 * HOUR)
    assert not budget.is_spent(NOON - 3649 * 24 * HOUR)


@pytest.mark.parametrize("back", [timedelta(days=2), timedelta(days=30), datetime.fromtimestamp(NOON, UTC) - EPOCH])
def test_a_clock_that_is_wrong_for_a_while_fills_nothing_for_a_day_that_has_been(back: timedelta) -> None:
    budget = Budget(3, BERLIN)
    budget.spend(NOON)
    budget.spend(NOON - back.total_seconds())
    budget.spend(NOON + 60)
    assert budget.is_spent(NOON + 120)
    assert not budget.is_spent(NOON + 24 * HOUR)


def test_a_day_after_a_clock_that_was_in_the_future_is_a_new_day() -> None:
    budget = Budget(2, BERLIN)
    budget.spend(NOON + 3650 * 24 * HOUR)
    budget.spend(NOON)
    assert budget.is_spent(NOON + HOUR)
    assert not budget.is_spent(NOON + 24 * HOUR)


def test_what_is_spent_before_the_clock_is_set_is_spent_on_the_last_day_that_is_known() -> None:
    """The machine starts again without a clock, and learns the time later."""
    first, second, third = Budget(3, UTC), Budget(3, UTC), Budget(3, UTC)
    first.spend(NOON)
    second.take_over(*first.spent)
    second.spend(60.0)
    third.take_over(*second.spent)
    third.spend(NOON + HOUR)
    assert third.is_spent(NOON + HOUR)


def test_it_outlives_the_daemon() -> None:
    after = Budget(2, BERLIN)
    after.take_over(*spent().spent)
    assert after.is_spent(NOON)
    assert not after.is_spent(NOON + 24 * HOUR)


def test_what_an_earlier_day_has_spent_is_no_matter() -> None:
    budget = spent()
    budget.take_over(date(2026, 11, 19), 50)
    assert budget.spent == (date(2026, 11, 20), 2)
    budget.take_over(date(2026, 11, 20), 1)
    assert budget.spent == (date(2026, 11, 20), 2)


@given(st.integers(1, 5), st.lists(st.floats(0, 20 * HOUR), max_size=60))
def test_no_day_has_more_questions_than_that(most: int, pauses: list[float]) -> None:
    budget, now, days = Budget(most, UTC), NOON, dict[date, int]()
    for pause in pauses:
        now += pause
        if budget.refusal(now) is None:
            budget.spend(now)
            day = datetime.fromtimestamp(now, UTC).date()
            days[day] = days.get(day, 0) + 1
    assert max(days.values(), default=0) <= most
