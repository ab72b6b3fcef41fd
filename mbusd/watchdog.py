"""Whether every part of the daemon makes progress; systemd hears WATCHDOG=1 as long as each of them does.

A part that does not is a bug that nobody has foreseen: the daemon ends, whoever has started it starts it again, and the
log says where it hung. Should it hang in ending, too, systemd hears nothing any more.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator

from mbusd import systemd

log = logging.getLogger(__name__)

STUCK_SECONDS = 600.0  # longer than the longest read-out: 32 telegrams at 300 Bd, each asked for three times
LOOK_SECONDS = 20.0  # where systemd does not want to hear anything more often


SignsOfLife = Iterable[tuple[str, float]]
"""Each part of the daemon, and when it has last done anything, in seconds of the monotonic clock."""


class Stuck(Exception):
    """Parts that have made no progress for too long."""


async def watch(parts: Callable[[], SignsOfLife]) -> None:
    """Look at the parts, for ever. Raises Stuck."""
    wanted = systemd.watchdog_seconds()
    pause = LOOK_SECONDS if wanted is None else wanted / 3
    looked_at = time.monotonic()
    while True:
        now = time.monotonic()
        stood_still = max(0.0, now - looked_at - pause)  # all of us: the machine slept, or the process was stopped
        stuck = [name for name, alive_at in parts() if now - stood_still - alive_at > STUCK_SECONDS]
        if stuck:
            names = ", ".join(stuck)
            log.error("no progress on %s for %.0f s: ending, to be started again", names, STUCK_SECONDS)
            for line in _whereabouts(stuck):
                log.error("%s", line)
            raise Stuck(names)
        systemd.notify("WATCHDOG=1")
        looked_at = now
        await asyncio.sleep(pause)


def _whereabouts(names: list[str]) -> Iterator[str]:
    """Where the tasks of these parts wait."""
    for task in asyncio.all_tasks():
        if any(name in task.get_name() for name in names):
            yield f"task {task.get_name()}: {' < '.join(_frames(task))}"


def _frames(task: asyncio.Task[object]) -> list[str]:
    """The functions of a task, the innermost first."""
    frames: list[str] = []
    inner: object = task.get_coro()
    while inner is not None:
        frame = getattr(inner, "cr_frame", None) or getattr(inner, "gi_frame", None)
        if frame is not None:
            frames.insert(0, f"{frame.f_code.co_qualname} line {frame.f_lineno}")
        inner = getattr(inner, "cr_await", None) or getattr(inner, "gi_yieldfrom", None)
    return frames
