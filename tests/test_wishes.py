"""What an owner's wishes and a maker's profile make of a reading on its way from the wire to the broker."""

import asyncio
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest

from mbusd.config import ConfigError, parse
from mbusd.configuration.settings import BusSettings
from mbusd.line.bus import Bus
from mbusd.line.transport import Port
from mbusd.model import BusChanged, MeterChanged, Reading
from mbusd.poller import Poller
from mbusd.profiles import shelf_of
from mbusd.simulation.meter_file import meter_from
from mbusd.simulation.simulator import SimulatedBus
from mbusd.simulation.virtual_bus import opened
from tests.test_poller import Seen, asked

PULSES = {
    "address": 9,
    "identification": "12345678",
    "manufacturer": "REL",
    "version": 1,
    "medium": 0,
    "status": 0x80,
    "records": ["04 13 39 30 00 00", "02 5A C2 02"],
}


async def read_as(folder: Path, **wishes: object) -> tuple[Reading, Seen]:
    """The meter of pulses as it is published with these wishes."""
    seen = Seen()
    entry = {"name": "garden", "address": 9, **wishes}
    async with opened(SimulatedBus([meter_from(PULSES)]), link=folder / "port", baudrate=0) as served:
        settings = BusSettings.model_validate(
            {"name": "cellar", "port": served.device, "baudrate": 38400, "interval": "manual", "meters": [entry]}
        )
        bus = Bus(Port(settings.port, 38400), 0.5)
        poller = Poller(settings, bus, seen, Random(1), shelf_of(None)[0])  # noqa: S311 - places in the grid
        task = asyncio.create_task(poller.run())
        try:
            await seen.until(lambda: seen.of(BusChanged))
            outcome = await asked(poller, "garden")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert outcome.error is None
    return seen.readings("garden")[0], seen


async def test_a_maker_s_profile_names_the_meter_and_calms_its_status(tmp_path: Path) -> None:
    reading, _ = await read_as(tmp_path)
    assert reading.model == "Relay PadPuls M1"
    assert reading.status == ()
    assert {item.key: item.value for item in reading.measurements} == {
        "volume": Decimal("12.345"),
        "flow_temperature": Decimal("70.6"),
    }


async def test_what_the_owner_wants_is_what_is_published(tmp_path: Path) -> None:
    wishes = {
        "include": ["volume"],
        "rename": {"volume": "rain_water"},
        "unit": {"volume": "L"},
        "scale": {"volume": 2},
    }
    reading, seen = await read_as(tmp_path, keys=wishes, medium="water")
    (item,) = reading.measurements
    assert (item.key, item.value, item.unit) == ("rain_water", 24690, "L")
    assert (reading.identity.medium, reading.identity.medium_name) == (7, "water")
    told = [event.info for event in seen.of(MeterChanged)][-1]
    assert told.keys == (("rain_water", "L", "volume"),)


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ("{rename: {energy: heat, volume: heat}}", "meters[0].keys: rename: energy and volume cannot both be heat"),
        ("{rename: {energy: time}}", "keys.rename.energy: 'time' is a word of the daemon's own"),
        ("{rename: {energy: a/b}}", "keys.rename.energy: a key becomes a topic: no spaces, no / + #, not empty"),
        ("{scale: {volume: 0}}", "keys.scale.volume: a finite number other than 0 is needed"),
        ("{offset: {volume: .nan}}", "keys.offset.volume"),
        ("{precision: {volume: 99}}", "keys.precision.volume: Input should be less than or equal to 12"),
        ("{inclde: [a]}", "keys.inclde: is not known here; did you mean 'include'?"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_where_it_stands(wish: str, said: str) -> None:
    text = f"""buses:
  - name: cellar
    port: /dev/ttyUSB0
    meters:
      - address: 5
        keys: {wish}
"""
    with pytest.raises(ConfigError) as caught:
        parse(text, "file", {})
    (problem,) = caught.value.problems
    assert said in problem
    assert problem.startswith("file:6:")


def test_a_medium_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    text = "buses: [{name: a, port: /dev/ttyUSB0, meters: [{address: 5, medium: watr}]}]"
    with pytest.raises(ConfigError, match=r"medium: no medium; one of .*cold_water"):
        parse(text, "file", {})
