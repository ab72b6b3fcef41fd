"""`mbusd …` with a bug: python -m tests.hanging_daemon BUG WORD … A request to read a meter makes the bus hang.

The daemon is the real one, but that it takes seconds for minutes.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from typing import NoReturn
from unittest import mock

from mbusd import watchdog
from mbusd.cli import main
from mbusd.polling import rounds
from mbusd.polling.attendance import Attendance
from mbusd.sinks import talk
from mbusd.sinks.mqtt import Broker

STUCK_SECONDS = 3.0


async def waits_for_ever(*_: object, **__: object) -> NoReturn:
    while True:
        await asyncio.Event().wait()


async def hears_nothing(*_: object, **__: object) -> NoReturn:
    """Not even that it shall end."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue


async def blocks_the_loop(*_: object, **__: object) -> NoReturn:
    while True:
        time.sleep(1)  # noqa: ASYNC251 - that is the bug


BUGS: dict[str, tuple[type, str, Callable[..., object]]] = {
    "waits": (Attendance, "read", waits_for_ever),
    "deaf": (Attendance, "read", hears_nothing),
    "blocks": (Attendance, "read", blocks_the_loop),
    "mqtt": (Broker, "run", waits_for_ever),
}

if __name__ == "__main__":
    place, name, bug = BUGS[sys.argv[1]]
    with (
        mock.patch.object(place, name, bug),
        mock.patch.object(watchdog, "STUCK_SECONDS", STUCK_SECONDS),
        mock.patch.object(rounds, "HEARTBEAT_SECONDS", 0.2),
        mock.patch.object(talk, "HEARTBEAT_SECONDS", 0.2),
    ):
        sys.exit(main(sys.argv[2:]))
