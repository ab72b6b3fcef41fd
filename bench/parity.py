"""What share of damaged telegrams is believed, with and without the parity of each byte.

    python -m bench.parity [--telegrams 1000000]

A telegram of 150 bytes goes over a wire that inverts each bit with the same probability: 8 of data, a parity bit, a
stop bit. A stop bit that is inverted is a framing error: as the kernel's terminal layer does by itself, the byte is
then read as 00; where errors are marked, it is known to be broken. (Start bits are left alone: without one there is no
byte, and the frame is too short.) The daemon's own reader says what is a frame. Believed is a frame with other bytes
than those that were sent.
"""

import argparse
import math
import random
from collections.abc import Iterator

from mbusd.line.hearing import CheckedReader, Heard
from mbusd.mbus.frames import LongFrame, encode

SIZE = 150
BITS = 10  # of a byte, that may be inverted: 0 to 7 data, 8 parity, 9 stop
RATES = (1e-4, 1e-3, 1e-2)


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--telegrams", type=int, default=300_000, help="damaged telegrams for each row")
    wanted: int = options.parse_args().telegrams
    print("| bit errors | damaged telegrams | believed without parity | believed with parity |")
    print("|--:|--:|--:|--:|")
    for rate in RATES:
        rng = random.Random(f"{rate}")  # noqa: S311 - the same wire for everybody
        without = with_marks = 0
        for _ in range(wanted):
            sent = encode(LongFrame(0x08, 5, 0x72, rng.randbytes(SIZE - 9)))
            plain, marked = _damaged(sent, rate, rng)
            without += _is_believed(plain, sent)
            with_marks += _is_believed(marked, sent)
        print(f"| {rate:g} | {wanted} | {_share(without, wanted)} | {_share(with_marks, wanted)} |", flush=True)


def _damaged(sent: bytes, rate: float, rng: random.Random) -> tuple[Heard, Heard]:
    """What is heard of a telegram of which at least one bit was inverted: unmarked, and marked."""
    wrong: dict[int, int] = {}
    while not wrong:
        for place in _places(rate, rng):
            wrong[place // BITS] = wrong.get(place // BITS, 0) ^ 1 << place % BITS
    plain = bytearray(sent)
    broken = set[int]()
    for at, flips in wrong.items():
        plain[at] ^= flips & 0xFF
        if flips & 0x200:
            plain[at] = 0
        if flips & 0x200 or (flips & 0x1FF).bit_count() % 2:
            broken.add(at)
    return Heard(bytes(plain), frozenset()), Heard(bytes(plain), frozenset(broken))


def _places(rate: float, rng: random.Random) -> Iterator[int]:
    """The bits that are inverted: from one to the next is a geometric distance."""
    place = -1
    while True:
        place += 1 + int(math.log(1 - rng.random()) / math.log(1 - rate))
        if place >= SIZE * BITS:
            return
        yield place


def _is_believed(heard: Heard, sent: bytes) -> bool:
    reader = CheckedReader()
    events = [*reader.hear(heard), *reader.end()]
    return heard.data != sent and any(isinstance(event, LongFrame) for event in events)


def _share(count: int, of: int) -> str:
    return f"{count} (1 in {of / count:,.0f})" if count else f"none (fewer than 1 in {of:,})"


if __name__ == "__main__":
    main()
