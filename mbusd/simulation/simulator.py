"""A simulated bus, pure: all meters on the two wires, a request goes in, what the wire carries back comes out.

The meters answer together, so searches collide here as they do in a cellar. What a simulation is described with can be
had from here, too.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from mbusd.mbus.address import SecondaryAddress, manufacturer_code
from mbusd.mbus.errors import DecodeError
from mbusd.mbus.frames import Frame, parse
from mbusd.simulation.behaviour import Answer, Behaviour, FcbMemory, Moment, Pages, Writes
from mbusd.simulation.faults import Fault
from mbusd.simulation.superposition import superpose
from mbusd.simulation.virtual_meter import BEGAN, SimulatedMeter

__all__ = [
    "Answer",
    "Behaviour",
    "Fault",
    "FcbMemory",
    "Moment",
    "Pages",
    "SimulatedBus",
    "SimulatedMeter",
    "Writes",
    "identity",
]


def identity(identification: str, manufacturer: str, version: int, medium: int) -> SecondaryAddress:
    """A meter's own secondary address: 8 digits, three letters, two bytes. Raises AddressError."""
    maker = manufacturer_code(manufacturer).to_bytes(2, "little")
    return SecondaryAddress(f"{identification}{maker.hex().upper()}{version:02X}{medium:02X}")


@dataclass(slots=True)
class SimulatedBus:
    """All meters on the two wires. `began` is what the meters' clocks show at second 0.

    `echo`: the converter sends each request back. `split`: answers arrive in pieces of so many bytes, 0 = as they come.
    `rate`: in Bd, at which the master speaks; meters with another rate hear nothing that they understand. None: nobody
    knows, and every meter hears it. `bit`: seconds that a bit takes, 0 where bytes take no time. `is_shorted`: from its
    next request on the master hears a break without end, as 00s; no meter hears anything.
    """

    meters: list[SimulatedMeter]
    began: datetime = BEGAN
    echo: bool = False
    split: int = 0
    rate: int | None = None
    requests: int = 0  # good frames that were heard
    early_requests: int = 0  # requests sent into an answer that was due or under way: a fault of the master
    bit: float = 0.0
    is_shorted: bool = False

    def answers(self, request: Frame, seconds: float) -> list[Answer]:
        """What each meter says to one good frame that ended at `seconds` since the start."""
        self.requests += 1
        moment = Moment(seconds, self.began + timedelta(seconds=seconds), self.bit)
        answers = [meter.answer(request, moment) for meter in self.meters if meter.hears(self.rate, seconds)]
        return [answer for answer in answers if answer is not None]

    def answer(self, request: bytes, seconds: float = 0.0) -> bytes | None:
        """The bytes that come back where all meters start to speak in the same bit; None for silence. Never raises."""
        try:
            frame = parse(request)
        except DecodeError:
            return None
        return superpose((0, answer.data) for answer in self.answers(frame, seconds)) or None
