"""A bus served on to other programs: real sockets, a simulated bus behind, and polls of our own in between."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

import pytest

from mbusd.configuration.settings import BusSettings
from mbusd.line.bus import Bus
from mbusd.line.shared_bus import SharedBus
from mbusd.line.transport import Port
from mbusd.mbus.address import PrimaryAddress, SecondaryAddress
from mbusd.mbus.errors import NoAnswer
from mbusd.mbus.frames import LongFrame, ShortFrame, encode
from mbusd.mbus.master import ReadOut, read_out, req_ud2, select, snd_nke
from mbusd.polling.interludes import Interludes
from mbusd.polling.roster import Roster
from mbusd.simulation.meters import household
from mbusd.simulation.simulator import SimulatedBus, SimulatedMeter
from mbusd.simulation.virtual_bus import opened
from tests.wires import PATIENCE

BEGAN = datetime(2025, 1, 15, 12)  # noqa: DTZ001 - what a meter's own clock shows
HEAT_PUMP, ELECTRICITY, HEATING = 68, 12, 5  # primary addresses in the house
ALWAYS = 1e6  # seconds


@dataclass
class Client:
    """Another program's connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def says(self, *frames: ShortFrame | LongFrame) -> None:
        self.writer.write(b"".join(map(encode, frames)))

    async def hears(self, size: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(size), PATIENCE)

    async def hears_a_telegram(self) -> bytes:
        head = await self.hears(4)
        return head + await self.hears(head[1] + 2)

    async def hears_the_end(self) -> None:
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(self.reader.read(), PATIENCE) == b""

    async def leaves(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


@dataclass
class House:
    """The meters, our own bus to them, and where the bus is served on."""

    simulated: SimulatedBus
    bus: Bus
    shared: SharedBus
    serving: "asyncio.Task[None]"
    address: tuple[str, int]
    used: list[int]
    wire: tuple[str, int]
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    def meter(self, primary: int) -> SimulatedMeter:
        return next(meter for meter in self.simulated.meters if meter.primary == primary)

    def secondary(self, primary: int) -> SecondaryAddress:
        return self.meter(primary).secondary

    async def client(self) -> Client:
        client = Client(*await asyncio.open_connection(*self.address))
        self.stack.push_async_callback(client.leaves)
        return client

    async def tap(self) -> Client:
        """Hears what the meters say, as our own bus does."""
        client = Client(*await asyncio.open_connection(*self.wire))
        self.stack.push_async_callback(client.leaves)
        return client

    async def poll(self, primary: int, *, secondary: bool = True) -> ReadOut:
        address = self.secondary(primary) if secondary else PrimaryAddress(primary)
        result = await asyncio.wait_for(self.bus.run(read_out(address)), PATIENCE)
        assert result.address == self.secondary(primary)
        return result

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not is_so():  # noqa: ASYNC110 - what a test waits for has no event
                await asyncio.sleep(0)


@asynccontextmanager
async def house(
    *,
    allow_writes: bool = False,
    lease: float = ALWAYS,
    longest_turn: float = ALWAYS,
    clients: int = 4,
    window: float | None = None,
    host: str = "127.0.0.1",
    clock: Callable[[], float] | None = None,
) -> AsyncIterator[House]:
    """The simulated house, served on."""
    simulated = SimulatedBus(household(BEGAN), BEGAN)
    async with opened(simulated, tcp=("127.0.0.1", 0), baudrate=0) as served, AsyncExitStack() as stack:
        assert served.tcp is not None
        bus = Bus(Port("tcp://{}:{}".format(*served.tcp)), window)
        await bus.open()
        stack.callback(bus.close)
        ready: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
        used: list[int] = []
        shared = SharedBus(
            bus.reserve,
            (host, 0),
            allow_writes=allow_writes,
            lease=lease,
            longest_turn=longest_turn,
            clients=clients,
            used=used.append,
            ready=ready.set_result,
            clock=clock or asyncio.get_running_loop().time,
        )
        serving = asyncio.create_task(shared.serve())
        made = House(simulated, bus, shared, serving, await asyncio.wait_for(ready, PATIENCE), used, served.tcp)
        try:
            async with made.stack:
                yield made
        finally:
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving
        assert simulated.early_requests == 0


# ------------------------------------------------------------------------------------------------ reading


async def test_another_master_reads_while_we_poll() -> None:
    async with house() as home:
        theirs = Bus(Port("tcp://{}:{}".format(*home.address)))
        await theirs.open()
        home.stack.callback(theirs.close)

        async def poll() -> None:
            for secondary in (True, False) * 4:
                await home.poll(ELECTRICITY, secondary=secondary)

        async def read() -> None:
            for meter in home.simulated.meters:
                result = await theirs.run(read_out(meter.secondary))
                assert result.address == meter.secondary
                if meter.primary is not None:
                    result = await theirs.run(read_out(PrimaryAddress(meter.primary)))
                    assert result.address == meter.secondary
            with pytest.raises(NoAnswer, match="no answer"):
                await theirs.run(read_out(SecondaryAddress("99999999FFFFFFFF"), attempts=1))

        await asyncio.wait_for(asyncio.gather(poll(), read()), 3 * PATIENCE)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_the_answer_is_what_the_meter_sent(host: str) -> None:
    async with house(host=host) as home:
        client, tap = await home.client(), await home.tap()
        client.says(req_ud2(HEAT_PUMP, fcb=True))
        telegram = await client.hears_a_telegram()
        assert telegram[4:15] == bytes([8, HEAT_PUMP, 0x72]) + home.secondary(HEAT_PUMP).to_bytes()
        assert await tap.hears(len(telegram)) == telegram
        client.says(snd_nke(HEAT_PUMP))
        assert await client.hears(1) == b"\xe5"
        assert home.used == [HEAT_PUMP, HEAT_PUMP]


async def test_a_collision_is_passed_on_as_it_sounds() -> None:
    """Two meters with one address: what comes is no telegram, and other programs know what that means."""
    async with house() as home:
        home.meter(ELECTRICITY).primary = HEATING
        client, tap = await home.client(), await home.tap()
        client.says(req_ud2(HEATING, fcb=True))
        jumble = await client.hears(20)
        assert await tap.hears(20) == jumble
        assert jumble[4:15] not in {
            encode(LongFrame(8, HEATING, 0x72, m.secondary.to_bytes()))[4:15] for m in home.simulated.meters
        }


async def test_silence_gives_silence() -> None:
    async with house() as home:
        client = await home.client()
        client.says(snd_nke(99))
        await home.until(lambda: home.simulated.requests == 1)
        await home.bus.run(read_out(PrimaryAddress(HEATING)))  # comes after it
        client.says(snd_nke(HEAT_PUMP))
        assert await client.hears(1) == b"\xe5"
        client.writer.write_eof()
        await client.hears_the_end()


async def test_a_broadcast_needs_no_answer_and_is_not_given_up_for_the_next_request() -> None:
    async with house() as home:
        client = await home.client()
        client.says(snd_nke(255), snd_nke(255), snd_nke(HEAT_PUMP))
        assert await client.hears(1) == b"\xe5"
        assert home.used == [255, 255, HEAT_PUMP]


async def test_a_last_word_is_answered() -> None:
    async with house() as home:
        client = await home.client()
        client.says(snd_nke(HEAT_PUMP))
        client.writer.write_eof()
        assert await client.hears(1) == b"\xe5"
        await client.hears_the_end()


# ------------------------------------------------------------------------------------------------ what is given up


async def test_a_request_that_the_client_has_given_up_does_not_go_to_the_wire() -> None:
    async with house() as home:
        client = await home.client()
        async with home.bus.reserve():
            for address in (HEATING, ELECTRICITY, HEAT_PUMP):
                client.says(req_ud2(address, fcb=True))
            client.says(snd_nke(HEATING))
            client.writer.write_eof()
            await asyncio.sleep(0)
        assert await client.hears(1) == b"\xe5"
        await client.hears_the_end()
        assert home.used == [HEATING]


async def test_an_answer_that_the_client_does_not_wait_for_any_more_is_not_taken_for_another() -> None:
    async with house(window=5.0) as home:
        home.meter(HEATING).delay = 0.2
        client = await home.client()
        client.says(req_ud2(HEATING, fcb=True))
        await home.until(lambda: home.simulated.requests == 1)
        client.says(snd_nke(HEAT_PUMP))
        assert await client.hears(1) == b"\xe5"
        assert home.used == [HEATING, HEAT_PUMP]


async def test_a_request_that_is_repeated_too_early_is_answered_once() -> None:
    async with house(window=5.0) as home:
        home.meter(HEATING).delay = 0.2
        client = await home.client()
        client.says(snd_nke(HEATING))
        await home.until(lambda: home.simulated.requests == 1)
        client.says(snd_nke(HEATING))
        client.writer.write_eof()
        assert await client.hears(1) == b"\xe5"
        await client.hears_the_end()
        assert home.used == [HEATING]


# ------------------------------------------------------------------------------------------------ selections


async def selected(home: House, primary: int) -> Client:
    client = await home.client()
    client.says(select(home.secondary(primary)))
    assert await client.hears(1) == b"\xe5"
    return client


async def asks_selected(client: Client, *, fcb: bool = True) -> SecondaryAddress:
    client.says(req_ud2(253, fcb=fcb))
    return SecondaryAddress.from_bytes((await client.hears_a_telegram())[7:15])


async def test_nobody_speaks_between_a_selection_and_its_requests() -> None:
    async with house() as home:
        client = await selected(home, HEAT_PUMP)
        other = await home.client()
        other.says(select(home.secondary(HEATING)))
        poll = asyncio.create_task(home.poll(ELECTRICITY))
        for fcb in (True, False, True):
            assert await asks_selected(client, fcb=fcb) == home.secondary(HEAT_PUMP)
        assert not poll.done()
        assert home.used == [253] * 4
        await client.leaves()
        await poll
        assert await other.hears(1) == b"\xe5"
        assert await asks_selected(other) == home.secondary(HEATING)


@pytest.mark.parametrize(
    "frame", [snd_nke(253), select(SecondaryAddress("99999999FFFFFFFF")), snd_nke(HEATING), snd_nke(255)]
)
async def test_a_turn_ends_with_what_ends_a_selection(frame: ShortFrame | LongFrame) -> None:
    async with house() as home:
        client = await selected(home, HEAT_PUMP)
        poll = asyncio.create_task(home.poll(ELECTRICITY))
        client.says(frame)
        await poll


async def test_a_client_that_keeps_quiet_loses_its_selection(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with house(lease=0.05) as home:
        client = await selected(home, HEAT_PUMP)
        await home.poll(ELECTRICITY)
        client.says(req_ud2(253, fcb=True))
        await home.until(lambda: "no meter is selected for it" in caplog.text)
        client.says(select(home.secondary(HEATING)))
        assert await client.hears(1) == b"\xe5"
        assert home.used == [253, 253]


async def test_a_turn_has_an_end_however_busy_the_client_is() -> None:
    now = [0.0]
    async with house(longest_turn=60.0, clock=lambda: now[0]) as home:
        client = await selected(home, HEAT_PUMP)
        poll = asyncio.create_task(home.poll(ELECTRICITY))
        now[0] = 59.0
        assert await asks_selected(client) == home.secondary(HEAT_PUMP)
        now[0] = 60.0
        client.says(req_ud2(253, fcb=False))
        await poll
        assert home.used == [253, 253]


async def test_a_selection_without_answer_holds_nothing() -> None:
    async with house() as home:
        client = await home.client()
        client.says(select(SecondaryAddress("99999999FFFFFFFF")))
        await home.until(lambda: home.simulated.requests == 1)
        await home.poll(ELECTRICITY)
        client.says(req_ud2(253, fcb=True))
        client.writer.write_eof()
        await client.hears_the_end()
        assert home.used == [253]


async def test_the_meter_of_another_client_does_not_answer() -> None:
    async with house() as home:
        await (await selected(home, HEAT_PUMP)).leaves()
        await home.poll(ELECTRICITY, secondary=False)
        assert home.meter(HEAT_PUMP).selected, "nobody has spoken to 253 since"
        client = await home.client()
        client.says(req_ud2(253, fcb=True))
        client.writer.write_eof()
        await client.hears_the_end()


# ------------------------------------------------------------------------------------------------ writing

NEW_ADDRESS = LongFrame(0x73, HEAT_PUMP, 0x51, bytes.fromhex("01 7A 07"))


MAY_CHANGE_A_METER = {
    "a new address": NEW_ADDRESS,
    "the same to all": LongFrame(0x53, 255, 0x51, bytes.fromhex("01 7A 07")),
    "the same without FCV": LongFrame(0x43, HEAT_PUMP, 0x51, bytes.fromhex("01 7A 07")),
    "another telegram for every master": LongFrame(0x53, HEAT_PUMP, 0x50, b"\x10"),
    "a new rate": LongFrame(0x53, HEAT_PUMP, 0xBD),
    "a selection to one address": LongFrame(0x53, HEAT_PUMP, 0x52, bytes(8)),
    "a function of wireless M-Bus": LongFrame(0x44, HEAT_PUMP, 0x50),
}


@pytest.mark.parametrize("frame", MAY_CHANGE_A_METER.values(), ids=MAY_CHANGE_A_METER.keys())
async def test_what_may_change_a_meter_is_dropped(frame: LongFrame, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with house() as home:
        client = await home.client()
        client.says(frame)
        client.writer.write_eof()
        await client.hears_the_end()
        assert home.used == []
        assert (
            f"it may change meters (C {frame.control:02X}, CI {frame.ci:02X}), and serve_writes is off" in caplog.text
        )


async def test_what_changes_no_meter_passes() -> None:
    async with house() as home:
        client = await home.client()
        client.says(LongFrame(0x53, HEAT_PUMP, 0x50))  # application reset
        assert await client.hears(1) == b"\xe5"
        client.says(LongFrame(0x7B, HEAT_PUMP, 0xB1))  # a request with a CI, as Eastron's meters have it
        await home.until(lambda: home.used == [HEAT_PUMP, HEAT_PUMP])


async def test_writing_where_it_is_allowed() -> None:
    async with house(allow_writes=True) as home:
        meter = home.meter(HEAT_PUMP)
        client = await home.client()
        client.says(NEW_ADDRESS)
        assert await client.hears(1) == b"\xe5"
        assert meter.primary == 7


# ------------------------------------------------------------------------------------------------ odd clients


@pytest.mark.parametrize("garbage", ["00 FF 31", "E5 A2", "68 99 99 99", "10 7B FE", "68 03 03 68 08 05 72 7F 16"])
async def test_what_is_no_request_is_dropped_and_what_follows_is_heard(garbage: str) -> None:
    async with house() as home:
        client = await home.client()
        client.writer.write(bytes.fromhex(garbage))
        client.says(snd_nke(HEAT_PUMP))
        assert await client.hears(1) == b"\xe5"
        client.writer.write(bytes.fromhex(garbage))
        client.writer.write_eof()
        await client.hears_the_end()
        assert home.used == [HEAT_PUMP]


async def test_half_a_frame_is_forgotten_after_a_pause() -> None:
    now = [0.0]
    async with house(clock=lambda: now[0]) as home:
        client, other = await home.client(), await home.client()
        client.writer.write(bytes.fromhex("68 FF FF 68 53 FD"))
        for step in range(3):  # whatever the network does to the pieces: the answer to the last is for a whole frame
            other.says(snd_nke(HEATING))
            assert await other.hears(1) == b"\xe5"
            now[0] = step + 1.0
        client.says(snd_nke(HEAT_PUMP))
        assert await client.hears(1) == b"\xe5"


async def test_a_frame_arrives_byte_by_byte() -> None:
    async with house() as home:
        client = await home.client()
        for byte in encode(select(home.secondary(HEAT_PUMP))):
            client.writer.write(bytes([byte]))
            await client.writer.drain()
            await asyncio.sleep(0)
        assert await client.hears(1) == b"\xe5"


async def test_who_speaks_something_else_is_hung_up_on() -> None:
    async with house() as home:
        client = await home.client()
        client.writer.write(b"GET / HTTP/1.1\r\nHost: meters\r\n" * 100)
        await client.hears_the_end()
        assert home.used == []
        assert (await home.poll(ELECTRICITY)).telegrams


async def test_clients_that_vanish_at_any_point() -> None:
    async with house(window=5.0) as home:
        home.meter(HEATING).delay = 0.1
        request = encode(req_ud2(HEATING, fcb=True))
        for size in range(len(request) + 1):
            client = await home.client()
            client.writer.write(request[:size])
            await client.writer.drain()
            client.writer.transport.abort()
        async with home.bus.reserve():
            client = await home.client()
            client.writer.write(request)
            await client.writer.drain()
            client.writer.transport.abort()
            await asyncio.sleep(0)
        await home.poll(HEATING)
        await home.until(lambda: not home.shared._clients)  # noqa: SLF001 - nobody keeps a place


async def test_a_flood_does_not_keep_us_from_polling() -> None:
    """At the most one exchange of all clients together between two of our polls that are due."""
    async with house() as home:
        flooders = [await home.client() for _ in range(3)]

        async def flood(client: Client, primary: int) -> None:
            with suppress(ConnectionError):
                while True:
                    client.says(*[snd_nke(primary), req_ud2(primary, fcb=True)] * 500)
                    await client.writer.drain()
                    await asyncio.sleep(0)

        tasks = [asyncio.create_task(flood(client, HEATING)) for client in flooders]
        await home.until(lambda: len(home.used) > 3)
        between = []
        for _ in range(8):
            await home.poll(ELECTRICITY, secondary=False)
            between.append(len(home.used))
        steps = [after - before for before, after in pairwise(between)]
        assert max(steps) <= 1
        assert sum(steps) >= 1, "the clients have their turns too"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_one_client_too_many(caplog: pytest.LogCaptureFixture) -> None:
    async with house(clients=2) as home:
        first, second = await home.client(), await home.client()
        for client in (first, second):
            client.says(snd_nke(HEAT_PUMP))
            assert await client.hears(1) == b"\xe5"
        await (await home.client()).hears_the_end()
        assert "refused, 2 clients use the bus already" in caplog.text
        await first.leaves()
        await home.until(lambda: len(home.shared._clients) == 1)  # noqa: SLF001 - when it has left is nowhere else to be seen
        third = await home.client()
        third.says(snd_nke(HEAT_PUMP))
        assert await third.hears(1) == b"\xe5"


async def test_a_client_is_not_kept_waiting_by_each_probe_of_a_scan() -> None:
    """Once it has its turn, it has the next ones, too, as long as it goes on at once."""
    async with house() as home:
        settings = BusSettings.model_validate({"name": "b", "port": "tcp://127.0.0.1:1"})
        roster = Roster(settings, lambda _: None, random.Random(1))  # noqa: S311 - no secret
        interludes = Interludes("b", home.bus, roster, lambda _: None, lambda: None)
        scan = asyncio.create_task(interludes.scan("primary"))
        client = await home.client()
        await home.until(lambda: home.simulated.requests > 5)
        client.says(snd_nke(HEAT_PUMP))
        assert await client.hears(1) == b"\xe5"
        probed = home.simulated.requests
        for turn in range(3):
            client.says(req_ud2(HEAT_PUMP, fcb=turn % 2 == 0))
            await client.hears_a_telegram()
        assert home.simulated.requests == probed + 3
        await home.until(lambda: home.simulated.requests > probed + 6)
        interludes.cancel_scan()
        assert (await asyncio.wait_for(scan, PATIENCE)).error is None


# ------------------------------------------------------------------------------------------------ its life


async def test_a_bus_that_is_away_is_silent_and_comes_back() -> None:
    async with house() as home:
        client = await home.client()
        home.bus.close()
        client.says(snd_nke(HEAT_PUMP))
        await home.until(lambda: home.used == [HEAT_PUMP])
        await home.bus.open()
        client.says(snd_nke(HEATING))
        assert await client.hears(1) == b"\xe5"


async def test_its_end_is_the_end_of_its_clients() -> None:
    async with house() as home:
        idle, holding = await home.client(), await selected(home, HEAT_PUMP)
        home.serving.cancel()
        with suppress(asyncio.CancelledError):
            await home.serving
        for client in (idle, holding):
            await client.hears_the_end()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*home.address)
        await home.poll(ELECTRICITY)


async def test_an_address_that_is_taken_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async with house() as home:
        second = asyncio.create_task(SharedBus(home.bus.reserve, home.address).serve())
        await home.until(lambda: "cannot serve the bus on 127.0.0.1 port" in caplog.text)
        assert not second.done()
        second.cancel()
