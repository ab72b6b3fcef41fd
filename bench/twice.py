"""How many readings are wrong, and how many lost, where telegrams are damaged and count once or must come twice.

    python -m bench.twice [--readings 100000]

A meter answers with telegrams of one size over a wire that inverts each bit with the same probability and loses all
parity. The daemon's own reader, retries and rule (`mbusd.witness`) say what becomes a reading. Checks of counters,
which find some of the rest, are left out.
"""

import argparse
import random
from collections.abc import Callable

from mbusd.mbus.errors import NoAnswer
from mbusd.mbus.frames import REQ_UD2, FrameReader, LongFrame, Noise, ShortFrame, encode
from mbusd.mbus.link import Answer, Conversation, Reply, data, exchange
from mbusd.simulated_faults import damaged
from mbusd.witness import Damage, witnessed

CASES = ((1e-4, 150), (1e-3, 40), (1e-3, 150), (1e-2, 40))
HEADER = bytes.fromhex("78563412 EE4D 01 04")
Wrap = Callable[[Conversation[Answer[LongFrame]]], Conversation[Answer[LongFrame]]]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readings", type=int, default=20_000, help="for each row")
    wanted: int = parser.parse_args().readings
    print(
        "| bit errors | bytes | readings | once: wrong | lost | requests a reading | twice: wrong | lost | requests |"
    )
    print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for rate, size in CASES:
        damage = Damage()
        once = _counted(rate, size, wanted, lambda conversation: conversation)
        twice = _counted(rate, size, wanted, lambda conversation, damage=damage: witnessed(conversation, damage))  # type: ignore[misc]
        print(f"| {rate:g} | {size} | {wanted} | {once} | {twice} |", flush=True)


def _counted(rate: float, size: int, readings: int, wrap: Wrap) -> str:
    dice = random.Random(f"{rate} {size}")  # noqa: S311 - the same wire for everybody
    wrong = lost = requests = 0
    for count in range(readings):
        header = HEADER + bytes([count & 0xFF, 0, 0, 0])
        sent = LongFrame(0x08, 5, 0x72, header + dice.randbytes(size - 9 - len(header)))
        conversation = wrap(exchange(ShortFrame(REQ_UD2, 5), data))
        try:
            next(conversation)
            while True:
                requests += 1
                conversation.send(_heard(encode(sent), rate, dice))
        except StopIteration as end:
            answer: Answer[LongFrame] = end.value
            wrong += answer.frame != sent
        except NoAnswer:
            lost += 1
    return f"{wrong} | {lost} | {requests / readings:.2f}"


def _heard(data: bytes, rate: float, dice: random.Random) -> Reply:
    reader = FrameReader()
    events = [*reader.feed(damaged(data, rate, dice)), *reader.flush()]
    return next((event for event in events if not isinstance(event, Noise)), events[0])


if __name__ == "__main__":
    main()
