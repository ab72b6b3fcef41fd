"""A wire that is asked for more than it can carry; its time is simulated, its meters share it at 300 Bd."""

import asyncio

import pytest

from bench.simulated_time import Cellar, ports_in_memory, simulated_time
from mbusd.configuration.settings import BusSettings
from mbusd.model import BusStatistics, Event, StatisticsTaken
from mbusd.poller import Poller
from mbusd.simulation.simulator import Moment, SimulatedBus, SimulatedMeter, identity

METERS = 8
AWAY = -1  # instead of the watts: the converter is unplugged
ACTIVE = {"active": {"when": "power > 0", "interval": "5s"}}


class House:
    """Meters that are at work or idle, all at once, and what the statistics of their bus say."""

    def __init__(self) -> None:
        self.watts = 0
        self.statistics: list[BusStatistics] = []
        bus = SimulatedBus([self.meter(number) for number in range(1, METERS + 1)])
        self.cellar = Cellar(bus, 300)

    def meter(self, number: int) -> SimulatedMeter:
        def records(_: Moment) -> list[bytes]:
            return [b"\x02\x2b" + self.watts.to_bytes(2, "little")]

        return SimulatedMeter(identity(f"{number:08}", "SON", 1, 4), records, primary=number)

    def emit(self, event: Event) -> None:
        if isinstance(event, StatisticsTaken):
            self.statistics.append(event.statistics)

    def runs(self, phases: list[tuple[int, float]], **more: object) -> list[bool]:
        """Whether each phase, of so many watts and seconds, has ended in an overload, and told it for ten minutes."""
        ended: list[list[bool]] = []
        meters = [{"address": number, "name": f"m{number}", **more} for number in range(1, METERS + 1)]
        entry = {"name": "cellar", "port": "memory://cellar:1", "baudrate": 300, "interval": "10m", "meters": meters}

        async def lives() -> None:
            poller = Poller.of(BusSettings.model_validate(entry), self.emit)
            task = asyncio.create_task(poller.run())
            for watts, seconds in phases:
                self.watts = watts
                self.cellar.is_away = watts == AWAY
                if self.cellar.is_away:
                    self.cellar.unplug()
                await asyncio.sleep(seconds)
                ended.append([one.overload for one in self.statistics[-10:]])
            task.cancel()
            await asyncio.wait([task])

        with simulated_time(1_795_000_000.0) as (_, loop), ports_in_memory({"cellar": self.cellar}):
            loop.run_until_complete(lives())
        assert all(len(set(told)) == 1 for told in ended), ended
        return [told[-1] for told in ended]


def test_meters_at_work_may_want_more_than_the_wire_carries() -> None:
    """Eight read-outs take some ten seconds of it, and are due every five."""
    assert House().runs([(0, 3000), (500, 3000), (0, 3000)], **ACTIVE) == [False, True, False]


@pytest.mark.parametrize("interval", ["1s", "10m"])
def test_so_may_those_that_are_asked_for_alarms(interval: str) -> None:
    assert House().runs([(0, 3000)], alarms=interval) == [interval == "1s"]


def test_at_their_usual_times_the_same_meters_fit() -> None:
    assert House().runs([(500, 3000)]) == [False]


def test_what_the_wire_could_not_carry_while_it_was_away_is_no_overload(caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    assert house.runs([(500, 3000), (AWAY, 3000), (500, 3000)]) == [False, False, False]
    assert not any(one.overload for one in house.statistics)
    assert [line.split(". Look")[0] for line in caplog.messages if "away" in line] == [
        "bus cellar: away: the port does not work: memory://cellar:1: it is unplugged"
    ]
