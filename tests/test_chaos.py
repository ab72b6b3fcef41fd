"""The run with all faults of a bus at random, in short: no value is wrong, and every meter comes back."""

import logging

import pytest

from bench.chaos import Row, chaos

EPISODES = 6


def test_whatever_happens_on_a_bus_no_value_is_wrong_and_all_meters_come_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "mbusd")  # what goes wrong is told
    rows: dict[str, Row] = {}
    judge = chaos("tcp", EPISODES, 3, rows)
    assert judge.wrong == []
    assert judge.readings > 100
    assert sum(row.tries for row in rows.values()) == EPISODES
    assert max(max(row.read_outs) for row in rows.values()) <= 3
    assert "Traceback" not in caplog.text
