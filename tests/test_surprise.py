"""Which telegrams a meter was not expected to send, and that a meter which does so of itself is left in peace."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from mbusd.mbus.errors import NoAnswer
from mbusd.mbus.frames import REQ_UD2, LongFrame, Noise, ShortFrame
from mbusd.mbus.link import Answer, Reply, Request, data, exchange
from mbusd.simulation.simulator import Fault
from mbusd.trust.past import LIVELY
from mbusd.trust.surprise import MOST_SURPRISES, Surprises
from mbusd.trust.witness import PROOF, Damage, witnessed
from tests.test_poller import Wiretap, house, meter, named
from tests.test_poller import asked as read

ASKED = ShortFrame(REQ_UD2, 5)
MINUTE = 60.0
HEADER = "78563412 EE4D 01 04"
RECORDS = {
    "energy": ("0406", "E8030000"),  # 1000 kWh
    "power": ("022B", "E803"),  # 1000 W
    "temperature": ("025A", "F401"),  # 50.0 °C
    "stored": ("4406", "84030000"),  # 900 kWh at the end of the last month
    "greatest": ("122B", "D007"),  # 2000 W
    "clock": ("046D", "1E0C7936"),
    "text": ("0D78", "03414243"),
}


def telegram(said: Mapping[str, str], status: int = 0, header: str = HEADER, more: str = "") -> LongFrame:
    """The meter as usual, with some records that say something else; a "head data" of two words replaces both."""
    body = ""
    for name, (head, usual) in RECORDS.items():
        raw = said.get(name, usual)
        body += raw if " " in raw else head + raw
    return LongFrame(8, 5, 0x72, bytes.fromhex(header) + bytes([1, status, 0, 0]) + bytes.fromhex(body + more))


def little(value: int, size: int) -> str:
    return value.to_bytes(size, "little", signed=True).hex()


def known(*frames: LongFrame, every: float = MINUTE) -> tuple[Surprises, float]:
    """A meter that has said this, the last of it at the time that is given back."""
    one, now = Surprises(), 0.0
    for frame in frames:
        one.believes(frame, now)
        one.ends()
        now += every
    return one, now - every


def usual(count: int) -> list[LongFrame]:
    """A meter at work: the energy counts by 1, power and temperature go to and fro, the clock stands still."""
    return [
        telegram(
            {
                "energy": little(1000 + one, 4),
                "power": little(1000 + 7 * (-1) ** one, 2),
                "temperature": little(500 + one % 3, 2),
                "clock": little(0x36790C00 | one, 4),
            }
        )
        for one in range(count)
    ]


def is_surprising(frame: LongFrame, count: int = 10) -> bool:
    """After so many telegrams of a meter at work, a minute later."""
    one, now = known(*usual(count))
    return one.is_surprising(frame, now + MINUTE)


NEXT = {"energy": little(1010, 4), "power": little(1005, 2), "temperature": little(501, 2), "clock": "0A0C7936"}


def test_a_meter_that_goes_on_as_before_is_no_surprise() -> None:
    assert not any(is_surprising(usual(count + 1)[-1], count) for count in range(1, 11))
    assert not is_surprising(telegram(NEXT))


@pytest.mark.parametrize(
    "odd",
    [
        {"energy": little(1010 + 64, 4)},
        {"energy": little(1010 - 2, 4)},
        {"power": little(1005 + 128, 2)},
        {"power": little(-1005, 2)},
        {"temperature": little(501 + 32, 2)},
        {"stored": little(901, 4)},
        {"stored": little(900 + 256, 4)},
        {"greatest": little(1999, 2)},
        {"clock": "0A0D7936"},  # an hour later
        {"text": "03414244"},
        {"energy": "0407 " + little(1010, 4)},  # another VIF, the same value
        {"stored": "8401 06" + little(900, 4)},  # another storage number
        {"header": "79563412 EE4D 01 04"},
        {"header": "78563412 EE4D 01 07"},
        {"status": 4},
        {"more": "0F"},
        {"more": "1F"},
    ],
    ids=str,
)
def test_what_is_a_surprise(odd: dict[str, str]) -> None:
    said: dict[str, str] = NEXT | odd
    status, header, more = int(said.pop("status", 0)), said.pop("header", HEADER), said.pop("more", "")
    assert is_surprising(telegram(said, status, header, more))


def test_of_a_meter_that_was_never_read_nothing_is_a_surprise() -> None:
    assert not Surprises().is_surprising(telegram({}), 0.0)


def test_after_a_long_time_a_counter_may_have_counted_for_long() -> None:
    one, now = known(*usual(10))
    later = telegram({**NEXT, "energy": little(1009 + 60, 4), "clock": "090D7936"})
    assert one.is_surprising(later, now + MINUTE)
    assert not one.is_surprising(later, now + 60 * MINUTE)


def test_a_meter_that_says_it_is_busy_is_not_asked_again() -> None:
    one, now = known(*usual(10))
    assert not one.is_surprising(LongFrame(8, 5, 0x72, bytes.fromhex(HEADER) + b"\x01\x01\x00\x00"), now)
    assert not one.is_surprising(LongFrame(8, 5, 0x70, b"\x09"), now)


def test_several_telegrams_of_one_read_out_are_known_apart() -> None:
    first, second = telegram({}, more="1F"), telegram({"stored": "8401 06" + little(7, 4)})
    one, now = known(first)
    one = Surprises()
    for frame in (first, second):
        one.believes(frame, now)
    one.ends()
    assert not any(one.is_surprising(frame, now + MINUTE) for frame in (first, second))


def test_what_often_changes_is_no_surprise_after_a_while() -> None:
    one, now = known(*usual(10))
    for count in range(LIVELY):
        changed = telegram({**NEXT, "text": f"034142{count:02}"})
        assert one.is_surprising(changed, now)
        one.believes(changed, now)
    assert not one.is_surprising(telegram({**NEXT, "text": "03414299"}), now)


def test_a_meter_that_never_says_what_was_expected_is_asked_again_for_few_telegrams_only() -> None:
    one, now = known(telegram({}))
    asked = 0
    for count in range(800):
        strange = telegram({}, header=f"{count:08} EE4D 01 04")
        asked += one.is_surprising(strange, now)
        one.believes(strange, now)
    assert MOST_SURPRISES <= asked <= 800 / 16 + MOST_SURPRISES + 1


# ------------------------------------------------------------------------------------------------ on a wire


def good(*, ever_damaged: bool = True) -> Damage:
    """A wire that has damaged no answer of this meter; perhaps one of another."""
    damage = Damage()
    if ever_damaged:
        damage.hears(Request(ShortFrame(REQ_UD2, 6)), Noise(b"\x00"))
    for _ in range(PROOF):
        damage.hears(Request(ASKED), telegram({}))
    return damage


def asked(
    surprises: Surprises, now: float, *replies: Reply, damage: Damage | None = None
) -> tuple[LongFrame | None, int]:
    """What comes of one request that is answered so, and how many transmissions it took."""
    conversation = witnessed(exchange(ASKED, data), damage or good(), surprises, now)
    waiting = iter(replies)
    count = 0
    try:
        next(conversation)
        while True:
            count += 1
            conversation.send(next(waiting))
    except StopIteration as end:
        answer: Answer[LongFrame] = end.value
        return answer.frame, count
    except NoAnswer:
        return None, count


WRONG = telegram({**NEXT, "power": little(1005 + 256, 2)})
RIGHT = telegram(NEXT)


def test_where_nothing_unreadable_was_heard_for_long_a_damaged_telegram_is_seen_all_the_same() -> None:
    for replies, expected in (
        ([RIGHT], (RIGHT, 1)),
        ([WRONG, RIGHT, RIGHT], (RIGHT, 3)),
        ([WRONG, WRONG], (WRONG, 2)),  # it is true
        ([WRONG, Noise(b"\x00"), RIGHT, RIGHT], (RIGHT, 4)),
    ):
        one, now = known(*usual(10))
        assert asked(one, now + MINUTE, *replies) == expected


def test_on_a_wire_that_never_damaged_anything_nothing_is_asked_for_twice() -> None:
    """It costs the wire and batteries what a good one need not pay."""
    one, now = known(*usual(10))
    assert asked(one, now + MINUTE, WRONG, damage=good(ever_damaged=False)) == (WRONG, 1)


def test_a_surprise_that_was_confirmed_is_known_from_then_on() -> None:
    one, now = known(*usual(10))
    assert asked(one, now + MINUTE, WRONG, WRONG) == (WRONG, 2)
    assert asked(one, now + 2 * MINUTE, WRONG) == (WRONG, 1)


def test_a_meter_that_makes_each_telegram_anew_is_believed_at_last() -> None:
    one, now = known(*usual(10))
    values = [telegram({**NEXT, "power": little(power, 2)}) for power in (4000, 9000, 2000)]
    assert asked(one, now + MINUTE, *values) == (values[-1], 3)


async def test_a_port_that_hears_no_parity_publishes_no_value_that_is_wrong_once(tmp_path: Path) -> None:
    """Nothing else looks at it: nothing unreadable was heard of this meter, and its counters are not checked."""
    one, other = meter(5, records=["02 2B E8 03", "04 06 01 00 00 00"]), meter(6)
    other.faults.append(Fault.GARBLE)
    wire = Wiretap(one, other)
    async with house(wire, tmp_path, *named(5, 6), pace=38400, plausibility=False) as (poller, seen):
        await read(poller, "m6")
        for _ in range(2):
            await read(poller, "m5")
        one.faults.append(Fault.MISREAD)
        before = len(wire.heard)
        await read(poller, "m5")
        assert len(wire.heard) == before + 3  # the right one twice
        await read(poller, "m5")
        assert len(wire.heard) == before + 4
        said = [[item.value for item in reading.measurements] for reading in seen.readings("m5")]
    assert said == [[1000, 1]] * 4
