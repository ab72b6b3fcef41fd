"""A flood of requests is held back; what people and automations ask for is not."""

from mbusd.valve import Valve


def test_a_burst_passes_and_then_one_each_so_many_seconds() -> None:
    valve = Valve(burst=3, seconds=10)
    assert [valve.admits(100.0) for _ in range(5)] == [True, True, True, False, False]
    assert not valve.admits(109.9)
    assert valve.admits(110.0)
    assert not valve.admits(110.0)


def test_what_is_refused_costs_nothing() -> None:
    valve = Valve(burst=1, seconds=60)
    assert valve.admits(0.0)
    assert not any(valve.admits(float(second)) for second in range(1, 60))
    assert valve.admits(60.0)


def test_a_rest_fills_it_no_higher_than_the_burst() -> None:
    valve = Valve(burst=2, seconds=1)
    assert [valve.admits(1e6) for _ in range(3)] == [True, True, False]
    assert [valve.admits(2e6) for _ in range(3)] == [True, True, False]


def test_a_request_a_minute_is_never_refused() -> None:
    valve = Valve(burst=100, seconds=60)
    assert all(valve.admits(60.0 * minute) for minute in range(100_000))
