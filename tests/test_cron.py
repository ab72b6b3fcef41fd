"""Cron lines over the changes of daylight saving, and those that are refused."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbusd.pace.cron import CronLine, checked, shortest_pause, times_a_day

BERLIN = ZoneInfo("Europe/Berlin")
MOMENTS = st.integers(
    int(datetime(2024, 1, 1, tzinfo=UTC).timestamp()), int(datetime(2032, 1, 1, tzinfo=UTC).timestamp())
)
LINES = st.sampled_from(
    ["0 0 * * *", "30 2 * * *", "0,30 2 * * *", "*/15 * * * *", "0 */6 * * *", "15 3 1 * *", "0 0 L * *", "0 2 * * SUN"]
)


def local(*words: int, fold: int = 0) -> float:
    year, month, day, hour, minute = words
    return datetime(year, month, day, hour, minute, tzinfo=BERLIN, fold=fold).timestamp()


def fired(text: str, after: float, until: float) -> list[str]:
    """All moments of a line in a span of time, as a clock in Berlin shows them."""
    line, shown = CronLine(text, BERLIN), []
    while (after := line.next(after)) <= until:
        shown.append(f"{datetime.fromtimestamp(after, BERLIN):%d %H:%M %Z}")
    return shown


@given(LINES, MOMENTS, st.floats(0, 0.999))
def test_the_next_moment_is_always_later_and_nothing_is_between(text: str, moment: int, part: float) -> None:
    line = CronLine(text, BERLIN)
    after = moment + part
    due = line.next(after)
    assert due > after
    assert line.next((after + due) / 2) == due
    assert line.next(due - 0.5) == due


@given(st.integers(0, 8 * 365))
def test_midnight_is_once_on_every_day_of_the_calendar(days: int) -> None:
    day = datetime(2024, 1, 1, tzinfo=BERLIN) + timedelta(days=days)
    due = CronLine("0 0 * * *", BERLIN).next(day.timestamp())
    assert datetime.fromtimestamp(due, BERLIN) == day + timedelta(days=1)


def test_a_time_that_daylight_saving_leaves_out_is_made_up_for_at_once() -> None:
    span = local(2026, 3, 29, 0, 0), local(2026, 3, 30, 12, 0)
    assert fired("30 2 * * *", *span) == ["29 03:00 CEST", "30 02:30 CEST"]
    assert fired("0,30 2 * * *", *span) == ["29 03:00 CEST", "30 02:00 CEST", "30 02:30 CEST"]


def test_a_time_that_comes_twice_is_used_once_wherever_one_looks_from() -> None:
    span = local(2026, 10, 25, 0, 0), local(2026, 10, 26, 12, 0)
    assert fired("50 2 * * *", *span) == ["25 02:50 CEST", "26 02:50 CET"]
    again = local(2026, 10, 25, 2, 45, fold=1)
    assert fired("50 2 * * *", again, span[1]) == ["26 02:50 CET"]


def test_stars_go_on_through_the_hour_that_comes_twice() -> None:
    span = local(2026, 10, 25, 1, 30), local(2026, 10, 25, 3, 0)
    assert fired("0 * * * *", *span) == ["25 02:00 CEST", "25 02:00 CET", "25 03:00 CET"]


@pytest.mark.parametrize(
    ("text", "times", "pause"),
    [
        ("0 0 * * *", 1, 86400),
        ("0 0 1 * *", 1, 86400),
        ("*/5 * * * *", 288, 300),
        ("* * * * *", 1440, 60),
        ("0 6,18 * * *", 2, 43200),
        ("0 0,23 * * *", 2, 3600),
    ],
)
def test_how_often_a_line_fires(text: str, times: int, pause: float) -> None:
    assert (times_a_day(text), shortest_pause(text)) == (times, pause)


def test_spaces_do_not_matter() -> None:
    assert checked("  0  0 *\t* mon-fri ") == "0 0 * * mon-fri"


@pytest.mark.parametrize("text", ["0 0 29 2 *", "0 0 30 2 MON", "0 0 L * *", "0 0 * * MON#5", "0 0 31 1,2 *"])
def test_what_is_rare_or_odd_is_a_line_all_the_same(text: str) -> None:
    assert checked(text) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0 0 30 2 *", "the cron line '0 0 30 2 *' never fires: none of its months has that day"),
        ("0 0 31 4,6 *", "never fires: none of its months has that day"),
        ("* * */20 * 1L", "never fires: there is no such day in fifty years"),
        ("0 0 32 * *", "'0 0 32 * *' is no cron line: bad day-of-month"),
        ("60 0 * * *", "is no cron line: bad minute"),
        ("0 24 * * *", "is no cron line: bad hour"),
        ("0 0 * 13 *", "is no cron line: bad month"),
        ("0 0 * * 8", "is no cron line: bad day-of-week"),
        ("0 0 * * ", "five fields are (minute, hour, day of the month, month, day of the week)"),
        ("0 0 0 * * *", "five fields"),
        ("@daily * * * *", "is no cron line: bad minute"),
        (f"{'9' * 5000} * * * *", "is no cron line"),
        ("", "five fields"),
    ],
)
def test_what_is_wrong_with_a_line_is_said(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=r"cron line") as caught:
        checked(text)
    assert why in str(caught.value)


@given(st.text("0123456789*/,-LW#MON ", max_size=24))
def test_whatever_is_written_is_a_line_that_fires_or_an_error(text: str) -> None:
    try:
        line = checked(text)
    except ValueError:
        return
    start = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    assert start < CronLine(line, UTC).next(start) < start + 60 * 366 * 86400


@pytest.mark.parametrize(
    ("text", "is_fixed"), [("0 0 * * *", True), ("0,30 6-9 * * 1", True), ("0 * * * *", False), ("*/5 3 * * *", False)]
)
def test_a_line_that_names_hours_and_minutes_is_fixed(text: str, is_fixed: bool) -> None:  # noqa: FBT001 - a parameter
    assert CronLine(text, UTC).is_fixed is is_fixed
