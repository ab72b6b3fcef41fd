"""Ports of level converters: a real pseudo-terminal, real sockets."""

import asyncio
import grp
import os
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import serial

from mbusd.line.transport import (
    NEAR_SECONDS,
    Port,
    TransportError,
    added_seconds,
    check_port,
    has_bytes,
    open_port,
    round_trip,
    unacknowledged,
)
from tests.relay import deaf_server
from tests.wires import PATIENCE, converter, terminal


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Ear(asyncio.Protocol):
    """Hears bytes and the end of the port."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.heard: asyncio.Future[bytes] = loop.create_future()
        self.ended: asyncio.Future[Exception | None] = loop.create_future()

    def data_received(self, data: bytes) -> None:
        if not self.heard.done():
            self.heard.set_result(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(exc)


async def closed(transport: asyncio.Transport, ear: Ear) -> None:
    transport.close()
    await asyncio.wait_for(ear.ended, PATIENCE)


# ------------------------------------------------------------------------------------------------ serial


async def test_bytes_go_both_ways_over_a_pseudo_terminal() -> None:
    with terminal() as pty:
        ear = Ear()
        transport = await open_port(Port(pty.device), lambda: ear)
        transport.write(bytes.fromhex("10 40 01 41 16"))
        assert await asyncio.to_thread(os.read, pty.end, 5) == bytes.fromhex("10 40 01 41 16")
        os.write(pty.end, b"\xe5\x0d\x0a\x03\x11\x13\x00\xff")  # nothing is translated, swallowed or a signal
        assert await asyncio.wait_for(ear.heard, PATIENCE) == b"\xe5\x0d\x0a\x03\x11\x13\x00\xff"
        await closed(transport, ear)


async def test_a_pseudo_terminal_has_no_parity_and_is_taken_as_it_is() -> None:
    """Linux answers EINVAL to 8E1 on it."""
    with terminal() as pty:
        ear = Ear()
        transport = await open_port(Port(pty.device), lambda: ear)
        device: serial.Serial = transport.get_extra_info("serial")
        assert device.parity == serial.PARITY_NONE
        assert device.bytesize == serial.EIGHTBITS
        assert device.stopbits == serial.STOPBITS_ONE
        await closed(transport, ear)


def test_only_a_real_serial_port_tells_of_broken_bytes() -> None:
    with terminal() as pty:
        assert not Port(pty.device).hears_parity
    assert Port("/dev/ttyUSB0").hears_parity
    assert not Port("tcp://192.0.2.7:10001").hears_parity
    assert not Port("rfc2217://192.0.2.7:2217").hears_parity


async def test_a_port_that_is_open_is_refused_until_it_is_closed() -> None:
    with terminal() as pty:
        ear = Ear()
        transport = await open_port(Port(pty.device), lambda: ear)
        with pytest.raises(TransportError, match=f"{pty.device}: another program has this port open"):
            await open_port(Port(pty.device), Ear)
        await closed(transport, ear)
        again = Ear()
        await closed(await open_port(Port(pty.device), lambda: again), again)


async def test_a_device_that_is_not_there() -> None:
    with pytest.raises(
        TransportError, match="/dev/ttyNONE: there is no such device; is the converter plugged in"
    ) as no:
        await open_port(Port("/dev/ttyNONE"), Ear)
    assert no.value.port == "/dev/ttyNONE"


@pytest.mark.parametrize("name", ["/dev/null", __file__])
async def test_a_file_is_no_serial_device(name: str) -> None:
    with pytest.raises(TransportError, match=r"^\S+: this is no serial device: name that of the converter") as no:
        await open_port(Port(name), Ear)
    assert no.value.port == name
    assert "Errno" not in str(no.value)


@pytest.mark.parametrize(("name", "what"), [("/dev", "is a folder"), (f"{__file__}/x", "lies in a file")])
async def test_a_folder_is_no_device(name: str, what: str) -> None:
    with pytest.raises(TransportError, match=rf"^\S+: this {what}, .*no device: name that of the converter") as no:
        await open_port(Port(name), Ear)
    assert "Errno" not in str(no.value)


@contextmanager
def somebody_else() -> Iterator[None]:
    """Not root, whom nothing is denied."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("mode", "todo"),
    [
        (0o000, r"it is ----------, for its owner only: a udev rule"),
        (0o660, r"the user must be in the group (\S+): .*\1"),
    ],
)
async def test_a_device_that_is_not_for_this_user_says_whom_it_is_for(mode: int, todo: str) -> None:
    if mode and os.geteuid() != 0:
        pytest.skip("only root can make a file that is for a group which the user is not in")
    with TemporaryDirectory() as folder:  # pytest's own folders are nobody else's
        device = Path(folder) / "ttyUSB0"
        device.touch()
        device.parent.chmod(0o755)
        if mode:
            os.chown(device, 0, grp.getgrnam("daemon").gr_gid)
        device.chmod(mode)
        await asyncio.to_thread(os.geteuid)  # the modules that this loads may lie where nobody else may look
        with somebody_else(), pytest.raises(TransportError, match=f"permission denied; {todo}"):
            await open_port(Port(str(device)), Ear)


async def test_a_device_that_vanishes_ends_the_port() -> None:
    with terminal() as pty:
        ear = Ear()
        await open_port(Port(pty.device), lambda: ear)
        pty.unplug()
        assert await asyncio.wait_for(ear.ended, PATIENCE) is not None


async def test_a_device_that_vanishes_while_it_is_opened_is_a_port_that_cannot_be_opened() -> None:
    def unplugged() -> Ear:
        pty.unplug()
        return Ear()

    before = open_files()
    with terminal() as pty, pytest.raises(TransportError, match=pty.device):
        await open_port(Port(pty.device), unplugged)
    assert open_files() == before


# ------------------------------------------------------------------------------------------------ TCP


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_bytes_go_both_ways_over_tcp(host: str) -> None:
    async with converter(host) as gateway:
        ear = Ear()
        transport = await open_port(gateway.port, lambda: ear)
        peer = await gateway.peer()
        transport.write(b"\x10\x40")
        assert await peer.hears(2) == b"\x10\x40"
        peer.says("E5")
        assert await asyncio.wait_for(ear.heard, PATIENCE) == b"\xe5"
        await closed(transport, ear)


async def test_a_request_leaves_at_once_and_a_dead_converter_is_missed_within_a_minute() -> None:
    async with converter() as gateway:
        ear = Ear()
        transport = await open_port(gateway.port, lambda: ear)
        wire: socket.socket = transport.get_extra_info("socket")
        assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert wire.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle, pause, count = (
            wire.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert idle + pause * count <= 60
        assert 0 < wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 60_000
        await closed(transport, ear)


async def test_what_the_loop_has_not_fetched_is_seen_on_a_serial_port() -> None:
    with terminal() as pty:
        ear = Ear()
        transport = await open_port(Port(pty.device), lambda: ear)
        assert not has_bytes(transport)
        os.write(pty.end, b"\xe5")
        assert select.select([transport.get_extra_info("serial")], [], [], PATIENCE)[0]
        assert has_bytes(transport)
        assert await asyncio.wait_for(ear.heard, PATIENCE) == b"\xe5"
        assert not has_bytes(transport)
        await closed(transport, ear)
        assert has_bytes(transport)  # who knows


async def test_what_the_loop_has_not_fetched_is_seen_on_a_connection() -> None:
    async with converter() as gateway:
        ear = Ear()
        transport = await open_port(gateway.port, lambda: ear)
        peer = await gateway.peer()
        assert not has_bytes(transport)
        peer.says("E5")
        assert select.select([transport.get_extra_info("socket")], [], [], PATIENCE)[0]
        assert has_bytes(transport)
        assert await asyncio.wait_for(ear.heard, PATIENCE) == b"\xe5"
        assert not has_bytes(transport)
        await closed(transport, ear)


async def test_the_way_to_a_converter_on_this_machine_adds_nothing() -> None:
    async with converter() as gateway:
        ear = Ear()
        transport = await open_port(gateway.port, lambda: ear)
        assert 0 < round_trip(transport) < NEAR_SECONDS / 2
        assert added_seconds(transport) == 0
        await closed(transport, ear)


class _Far(asyncio.Transport):
    """What a kernel would tell of a connection over a mobile network; here is none."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._info = struct.pack("=68xI", round(seconds * 1e6))

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert (level, option) == (socket.IPPROTO_TCP, socket.TCP_INFO)
        return self._info[:size]

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self if name == "socket" else default


@pytest.mark.parametrize(("seconds", "added"), [(0.001, 0.0), (0.05, 0.0), (0.3, 0.5), (5.0, 2.0)])
def test_the_round_trip_of_a_long_way_adds_to_the_time_for_an_answer(seconds: float, added: float) -> None:
    assert added_seconds(_Far(seconds)) == pytest.approx(added)


async def test_a_serial_port_has_no_round_trip_and_nothing_to_acknowledge() -> None:
    with terminal() as pty:
        ear = Ear()
        transport = await open_port(Port(pty.device), lambda: ear)
        assert (added_seconds(transport), unacknowledged(transport)) == (0, 0)
        await closed(transport, ear)


async def test_bytes_that_the_converter_has_taken_are_acknowledged_and_others_are_not() -> None:
    async with converter() as gateway:
        ear = Ear()
        transport = await open_port(gateway.port, lambda: ear)
        peer = await gateway.peer()
        transport.write(b"\x10\x40")
        await peer.hears(2)
        async with asyncio.timeout(PATIENCE):
            while unacknowledged(transport):  # noqa: ASYNC110 - the kernel tells nobody when the acknowledgement comes
                await asyncio.sleep(0)
        await closed(transport, ear)
        assert unacknowledged(transport) == 0
    with deaf_server() as number:
        ear = Ear()
        transport = await open_port(Port(f"tcp://127.0.0.1:{number}"), lambda: ear)
        transport.write(b"\x55" * (1 << 20))
        assert unacknowledged(transport) > 1 << 19
        transport.abort()
        await asyncio.wait_for(ear.ended, PATIENCE)


async def test_a_converter_that_hangs_up_ends_the_port() -> None:
    async with converter() as gateway:
        ear = Ear()
        await open_port(gateway.port, lambda: ear)
        (await gateway.peer()).hangs_up()
        await asyncio.wait_for(ear.ended, PATIENCE)


async def test_nobody_listens() -> None:
    async with converter() as gateway:
        port = gateway.port
    with pytest.raises(TransportError, match=f"{port.name}: connection refused; is the converter's TCP server on"):
        await open_port(port, Ear)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "a" * 70])
async def test_a_name_without_an_address(host: str) -> None:
    with pytest.raises(TransportError, match="there is no address for this name"):
        await open_port(Port(f"tcp://{host}:10001"), Ear)


# ------------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize(
    "name",
    [
        "/dev/ttyUSB0",
        "/dev/serial/by-id/usb-1",
        "tcp://gateway:10001",
        "tcp://192.0.2.1:1",
        "tcp://[::1]:65535",
        "TCP://g:1",
    ],
)
def test_names_of_ports(name: str) -> None:
    assert check_port(name) == name


@pytest.mark.parametrize("name", ["", " "])
def test_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="a port is /dev/… for a serial device, tcp://HOST:PORT"):
        check_port(name)


@pytest.mark.parametrize("name", ["udp://gateway:1", "socket://gateway:1", "://gateway:1", "http://gateway"])
def test_a_transport_that_nobody_knows(name: str) -> None:
    with pytest.raises(ValueError, match="is not known; use /dev/… for a serial device, tcp://HOST:PORT"):
        check_port(name)


@pytest.mark.parametrize(
    "name",
    [
        "tcp://",
        "tcp://gateway",
        "tcp://gateway:",
        "tcp://gateway:0",
        "tcp://gateway:65536",
        "tcp://gateway:x",
        "tcp://:10001",
        "tcp://gateway:1/x",
        "tcp://::1:10001",
        "tcp://[::1",
        "tcp://[::1]",
    ],
)
async def test_half_a_tcp_address(name: str) -> None:
    with pytest.raises(ValueError, match=r"is not tcp://HOST:PORT \(an IPv6 address in brackets"):
        check_port(name)
    with pytest.raises(ValueError, match="is not tcp://HOST:PORT"):
        await open_port(Port(name), Ear)


def test_a_converter_in_the_network_is_given_more_time_than_one_on_a_plug() -> None:
    serial_slack, tcp_slack = Port("/dev/ttyUSB0").slack_seconds, Port("tcp://gateway:1").slack_seconds
    assert 0.1 <= serial_slack < 0.3 <= tcp_slack <= 0.5
