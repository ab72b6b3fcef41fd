"""What is believed on a wire that damages telegrams, and what is asked for again."""

from collections.abc import Iterator, Sequence

import pytest

from mbusd.mbus.errors import NoAnswer
from mbusd.mbus.frames import REQ_UD2, LongFrame, Noise, ShortFrame
from mbusd.mbus.link import Answer, Reply, Request, Silence, data, exchange
from mbusd.trust.witness import REMEMBERED, Damage, agreement, witnessed

ASKED = ShortFrame(REQ_UD2, 5)
NOISE = Noise(b"\x68\x00")


def telegram(energy: int, access: int = 1, power: int = 7, more: bytes = b"") -> LongFrame:
    header = bytes.fromhex("78 56 34 12 EE 4D 01 04") + bytes([access, 0, 0, 0])
    records = b"\x04\x06" + energy.to_bytes(4, "little") + b"\x02\x2b" + power.to_bytes(2, "little")
    return LongFrame(0x08, 5, 0x72, header + records + more)


def spoilt(*addresses: int, readable: int = 0) -> Damage:
    """A wire that has lately damaged answers of these addresses, and before that none of so many."""
    damage = Damage()
    for _ in range(readable):
        damage.hears(Request(ASKED), telegram(0))
    for address in addresses:
        damage.hears(Request(ShortFrame(REQ_UD2, address)), NOISE)
    return damage


def asked(damage: Damage, *replies: Reply) -> tuple[LongFrame | None, int]:
    """What comes of one request that is answered so, and how many transmissions it took."""
    conversation = witnessed(exchange(ASKED, data), damage)
    count, waiting = 0, iter(replies)
    try:
        assert next(conversation).frame == ASKED
        while True:
            count += 1
            assert conversation.send(next(waiting)).frame == ASKED
    except StopIteration as end:
        answer: Answer[LongFrame] = end.value
        return answer.frame, count
    except NoAnswer:
        return None, count


def test_on_a_good_wire_a_telegram_counts_at_once() -> None:
    assert asked(spoilt(readable=2), telegram(1)) == (telegram(1), 1)


def test_the_first_telegram_of_a_wire_must_come_twice_and_no_other() -> None:
    """Nobody knows yet whether it damages them."""
    fresh = Damage()
    assert asked(fresh, telegram(1), telegram(1)) == (telegram(1), 2)
    assert asked(fresh, telegram(2)) == (telegram(2), 1)


def test_where_the_first_telegram_was_damaged_that_shows_at_once() -> None:
    assert asked(Damage(), telegram(9), NOISE, telegram(1), telegram(1)) == (telegram(1), 4)


def test_a_meter_that_never_says_the_same_twice_is_believed_on_a_wire_that_shows_no_damage() -> None:
    values = [telegram(500 + value * (-1) ** value) for value in range(3)]
    assert asked(Damage(), *values) == (values[-1], 3)


def test_a_refusal_needs_no_witness() -> None:
    """Application error: the meter's budget is used up, and each request more would be one too many."""
    refusal = LongFrame(0x08, 5, 0x70, b"\x09")
    assert asked(Damage(), refusal) == (refusal, 1)


def test_after_an_unreadable_answer_a_telegram_must_come_twice() -> None:
    assert asked(spoilt(5), telegram(1), telegram(1)) == (telegram(1), 2)
    assert asked(Damage(), NOISE, telegram(1), telegram(1)) == (telegram(1), 3)


def test_of_three_the_two_that_agree_are_believed() -> None:
    assert asked(spoilt(5), telegram(9), telegram(1), telegram(1)) == (telegram(1), 3)
    assert asked(spoilt(5), telegram(1), telegram(9), telegram(1)) == (telegram(1), 3)


def test_what_was_seen_before_an_unreadable_answer_is_a_witness_too() -> None:
    assert asked(spoilt(5), telegram(1), NOISE, telegram(1)) == (telegram(1), 3)


def test_what_nothing_confirms_is_no_reading_and_no_frame_is_repeated_more_than_twice_without_an_answer() -> None:
    assert asked(spoilt(5), telegram(1), NOISE, NOISE, NOISE) == (None, 4)
    assert asked(spoilt(5), *(telegram(500 + value * (-1) ** value) for value in range(9)))[0] is None


def test_silence_is_no_damage() -> None:
    damage = Damage()
    assert asked(damage, Silence(), telegram(1), telegram(1)) == (telegram(1), 3)
    assert not damage.is_suspected(5)


@pytest.mark.parametrize(
    ("addresses", "readable", "suspected"),
    [
        ([], 0, False),
        ([5], 0, True),
        ([5], REMEMBERED, False),
        ([5, 5], REMEMBERED, True),
        ([6], 0, False),
        ([6] * 9, REMEMBERED, False),
        ([6, 7], REMEMBERED, True),
    ],
)
def test_who_is_suspected(addresses: Sequence[int], readable: int, *, suspected: bool) -> None:
    """One meter that is never understood is its own trouble; two are the wire's."""
    assert spoilt(*addresses, readable=readable).is_suspected(5) is suspected


def test_a_wire_that_has_been_good_for_long_is_trusted_again() -> None:
    damage = spoilt(5, 6, 7)
    for _ in range(REMEMBERED):
        damage.hears(Request(ASKED), telegram(0))
    assert not damage.is_suspected(5)


def test_a_meter_that_counts_its_telegrams_says_the_same_with_another_access_number() -> None:
    assert agreement([telegram(1, access=3), telegram(1, access=4)]) == telegram(1, access=4)


def ascending() -> Iterator[tuple[list[LongFrame], LongFrame | None]]:
    first, middle, last = telegram(10, 1), telegram(11, 2), telegram(12, 3)
    yield [first, middle, last], middle
    yield [first, telegram(13, 2), last], None  # beyond its neighbours
    yield [first, telegram(11, 2, power=8), last], None  # what stays has changed in one
    yield [first, LongFrame(0x08, 5, 0x72, middle.data.replace(b"\x02\x2b", b"\x02\x2c")), last], None
    yield [first, middle], None
    strange = [telegram(10 + count, count, more=b"\x0f" + bytes([count * 77])) for count in range(3)]
    yield strange, None  # the maker's own bytes, all different


@pytest.mark.parametrize(("seen", "believed"), list(ascending()))
def test_a_meter_that_makes_each_telegram_anew_is_believed_where_its_values_lie_between_their_neighbours(
    seen: list[LongFrame], believed: LongFrame | None
) -> None:
    assert agreement(seen) == believed
