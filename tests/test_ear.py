"""An ear on a port: what is heard of a bus on which nobody is asked, and that the bus hears it all the same."""

import asyncio

import pytest

from mbusd.line.bus import Bus
from mbusd.line.ear import Ear
from mbusd.line.hearing import BusProtocol
from mbusd.line.parity import HearsBroken
from mbusd.line.transport import Port, ProtocolFactory, open_port
from mbusd.mbus.address import PrimaryAddress
from mbusd.mbus.diagnosis import diagnose
from mbusd.mbus.errors import NoAnswer
from mbusd.mbus.master import read_out
from mbusd.mbus.verdict import Observations
from tests.wires import converter


async def test_only_what_comes_by_itself_is_noise() -> None:
    async with converter() as wire:
        ear = Ear()
        bus = Bus(wire.at(38400), 0.02, ear.open)
        await bus.open()
        try:
            peer = await wire.peer()
            asked = asyncio.create_task(bus.run(read_out(PrimaryAddress(5), attempts=1)))
            await peer.hears(5)
            peer.says("5A 33")  # for an answer
            with pytest.raises(NoAnswer):
                await asked
            listening = asyncio.create_task(ear.idle_noise(bus))
            await asyncio.sleep(bus.timing.window + bus.timing.slack + 0.2)
            peer.says("91 92")
            assert await listening == b"\x91\x92"
        finally:
            bus.close()


async def test_where_nothing_came_nothing_needs_an_explanation() -> None:
    async with converter() as wire:
        ear = Ear()
        bus = Bus(wire.at(38400), 0.02, ear.open)
        await bus.open()
        try:
            assert await ear.idle_noise(bus) == b""
        finally:
            bus.close()


async def test_the_bus_learns_which_bytes_came_broken() -> None:
    behind = BusProtocol()
    before: list[asyncio.Protocol] = []

    async def opener(_: Port, factory: ProtocolFactory) -> asyncio.Transport:
        before.append(factory())
        return asyncio.Transport()

    await Ear(opener).open(Port("/dev/null"), lambda: behind)
    (tapped,) = before
    assert isinstance(tapped, HearsBroken)
    tapped.data_received(b"\x01")
    tapped.broken_received(b"\x02\x03")
    assert behind.take() == (b"\x01\x02\x03", frozenset({1, 2}))


class Spoils(asyncio.Protocol):
    """A port on which every byte comes with a parity error."""

    def __init__(self, behind: asyncio.Protocol) -> None:
        self._behind = behind

    def data_received(self, data: bytes) -> None:
        assert isinstance(self._behind, HearsBroken)
        self._behind.broken_received(data)


async def test_a_diagnosis_knows_which_bytes_came_broken() -> None:
    async with converter() as wire:
        bus = Bus(wire.at(38400), 0.1, lambda port, protocol: open_port(port, lambda: Spoils(protocol())))
        await bus.open()
        try:
            peer = await wire.peer()
            asked = asyncio.create_task(bus.run(read_out(PrimaryAddress(5), attempts=2)))
            for _ in range(2):
                await peer.hears(5)
                peer.says("E5")
            with pytest.raises(NoAnswer):
                await asked
            assert bus.recent[0].broken == {0}
            verdict = diagnose(Observations(tuple(bus.recent), expected=1))
            assert verdict is not None
            assert verdict.code == "wrong_parity"
        finally:
            bus.close()
