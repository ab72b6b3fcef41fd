"""How many probes, and how much time at 2400 Bd, a search for meters takes: python -m bench.search [--live [CASE]].

Without a bus, seeded, over populations as they are in houses: the plain decimal tree from the left, the same from the
right, and mbusd's search, alone and after a primary scan has found the meters. With --live: a bus of simulated meters
at the pace of the wire, to see what the program costs beyond wire and window.
"""

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeVar

from mbusd.line.bus import Bus
from mbusd.line.transport import Port
from mbusd.mbus.address import SecondaryAddress
from mbusd.mbus.frames import LongFrame, Noise, encode
from mbusd.mbus.link import Conversation, Silence
from mbusd.mbus.probe import Crowd, Meter, Present, Probe, Silent
from mbusd.mbus.search import ANY, Search, Step
from mbusd.mbus.telegram import decode
from mbusd.scanning.scanner import Plan, Scanner
from mbusd.simulation.simulator import SimulatedBus, SimulatedMeter, identity
from mbusd.simulation.virtual_bus import opened

T = TypeVar("T")
Ids = list[str]

BIT = 1 / 2400
CHARACTER = 11 * BIT
WINDOW = 330 * BIT + 0.05
DELAY = 0.0346  # seconds until a meter answers
IDLE = 11 * BIT
SELECT, SHORT, ACK = 17 * CHARACTER, 5 * CHARACTER, CHARACTER
TELEGRAM = 80  # bytes

KINDS = (("KAM", 9, 4), ("SEN", 14, 7), ("EMH", 2, 2), ("ELS", 33, 3), ("SON", 13, 4), ("ELV", 18, 0x1B))
NUMBERS = (5, 10, 20, 50, 60, 250)


def at_random(chance: Random, number: int) -> Ids:
    return [f"{one:08}" for one in chance.sample(range(10**8), number)]


def consecutive(chance: Random, number: int) -> Ids:
    first = chance.randrange(10**7, 9 * 10**7)
    return [str(first + one) for one in range(number)]


def batch(chance: Random, number: int) -> Ids:
    first = chance.randrange(10**7, 9 * 10**7)
    return [str(first + one) for one in chance.sample(range(2000), number)]


def three_batches(chance: Random, number: int) -> Ids:
    sizes = (number // 3, number // 3, number - 2 * (number // 3))
    return [one for size in sizes for one in batch(chance, size)]


def mixed(chance: Random, number: int) -> Ids:
    return batch(chance, number // 2) + at_random(chance, number - number // 2)


def with_twins(chance: Random, number: int) -> Ids:
    """One pair of equal identifications among twenty."""
    pairs = max(1, number // 20)
    single = batch(chance, number - pairs)
    return single + chance.sample(single, pairs)


def mixed_with_twins(chance: Random, number: int) -> Ids:
    """One pair of equal identifications among twenty of a mixture."""
    pairs = max(1, number // 20)
    single = mixed(chance, number - pairs)
    return single + chance.sample(single, pairs)


POPULATIONS: dict[str, Callable[[Random, int], Ids]] = {
    "random": at_random,
    "consecutive": consecutive,
    "batch of 2000": batch,
    "three batches": three_batches,
    "half batch, half random": mixed,
    "batch with twins": with_twins,
    "mixed with twins": mixed_with_twins,
}


@dataclass
class Cost:
    """Probes by what came of them."""

    silent: int = 0
    meter: int = 0
    crowd: int = 0
    confirmed: int = 0
    unread: int = 0  # crowds of which the acknowledgement was enough

    @property
    def probes(self) -> int:
        return self.silent + self.meter + self.crowd + self.unread

    @property
    def seconds(self) -> float:
        """Least time on the wire: an answer is taken as soon as it has ended, silence at the end of the window."""
        selected = SELECT + DELAY + ACK + IDLE
        read = SHORT + DELAY + TELEGRAM * CHARACTER + IDLE
        answered = (self.meter + self.crowd) * (selected + read)
        return self.silent * (SELECT + WINDOW) + answered + (self.confirmed + self.unread) * selected


def tree(identifications: Ids, order: Sequence[int], cost: Cost) -> Cost:
    """The search that fixes one digit after the other in this order, and reads each meter once.

    Equal identifications at its end are told apart by going through 64 media.
    """
    if not identifications:
        cost.silent += 1
    elif len(identifications) == 1:
        cost.meter += 1
    else:
        cost.crowd += 1
        if order:
            parts: dict[str, Ids] = {value: [] for value in "0123456789"}
            for one in identifications:
                parts[one[order[0]]].append(one)
            for part in parts.values():
                tree(part, order[1:], cost)
        else:
            cost.silent += 64 - len(identifications)
            cost.meter += len(identifications)
    return cost


class Oracle:
    """Answers a step of the search as a bus in step does: a clean E5 whoever is there, garbled data of several."""

    def __init__(self, addresses: Sequence[SecondaryAddress]) -> None:
        self.cost = Cost()
        self._meters = {address: _telegram_of(address) for address in addresses}

    def answer(self, step: Step, search: Search) -> Probe | Present:
        mask = step.selection.mask
        there = [address for address in self._meters if mask.matches(address)]
        if not there:
            self.cost.silent += step.tries
            return Silent()
        if not step.reads:
            self.cost.unread += 1
            return Present()
        if len(there) > 1:
            self.cost.crowd += 1
            return Crowd()
        self.cost.meter += 1
        self.cost.confirmed += there[0] != mask and not search.is_known(there[0])
        return self._meters[there[0]]


def _telegram_of(address: SecondaryAddress) -> Meter:
    value = Random(address.digits).randbytes(4)  # noqa: S311 - no two meters read the same
    data = address.to_bytes() + bytes(4) + b"\x04\x06" + value
    return Meter(decode(LongFrame(8, 0xFD, 0x72, data)), address)


def mbusd(addresses: Sequence[SecondaryAddress], search: Search) -> Cost:
    oracle = Oracle(addresses)
    steps = search.steps()
    step = next(steps, None)
    while step is not None:
        try:
            step = steps.send(oracle.answer(step, search))
        except StopIteration:
            step = None
    assert {selection.mask for selection in search.found} == set(addresses), "not all were found"  # noqa: S101
    return oracle.cost


def simulate() -> None:
    print(f"probes / seconds at 2400 Bd, meters that answer after {DELAY * 1000:.1f} ms with {TELEGRAM} bytes\n")
    print(
        "| population | meters | from the left | from the right | mbusd | mbusd, after a primary scan | mbusd ÷ left |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, make in POPULATIONS.items():
        for number in NUMBERS:
            seeds = 20 if number < 100 else 4
            sums = [Cost() for _ in range(4)]
            for seed in range(seeds):
                chance = Random(f"{name} {number} {seed}")  # noqa: S311 - a population, no secret
                for total, one in zip(sums, _costs(make(chance, number), chance), strict=True):
                    for kind in vars(one):
                        setattr(total, kind, getattr(total, kind) + getattr(one, kind))
            cells = " | ".join(f"{cost.probes / seeds:.0f} / {cost.seconds / seeds:.1f}" for cost in sums)
            print(f"| {name} | {number} | {cells} | {sums[2].seconds / sums[0].seconds:.2f} |")


def _addresses(identifications: Ids, chance: Random) -> list[SecondaryAddress]:
    """Three kinds of meters; twins are of different ones."""
    repeated = Counter[str]()
    addresses: list[SecondaryAddress] = []
    for one in identifications:
        kind = KINDS[repeated[one]] if identifications.count(one) > 1 else chance.choice(KINDS[:3])
        repeated[one] += 1
        addresses.append(identity(one, *kind))
    return addresses


def _costs(identifications: Ids, chance: Random) -> list[Cost]:
    addresses = _addresses(identifications, chance)
    return [
        tree(identifications, range(8), Cost()),
        tree(identifications, range(7, -1, -1), Cost()),
        mbusd(addresses, Search()),
        mbusd(addresses, Search(known=addresses)),
    ]


class Clock:
    """Runs conversations on a bus and adds up the least time that their frames and windows need."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.least = 0.0

    async def __call__(self, conversation: Conversation[T]) -> T:
        return await self._bus.run(self._timed(conversation))

    def _timed(self, conversation: Conversation[T]) -> Conversation[T]:
        try:
            request = next(conversation)
            while True:
                reply = yield request
                heard = reply.data if isinstance(reply, Noise) else b"" if isinstance(reply, Silence) else encode(reply)
                answered = DELAY + len(heard) * CHARACTER + IDLE
                self.least += len(encode(request.frame)) * CHARACTER + (answered if heard else WINDOW)
                request = conversation.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result


def meter(address: SecondaryAddress, primary: int | None, chance: Random) -> SimulatedMeter:
    records = b"".join(b"\x04\x06" + chance.randbytes(4) for _ in range(9)) + b"\x03\x06" + chance.randbytes(3)

    def pages(_: object) -> list[bytes]:
        return [records]

    access = chance.randrange(256)
    return SimulatedMeter(address, pages, primary, delay=DELAY - 11 * BIT, access_number=access)


@asynccontextmanager
async def bus_of(meters: list[SimulatedMeter], *, tcp: bool) -> AsyncIterator[tuple[Bus, SimulatedBus]]:
    simulated = SimulatedBus(meters)
    with tempfile.TemporaryDirectory() as folder:
        link = None if tcp else Path(folder) / "bus"
        async with opened(simulated, link=link, tcp=("127.0.0.1", 0) if tcp else None) as served:
            bus = Bus(Port(f"tcp://127.0.0.1:{served.tcp[1]}" if served.tcp else str(link)))
            await bus.open()
            yield bus, simulated
            bus.close()
            await asyncio.sleep(0)


@dataclass(frozen=True)
class Case:
    """One scan at the pace of the wire."""

    name: str
    make: Callable[[Random, int], Ids]
    number: int
    plan: Plan
    tcp: bool = False

    def least(self, identifications: Ids) -> float:
        """Seconds that the plain way needs on the wire: each address once, or the decimal tree."""
        if self.plan.mask is not None:
            return tree(identifications, range(8), Cost()).seconds
        reset = SHORT + DELAY + ACK + IDLE
        read = SHORT + DELAY + TELEGRAM * CHARACTER + IDLE
        return (251 - self.number) * (SHORT + WINDOW) + self.number * (reset + read)


SEARCH = Plan(primary=False, mask=ANY)
CASES = (
    Case("primary scan, 5 of 251 there", at_random, 5, Plan()),
    Case("primary scan, 20 of 251 there", at_random, 20, Plan()),
    Case("primary scan over TCP, 20 of 251 there", at_random, 20, Plan(), tcp=True),
    Case("search, 10 at random", at_random, 10, SEARCH),
    Case("search over TCP, 10 at random", at_random, 10, SEARCH, tcp=True),
    Case("search, 50 at random", at_random, 50, SEARCH),
    Case("search, 50 of a batch", batch, 50, SEARCH),
    Case("search, 60 mixed, three of them twins", mixed_with_twins, 60, SEARCH),
)


async def live(wanted: str) -> None:
    print("| case | found | probes | seconds | least of the plain way | ÷ | least for its own frames | ÷ | early |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for case in CASES:
        if wanted not in case.name:
            continue
        chance = Random(f"{case.name} {case.number}")  # noqa: S311
        identifications = case.make(chance, case.number)
        addresses = _addresses(identifications, chance)
        meters = [meter(one, at + 1 if case.plan.primary else None, chance) for at, one in enumerate(addresses)]
        async with bus_of(meters, tcp=case.tcp) as (bus, simulated):
            clock = Clock(bus)
            began = time.monotonic()
            survey = await Scanner(clock, case.plan).scan()
            took = time.monotonic() - began
        least = case.least(identifications)
        print(f"| {case.name} | {len(survey.findings)} of {case.number} | {survey.probes} | {took:.1f} | {least:.1f} | "
              f"{took / least:.2f} | {clock.least:.1f} | {took / clock.least:.3f} | {simulated.early_requests} |",
              flush=True)  # fmt: skip


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--live", nargs="?", const="", metavar="CASE", help="at the pace of the wire: eight minutes")
    case = arguments.parse_args().live
    simulate() if case is None else asyncio.run(live(case))
