"""Two meters that only their fabrication numbers tell apart: each is read by its own, and never the other."""

from pathlib import Path

import pytest

from mbusd.config import ConfigError, parse
from mbusd.line.bus import Bus
from mbusd.line.transport import Port
from mbusd.mbus.address import SecondaryAddress, parse_address
from mbusd.mbus.errors import AddressError, MBusError, WrongMeter
from mbusd.mbus.master import read_out
from mbusd.mbus.writing import set_address
from mbusd.simulation.meter_file import meter_from
from mbusd.simulation.simulator import SimulatedBus
from mbusd.simulation.virtual_bus import opened
from tests.test_poller import house


def twin(fabrication: str, energy: str, **more: object) -> dict[str, object]:
    records = [f"0C 78 {bytes.fromhex(fabrication)[::-1].hex(' ')}", f"04 06 {energy}"]
    entry = {"address": 3, "identification": "44556677", "manufacturer": "KAM", "version": 8, "medium": 7}
    return entry | {"fabrication_number": fabrication, "records": records} | more


def twins() -> SimulatedBus:
    return SimulatedBus([meter_from(twin("11111111", "0B 00 00 00")), meter_from(twin("22222222", "16 00 00 00"))])


async def test_each_is_read_under_its_own_name_and_history(tmp_path: Path) -> None:
    meters: list[dict[str, object]] = [
        {"name": f"flat_{number[0]}", "address": f"445566772D2C0807-{number}"} for number in ("11111111", "22222222")
    ]
    async with house(twins(), tmp_path, *meters) as (poller, seen):
        outcome = await poller.read_all()
        assert not outcome.failed
        for name, energy, number in (("flat_1", 11, "11111111"), ("flat_2", 22, "22222222")):
            (reading,) = seen.readings(name)
            assert next(item.value for item in reading.measurements if item.key == "energy") == energy
            assert reading.identity.address == f"445566772D2C0807-{number}"


async def test_a_meter_that_does_not_look_at_the_number_is_not_taken_for_another(tmp_path: Path) -> None:
    """Old meters compare eight bytes and answer to whatever stands behind them."""
    only = meter_from(twin("11111111", "0B 00 00 00"))
    async with opened(SimulatedBus([only]), link=tmp_path / "port", baudrate=0) as served:
        assert served.device is not None
        bus = Bus(Port(served.device, 38400), 0.1)
        await bus.open()
        only.fabrication = "22222222"  # what it is selected by; it sends the other
        with pytest.raises(WrongMeter, match="11111111"):
            await bus.run(read_out(parse_address("44556677-22222222")))
        only.fabrication = "33333333"
        with pytest.raises(MBusError):
            await bus.run(read_out(parse_address("44556677-22222222")))
        bus.close()


async def test_a_write_hits_the_one_that_is_meant(tmp_path: Path) -> None:
    meters = [meter_from(twin(number, "0B 00 00 00")) for number in ("11111111", "22222222")]
    async with opened(SimulatedBus(meters), link=tmp_path / "port", baudrate=0) as served:
        assert served.device is not None
        bus = Bus(Port(served.device, 38400), 0.1)
        await bus.open()
        target = parse_address("445566772D2C0807-22222222")
        assert isinstance(target, SecondaryAddress)
        await bus.run(set_address(target, 9))
        bus.close()
    assert [meter.primary for meter in meters] == [3, 9]


def test_both_may_stand_in_one_file_and_once_each() -> None:
    def file(*numbers: str) -> str:
        meters = "".join(f"\n      - {{name: m{i}, address: 44556677-{one}}}" for i, one in enumerate(numbers))
        return f"buses:\n  - name: cellar\n    port: /dev/ttyUSB0\n    meters:{meters}"

    settings = parse(file("11111111", "22222222"), "file", {})
    assert [str(meter.address) for meter in settings.buses[0].meters] == ["44556677-11111111", "44556677-22222222"]
    with pytest.raises(ConfigError, match="is taken already"):
        parse(file("11111111", "11111111"), "file", {})


@pytest.mark.parametrize("text", ["44556677-", "44556677-1234", "44556677-1234567G", "5-11111111"])
def test_half_a_number_is_no_address(text: str) -> None:
    with pytest.raises(AddressError):
        parse_address(text)
