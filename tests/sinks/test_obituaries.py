"""Whoever calls us dead is answered, but nobody can keep us from saying anything else by it."""

import asyncio

import pytest

from mbusd.sinks import obituaries
from mbusd.sinks.obituaries import Obituaries
from tests.mosquitto import PATIENCE


class Answers:
    """What was answered, and a way to wait for more."""

    def __init__(self) -> None:
        self.alive = self.everything = 0
        self._news = asyncio.Event()
        self.obituaries = Obituaries(self._say_alive, self._say_everything)

    def _say_alive(self) -> None:
        self.alive += 1
        self._news.set()

    def _say_everything(self) -> None:
        self.everything += 1
        self._news.set()

    async def until(self, alive: int, everything: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.alive < alive or self.everything < everything:
                self._news.clear()
                await self._news.wait()


async def test_the_first_is_answered_at_once() -> None:
    said = Answers()
    said.obituaries.heard()
    assert (said.alive, said.everything) == (1, 1)
    said.obituaries.forget()


async def test_a_flood_is_answered_once_and_once_more_when_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(obituaries, "ANSWER_SECONDS", 0.02)
    said = Answers()
    for _ in range(500):
        said.obituaries.heard()
    assert (said.alive, said.everything) == (1, 1)
    await said.until(2, 2)
    assert (said.alive, said.everything) == (2, 2)
    said.obituaries.forget()


async def test_a_flood_without_end_has_everything_said_ever_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(obituaries, "ANSWER_SECONDS", 0.01)
    said = Answers()
    while said.alive < 40:
        said.obituaries.heard()
        await asyncio.sleep(0)
    assert said.everything <= 10
    said.obituaries.forget()


async def test_after_a_new_connection_nothing_is_owed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(obituaries, "ANSWER_SECONDS", 0.01)
    said = Answers()
    for _ in range(2):
        said.obituaries.heard()
    said.obituaries.forget()
    await asyncio.sleep(0.05)
    assert (said.alive, said.everything) == (1, 1)
