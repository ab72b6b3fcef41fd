"""What a counter can have counted: a wrong one is not believed, a right one not asked twice, none is muted for ever."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import accumulate

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mbusd import exact_json
from mbusd.exact_json import JsonValue
from mbusd.mbus.address import SecondaryAddress
from mbusd.mbus.frames import LongFrame
from mbusd.mbus.telegram import decode
from mbusd.model import Identity, Measurement, Reading
from mbusd.normalise import reading as normalised
from mbusd.trust.ledger import MOST_COUNTERS
from mbusd.trust.plausibility import MOST_DOUBTS, Counters, Verdict

HOUR = 3600.0
DAY = 24 * HOUR
HEAT = Identity("68104402", "KAM", 9, 4, "heat", "681044022D2C0904")
OTHER = Identity("68104403", "KAM", 9, 4, "heat", "681044032D2C0904")


def counter(
    value: int | Decimal | None,
    unit: str | None = "kWh",
    decimals: int | None = 0,
    quantity: str = "energy",
    modifiers: tuple[str, ...] = (),
) -> Measurement:
    return Measurement("_".join((quantity, *modifiers)), quantity, "number", value, unit, decimals, modifiers=modifiers)


def highest(watts: int) -> Measurement:
    return replace(counter(watts, "W", quantity="power"), key="power_maximum", function="maximum")


def reading(*measurements: Measurement, identity: Identity = HEAT) -> Reading:
    return Reading("", identity, datetime(2025, 1, 1, tzinfo=UTC), (), measurements)


def kwh(value: int, *more: Measurement, identity: Identity = HEAT) -> Reading:
    return reading(counter(value), *more, identity=identity)


def known(*values: int, every: float = HOUR, watts: int | None = None) -> tuple[Counters, float]:
    """Counters that have believed these values, and when the last one came."""
    counters, now = Counters(), 0.0
    for value in values:
        now += every
        assert counters.judge(kwh(value, *([] if watts is None else [highest(watts)])), now).finding == "plausible"
    return counters, now


# ------------------------------------------------------------------------------------- what is doubted


def test_a_counter_that_falls_is_doubted_and_says_so() -> None:
    counters, now = known(1234)
    verdict = counters.judge(kwh(1233), now + HOUR)
    assert not verdict.is_accepted
    assert str(verdict) == "energy fell from 1234 to 1233 kWh"


def test_a_counter_that_leaps_beyond_what_a_house_needs_is_doubted() -> None:
    counters, now = known(1234)
    verdict = counters.judge(kwh(1297 + 1), now + HOUR)
    assert str(verdict) == "energy rose from 1234 to 1298 kWh, by more than the 63.5 kWh that are likely"
    assert not verdict.is_accepted


def test_the_meters_own_maximum_says_how_far_it_may_get() -> None:
    """4.7 kW: in an hour 4.7 kWh, twice that for a maximum that is an average, and what a meter may be late."""
    counters, now = known(1000, 1004, watts=4700)
    assert not counters.judge(kwh(1004 + 13, highest(4700)), now + HOUR).is_accepted
    counters, now = known(1000, 1004, watts=4700)
    assert counters.judge(kwh(1004 + 12, highest(4700)), now + HOUR).is_accepted


def test_a_maximum_beyond_what_is_usual_lets_a_counter_go_as_far() -> None:
    counters, now = known(1000, 1400, every=HOUR, watts=400_000)
    assert counters.judge(kwh(1800, highest(400_000)), now + HOUR).is_accepted


def test_a_wrong_maximum_in_one_telegram_opens_no_door() -> None:
    counters, now = known(1000, 1004, watts=4700)
    assert not counters.judge(kwh(9999, highest(900_000_000)), now + HOUR).is_accepted
    counters, now = known(1000, 1004, watts=4700)
    assert counters.judge(kwh(1005, highest(900_000_000)), now + HOUR).is_accepted
    assert not counters.judge(kwh(9999, highest(4700)), now + 2 * HOUR).is_accepted


def test_a_pause_gives_a_counter_time() -> None:
    counters, now = known(1000)
    assert counters.judge(kwh(1000 + 30 * 24 * 50), now + 30 * DAY).is_accepted


def test_after_a_week_its_own_history_counts() -> None:
    steps = [1000 + step for step in range(200)]  # 1 kWh an hour, for more than a week
    counters, now = known(*steps)
    assert counters.judge(kwh(steps[-1] + 7), now + HOUR).is_accepted
    assert not counters.judge(kwh(steps[-1] + 7 + 50), now + 2 * HOUR).is_accepted


def test_a_meter_that_is_read_every_second_may_bring_a_quarter_of_an_hour_at_once() -> None:
    counters, now = known(1000, 1000, 1000, every=1.0)
    assert counters.judge(kwh(1012), now + 1).is_accepted


# ------------------------------------------------------------------------------------- what passes


@pytest.mark.parametrize(
    "item",
    [
        counter(5, "°C", quantity="flow_temperature"),
        counter(5, "W", quantity="power"),
        replace(counter(5), storage=1),
        replace(counter(5), function="maximum"),
        counter(5, modifiers=("average",)),
        counter(None),
    ],
)
def test_what_is_no_counter_may_do_what_it_likes(item: Measurement) -> None:
    counters = Counters()
    assert counters.judge(reading(replace(item, value=1_000_000)), 0.0).is_accepted
    assert counters.judge(reading(item), 1.0).is_accepted


def test_another_meter_begins_anew() -> None:
    counters, now = known(1234)
    assert counters.judge(kwh(3, identity=OTHER), now + HOUR).is_accepted
    assert not counters.judge(kwh(2, identity=OTHER), now + 2 * HOUR).is_accepted


@pytest.mark.parametrize(
    ("before", "after", "decimals"),
    [
        (Decimal("99999.998"), Decimal("0.004"), 3),  # eight digits of litres
        (99_999_998, 3, 0),
        (999_998, 1, 0),
        (2**31 - 2, 3, 0),
        (2**31 - 2, -(2**31) + 1, 0),  # a four-byte counter that thinks itself unsigned
        (2**24 - 1, 1, 0),
        (99_999, 2, 0),
        (Decimal(2**32 - 1) / 1000, Decimal("0.002"), 3),
    ],
)
def test_a_counter_that_begins_again_after_its_last_digit_passes(
    before: int | Decimal, after: int | Decimal, decimals: int
) -> None:
    counters = Counters()
    counters.judge(reading(counter(before, "m³", decimals, "volume")), 0.0)
    assert counters.judge(reading(counter(after, "m³", decimals, "volume")), HOUR).finding == "plausible"
    assert counters.judge(reading(counter(after + 1, "m³", decimals, "volume")), 2 * HOUR).is_accepted


def test_a_counter_that_is_not_near_its_end_does_not_begin_again() -> None:
    for before, hours in ((99_000, 1), (80_000, 24 * 365)):
        counters, now = known(before)
        assert not counters.judge(kwh(3), now + hours * HOUR).is_accepted


@pytest.mark.parametrize(("before", "after"), [(99_999_998, 0), (99_999, 2), (32_767, 1)])
def test_a_plain_zero_and_a_small_counter_of_litres_are_no_beginning(before: int, after: int) -> None:
    counters = Counters()
    counters.judge(reading(counter(Decimal(before) / 1000, "m³", 3, "volume")), 0.0)
    litres = reading(counter(Decimal(after) / 1000, "m³", 3, "volume"))
    assert not counters.judge(litres, HOUR).is_accepted
    assert counters.judge(litres, HOUR + 1).is_accepted


def test_a_meter_that_always_has_new_names_for_its_counters_is_not_remembered_without_end() -> None:
    counters, now = known(100)
    for number in range(2 * MOST_COUNTERS):
        now += HOUR
        new = replace(counter(7), key=f"energy_tariff_{number}")
        assert counters.judge(kwh(101 + number, new), now).finding == "plausible"
    noted = counters.noted(now, 0.0)
    assert isinstance(noted, dict)
    assert isinstance(noted["registers"], dict)
    assert len(noted["registers"]) == MOST_COUNTERS
    last = f"energy_tariff_{2 * MOST_COUNTERS - 1}"
    assert {"energy", last} < set(noted["registers"])
    assert counters.judge(kwh(50), now + HOUR).finding == "doubted"


def test_another_unit_is_no_leap() -> None:
    counters = Counters()
    counters.judge(reading(counter(Decimal("12345.678"), decimals=3)), 0.0)
    assert counters.judge(reading(counter(12345, decimals=0)), HOUR).finding == "plausible"  # a coarser VIF
    counters = Counters()
    counters.judge(reading(counter(1000)), 0.0)
    assert counters.judge(reading(counter(Decimal("3.6"), "GJ", 3)), HOUR).finding == "plausible"
    assert not counters.judge(reading(counter(Decimal(36), "GJ", 3)), 2 * HOUR).is_accepted


def test_a_unit_that_cannot_be_compared_passes() -> None:
    counters, now = known(1000)
    assert counters.judge(reading(counter(3, "m³")), now + HOUR).is_accepted
    assert counters.judge(reading(counter(4, "m³")), now + 2 * HOUR).is_accepted


def test_a_value_that_is_missing_for_once_is_compared_when_it_is_back() -> None:
    counters, now = known(1000)
    assert counters.judge(reading(counter(None)), now + HOUR).is_accepted
    assert counters.judge(reading(), now + 2 * HOUR).is_accepted
    assert not counters.judge(kwh(999), now + 3 * HOUR).is_accepted


# ------------------------------------------------------------------------------------- the second look


@pytest.mark.parametrize("value", [0, 77, 50_000])
def test_what_two_read_outs_say_is_believed(value: int) -> None:
    counters, now = known(1234)
    assert not counters.judge(kwh(value), now + HOUR).is_accepted
    verdict = counters.judge(kwh(value), now + HOUR + 1)
    assert verdict.finding == "confirmed"
    assert counters.judge(kwh(value + 1), now + 2 * HOUR).finding == "plausible"


def test_the_second_read_out_may_have_counted_on() -> None:
    for first, second in ((50_000, 50_001), (50_000, 50_600), (3, 4)):
        counters, now = known(1234)
        counters.judge(kwh(first), now + HOUR)
        assert counters.judge(kwh(second), now + HOUR + 1).finding == "confirmed"


@pytest.mark.parametrize(
    ("first", "second"), [(50_000, 70_000), (70_000, 50_000), (70_000, 69_999), (50_000, 3), (3, 50_000), (3, 600)]
)
def test_two_read_outs_that_disagree_with_everything_are_not_believed(first: int, second: int) -> None:
    counters, now = known(1234)
    assert not counters.judge(kwh(first), now + HOUR).is_accepted
    assert not counters.judge(kwh(second), now + HOUR + 1).is_accepted
    assert counters.judge(kwh(1235), now + 2 * HOUR).finding == "plausible"


def test_a_second_read_out_with_another_wrong_counter_confirms_nothing() -> None:
    def both(energy: int, volume: int) -> Reading:
        return reading(counter(energy), counter(volume, "m³", quantity="volume"))

    counters = Counters()
    counters.judge(both(1000, 500), 0.0)
    assert not counters.judge(both(90_000, 500), HOUR).is_accepted
    assert not counters.judge(both(90_000, 90_000), HOUR + 1).is_accepted
    assert not counters.judge(both(1000, 80_000), HOUR + 1).is_accepted
    assert counters.judge(both(1001, 500), HOUR + 2).finding == "plausible"


def test_a_fall_confirms_no_leap_however_near_it_is() -> None:
    counters, now = known(1000, 1004, watts=4700)
    assert not counters.judge(kwh(1010, highest(4700)), now + 1).is_accepted
    assert not counters.judge(kwh(1003, highest(4700)), now + 2).is_accepted


def test_the_next_read_out_is_the_second_look_where_there_was_none() -> None:
    counters, now = known(1234)
    assert not counters.judge(kwh(2), now + HOUR).is_accepted
    assert counters.judge(kwh(3), now + DAY).finding == "confirmed"


def test_a_register_that_goes_up_and_down_is_a_balance_after_three_falls() -> None:
    counters, now = known(1000)
    value, asked = 1000, 0
    for step in (-3, 4, -2, -1, 5, -4, -2, 3, -3, -1):
        value, now = value + step, now + HOUR
        while not counters.judge(kwh(value), now).is_accepted:
            asked, now = asked + 1, now + 1
    assert asked == 3
    assert not counters.judge(kwh(value - 900), now + HOUR).is_accepted  # but not by any amount


def test_a_register_that_says_so_is_a_balance_from_the_start() -> None:
    counters = Counters()
    for hour, value in enumerate((10, 8, 9, -3, -5, 2)):
        balance = counter(value, modifiers=("delta_import_export",))
        assert counters.judge(reading(balance), hour * HOUR).finding == "plausible"


def test_a_register_that_does_what_it_likes_is_not_muted() -> None:
    counters, now = known(1000)
    wild = [7, 90_000, 30, 800_000, 2, 44_444, 9]
    found = [counters.judge(kwh(value), now + HOUR * number).finding for number, value in enumerate(wild, 1)]
    assert found == ["doubted"] * (MOST_DOUBTS - 1) + ["hopeless", "plausible"]


def test_one_setting_of_the_counter_is_no_habit() -> None:
    counters, now = known(*range(1000, 1200))
    for value in (800_000, 800_000):
        counters.judge(kwh(value), now + HOUR)
    assert not counters.judge(kwh(900_000), now + 2 * HOUR).is_accepted


def test_a_building_that_needs_more_than_a_house_is_asked_twice_and_then_known() -> None:
    counters, now = known(0)
    asked, value = 0, 0
    for _ in range(50):
        value, now = value + 3000, now + HOUR
        while not counters.judge(kwh(value), now).is_accepted:
            asked, now = asked + 1, now + 1
    assert asked == 2


# ------------------------------------------------------------------------------------- whatever comes

Steps = Sequence[tuple[float, float]]
steps = st.lists(
    st.tuples(st.floats(1.0, 3 * DAY), st.floats(0.0, 1.0)), min_size=1, max_size=40
)  # seconds until the next read-out, share of the highest power


def series(taken: Steps, kilowatts: float) -> list[tuple[float, int]]:
    """When and what a counter of whole kWh says that never runs faster than so."""
    times = accumulate(seconds for seconds, _ in taken)
    energies = accumulate(seconds / 3600 * share * kilowatts for seconds, share in taken)
    return [(at, 1000 + int(energy)) for at, energy in zip(times, energies, strict=True)]


@given(steps, st.floats(0.5, 2000.0))
def test_a_counter_that_keeps_to_the_meters_own_maximum_is_never_asked_twice(taken: Steps, kilowatts: float) -> None:
    counters = Counters()
    for at, value in series(taken, kilowatts):
        assert counters.judge(kwh(value, highest(int(kilowatts * 1000) + 1)), at).finding == "plausible"


@given(steps, st.floats(0.0, 5.0))
def test_a_counter_of_a_house_is_never_asked_twice(taken: Steps, kilowatts: float) -> None:
    counters = Counters()
    for at, value in series(taken, kilowatts):
        assert counters.judge(kwh(value), at).finding == "plausible"


def polled(counters: Counters, truth: Callable[[], int], at: float, wrong: int | None = None) -> tuple[int | None, int]:
    """One poll as it is done on a bus: what is published (None: nothing), and how often the meter was asked."""
    first = truth() if wrong is None else wrong
    if counters.judge(kwh(first), at).is_accepted:
        return first, 1
    second = truth()
    return (second if counters.judge(kwh(second), at + 1).is_accepted else None), 2


@given(steps, st.integers(0, 39), st.integers(0, 2**31))
def test_one_wrong_telegram_is_never_published_nor_does_it_cost_a_reading(taken: Steps, place: int, wrong: int) -> None:
    """A wrong one is a counter that falls, or rises by what no house needs; in its stead comes a right one."""
    counters = Counters()
    told = series(taken, 5.0)
    place = place % len(told)
    assume(place > 0)
    room = 50.0 * ((told[place][0] - told[place - 1][0]) / 3600 + 0.25) + 1
    assume(not told[place - 1][1] <= wrong <= told[place - 1][1] + room)
    for number, (at, value) in enumerate(told):
        shown, asked = polled(counters, lambda value=value: value, at, wrong if number == place else None)  # type: ignore[misc]  # mypy and defaults
        assert shown == value
        assert asked == (2 if number == place else 1)


@given(steps, st.integers(0, 2**31))
def test_a_counter_that_was_set_is_published_after_one_more_read_out(taken: Steps, value: int) -> None:
    counters = Counters()
    at = 0.0
    for at, before in series(taken, 5.0):
        assert polled(counters, lambda before=before: before, at) == (before, 1)  # type: ignore[misc]  # mypy and defaults
    for later in range(1, 4):
        shown, asked = polled(counters, lambda: value, at + HOUR * later)
        assert shown == value
        assert asked <= (2 if later == 1 else 1)


numbers = st.one_of(
    st.none(), st.integers(-(2**64), 2**64), st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**40))
)
anything = st.builds(
    counter,
    numbers,
    st.sampled_from(["kWh", "GJ", "Gcal", "m³", "ft³", "W", "m³/h", "°C", "HCA units", "kWh/L", None]),
    st.one_of(st.none(), st.integers(0, 80)),
    st.sampled_from(["energy", "volume", "cumulation_counter", "power"]),
    st.sampled_from([(), ("delta_import_export",), ("average",)]),
)
maxima = st.builds(lambda item: replace(item, function="maximum"), anything)


@given(st.lists(st.tuples(st.lists(anything | maxima, max_size=3), st.floats(0.0, 1e9)), max_size=12))
def test_no_reading_breaks_it_and_none_is_kept_back_for_ever(told: list[tuple[list[Measurement], float]]) -> None:
    counters, in_a_row = Counters(), 0
    for items, at in sorted(told, key=lambda one: one[1]):
        verdict: Verdict = counters.judge(reading(*items), at)
        assert isinstance(str(verdict), str)
        in_a_row = 0 if verdict.is_accepted else in_a_row + 1
        assert in_a_row < MOST_DOUBTS


# ------------------------------------------------------------------------------------- after a restart


def restarted(counters: Counters, *, now: float, pause: float) -> Counters:
    """What the next run of the daemon knows; its monotonic clock begins anew, the one on the wall goes on."""
    note = json.loads(exact_json.dumps(counters.noted(now, 1e9)))
    later = Counters()
    later.take_over(note, 0.0, 1e9 + pause)
    return later


def test_after_a_restart_the_counters_are_known() -> None:
    counters, now = known(1000, 1004, watts=4700)
    for value, is_plausible in ((1003, False), (1004, True), (1004 + 13, False), (1004 + 12, True)):
        again = restarted(counters, now=now, pause=HOUR)
        assert again.judge(kwh(value, highest(4700)), 0.0).is_accepted == is_plausible
    again = restarted(counters, now=now, pause=10 * HOUR)
    assert again.judge(kwh(1004 + 94, highest(4700)), 0.0).is_accepted


def test_after_a_restart_another_meter_may_be_there() -> None:
    counters, now = known(1000)
    assert restarted(counters, now=now, pause=HOUR).judge(kwh(3, identity=OTHER), 0.0).is_accepted


def test_a_clock_that_has_forgotten_the_time_makes_no_leap_but_lets_nothing_fall() -> None:
    counters, now = known(1000)
    assert restarted(counters, now=now, pause=-1e8).judge(kwh(500_000), 0.0).is_accepted
    assert not restarted(counters, now=now, pause=-1e8).judge(kwh(999), 0.0).is_accepted


def test_exact_values_and_balances_outlive_a_restart() -> None:
    counters = Counters()
    exact = Decimal("1234567890.123456789")
    counters.judge(reading(counter(exact, "m³", 9, "volume"), counter(-3, "GJ", 3)), 0.0)
    again = restarted(counters, now=5.0, pause=60.0)
    last = Decimal("0.000000001")
    assert not again.judge(reading(counter(exact - last, "m³", 9, "volume"), counter(-3, "GJ", 3)), 0.0).is_accepted
    assert again.judge(reading(counter(exact, "m³", 9, "volume"), counter(Decimal("-3.01"), "GJ", 3)), 1.0).is_accepted


def test_what_is_known_already_is_not_forgotten_for_a_note() -> None:
    counters, now = known(1000)
    newer, _ = known(2000)
    newer.take_over(json.loads(exact_json.dumps(counters.noted(now, 1e9))), 0.0, 1e9)
    assert not newer.judge(kwh(1500), now + HOUR).is_accepted


@pytest.mark.parametrize(
    "note",
    [
        None,
        [],
        {"address": "x"},
        {"address": HEAT.address, "at": "now", "registers": {}, "maxima": []},
        *(
            {"address": HEAT.address, "at": 1e9, "registers": {"energy": entry}, "maxima": [7]}
            for entry in (None, [], ["1000"], ["x", "kWh", 0, 1.0, 1.0, 0.0, 0.0, 0, False], [1000] * 9)
        ),
        {
            "address": HEAT.address,
            "at": 1e9,
            "registers": {"energy": ["1000", "kWh", 0, 1.0, float("inf"), 0.0, 0.0, 0, False]},
            "maxima": [],
        },
    ],
)
def test_a_note_that_is_none_is_no_news(note: JsonValue) -> None:
    counters = Counters()
    counters.take_over(note, 0.0, 2e9)
    assert counters.judge(kwh(3), 1.0).is_accepted


# ------------------------------------------------------------------------------------- from real telegrams


def energy_and_maximum(energy: int, watts: int) -> Reading:
    """As it comes from the wire: the second such reading has only other values, not another form."""
    records = b"\x04\x06" + energy.to_bytes(4, "little") + b"\x14\x2b" + watts.to_bytes(4, "little")
    header = SecondaryAddress(HEAT.address).to_bytes() + bytes(4)
    return normalised("", [decode(LongFrame(0x08, 5, 0x72, header + records))], datetime(2025, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("has_history", [False, True])
def test_a_reading_that_came_in_a_known_form_is_judged_alike(*, has_history: bool) -> None:
    counters, now = Counters(), 0.0
    for energy in range(1000, 1040 if has_history else 1002):
        now += HOUR
        assert counters.judge(energy_and_maximum(energy, 4700), now).finding == "plausible"
    assert str(counters.judge(energy_and_maximum(900, 4700), now + 1)).startswith("energy fell from 10")
    assert counters.judge(energy_and_maximum(900, 4700), now + 2).finding == "confirmed"
    assert counters.judge(energy_and_maximum(900 + 12, 4700), now + HOUR).finding == "plausible"
    assert not counters.judge(energy_and_maximum(912 + 14, 4700), now + 2 * HOUR).is_accepted
