"""All faults that a bus knows, at random, on real ports in time that leaps: python -m bench.chaos [--episodes N].

A poller reads eight numbered meters (`bench.numbered`) while one fault after the other happens, at a random moment and
for a random time, and now and then an answer is spoilt besides. A judge compares every value with what the meter held.
"""

import argparse
import asyncio
import logging
import os
import random
import tempfile
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Literal

from bench.hurry import hurried
from bench.numbered import Judge, NumberedMeter
from mbusd.configuration.settings import BusSettings
from mbusd.line import transport
from mbusd.line.bus import Bus
from mbusd.mbus.frames import Frame
from mbusd.poller import Poller
from mbusd.simulation.simulator import Answer, Behaviour, Fault, SimulatedBus, identity
from mbusd.simulation.virtual_bus import opened
from tests.relay import Break, Relay, relayed

INTERVAL = 60.0  # seconds
BAUDRATE = 2400
BACKGROUND = 0.01  # share of answers that are spoilt besides
PATIENCE = 7200.0  # seconds until a meter that is not back is given up
SPOILS = [fault for fault in Fault if fault not in (Fault.NONE, Fault.MISREAD)]
Port = Literal["pty", "tcp"]


class Cellar(SimulatedBus):
    """A simulated bus where any answer may be spoilt, and something may happen in the middle of one."""

    def __init__(self, meters: list[NumberedMeter], dice: Random) -> None:
        super().__init__([meter.slave for meter in meters])
        self.in_answer: Callable[[], object] | None = None
        self._dice = dice

    def answers(self, request: Frame, seconds: float) -> list[Answer]:
        for meter in self.meters:
            if not meter.faults and self._dice.random() < BACKGROUND:
                meter.faults.append(self._dice.choice(SPOILS))
        answers = super().answers(request, seconds)
        if self.in_answer is not None and answers and len(answers[0].data) > 1:
            asyncio.get_running_loop().call_later(answers[0].delay + 0.05, self.in_answer)
            self.in_answer = None
        return answers


@dataclass
class House:
    """Meters, their bus, the converter, and the poller that reads them."""

    folder: Path
    port: Port
    dice: Random
    meters: list[NumberedMeter] = field(init=False)
    bus: Cellar = field(init=False)
    judge: Judge = field(init=False)
    relay: Relay = field(default_factory=lambda: Relay(0))
    _plug: AsyncExitStack = field(default_factory=AsyncExitStack)

    def __post_init__(self) -> None:
        self.meters = [
            NumberedMeter(1),
            NumberedMeter(2, telegrams=2),
            NumberedMeter(3, padding=90),
            NumberedMeter(4, telegrams=3, padding=60),
            NumberedMeter(5, behaviour=Behaviour(fcb="ignored")),
            NumberedMeter(6, behaviour=Behaviour(renewal="repetition")),
            NumberedMeter(7, secondary=True),
            NumberedMeter(8, telegrams=2, secondary=True),
        ]
        self.bus = Cellar(self.meters, self.dice)
        self.judge = Judge({meter.name: meter for meter in self.meters})

    async def plug(self) -> str:
        """Connect the converter; gives the name of its port."""
        self._plug = AsyncExitStack()
        link = self.folder / "usb-converter"
        tcp = ("127.0.0.1", 0) if self.port == "tcp" else None
        served = await self._plug.enter_async_context(
            opened(self.bus, tcp=tcp, link=None if tcp else link, baudrate=BAUDRATE, clock=time.monotonic)
        )
        if served.tcp is None:
            return str(link)
        number, self.relay = await self._plug.enter_async_context(relayed(served.tcp[1]))
        return f"tcp://127.0.0.1:{number}"

    async def unplug(self) -> None:
        """The device vanishes."""
        await self._plug.aclose()


Episode = Callable[[House, Random], Awaitable[list[NumberedMeter]]]
"""A fault from its begin to its end; gives the meters that it was about: all, if it was about the bus."""


def spoils(fault: Fault) -> Episode:
    """The next answers of one meter."""

    async def happens(house: House, dice: Random) -> list[NumberedMeter]:
        meter = dice.choice(house.meters)
        meter.slave.faults.extend([fault] * dice.randint(1, 12))
        until = time.monotonic() + 1800
        while meter.slave.faults and time.monotonic() < until:  # noqa: ASYNC110 - a deque tells nobody
            await asyncio.sleep(5)
        meter.slave.faults.clear()
        return [meter]

    return happens


def bit_errors(rate: float) -> Episode:
    """On the whole wire."""

    async def happens(house: House, dice: Random) -> list[NumberedMeter]:
        for meter in house.meters:
            meter.slave.behaviour.bit_errors = rate
        await asyncio.sleep(dice.uniform(120, 900))
        for meter in house.meters:
            meter.slave.behaviour.bit_errors = 0.0
        return house.meters

    return happens


async def echo(house: House, dice: Random) -> list[NumberedMeter]:
    """The converter sends each request back."""
    house.bus.echo = True
    await asyncio.sleep(dice.uniform(60, 600))
    house.bus.echo = False
    return house.meters


async def short_circuit(house: House, dice: Random) -> list[NumberedMeter]:
    """00s without end."""
    house.bus.is_shorted = True
    await asyncio.sleep(dice.uniform(10, 60))
    house.bus.is_shorted = False
    return house.meters


async def twins(house: House, dice: Random) -> list[NumberedMeter]:
    """Another meter at the same primary address."""
    meter = dice.choice([one for one in house.meters if one.slave.primary])
    twin = NumberedMeter(meter.number)
    twin.slave.secondary = identity("77777777", "SON", 1, 4)
    twin.slave.delay = dice.uniform(0.0, 0.05)
    house.bus.meters.append(twin.slave)
    await asyncio.sleep(dice.uniform(120, 900))
    house.bus.meters.remove(twin.slave)
    return [meter]


async def more(house: House, dice: Random) -> list[NumberedMeter]:
    """A meter whose last telegram says that more follow."""
    meter = dice.choice(house.meters)
    behaviour = meter.slave.behaviour
    behaviour.endless, behaviour.goes_round = True, dice.random() < 0.5
    await asyncio.sleep(dice.uniform(120, 900))
    behaviour.endless, behaviour.goes_round = False, True
    return [meter]


async def dead(house: House, dice: Random) -> list[NumberedMeter]:
    """A meter without power."""
    meter = dice.choice(house.meters)
    meter.slave.behaviour.deaf = True
    await asyncio.sleep(dice.uniform(60, 7200))
    meter.slave.behaviour.deaf = False
    return [meter]


async def unplugged(house: House, dice: Random) -> list[NumberedMeter]:
    """In the middle of a frame, and back under another device name."""
    begun = asyncio.Event()
    house.bus.in_answer = begun.set
    await begun.wait()
    await house.unplug()
    other = os.openpty()
    await asyncio.sleep(dice.uniform(5, 120))
    await house.plug()
    for end in other:
        os.close(end)
    return house.meters


def breaks(how: Break) -> Episode:
    """The TCP converter, in the middle of a frame."""

    async def happens(house: House, dice: Random) -> list[NumberedMeter]:
        house.relay.breaks_after, house.relay.breaks = dice.randint(1, 60), how
        while house.relay.breaks is not None:  # noqa: ASYNC110 - nor does this
            await asyncio.sleep(1)
        return house.meters

    return happens


async def refuses(house: House, dice: Random) -> list[NumberedMeter]:
    """The TCP converter hangs up, and sends away whoever comes."""
    house.relay.refuses, house.relay.breaks_after, house.relay.breaks = True, dice.randint(1, 60), "reset"
    await asyncio.sleep(dice.uniform(10, 120))
    house.relay.refuses = False
    return house.meters


async def one_client(house: House, dice: Random) -> list[NumberedMeter]:
    """It has one client at a time, and misses that one long after it has reset its connection."""
    house.relay.lingers, house.relay.breaks_after, house.relay.breaks = (
        dice.uniform(5, 60),
        dice.randint(1, 60),
        "reset",
    )
    await asyncio.sleep(house.relay.lingers + INTERVAL)
    house.relay.lingers = None
    return house.meters


async def late(house: House, dice: Random) -> list[NumberedMeter]:
    """Everything comes 200 ms later."""
    house.relay.late = 0.2
    await asyncio.sleep(dice.uniform(120, 600))
    house.relay.late = 0.0
    return house.meters


ANYWHERE: dict[str, Episode] = {
    **{fault.name.lower().replace("_", " "): spoils(fault) for fault in SPOILS},
    "bit errors 10⁻³": bit_errors(1e-3),
    "bit errors 10⁻²": bit_errors(1e-2),
    "echo": echo,
    "short circuit": short_circuit,
    "two at one address": twins,
    "always more": more,
    "dead meter": dead,
}
ON_PTY: dict[str, Episode] = ANYWHERE | {"adapter unplugged": unplugged}
ON_TCP: dict[str, Episode] = ANYWHERE | {
    "connection closed": breaks("close"),
    "connection reset": breaks("reset"),
    "half-open": breaks("mute"),
    "refuses": refuses,
    "one client at a time": one_client,
    "200 ms late": late,
}


@dataclass
class Row:
    """What came of one kind of fault."""

    tries: int = 0
    polls: int = 0
    failed: int = 0
    wrong: int = 0
    missed: int = 0  # readings of the other meters that did not come
    delay: float = 0.0  # the most that another meter was late, in seconds
    seconds: list[float] = field(default_factory=list)  # until all were read again
    read_outs: list[int] = field(default_factory=list)  # that it took the slowest meter

    def __str__(self) -> str:
        middle = sorted(self.seconds)[len(self.seconds) // 2]
        times = f"{middle:.0f} / {max(self.seconds):.0f} | {max(self.read_outs)}"
        return (
            f"{self.tries} | {self.polls} | {self.failed} | {self.wrong} | {self.missed} | {self.delay:.1f} | {times}"
        )


async def _episode(house: House, episode: Episode, dice: Random, row: Row) -> None:
    judge = house.judge
    await asyncio.sleep(dice.uniform(0, INTERVAL))
    wrong, readings, began = len(judge.wrong), judge.readings, time.monotonic()
    failed = sum(map(len, judge.failed.values()))
    about = await episode(house, dice)
    ended = time.monotonic()
    while any(judge.taken[one.name][-1] <= ended for one in house.meters):
        await asyncio.sleep(0.5)
        if time.monotonic() > ended + PATIENCE:
            break
    back = {
        one.name: min((at for at in judge.taken[one.name] if at > ended), default=ended + PATIENCE) for one in about
    }
    row.seconds.append(max(back.values()) - ended)
    row.read_outs.append(
        max(1 + sum(ended < at < moment for at in judge.failed.get(name, ())) for name, moment in back.items())
    )
    row.tries += 1
    row.failed += sum(map(len, judge.failed.values())) - failed
    row.polls += judge.readings - readings
    row.wrong += len(judge.wrong) - wrong
    for one in house.meters:
        if one not in about:
            pause = judge.longest_pause(one.name, began) - INTERVAL
            row.delay = max(row.delay, pause)
            row.missed += pause > INTERVAL / 2


async def _run(port: Port, kinds: dict[str, Episode], episodes: int, dice: Random, rows: dict[str, Row]) -> Judge:
    with tempfile.TemporaryDirectory() as folder:
        house = House(Path(folder), port, dice)
        name = await house.plug()
        settings = {"name": "cellar", "port": name, "baudrate": BAUDRATE, "interval": INTERVAL}
        meters = [meter.listed for meter in house.meters]
        bus = Bus(transport.Port(name, BAUDRATE))
        poller = Poller(BusSettings.model_validate(settings | {"meters": meters}), bus, house.judge, dice)
        task = asyncio.create_task(poller.run())
        await asyncio.sleep(2 * INTERVAL)
        rest: deque[str] = deque()
        for _ in range(episodes):
            if not rest:
                rest.extend(dice.sample(list(kinds), len(kinds)))
            kind = rest.popleft()
            await _episode(house, kinds[kind], dice, rows.setdefault(f"{kind}, {port}", Row()))
        assert not task.done()  # noqa: S101 - the poller lives through all of it
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await house.unplug()
    return house.judge


def chaos(port: Port, episodes: int, seed: int, rows: dict[str, Row]) -> Judge:
    """So many faults on one kind of port, each kind as often as any other."""
    random.seed(seed)  # of back-offs
    dice = Random(f"{seed} {port}")  # noqa: S311 - no secret
    return hurried(lambda: _run(port, ON_PTY if port == "pty" else ON_TCP, episodes, dice, rows))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=200, help="faults on each kind of port")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    logging.disable()
    rows: dict[str, Row] = {}
    ports: tuple[Port, ...] = ("pty", "tcp")
    judges = [chaos(port, given.episodes, given.seed, rows) for port in ports]
    print(
        "| fault | tries | readings | failed read-outs | wrong | missed by others | others late by at most, s", end=""
    )
    print(" | back after, s (median / longest) | read-outs until back, at most |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for kind, row in sorted(rows.items()):
        print(f"| {kind} | {row} |")
    print(f"\n{sum(judge.readings for judge in judges)} readings, {sum(len(judge.wrong) for judge in judges)} wrong")
    for judge in judges:
        print(*judge.wrong[:20], sep="\n")


if __name__ == "__main__":
    main()
