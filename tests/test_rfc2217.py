"""Serial ports behind RFC 2217: pyserial's own server before a simulated bus, and servers that do what a test says."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime

import pytest
import serial
import serial.rfc2217

from mbusd.line.bus import Bus
from mbusd.line.rfc2217 import Negotiation, RemoteSerial, Rfc2217Error, Subnegotiation, TelnetReader, escape, opened
from mbusd.line.transport import Port, ProtocolFactory, open_port
from mbusd.mbus.address import PrimaryAddress, SecondaryAddress
from mbusd.mbus.errors import NoAnswer
from mbusd.mbus.master import read_out
from mbusd.simulation.meters import household
from mbusd.simulation.simulator import Moment, SimulatedBus
from mbusd.simulation.virtual_bus import opened as served
from tests.wires import PATIENCE, Converter, Peer, converter

BEGAN = datetime(2025, 1, 15, 12)  # noqa: DTZ001 - what a meter's own clock shows
HELLO = bytes.fromhex("10 40 44 84 16")  # SND_NKE to the heat pump of the house
OFFERS = "FF FB 00 FF FD 00 FF FB 03 FF FD 03 FF FB 2C"  # WILL and DO binary and no go-ahead, WILL com port
AGREED = "FF FD 00 FF FB 00 FF FD 03 FF FB 03 FF FD 2C"
SETTINGS = "FF FA 2C 01 00 00 09 60 FF F0 FF FA 2C 02 08 FF F0 FF FA 2C 03 03 FF F0 FF FA 2C 04 01 FF F0"
SET = SETTINGS.replace("2C 0", "2C 6").replace("2C 61", "2C 65").replace("2C 62", "2C 66")
SET = SET.replace("2C 63", "2C 67").replace("2C 64", "2C 68")
REST = (  # no flow control, DTR and RTS on, no news of line and modem, both buffers empty
    "FF FA 2C 05 01 FF F0 FF FA 2C 05 08 FF F0 FF FA 2C 05 0B FF F0"
    "FF FA 2C 0A 00 FF F0 FF FA 2C 0B 00 FF F0 FF FA 2C 0C 03 FF F0"
)


class Ear(asyncio.Protocol):
    """Hears bytes and the end of the port."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.news = asyncio.Event()
        self.ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.began = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        del transport
        self.began = True

    def data_received(self, data: bytes) -> None:
        assert self.began
        self.heard += data
        self.news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(exc)

    async def hears(self, size: int) -> bytes:
        async with asyncio.timeout(PATIENCE):
            while len(self.heard) < size:
                self.news.clear()
                await self.news.wait()
        return bytes(self.heard)


async def open_at(port: Port, protocol: ProtocolFactory, patience: float = PATIENCE) -> RemoteSerial:
    return await opened(lambda telnet: open_port(port, telnet), port.baudrate, protocol, patience=patience)


# ------------------------------------------------------------------------------------------------ pyserial's server


@dataclass
class Server:
    """pyserial's RFC 2217 server for one client after the other, in threads, before a TCP port as its serial one."""

    wire: tuple[str, int]
    host: str
    settings: list[tuple[int, int, str, float]] = field(default_factory=list)  # as each client left them
    clients: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self.listener = socket.create_server((self.host, 0), family=family)
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def port(self, scheme: str = "tcp") -> Port:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return Port(f"{scheme}://{host}:{self.listener.getsockname()[1]}")

    def stop(self) -> None:
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.hang_up()
        self.thread.join(PATIENCE)
        self.listener.close()
        assert not self.thread.is_alive()

    def hang_up(self) -> None:
        for client in self.clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.clients.append(client)
            with client, serial.serial_for_url("socket://{}:{}".format(*self.wire), timeout=0.2) as device:
                self._bridge(client, device)
                self.settings.append((device.baudrate, device.bytesize, device.parity, device.stopbits))
            self.clients.remove(client)

    def _bridge(self, client: socket.socket, device: serial.SerialBase) -> None:
        turn, ended = threading.Lock(), threading.Event()

        class Line:
            def write(self, data: bytes) -> None:
                with turn, suppress(OSError):
                    client.sendall(data)

        manager = serial.rfc2217.PortManager(device, Line())

        def listen() -> None:
            while not ended.is_set():
                data = device.read(1)
                if data:
                    Line().write(b"".join(manager.escape(data + device.read(device.in_waiting))))

        thread = threading.Thread(target=listen)
        thread.start()
        with suppress(OSError):
            while data := client.recv(1024):
                device.write(b"".join(manager.filter(data)))
        ended.set()
        thread.join(PATIENCE)


@asynccontextmanager
async def server(host: str = "127.0.0.1") -> AsyncIterator[tuple[SimulatedBus, Server]]:
    """A house of simulated meters on a serial port of the network."""
    bus = SimulatedBus(household(BEGAN), BEGAN)
    async with served(bus, tcp=("127.0.0.1", 0), baudrate=0) as where:
        assert where.tcp is not None
        running = Server(where.tcp, host)
        try:
            yield bus, running
        finally:
            await asyncio.to_thread(running.stop)


@contextmanager
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert {thread for thread in set(threading.enumerate()) - before if not thread.name.startswith("asyncio")} == set()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_meters_are_read_through_a_real_server(host: str) -> None:
    with no_thread_is_left():
        async with server(host) as (simulated, remote):
            bus = Bus(remote.port("rfc2217"))
            await bus.open()
            for meter in simulated.meters:
                address = meter.secondary if meter.primary is None else PrimaryAddress(meter.primary)
                result = await bus.run(read_out(address))
                assert result.address == meter.secondary
                assert len(result.telegrams) == len(meter.pages(Moment(0.0, BEGAN)))
            with pytest.raises(NoAnswer, match="no answer"):
                await bus.run(read_out(SecondaryAddress("99999999FFFFFFFF"), attempts=1))
            assert simulated.early_requests == 0
            bus.close()
        assert remote.settings == [(2400, serial.EIGHTBITS, serial.PARITY_EVEN, serial.STOPBITS_ONE)]


async def test_the_rate_is_changed_while_the_port_is_open() -> None:
    async with server() as (_, remote):
        ear = Ear()
        transport = await open_at(remote.port(), lambda: ear)
        await transport.set_baudrate(300)
        transport.write(HELLO)
        assert await ear.hears(1) == b"\xe5"
        await transport.set_baudrate(9600)
        transport.write(HELLO)
        assert await ear.hears(2) == b"\xe5\xe5"
        transport.close()
        assert await asyncio.wait_for(ear.ended, PATIENCE) is None
    assert [baudrate for baudrate, *_ in remote.settings] == [9600]


async def test_a_server_that_goes_ends_the_port_and_the_next_connection_works() -> None:
    async with server() as (_, remote):
        for _ in range(2):
            ear = Ear()
            transport = await open_at(remote.port(), lambda ear=ear: ear)  # type: ignore[misc]  # mypy and defaults
            transport.write(HELLO)
            assert await ear.hears(1) == b"\xe5"
            remote.hang_up()
            await asyncio.wait_for(ear.ended, PATIENCE)


# ------------------------------------------------------------------------------------------------ servers of a test


@asynccontextmanager
async def opening(
    gateway: Converter, ear: Ear, baudrate: int = 2400
) -> AsyncIterator[tuple[Peer, asyncio.Task[RemoteSerial]]]:
    """A port that is being opened, and the server's end, which has read the offers."""
    number = len(gateway.peers)
    task = asyncio.create_task(open_at(gateway.at(baudrate), lambda: ear))
    peer = await gateway.peer(number)
    assert await peer.hears(15) == bytes.fromhex(OFFERS)
    yield peer, task
    with suppress(Rfc2217Error):
        (await asyncio.wait_for(task, PATIENCE)).close()
    await asyncio.wait_for(peer.gone.wait(), PATIENCE)


async def agreed(peer: Peer, answer: str = SET) -> None:
    """The server agrees on the options and answers the settings, as they should be or otherwise."""
    peer.says(AGREED)
    assert await peer.hears(len(bytes.fromhex(SETTINGS))) == bytes.fromhex(SETTINGS)
    peer.says(answer)
    if answer == SET:
        await peer.hears(len(bytes.fromhex(REST)))


async def test_what_is_said_to_a_server() -> None:
    async with converter() as gateway, opening(gateway, Ear()) as (peer, task):
        peer.says(AGREED)
        assert await peer.hears(len(bytes.fromhex(SETTINGS))) == bytes.fromhex(SETTINGS)
        assert not peer.received, "nothing more before the settings are acknowledged"
        peer.says(SET)
        assert await peer.hears(len(bytes.fromhex(REST))) == bytes.fromhex(REST)
        await asyncio.wait_for(task, PATIENCE)


async def test_the_levels_that_feed_a_converter() -> None:
    async with converter() as gateway:
        task = asyncio.create_task(
            opened(lambda telnet: open_port(gateway.port, telnet), 2400, Ear, dtr=False, rts=False)
        )
        peer = await gateway.peer()
        await peer.hears(15)
        peer.says(AGREED)
        await peer.hears(len(bytes.fromhex(SETTINGS)))
        peer.says(SET)
        said = await peer.hears(len(bytes.fromhex(REST)))
        assert bytes.fromhex("FF FA 2C 05 09 FF F0 FF FA 2C 05 0C FF F0") in said
        (await asyncio.wait_for(task, PATIENCE)).close()


async def test_all_bytes_go_both_ways_wherever_the_stream_is_cut() -> None:
    ear = Ear()
    everything = bytes(range(256)) + b"\xff\xff\xff\r\0\r\n"
    async with converter() as gateway, opening(gateway, ear) as (peer, task):
        await agreed(peer)
        transport = await asyncio.wait_for(task, PATIENCE)
        assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        transport.write(everything)
        assert await peer.hears(len(escape(everything))) == everything.replace(b"\xff", b"\xff\xff")
        for byte in escape(everything):
            peer.says(f"{byte:02X}")
        assert await ear.hears(len(everything)) == everything


async def test_what_came_before_the_set_up_does_not_reach_the_bus() -> None:
    ear = Ear()
    async with converter() as gateway, opening(gateway, ear) as (peer, task):
        peer.says(b"ser2net port 4001 [,2400N81]\r\n".hex())
        await agreed(peer, "E5" + SET + "E5")
        await asyncio.wait_for(task, PATIENCE)
        peer.says("A2")
        assert await ear.hears(1) == b"\xa2"


async def test_news_of_the_modem_lines_are_no_bytes_of_the_line() -> None:
    ear = Ear()
    async with converter() as gateway, opening(gateway, ear) as (peer, task):
        await agreed(peer)
        await asyncio.wait_for(task, PATIENCE)
        peer.says("FF FA 2C 6B B0 FF F0 E5 FF F1 FF FA 2C 6A FF FF FF F0 FF FA 18 01 FF F0 A2")
        assert await ear.hears(2) == b"\xe5\xa2"


async def test_an_option_is_answered_once_and_an_unknown_one_is_refused() -> None:
    async with converter() as gateway, opening(gateway, Ear()) as (peer, task):
        await agreed(peer)
        await asyncio.wait_for(task, PATIENCE)
        peer.says("FF FD 2C FF FB 2C FF FB 2C FF FD 00 FF FB 01 FF FD 18")
        assert await peer.hears(9) == bytes.fromhex("FF FD 2C FF FE 01 FF FC 18")
        peer.says("FF FE 03 FF FE 03 FF FB 22")
        assert await peer.hears(6) == bytes.fromhex("FF FC 03 FF FE 22")


async def test_a_server_that_offers_its_port_instead_of_asking_for_ours() -> None:
    async with converter() as gateway, opening(gateway, Ear()) as (peer, task):
        peer.says("FF FB 2C")
        assert (await peer.hears(3 + len(bytes.fromhex(SETTINGS))))[:3] == bytes.fromhex("FF FD 2C")
        peer.says(SET)
        await asyncio.wait_for(task, PATIENCE)


async def test_a_server_that_acknowledges_a_rate_with_four_zeros_more() -> None:
    """As sredird does."""
    async with converter() as gateway, opening(gateway, Ear()) as (peer, task):
        await agreed(peer, SET.replace("09 60", "09 60 00 00 00 00"))
        await asyncio.wait_for(task, PATIENCE)


REFUSALS = {
    SET.replace("09 60", "25 80"): r"the server refuses 2400 Bd \(its answer is 9600\)",
    SET.replace("67 03", "67 01"): r"the server refuses even parity \(its answer is 1\)",
    SET.replace("66 08", "66 07"): r"the server refuses 8 data bits \(its answer is 7\)",
    SET.replace("68 01", "68 02"): r"the server refuses 1 stop bit \(its answer is 2\)",
}


async def test_a_server_that_is_plain_telnet() -> None:
    async with converter() as gateway, opening(gateway, Ear()) as (peer, task):
        peer.says("FF FD 03 FF FB 01 FF FE 2C")
        with pytest.raises(Rfc2217Error, match="the server refuses the COM-PORT-OPTION: plain telnet, without RFC"):
            await asyncio.wait_for(task, PATIENCE)


@pytest.mark.parametrize("answer", REFUSALS)
async def test_a_server_that_refuses_a_setting(answer: str) -> None:
    ear = Ear()
    async with converter() as gateway, opening(gateway, ear) as (peer, task):
        await agreed(peer, answer)
        with pytest.raises(Rfc2217Error, match=REFUSALS[answer]):
            await asyncio.wait_for(task, PATIENCE)
    assert not ear.began


async def test_a_server_that_is_busy_says_so() -> None:
    ear = Ear()
    async with converter() as gateway, opening(gateway, ear) as (peer, task):
        peer.says(b"Port already in use\r\n".hex())
        peer.hangs_up()
        with pytest.raises(Rfc2217Error, match=r"the server closed the connection, saying: Port already in use$"):
            await asyncio.wait_for(task, PATIENCE)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ("", "did not answer within 0.05 s to the telnet negotiation; a port without telnet is tcp://"),
        ("FF FD 2C", "did not answer within 0.05 s to 2400 Bd"),
    ],
)
async def test_a_server_that_does_not_answer(answer: str, complaint: str) -> None:
    ear = Ear()
    async with converter() as gateway:
        task = asyncio.create_task(open_at(gateway.port, lambda: ear, patience=0.05))
        peer = await gateway.peer()
        await peer.hears(15)
        peer.says(answer)
        with pytest.raises(Rfc2217Error, match=complaint):
            await task
        await asyncio.wait_for(peer.gone.wait(), PATIENCE)
    assert not ear.began


async def test_a_rate_that_is_refused_while_the_port_is_open() -> None:
    async with converter() as gateway, opening(gateway, Ear()) as (peer, task):
        await agreed(peer)
        transport = await asyncio.wait_for(task, PATIENCE)
        change = asyncio.create_task(transport.set_baudrate(38400))
        assert await peer.hears(10) == bytes.fromhex("FF FA 2C 01 00 00 96 00 FF F0")
        peer.says("FF FA 2C 65 00 00 09 60 FF F0")
        with pytest.raises(Rfc2217Error, match=r"refuses 38400 Bd \(its answer is 2400\)"):
            await change
        with pytest.raises(Rfc2217Error, match=r"did not answer within 0\.05 s to 300 Bd"):
            await transport.set_baudrate(300, patience=0.05)


async def test_opening_that_is_given_up_leaves_no_connection() -> None:
    async with converter() as gateway:
        task = asyncio.create_task(open_at(gateway.port, Ear))
        peer = await gateway.peer()
        await peer.hears(15)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(peer.gone.wait(), PATIENCE)


# ------------------------------------------------------------------------------------------------ telnet


def test_a_subnegotiation_that_is_broken_or_without_end_is_dropped() -> None:
    reader = TelnetReader()
    assert list(reader.feed(bytes.fromhex("FF FA 2C 65 00 FF FB 00 E5"))) == [Negotiation(0xFB, 0), b"\xe5"]
    assert list(reader.feed(b"\xff\xfa" + bytes(1000))) == []
    assert list(reader.feed(b"\xe5")) == [b"\xe5"]


def test_a_doubled_ff_in_a_subnegotiation_is_one() -> None:
    reader = TelnetReader()
    whole = bytes.fromhex("FF FA 2C 65 00 00 FF FF 60 FF F0")
    assert [event for byte in whole for event in reader.feed(bytes([byte]))] == [
        Subnegotiation(bytes.fromhex("2C 65 00 00 FF 60"))
    ]
