"""Commands of mbusd as a user starts them: processes of their own, whose lines a test can wait for."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.mosquitto import PATIENCE


@dataclass
class Running:
    """A command that runs, and what it has said so far."""

    process: asyncio.subprocess.Process
    said: list[str] = field(default_factory=list)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    readers: list[asyncio.Task[None]] = field(default_factory=list)

    async def read(self, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            async with self._news:
                self.said.append(line.decode("utf-8", "replace").rstrip())
                self._news.notify_all()

    async def says(self, text: str, count: int = 1) -> None:
        """Wait for a line with that text, on stdout or stderr."""
        try:
            async with asyncio.timeout(PATIENCE), self._news:
                await self._news.wait_for(lambda: sum(text in line for line in self.said) >= count)
        except TimeoutError:
            raise AssertionError(f"'{text}' was not said: {self.said}") from None

    async def ends(self, number: signal.Signals | None = None) -> int:
        """Send the signal, if any, and wait for the end; gives the exit code."""
        if number is not None:
            self.process.send_signal(number)
        async with asyncio.timeout(PATIENCE):
            code = await self.process.wait()
            await asyncio.gather(*self.readers)
        return code


@asynccontextmanager
async def started(*words: object, environment: dict[str, str] | None = None) -> AsyncIterator[Running]:
    """`mbusd …`, killed at the end if it still runs."""
    python = (sys.executable, "-X", "dev", "-m", "mbusd")  # "dev" tells of tasks and sockets that were forgotten
    async with program(*python, *map(str, words), environment=environment) as running:
        yield running


@asynccontextmanager
async def program(*words: str, environment: dict[str, str] | None = None) -> AsyncIterator[Running]:
    """Any program, killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment() | (environment or {}),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    running = Running(process)
    running.readers = [asyncio.create_task(running.read(stream)) for stream in (process.stdout, process.stderr)]
    try:
        yield running
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await asyncio.gather(*running.readers)


def clean_environment() -> dict[str, str]:
    """Ours, without what systemd or a user may have put there for mbusd."""
    not_ours = ("MBUSD_", "NOTIFY_SOCKET", "WATCHDOG_", "JOURNAL_STREAM")
    own = {name: value for name, value in os.environ.items() if not name.startswith(not_ours)}
    return own | {"PYTHONUNBUFFERED": "1"}
