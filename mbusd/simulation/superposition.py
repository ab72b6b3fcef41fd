"""Several meters on the wire at once (EN 13757-2 cl. 4): what a receiver makes of it, bit by bit. Pure."""

from collections.abc import Iterable

_CHARACTER = 11  # bits: start, 8 data, even parity, stop


def superpose(answers: Iterable[tuple[int, bytes]]) -> bytes:
    """What a receiver makes of answers that begin at these bit times: each 0 bit of any of them wins.

    In step they come out as the AND of their bytes, and the longer one goes on alone (EN 13757-2 cl. 4: a space is
    an added current). Out of step the start bits of one fall into the bytes of the other.
    """
    line = bytearray()
    for offset, data in answers:
        end = offset + _CHARACTER * len(data)
        line.extend(b"\x01" * (end - len(line)))
        for index, byte in enumerate(data):
            start = offset + _CHARACTER * index
            for bit, level in enumerate((0, *(byte >> n & 1 for n in range(8)), byte.bit_count() & 1)):
                line[start + bit] &= level
    return _received(line)


def _received(line: bytearray) -> bytes:
    """An asynchronous receiver: a start bit, 8 data bits; parity and framing errors pass unseen, as with termios."""
    data = bytearray()
    position = line.find(0)
    while position >= 0:
        bits = line[position + 1 : position + 9].ljust(8, b"\x01")
        data.append(sum(level << n for n, level in enumerate(bits)))
        stop = position + _CHARACTER - 1
        mark = line.find(1, stop)
        position = line.find(0, mark) if mark >= 0 else -1
    return bytes(data)
