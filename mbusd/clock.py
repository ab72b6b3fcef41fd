"""Whether the clock on the wall can be right: one without a battery begins in 1970, until a network tells it.

What is read before has no time that anybody could publish; what the monotonic clock shows tells it afterwards.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime
from datetime import time as day_time
from pathlib import Path

log = logging.getLogger(__name__)

FIRST_DAY = date(2026, 1, 1)  # no clock that was set shows an earlier one: there was no mbusd
MOST_SECONDS = 300.0  # of waiting for a clock; a machine that never learns the time reads its meters, too
LOOK_SECONDS = 1.0
_FIRST_MOMENT = datetime.combine(FIRST_DAY, day_time(), UTC)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def now() -> datetime:
    """What it shows, in UTC, right or wrong."""
    return datetime.fromtimestamp(time.time(), UTC)


def is_set(moment: datetime) -> bool:
    """Whether an aware moment can be now, or have been since there is mbusd."""
    return moment >= _FIRST_MOMENT


def start_of_machine() -> str | None:
    """A name of this run of the machine: in it all processes have one monotonic clock. None: there is no name."""
    with suppress(OSError):
        return _BOOT_ID.read_text("ascii").strip() or None
    return os.environ.get("BOOT_ID") or None  # the unit tells it, where it hides /proc/sys


async def wait_until_set(waits: Callable[[], None]) -> bool:
    """Wait, not for ever, until the clock can be right; tells whether it can. `waits` is called now and then meanwhile.

    What is read before has no time, and what wants one has to wait.
    """
    left = MOST_SECONDS
    if not is_set(now()):
        shown = f"{now():%Y-%m-%d %H:%M:%S}"
        log.warning(
            "the clock of this machine shows %s: waiting for it to be set (NTP), %.0f s at the most", shown, left
        )
    while not is_set(now()):
        if left <= 0:
            log.warning(
                "nobody has set the clock of this machine: readings have no time (null) until somebody does, "
                "and history and emoncms JSON wait"
            )
            return False
        waits()
        await asyncio.sleep(LOOK_SECONDS)
        left -= LOOK_SECONDS
    return True
