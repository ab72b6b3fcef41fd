"""Meters whose values say whose they are and of which read-out, and a judge who knows what each has held.

What a damaged telegram can show as well as a late one: an energy that a plausible meter counts, and three values that
no check of counters looks at, of which each alone gives away a wrong meter, an old read-out, or another bit.
"""

import time
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise

from mbusd.model import BusChanged, BusTroubled, Event, MeterChanged, Reading, ReadingTaken
from mbusd.simulation.simulator import Behaviour, Moment, SimulatedMeter, identity

Values = tuple[int, ...]
RAW = {"kWh": 1000, "m³/h": 1000, "m³": 1000}  # steps of the meter in a unit; 1 of all others
PATIENCE = 60.0  # seconds that a reading may be old when it is told: sixteen telegrams at 2400 Bd, each of them twice


class NumberedMeter:
    """A simulated meter; `told`: what it has shown in each read-out, and when, in seconds of the monotonic clock."""

    def __init__(
        self,
        number: int,
        *,
        telegrams: int = 1,
        behaviour: Behaviour | None = None,
        padding: int = 0,
        secondary: bool = False,
    ) -> None:
        self.name = f"m{number}"
        self.number = number
        self.told: list[tuple[float, Values]] = []
        self.telegrams = telegrams
        self._padding = padding
        self.slave = SimulatedMeter(
            identity(f"{10_000_000 + 7919 * number:08}", "SON", 1, 4),
            self._pages,
            None if secondary else number,
            behaviour=behaviour or Behaviour(fcb="shared" if number % 2 else "separate"),
            seed=number,
        )
        self.told.clear()  # the simulation looks once whether its telegrams fit

    @property
    def listed(self) -> dict[str, object]:
        """The meter in a configuration."""
        return {"name": self.name, "address": self.slave.primary or self.slave.secondary.digits}

    def _pages(self, _moment: Moment) -> list[bytes]:
        now, count = time.monotonic(), len(self.told)
        values = (int(now * 1.5), 1000 * count + self.number, count * 7 % 9000 + 1, self.number * 100 + count % 100)
        self.told.append((now, values))
        return [self._page(values, page) for page in range(self.telegrams)]

    def _page(self, values: Values, page: int) -> bytes:
        """Energy in Wh, power in W, flow in l/h, volume of the due date in l; the others of the telegrams after it."""
        heads = ("04 03", "04 2B", "04 3B", "44 13") if not page else ("84 10 03", "84 10 2B", "84 10 3B", "C4 10 13")
        records = zip(heads, values, strict=True)
        return b"".join(bytes.fromhex(head) + value.to_bytes(4, "little") for head, value in records) + (
            b"\x2f" * self._padding
        )


@dataclass(slots=True)
class Judge:
    """Looks at all that is told of the meters."""

    meters: dict[str, NumberedMeter]
    readings: int = 0
    wrong: list[str] = field(default_factory=list)
    last: dict[str, int] = field(default_factory=dict)  # the number of the last read-out
    taken: dict[str, list[float]] = field(default_factory=dict)  # when, of the monotonic clock
    failed: dict[str, list[float]] = field(default_factory=dict)  # the same
    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        match event:
            case MeterChanged(info, _, why) if why:
                self.failed.setdefault(info.name, []).append(time.monotonic())
        match event:
            case ReadingTaken(reading):
                self._look_at(reading)
            case BusChanged() | BusTroubled() | MeterChanged(change="silent" | "back"):
                self.events.append(event)

    def of_bus(self) -> list[bool]:
        """Whether it was up, each time that this changed."""
        return [event.up for event in self.events if isinstance(event, BusChanged)]

    @property
    def troubles(self) -> list[BusTroubled]:
        """What was wrong with the bus."""
        return [event for event in self.events if isinstance(event, BusTroubled)]

    def of_meter(self, name: str) -> list[str]:
        """How it went silent and came back."""
        told = [event for event in self.events if isinstance(event, MeterChanged)]
        return [event.change for event in told if event.info.name == name]

    def longest_pause(self, name: str, since: float) -> float:
        """Seconds between two readings of a meter after that moment, and since the last one."""
        moments = [since, *(at for at in self.taken.get(name, ()) if at > since), time.monotonic()]
        return max(after - before for before, after in pairwise(moments))

    def _look_at(self, reading: Reading) -> None:
        self.readings += 1
        now, meter = time.monotonic(), self.meters.get(reading.meter)
        self.taken.setdefault(reading.meter, []).append(now)
        said = [round(Decimal(str(item.value)) * RAW.get(item.unit or "", 1)) for item in reading.measurements]
        count = said[1] // 1000 if len(said) > 1 else -1
        pages = len(said) // 4  # more than the meter has, where it never says that one is the last
        held = meter.told[count][1] if meter is not None and 0 <= count < len(meter.told) else None
        if meter is None or held is None or pages < meter.telegrams or tuple(said) != held * pages:
            self.wrong.append(f"{now:.1f} {reading.meter}: {said}")
            return
        if count <= self.last.get(reading.meter, -1) or now - meter.told[count][0] > PATIENCE:
            self.wrong.append(f"{now:.1f} {reading.meter}: read-out {count} of {len(meter.told)} is old")
        self.last[reading.meter] = count
