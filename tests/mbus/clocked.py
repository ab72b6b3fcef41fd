"""A simulated bus whose clock runs as requests, answers and windows make it run; drives read-outs without waiting."""

from dataclasses import dataclass, field
from datetime import datetime

from mbusd.mbus.address import Address
from mbusd.mbus.frames import SND_NKE, LongFrame, ShortFrame, encode, parse
from mbusd.mbus.link import Reply, Request, Silence, in_manner
from mbusd.mbus.master import LinkState, ReadOut, read_out
from mbusd.mbus.quirks import Recipe
from mbusd.simulation.simulator import SimulatedBus, SimulatedMeter
from tests.mbus.driving import talk

BIT = 1 / 2400
WINDOW = 330 * BIT + 0.05  # EN 13757-2
BEGAN = datetime(2025, 6, 1, 12)  # noqa: DTZ001 (a meter's clock has no zone)


@dataclass
class Clocked:
    """Meters on one wire at 2400 Bd, and the master's clock in seconds. An answer after its window is lost."""

    bus: SimulatedBus
    now: float = 0.0
    sent: list[ShortFrame | LongFrame] = field(default_factory=list)

    @classmethod
    def of(cls, *meters: SimulatedMeter) -> "Clocked":
        return cls(SimulatedBus(list(meters), BEGAN, bit=BIT))

    def __call__(self, request: Request) -> Reply:
        self.sent.append(request.frame)
        self.now += max(request.manner.pause, 11 * BIT) + 11 * BIT * len(encode(request.frame))
        window = max(request.manner.window or WINDOW, request.manner.shortest_window)
        answers = self.bus.answers(request.frame, self.now)
        if not answers or answers[0].delay + 11 * BIT > window:
            self.now += window
            return Silence()
        (answer,) = answers
        self.now += 11 * BIT + answer.delay + 11 * BIT * len(answer.data)
        return parse(answer.data)

    def read(self, address: Address, recipe: Recipe, link: LinkState | None = None) -> ReadOut:
        """One read-out as the meter wants it."""
        return talk(in_manner(read_out(address, recipe, link), recipe.manner), self)

    def resets(self) -> int:
        """How many SND_NKE were sent so far."""
        return sum(frame.control == SND_NKE for frame in self.sent)
