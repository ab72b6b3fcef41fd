"""The times of the standard, and what answers teach about the way to the converter."""

import pytest

from mbusd.timing import Timing

CAUTION = 0.1


@pytest.mark.parametrize(
    ("baudrate", "window", "character", "select", "longest"),
    [(300, 1.150, 0.0367, 0.623, 9.570), (2400, 0.1875, 0.0046, 0.078, 1.196), (9600, 0.084, 0.0011, 0.019, 0.299)],
)
def test_the_times_of_the_standard(
    baudrate: int, window: float, character: float, select: float, longest: float
) -> None:
    timing = Timing.of(baudrate, CAUTION)
    assert timing.window == pytest.approx(window, abs=5e-4)
    assert timing.wire(1) == pytest.approx(character, abs=5e-5)
    assert timing.wire(17) == pytest.approx(select, abs=5e-4)
    assert timing.wire(261) == pytest.approx(longest, abs=1e-3)
    assert timing.settle >= 33 / baudrate
    assert timing.idle >= 11 / baudrate
    assert timing.gap >= max(33 / baudrate, 0.05)


def test_a_slow_meter_gets_the_window_that_the_owner_gives() -> None:
    assert Timing.of(2400, CAUTION, 5.0).window == 5.0


def test_an_answer_in_the_first_half_of_the_window_shows_that_the_way_is_quick() -> None:
    assert Timing.of(2400, CAUTION).after_answer(0.035).slack < 0.01


def test_an_answer_in_the_second_half_shows_nothing() -> None:
    assert Timing.of(2400, CAUTION).after_answer(0.12).slack == CAUTION


def test_after_one_late_answer_all_caution_comes_back_and_stays() -> None:
    timing = Timing.of(2400, CAUTION).after_answer(0.035).after_late_answer()
    assert timing.slack == CAUTION
    assert timing.after_answer(0.035).slack == CAUTION


def test_the_pause_inside_an_answer_keeps_all_caution() -> None:
    """Converters cut an answer anywhere, however quick they are."""
    assert Timing.of(2400, CAUTION).after_answer(0.035).gap == Timing.of(2400, CAUTION).gap
