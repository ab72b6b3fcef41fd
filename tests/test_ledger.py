"""What is known of a meter's counters comes out of its shut ledger as it went in, and takes little room there."""

import tracemalloc
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbusd.trust.counting import Counted, place_of
from mbusd.trust.ledger import NOTHING, Kind, Ledger
from mbusd.trust.register import BALANCE_FALLS, Register, What

WHATS = st.builds(
    What,
    st.text(min_size=1),
    st.none() | st.sampled_from(["kWh", "m³"]),
    st.none() | st.integers(-3, 9),
    st.integers(0, 5),
    st.booleans(),
    st.booleans(),
)
NUMBERS = st.integers(-(10**40), 10**40) | st.decimals(allow_nan=False, allow_infinity=False)
FLOATS = st.floats(allow_nan=False)
REGISTERS = st.builds(Register, WHATS, NUMBERS, FLOATS, FLOATS, FLOATS, FLOATS)
PLACES = st.builds(place_of, st.sampled_from(["W", "m³/h"]), st.integers(0, 3))


def four(energy: int | Decimal, at: float) -> Ledger:
    """As heat meters have them."""
    keys = ("energy", "volume", "volume_subunit_1", "volume_subunit_2")
    return Ledger({key: Register.of(Counted(key, energy, "kWh"), at) for key in keys}, {("W", 0): at})


@given(st.lists(REGISTERS, unique_by=lambda one: one.what.key), st.dictionaries(PLACES, FLOATS))
def test_what_is_shut_is_the_same_when_it_is_opened(
    registers: list[Register], maxima: dict[tuple[str, int], float]
) -> None:
    ledger = Ledger({one.what.key: one for one in registers}, maxima)
    again = Ledger.opened(*ledger.shut(NOTHING))
    assert again == ledger
    assert (list(again.registers), list(again.maxima)) == (list(ledger.registers), list(ledger.maxima))


def test_nothing_is_nothing() -> None:
    assert Ledger.opened(*Ledger().shut(NOTHING)) == Ledger()


@pytest.mark.parametrize("value", [0, -7, 10**12, Decimal("12.345"), Decimal("-0.001"), Decimal("1E-9")])
def test_a_value_keeps_all_its_digits_and_its_type(value: int | Decimal) -> None:
    again = Ledger.opened(*four(value, 5.0).shut(NOTHING)).registers["energy"].value
    assert (again, type(again), str(again)) == (value, type(value), str(value))


def test_meters_of_one_kind_share_what_their_counters_are() -> None:
    one, other = (four(value, value / 3).shut(NOTHING)[0] for value in (1000, 7))
    assert one is other
    later = four(1001, 400.0)
    assert later.shut(one)[0] is one
    for _ in range(BALANCE_FALLS):
        later.registers["energy"].fell(Counted("energy", 1, "kWh"), 500.0)
    assert later.shut(one)[0] != one
    assert one == Kind(tuple(What(key, "kWh", 0) for key in later.registers), (("W", 0),))


def test_a_shut_ledger_takes_little_room() -> None:
    kind, _ = four(1, 1.0).shut(NOTHING)
    tracemalloc.start()
    kept = [four(12345, 3600.5 * number).shut(kind) for number in range(100)]
    taken = tracemalloc.get_traced_memory()[0] / len(kept)
    tracemalloc.stop()
    assert taken < 300  # bytes
