"""The JSON document of a meter: its time to the second in UTC, every key that was announced, values exact."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from mbusd.sinks.state import state, utc
from tests.sinks.readings import NOON, reading


def test_every_announced_key_is_there_and_the_values_are_exact() -> None:
    said = state(reading(energy=Decimal("18.360"), text="ä"), ("energy", "power"))
    assert said == f'{{"time": "{utc(NOON)}", "status": [], "energy": 18.36, "power": null, "text": "ä"}}'


def test_a_moment_is_cut_to_the_second() -> None:
    assert utc(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC) + timedelta(milliseconds=999)) == "2026-01-02T03:04:05Z"
