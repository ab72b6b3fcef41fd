"""The built-in set of simulated meters: what a house may have.

All identifications are invented. The same seed and the same start give the same house.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import pi, sin
from random import Random

from mbusd.simulation.simulator import SimulatedMeter, identity
from mbusd.simulation.values import DAY, HOUR, Profile, Record, clock_record, counter, fixed, pages, record, rounded

_WATER = 1.163  # Wh that warm a litre by 1 K


@dataclass(frozen=True, slots=True)
class HeatCircuit:
    """Power in kW through a pump that keeps the spread: volume and temperatures follow from the power."""

    power: Profile
    energy: float  # kWh at the start
    volume: float  # m³ at the start
    spread: float = 5.0  # K while running
    return_cold: float = 18.16  # °C at rest
    rest_spread: float = 0.20  # K at rest

    def energy_kwh(self, seconds: float) -> float:
        return self.energy + self.power.total(seconds)

    def volume_m3(self, seconds: float) -> float:
        return self.volume + self.power.total(seconds) / (_WATER * self.spread)

    def watts(self, seconds: float) -> float:
        return self.power.rate(seconds) * 1000

    def flow_l_h(self, seconds: float) -> float:
        return self.watts(seconds) / (_WATER * self.spread)

    def difference_k(self, seconds: float) -> float:
        return self.spread if self.power.rate(seconds) > 0 else self.rest_spread

    def return_c(self, seconds: float) -> float:
        return self.return_cold + 2.5 * self.power.rate(seconds)


def household(began: datetime, seed: int = 0) -> list[SimulatedMeter]:
    """The built-in set: what a house may have. `began` is the local time at the start.

    One meter has no primary address; one is new from the factory (address 0); one needs three telegrams.
    """
    since_midnight = (began.hour * 60 + began.minute) * 60.0 + began.second
    chance = Random(seed)  # noqa: S311 (the habits of a family, no secret)
    return [
        _heat_pump(),
        _water(began, since_midnight, chance),
        _electricity(since_midnight, chance),
        _heating(began, since_midnight, chance),
        _gas(began, since_midnight, chance),
        _room(since_midnight),
    ]


def _heat_pump() -> SimulatedMeter:
    """A Kamstrup Multical 402: at rest for ten minutes, then a heat pump runs in cycles of two hours."""
    cycle = Profile((0, 2.1, 3.6, 4.1, 4.2, 4.0, 3.8, 3.9, 0, 0, 0, 0), period=2 * HOUR, delay=600)
    circuit = HeatCircuit(cycle, energy=10, volume=2.72)
    back, difference = rounded(circuit.return_c, 100), rounded(circuit.difference_k, 100)
    telegram = (
        record("0C 78", 68104402),
        record("04 06", counter(circuit.energy_kwh)),
        record("04 14", counter(circuit.volume_m3, 100)),
        record("04 22", counter(lambda seconds: 2423 + seconds / HOUR)),
        record("04 59", lambda seconds: back(seconds) + difference(seconds)),
        record("04 5D", back),
        record("04 61", difference),
        record("04 2D", rounded(circuit.watts, 0.01)),
        record("14 2D", 47),
        record("04 3B", rounded(circuit.flow_l_h)),
        record("14 3B", 1390),
        fixed("0F 00 00 00 00 01 02 00 00 00 00 00 00"),
    )
    return SimulatedMeter(
        identity("68104402", "KAM", 0x09, 0x04), pages(telegram), primary=68, name="heat_pump", fabrication="68104402"
    )


def _bursts(chance: Random, likely: Sequence[float], low: float, high: float) -> tuple[float, ...]:
    """A day in steps of five minutes: each may bring a draw, as likely as its hour says."""
    hours = (likely[step // 12] for step in range(288))
    return tuple(chance.uniform(low, high) if chance.random() < share else 0.0 for share in hours)


_TAPS = (0.01, 0, 0, 0, 0, 0.05, 0.25, 0.3, 0.15, 0.05, 0.05, 0.1)
_TAPS_OF_DAY = (*_TAPS, 0.15, 0.05, 0.05, 0.05, 0.1, 0.15, 0.25, 0.25, 0.15, 0.15, 0.1, 0.05)


def _water(began: datetime, since_midnight: float, chance: Random) -> SimulatedMeter:
    flow = Profile(_bursts(chance, _TAPS_OF_DAY, 120, 900), start=since_midnight)  # l/h
    telegram = (
        record("0C 78", 21436587),
        clock_record("04 6D"),
        record("0C 13", counter(lambda seconds: 184_327 + flow.total(seconds))),
        record("0B 3B", rounded(flow.rate)),
        record("0C 93 3C", 12),
        record("4C 13", 141_906),
        record("42 6C", _due(began, 0)),
        record("02 FD 17", 0),
    )
    return SimulatedMeter(
        identity("21436587", "SEN", 0x0E, 0x07), pages(telegram), name="water", fabrication="21436587"
    )


def _due(began: datetime, years: int) -> datetime:
    """The last day of the year before the start, or so many years later."""
    return began.replace(year=began.year - 1 + years, month=12, day=31)


def _quarters(chance: Random, hours: Sequence[float]) -> list[float]:
    """A day in quarters of an hour that wavers around what its hours say."""
    return [hours[step // 4] * chance.uniform(0.7, 1.3) for step in range(96)]


_LOAD = (210, 190, 180, 180, 190, 240, 520, 780, 610, 420, 380, 560)  # W, midnight to noon
_LOAD_OF_DAY = (*_LOAD, 900, 640, 430, 410, 520, 840, 1350, 1480, 1120, 820, 540, 320)
_SUN_OF_DAY = (0, 0, 0, 0, 0, 0, 40, 260, 820, 1500, 2100, 2500, 2600, 2400, 1900, 1300, 700, 220, 30, 0, 0, 0, 0, 0)
_PHASES = ((1, 0.45, 231.4), (2, 0.33, 229.8), (3, 0.22, 230.6))  # VIFE, share of the power, volts


def _electricity(since_midnight: float, chance: Random) -> SimulatedMeter:
    """Import and export of a house with a roof; tariff 1 from 6 to 22 h."""
    load, sun = _quarters(chance, _LOAD_OF_DAY), _quarters(chance, _SUN_OF_DAY)
    net = [wanted - made for wanted, made in zip(load, sun, strict=True)]
    taken = Profile(tuple(max(watts, 0) for watts in net), start=since_midnight)
    given = Profile(tuple(max(-watts, 0) for watts in net), start=since_midnight)
    day, night, out = 6_213_480, 2_987_031, 1_804_377  # Wh at the start

    def by_day(seconds: float) -> float:
        return taken.between(seconds, 6, 22)

    def power(seconds: float) -> float:
        return taken.rate(seconds) - given.rate(seconds)

    telegram = [
        record("0C 78", 30000412),
        record("06 83 3B", counter(lambda seconds: day + night + taken.total(seconds))),
        record("06 83 3C", counter(lambda seconds: out + given.total(seconds))),
        record("86 10 83 3B", counter(lambda seconds: day + by_day(seconds))),
        record("86 20 83 3B", counter(lambda seconds: night + taken.total(seconds) - by_day(seconds))),
        record("04 2B", rounded(power)),
        record("02 FB 2D", rounded(lambda seconds: 50 + 0.02 * sin(2 * pi * seconds / 300), 100)),
    ]
    for vife, share, volts in _PHASES:
        telegram += _phase(vife, share, volts, power)
    return SimulatedMeter(
        identity("30000412", "EMH", 0x02, 0x02),
        pages([*telegram, record("02 FD 17", 0)]),
        primary=12,
        name="electricity",
        fabrication="30000412",
    )


def _phase(vife: int, share: float, volts: float, power: Callable[[float], float]) -> list[Record]:
    """Voltage, current and power of one phase (VIFE FC 01, 02, 03)."""

    def voltage(seconds: float) -> float:
        return volts + 0.8 * sin(2 * pi * seconds / 900 + vife)

    return [
        record(f"02 FD C8 FC 0{vife}", rounded(voltage, 10)),
        record(f"04 FD D9 FC 0{vife}", rounded(lambda seconds: abs(power(seconds)) * share / voltage(seconds), 1000)),
        record(f"04 AB FC 0{vife}", rounded(lambda seconds: power(seconds) * share)),
    ]


_WARMTH = (1.2, 1.1, 1.0, 1.0, 1.3, 2.8, 4.6, 4.2, 3.1, 2.6, 2.3, 2.1)  # kW, midnight to noon
_WARMTH_OF_DAY = (*_WARMTH, 2.0, 2.0, 2.2, 2.5, 3.1, 3.8, 4.1, 3.9, 3.4, 2.7, 1.9, 1.4)


def _heating(began: datetime, since_midnight: float, chance: Random) -> SimulatedMeter:
    """A heat meter that needs three telegrams: now, the due date, the months."""
    power = Profile(tuple(_quarters(chance, _WARMTH_OF_DAY)), start=since_midnight)
    circuit = HeatCircuit(power, energy=37_351, volume=5_610.4, spread=14.0, return_cold=31.5)
    back, difference = rounded(circuit.return_c, 100), rounded(circuit.difference_k, 100)
    now = (
        record("04 06", counter(circuit.energy_kwh)),
        record("04 14", counter(circuit.volume_m3, 100)),
        record("04 2B", rounded(circuit.watts)),
        record("04 3B", rounded(circuit.flow_l_h)),
        record("02 59", lambda seconds: back(seconds) + difference(seconds)),
        record("02 5D", back),
        record("02 61", difference),
        record("14 2B", 9_870),
        record("04 22", counter(lambda seconds: 31_204 + seconds / HOUR)),
    )
    due = (
        record("44 06", 33_120),
        record("44 14", 498_731),
        record("42 6C", _due(began, 0)),
        record("42 EC 7E", _due(began, 1)),
        record("54 2B", 10_240),
    )
    months = (
        clock_record("04 6D"),
        record("84 04 06", 36_702),  # storage 8
        record("C4 04 06", 35_911),  # storage 9
        record("84 05 06", 35_004),  # storage 10
        record("02 FD 17", 0),
        record("0D FD 10", "cellar"),
    )
    return SimulatedMeter(identity("12077431", "SON", 0x0D, 0x04), pages(now, due, months), primary=5, name="heating")


_BURNER = (0.1, 0.1, 0.1, 0.1, 0.15, 0.5, 0.7, 0.6, 0.4, 0.3, 0.3, 0.3)
_BURNER_OF_DAY = (*_BURNER, 0.3, 0.25, 0.25, 0.3, 0.4, 0.5, 0.55, 0.5, 0.4, 0.3, 0.2, 0.1)


def _gas(began: datetime, since_midnight: float, chance: Random) -> SimulatedMeter:
    """Shares its first two digits with the water meter: a search by wildcards collides and has to go deeper."""
    flow = Profile(_bursts(chance, _BURNER_OF_DAY, 700, 1900), start=since_midnight)  # l/h
    telegram = (
        record("0C 78", 77012058),
        record("0C 13", counter(lambda seconds: 9_412_630 + flow.total(seconds))),
        record("0C 3B", rounded(flow.rate)),
        record("4C 13", 8_004_118),
        record("42 6C", _due(began, 0)),
        clock_record("04 6D"),
    )
    return SimulatedMeter(
        identity("21850344", "ELS", 0x21, 0x03), pages(telegram), primary=3, name="gas", fabrication="77012058"
    )


def _room(since_midnight: float) -> SimulatedMeter:
    """A sensor for temperature and humidity that nobody has given an address yet."""

    def wave(seconds: float) -> float:
        return sin(2 * pi * (since_midnight + seconds) / DAY)

    telegram = (
        record("02 65", rounded(lambda seconds: 21.3 - 1.2 * wave(seconds), 100)),
        record("02 FB 1A", rounded(lambda seconds: 46 + 4 * wave(seconds), 10)),
    )
    return SimulatedMeter(identity("50009161", "ELV", 0x12, 0x1B), pages(telegram), primary=0, name="room")
