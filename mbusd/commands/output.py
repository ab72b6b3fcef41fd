"""What the commands print: every word of it may come from a bus, a broker or a file, and be meant to do harm.

And what they end with.
"""

import sys

from mbusd.printable import printable

FAILED, WRONG = 1, 2  # exit codes: it did not work; it was asked for wrongly


def say(text: str = "") -> None:
    """One line on stdout, at once; JSON stays the same JSON."""
    print(printable(text), flush=True)


def complain(text: str) -> None:
    """One line on stderr."""
    print(printable(text), file=sys.stderr, flush=True)
