"""`mbusd …` on a machine whose clock shows 1970: python -m tests.unset_clock WORD … SIGUSR1 sets it.

The daemon is the real one, but that it does not wait minutes for somebody to set it.
"""

import signal
import sys
import time
from unittest import mock

from mbusd import clock
from mbusd.cli import main

_right = time.time
_is_set = False


def wall() -> float:
    """What the clock shows: 1970, and the seconds since the machine was started."""
    return _right() if _is_set else time.monotonic()


def sets_it(*_: object) -> None:
    """As NTP does, in one step."""
    global _is_set  # noqa: PLW0603 - there is one clock
    _is_set = True


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, sets_it)
    with mock.patch.object(time, "time", wall), mock.patch.object(clock, "MOST_SECONDS", 0.0):
        sys.exit(main(sys.argv[1:]))
