"""Time that leaps to the next timer as soon as nothing is on its way, with real pseudo-terminals and real sockets.

The daemon's own transports run on it: hours of a bus at 2400 Bd take seconds, and no answer is late for a busy machine.
"""

import asyncio
import os
import selectors
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar
from unittest import mock

P = ParamSpec("P")
T = TypeVar("T")
BEGAN = 1_795_000_000.0  # November 2026


class HurriedClock(selectors.PollSelector):
    """Both clocks of the machine, and the selector of a loop, that moves them on instead of waiting.

    poll(2) itself has a pseudo-terminal hand over what was written at its other end; a socket of this machine does so
    before `write` returns, or as soon as the kernel's own threads have had their turn.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 1000.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.seconds

    def wall(self) -> float:
        """Seconds since 1970."""
        return BEGAN + self.seconds

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now; else the time until the next timer is over at once."""
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        os.sched_yield()
        ready = super().select(None if timeout is None else 0)
        if not ready and timeout is not None:
            self.seconds += timeout
        return ready


class AtOnce(ThreadPoolExecutor):
    """Does what is given to a thread before it returns: no time passes meanwhile."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - it is handed on to whoever waits
            future.set_exception(error)
        return future


def hurried(work: Callable[[], Coroutine[object, object, T]]) -> T:
    """What a coroutine gives that runs on such a clock."""
    clock = HurriedClock()
    with mock.patch.object(time, "monotonic", clock.monotonic), mock.patch.object(time, "time", clock.wall):
        loop = asyncio.SelectorEventLoop(clock)
        loop.set_default_executor(AtOnce())
        try:
            return loop.run_until_complete(work())
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
