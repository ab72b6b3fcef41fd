"""A simulated bus without an event loop: requests go in as bytes, what the wire carries back comes out as a reply."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from mbusd.mbus.address import SELECTED, SecondaryAddress
from mbusd.mbus.frames import Ack, Frame, FrameReader, LongFrame, Noise, encode
from mbusd.mbus.link import Conversation, Reply, Request, Silence
from mbusd.mbus.probe import probe_secondary
from mbusd.mbus.search import Search
from mbusd.simulation.simulator import Answer, Behaviour, Moment, SimulatedBus, SimulatedMeter, identity
from mbusd.simulation.superposition import superpose
from tests.mbus.driving import talk

KINDS = (("KAM", 9, 4), ("SEN", 14, 7), ("EMH", 2, 2), ("ELS", 33, 3), ("SON", 13, 4), ("ELV", 18, 0x1B))
PROBE_SECONDS = 0.2
T = TypeVar("T")


@dataclass
class Wire:
    """The bus and its clock. `baudrate`: meters begin at once, or at this rate each after its own delay.

    `lost`: the share of all answers that do not arrive.
    """

    bus: SimulatedBus
    baudrate: int | None = None
    lost: float = 0.0
    chance: Random = field(default_factory=lambda: Random(0))  # noqa: S311 - simulates, keeps no secret
    seconds: float = 0.0
    requests: list[bytes] = field(default_factory=list)

    def __call__(self, request: Request) -> Reply:
        self.seconds += PROBE_SECONDS
        self.requests.append(encode(request.frame))
        answers = self.bus.answers(request.frame, self.seconds)
        arriving = [one for one in answers if self.chance.random() >= self.lost]
        heard = superpose((round(one.delay * (self.baudrate or 0)), one.data) for one in arriving)
        if not heard:
            return Silence()
        reader = FrameReader()
        events = [*reader.feed(heard), *reader.flush()]
        return next((event for event in events if not isinstance(event, Noise)), events[0])

    def ask(self, conversation: Conversation[T]) -> T:
        return talk(conversation, self)


def searched(
    meters: Sequence[SimulatedMeter], search: Search | None = None, most: int = 5000, baudrate: int | None = None
) -> Search:
    """The search, carried out to its end among these meters."""
    search = search or Search()
    wire = Wire(SimulatedBus(list(meters)), baudrate)
    steps = search.steps()
    step = next(steps)
    while search.probes <= most:
        conversation = probe_secondary(
            step.selection, step.tries, is_known=search.is_known, deselects=step.deselects, reads=step.reads
        )
        try:
            step = steps.send(talk(conversation, wire))
        except StopIteration:
            return search
    raise AssertionError(f"more than {most} probes")


def addresses(search: Search) -> list[str]:
    """Whom a search has found, in order; a meter that was found twice stands there twice."""
    return sorted(selection.mask.digits for selection in search.found)


def own(meters: Sequence[SimulatedMeter]) -> list[str]:
    """Who is really there."""
    return sorted(meter.secondary.digits for meter in meters)


def meter(
    address: SecondaryAddress,
    chance: Random | None = None,
    *,
    primary: int | None = None,
    fabrication: str | None = None,
    behaviour: Behaviour | None = None,
) -> SimulatedMeter:
    """A meter with values and access number by chance; without `chance` as it comes from the factory, all zeros."""
    values = bytes(8) if chance is None else chance.randbytes(8)
    volume = bytes(4) if chance is None else bytes.fromhex(f"{chance.randrange(10**8):08}")
    records = b"\x0c\x13" + volume + b"\x06\x06" + values[:6] + b"\x02\x5a" + values[6:]

    def pages(_: Moment) -> list[bytes]:
        return [records]

    return SimulatedMeter(
        address,
        pages,
        primary=primary,
        fabrication=fabrication,
        behaviour=behaviour or Behaviour(),
        access_number=1 if chance is None else chance.randrange(256),
    )


def sending(identification: str, temperature: str, primary: int | None = None) -> SimulatedMeter:
    """A heat meter of KAM that sends one temperature, two bytes."""
    record = bytes.fromhex("02 5A" + temperature)
    return SimulatedMeter(identity(identification, "KAM", 9, 4), lambda _: [record], primary=primary)


def by_chance(chance: Random, identification: str) -> SecondaryAddress:
    """A meter of any usual kind with this identification."""
    return identity(identification, *chance.choice(KINDS))


class Odd(SimulatedMeter):
    """A meter that does not keep to the rules of selection."""

    __slots__ = ()

    def answer(self, request: Frame, moment: Moment) -> Answer | None:
        if isinstance(request, LongFrame) and request.address == SELECTED:
            return self.heard_selection(request, moment)
        return SimulatedMeter.answer(self, request, moment)

    def heard_selection(self, request: LongFrame, moment: Moment) -> Answer | None:
        raise NotImplementedError


class Unselectable(Odd):
    """Knows primary addresses only."""

    __slots__ = ()

    def heard_selection(self, request: LongFrame, moment: Moment) -> Answer | None:
        del request, moment
        return None


class Clinging(Odd):
    """Keeps a selection that is for somebody else, and acknowledges that one, too, until it hears SND_NKE."""

    __slots__ = ()

    def heard_selection(self, request: LongFrame, moment: Moment) -> Answer | None:
        was_selected = self.selected
        answer = SimulatedMeter.answer(self, request, moment)
        if answer is None and was_selected:
            self.selected = True
            return Answer(encode(Ack()), self.delay)
        return answer


class Stuck(Odd):
    """Acknowledges every selection and answers for whoever was meant."""

    __slots__ = ()

    def heard_selection(self, request: LongFrame, moment: Moment) -> Answer | None:
        del request, moment
        self.selected = True
        return Answer(encode(Ack()), self.delay)
