"""What a meter's telegrams did so far comes out as it was put away, and takes little room there."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from mbusd.mbus.frames import LongFrame
from mbusd.trust.past import LIVELY, Past, Shut

FRAME = LongFrame(8, 5, 0x72, bytes(20))
FLOATS = st.floats(0, allow_nan=False)
MOVES = st.tuples(st.integers(-3, 300), FLOATS, st.booleans())


def past_of(moves: list[tuple[int, float, bool]], at: float = 7.0, heard: int = 1) -> Past:
    past = Past(FRAME, 0.0)
    for _ in range(heard):
        past.goes_on(FRAME, at)
    for place, usual, is_odd in moves:
        past.moved(place, usual, is_odd=is_odd)
    return past


@given(st.lists(MOVES), FLOATS, st.integers(0, 2))
def test_what_is_shut_is_the_same_when_it_is_opened(
    moves: list[tuple[int, float, bool]], at: float, heard: int
) -> None:
    past = past_of(moves, at, heard)
    again = Shut(past).opened()
    for name in Past.__slots__:
        assert getattr(again, name) == getattr(past, name)
    assert all(again.is_lively(place) == (past.surprises[place] >= LIVELY) for place, _, _ in moves)


def test_a_record_that_is_lively_stays_so() -> None:
    past = past_of([(4, 1.0, True)] * (LIVELY + 5))
    assert past.is_lively(4)
    assert Shut(past).opened().is_lively(4)
    assert not past.is_lively(5)


def test_a_shut_past_takes_little_room() -> None:
    pasts = [past_of([(place, float(number), False) for place in range(3)], 60.5 * number) for number in range(100)]
    Shut(pasts[0])
    tracemalloc.start()
    kept = [Shut(past) for past in pasts]
    taken = tracemalloc.get_traced_memory()[0] / len(kept)
    tracemalloc.stop()
    assert taken < 200  # bytes
