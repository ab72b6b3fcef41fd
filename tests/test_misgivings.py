"""A register that jitters does not fill the log."""

import logging

import pytest

from mbusd.model import Reading
from mbusd.trust.misgivings import TELL_SECONDS, Misgivings
from mbusd.trust.plausibility import Counters
from tests.test_plausibility import kwh


def jitter(misgivings: Misgivings, meter: str, times: int, begin: float) -> None:
    """Each read-out says that the counter fell, and a second one that it did not."""
    good: Reading = kwh(1000)
    for count in range(times):
        counters = Counters()
        counters.judge(good, 0.0)
        misgivings.dropped(meter, counters.judge(kwh(7), 1.0), good, begin + count)


def lines(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def test_of_one_meter_the_same_is_told_once_in_ten_minutes_and_the_rest_at_debug(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    one = Misgivings()
    jitter(one, "flat_1", 28, 0.0)
    jitter(one, "flat_2", 28, 0.0)
    told = "energy fell from 1000 to 7 kWh; a second read-out says 1000: the first is dropped"
    assert lines(caplog, logging.WARNING) == [f"flat_1: {told}", f"flat_2: {told}"]
    assert lines(caplog, logging.DEBUG) == [*[f"flat_1: {told}"] * 27, *[f"flat_2: {told}"] * 27]
    caplog.clear()
    jitter(one, "flat_1", 1, TELL_SECONDS)
    jitter(one, "flat_1", 1, 2 * TELL_SECONDS)
    assert lines(caplog, logging.WARNING) == [
        f"flat_1: {told} (and 27 more like it since the last such line)",
        f"flat_1: {told}",
    ]
