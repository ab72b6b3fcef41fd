"""Whether the clock on the wall can be right: one without a battery begins in 1970, until a network tells it."""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, date, datetime

log = logging.getLogger(__name__)

FIRST_DAY = date(2026, 1, 1)  # no clock that was set shows an earlier one: there was no mbusd
MOST_SECONDS = 300.0  # of waiting for a clock; a machine that never learns the time reads its meters, too
LOOK_SECONDS = 1.0


def is_set(moment: datetime) -> bool:
    """Whether an aware moment can be now, or have been since there is mbusd."""
    return moment.astimezone(UTC).date() >= FIRST_DAY


async def wait_until_set(waits: Callable[[], None]) -> bool:
    """Wait, not for ever, until the clock can be right; tells whether it can. `waits` is called now and then meanwhile.

    What is read before would bear a time of 1970 for ever, in histories and in answers.
    """
    left = MOST_SECONDS
    if not is_set(_now()):
        shown = f"{_now():%Y-%m-%d %H:%M:%S}"
        log.warning(
            "the clock of this machine shows %s: waiting for it to be set (NTP), %.0f s at the most", shown, left
        )
    while not is_set(_now()):
        if left <= 0:
            log.warning("nobody has set the clock of this machine: times are wrong until somebody does")
            return False
        waits()
        await asyncio.sleep(LOOK_SECONDS)
        left -= LOOK_SECONDS
    return True


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)
