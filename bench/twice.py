"""How many readings are wrong, and how many lost, where telegrams are damaged and count once or must come twice.

    python -m bench.twice [--readings 100000]

A meter answers with telegrams of one size over a wire that inverts each bit with the same probability and loses all
parity. The daemon's reader, retries and rule (`mbusd.trust.witness`) say what becomes a reading. Checks of counters,
which find some of the rest, are left out.

The second table has bursts: a meter at work, whose wire has been clean for long, and then so many readings with bit
errors; what `mbusd.trust.surprise` changes, and what it costs in the clean time.
"""

import argparse
import random
from collections.abc import Callable

from mbusd.mbus.errors import NoAnswer
from mbusd.mbus.frames import REQ_UD2, FrameReader, LongFrame, Noise, ShortFrame, encode
from mbusd.mbus.link import Answer, Conversation, Reply, Request, data, exchange
from mbusd.simulation.faults import damaged
from mbusd.trust.surprise import Surprises
from mbusd.trust.witness import REMEMBERED, Damage, witnessed

CASES = ((1e-4, 150), (1e-3, 40), (1e-3, 150), (1e-2, 40))
BURSTS = ((1e-4, 4), (1e-3, 4), (1e-2, 4))  # bit errors, readings
CLEAN = 20  # readings before a burst
ASKED = ShortFrame(REQ_UD2, 5)
HEADER = bytes.fromhex("78563412 EE4D 01 04")
Wrap = Callable[[Conversation[Answer[LongFrame]]], Conversation[Answer[LongFrame]]]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readings", type=int, default=20_000, help="for each row")
    wanted: int = parser.parse_args().readings
    print(
        "| bit errors | bytes | readings | once: wrong | lost | requests a reading | twice: wrong | lost | requests "
        "| the first of a wire: wrong | lost | requests |"
    )
    print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for rate, size in CASES:
        damage = Damage()
        once = _counted(rate, size, wanted, lambda conversation: conversation)
        twice = _counted(rate, size, wanted, lambda conversation, damage=damage: witnessed(conversation, damage))  # type: ignore[misc]
        first = _counted(rate, size, wanted, lambda conversation: witnessed(conversation, Damage()))
        print(f"| {rate:g} | {size} | {wanted} | {once} | {twice} | {first} |", flush=True)
    print("\n| bit errors in bursts | bursts | before: wrong | now: wrong | lost | requests a clean reading, now |")
    print("|--:|--:|--:|--:|--:|--:|")
    for rate, size in BURSTS:
        bursts = wanted // size
        before, _, _ = _burst(rate, size, bursts, is_surprised=False)
        wrong, lost, requests = _burst(rate, size, bursts, is_surprised=True)
        print(f"| {rate:g} | {bursts} | {before} | {wrong} | {lost} | {requests:.3f} |", flush=True)


def _at_work(count: int, dice: random.Random) -> LongFrame:
    """A heat meter that counts: its energy, volume, temperatures, power, flow and clock, and what it has stored."""
    records = [
        (b"\x04\x06", 1000 + count // 3, 4),
        (b"\x04\x13", 50_000 + 7 * count, 4),
        (b"\x02\x5a", 600 + dice.randint(-20, 20), 2),
        (b"\x02\x5e", 400 + dice.randint(-20, 20), 2),
        (b"\x04\x2b", 5000 + dice.randint(-800, 800), 4),
        (b"\x04\x3b", 250 + dice.randint(-40, 40), 4),
        (b"\x04\x6d", 0x36790C00 + count % 60, 4),
        *((bytes([0x84 | bit << 6, place, 0x06]), 900 - 60 * place, 4) for place in range(1, 7) for bit in (0, 1)),
    ]
    body = b"".join(head + value.to_bytes(size, "little") for head, value, size in records)
    return LongFrame(0x08, 5, 0x72, HEADER + bytes([count & 0xFF, 0, 0, 0]) + body)


def _burst(rate: float, size: int, bursts: int, *, is_surprised: bool) -> tuple[int, int, float]:
    """Readings that were wrong, and lost, in bursts of `size` readings; requests for each reading in clean time."""
    dice = random.Random(f"{rate} {size}")  # noqa: S311 - the same wire for everybody
    wrong = lost = requests = count = 0
    known = Surprises()
    for _ in range(bursts):
        damage = Damage()
        for _ in range(REMEMBERED):
            damage.hears(Request(ASKED), LongFrame(0x08, 5, 0x72, b""))
        for place in range(CLEAN + size):
            count += 1
            sent = _at_work(count, dice)
            surprises = known if is_surprised else Surprises()
            reading = exchange(ASKED, data)
            took, frame = _read(
                witnessed(reading, damage, surprises, 60.0 * count), sent, rate * (place >= CLEAN), dice
            )
            requests += took if place < CLEAN else 0
            wrong += frame not in (None, sent)
            lost += frame is None
    return wrong, lost, requests / (bursts * CLEAN)


def _read(
    conversation: Conversation[Answer[LongFrame]], sent: LongFrame, rate: float, dice: random.Random
) -> tuple[int, LongFrame | None]:
    """Requests that a reading took, and what it was."""
    requests = 0
    try:
        next(conversation)
        while True:
            requests += 1
            conversation.send(_heard(encode(sent), rate, dice))
    except StopIteration as end:
        answer: Answer[LongFrame] = end.value
        return requests, answer.frame
    except NoAnswer:
        return requests, None


def _counted(rate: float, size: int, readings: int, wrap: Wrap) -> str:
    dice = random.Random(f"{rate} {size}")  # noqa: S311 - the same wire for everybody
    wrong = lost = requests = 0
    for count in range(readings):
        header = HEADER + bytes([count & 0xFF, 0, 0, 0])
        sent = LongFrame(0x08, 5, 0x72, header + dice.randbytes(size - 9 - len(header)))
        took, frame = _read(wrap(exchange(ASKED, data)), sent, rate, dice)
        requests += took
        wrong += frame not in (None, sent)
        lost += frame is None
    return f"{wrong} | {lost} | {requests / readings:.2f}"


def _heard(data: bytes, rate: float, dice: random.Random) -> Reply:
    reader = FrameReader()
    events = [*reader.feed(damaged(data, rate, dice)), *reader.flush()]
    return next((event for event in events if not isinstance(event, Noise)), events[0])


if __name__ == "__main__":
    main()
