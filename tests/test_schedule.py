"""When a meter is due; the clock is a number."""

import math
from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbusd.pace.schedule import LONGEST_PAUSE, PATIENT_SECONDS, Schedule

START = 1000.0
PHASES = st.floats(0, 1, exclude_max=True)
INTERVALS = st.floats(1, 366 * 86400)


def schedule(interval: float | None = 60.0, phase: float = 0.0, patience: int = 3) -> Schedule:
    return Schedule(interval, START, phase, patience)


def pauses_of_failures(one: Schedule, count: int) -> list[float]:
    """From each failure to the next question."""
    pauses = []
    now = one.due
    for _ in range(count):
        one.failed(now)
        pauses.append(one.due - now)
        now = one.due
    return pauses


@given(INTERVALS, PHASES)
def test_every_meter_is_due_at_the_start(interval: float, phase: float) -> None:
    assert Schedule(interval, START, phase, 3).due == START


@given(INTERVALS, PHASES, st.floats(0, 10))
def test_the_second_time_comes_at_the_meters_place_in_the_grid(interval: float, phase: float, took: float) -> None:
    one = Schedule(interval, START, phase, 3)
    one.succeeded(START + took)
    assert START + took - 1e-6 <= one.due <= START + took + interval * (1 + 1e-9)
    places = (one.due - START) / interval - phase
    assert places == pytest.approx(round(places), abs=1e-3)


def test_a_read_out_that_takes_long_does_not_shift_the_grid() -> None:
    one = schedule(60.0, phase=0.25)
    due = []
    for _ in range(1000):
        one.succeeded(one.due + 7.3)
        due.append(one.due)
    assert due == [START + 15 + 60 * number for number in range(1000)]


def test_times_that_were_missed_are_not_made_up_for() -> None:
    one = schedule(60.0)
    one.succeeded(START + 1)
    one.succeeded(START + 1000)
    assert one.due == START + 1020


def test_houses_full_of_meters_do_not_ask_all_at_once() -> None:
    due = []
    for number in range(10):
        one = schedule(3600.0, phase=number / 10)
        one.succeeded(START + 30)
        due.append(one.due)
    assert len(set(due)) == 10
    assert max(due) - min(due) > 3000


# ------------------------------------------------------------------------------------------------ silence


def test_a_silent_meter_is_asked_as_usual_at_first_and_then_ever_more_rarely() -> None:
    pauses = pauses_of_failures(schedule(5.0), 12)
    assert pauses[:3] == [5.0] * 3
    assert pauses == sorted(pauses)
    assert pauses[3] == 10.0
    assert pauses[-1] == PATIENT_SECONDS


@given(INTERVALS, PHASES, st.integers(1, 5), st.integers(1, 60))
def test_never_is_no_answer_to_silence(interval: float, phase: float, patience: int, failures: int) -> None:
    pauses = pauses_of_failures(Schedule(interval, START, phase, patience), failures)
    assert max(pauses) <= (max(interval, PATIENT_SECONDS) + interval) * (1 + 1e-6)


def test_one_answer_and_all_is_as_before() -> None:
    one = schedule(60.0)
    pauses_of_failures(one, 20)
    now = one.due
    one.succeeded(now)
    assert one.failures == 0
    assert one.due - now == 60.0


def test_failures_are_counted() -> None:
    one = schedule()
    for number in range(1, 6):
        one.failed(one.due)
        assert one.failures == number


# ------------------------------------------------------------------------------------------------ a meter's budget


def test_a_meter_that_was_read_too_often_is_read_half_as_often_from_now_on() -> None:
    one = schedule(60.0)
    pauses = []
    for _ in range(20):
        now = one.due
        one.refused(now)
        pauses.append(one.due - now)
    assert pauses[:4] == [120.0, 240.0, 480.0, 960.0]
    assert pauses[-1] == LONGEST_PAUSE
    now = one.due
    one.succeeded(now)
    assert one.due - now == LONGEST_PAUSE


def test_silence_does_not_bring_back_what_a_budget_forbids() -> None:
    one = schedule(60.0)
    one.refused(one.due)
    one.refused(one.due)
    now = one.due
    one.failed(now)
    assert one.due - now == 240.0


def test_an_interval_beyond_a_day_is_not_shortened_by_a_refusal() -> None:
    one = schedule(7 * 86400.0)
    now = one.due
    one.refused(now)
    assert one.due - now == 7 * 86400.0


# ------------------------------------------------------------------------------------------------ on request only


def test_a_manual_meter_is_never_due_by_itself() -> None:
    one = schedule(None)
    assert one.due == math.inf
    one.succeeded(START)
    one.failed(START)
    one.refused(START)
    assert one.due == math.inf
    assert one.failures == 2
    assert one.lateness(START + 1e9) == 0.0


# ------------------------------------------------------------------------------------------------ too much to do


def served(meters: Mapping[str, Schedule], seconds_each: float, until: float) -> Counter[str]:
    """The longest due is read first, as on a bus; how often each was."""
    reads: Counter[str] = Counter()
    now = START
    while now < until:
        name = min(meters, key=lambda name: meters[name].due)
        now = max(now, meters[name].due) + seconds_each
        meters[name].succeeded(now)
        reads[name] += 1
    return reads


def test_a_wire_with_too_much_to_do_starves_nobody() -> None:
    meters = {f"quick {n}": schedule(1.0, n / 20) for n in range(20)} | {"slow": schedule(100.0, 0.5)}
    reads = served(meters, 1.0, START + 1000)
    assert reads["slow"] >= 9
    assert min(reads[f"quick {n}"] for n in range(20)) >= 40
    assert max(reads[f"quick {n}"] for n in range(20)) <= 55


def test_lateness_tells_that_there_is_too_much_to_do() -> None:
    one = schedule(10.0)
    assert one.lateness(START - 5) == 0.0
    assert one.lateness(START) == 0.0
    assert one.lateness(START + 25) == 2.5
