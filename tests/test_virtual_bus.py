"""The pace of the wire on an injected clock, and round trips over real sockets and a real pseudo-terminal."""

import asyncio
import os
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from mbusd.mbus.frames import LongFrame, ShortFrame, encode, parse
from mbusd.simulation.meter_file import meter_from
from mbusd.simulation.meters import household
from mbusd.simulation.simulator import Fault, SimulatedBus, SimulatedMeter
from mbusd.simulation.virtual_bus import Served, Wire, opened, serve

E5 = b"\xe5"
NKE = bytes.fromhex("10 40 05 45 16")
REQUEST = bytes.fromhex("10 7B 05 80 16")
BIT = 1 / 2400
CHARACTER = 11 * BIT
ASKED = 5 * CHARACTER  # when a short frame that was sent at 0 has arrived at the meters
BEGINS = ASKED + 11 * BIT + 0.02  # when a meter of the usual delay begins to answer


def meter(address: int = 5, **more: object) -> SimulatedMeter:
    entry: dict[str, object] = {
        "address": address,
        "identification": f"{address:08}",
        "manufacturer": "KAM",
        "medium": 4,
        "records": ["04 06 0A 00 00 00"],
    }
    return meter_from(entry | more)


def heard(wire: Wire, until: float) -> list[tuple[float, bytes]]:
    """What arrives at the master and when, waking up whenever the wire says so."""
    arrivals: list[tuple[float, bytes]] = []
    while (due := wire.next_event()) is not None and due <= until:
        data = wire.advance(due)
        if data:
            arrivals.append((due, data))
    return arrivals


def everything(wire: Wire, until: float = 60.0) -> bytes:
    return b"".join(data for _, data in heard(wire, until))


def test_an_answer_begins_after_the_request_and_the_delay_and_comes_byte_by_byte() -> None:
    wire = Wire(SimulatedBus([meter()]), 2400)
    wire.send(REQUEST, 0.0)
    arrivals = heard(wire, 10.0)
    assert [len(data) for _, data in arrivals] == [1] * 27
    for index, (at, _) in enumerate(arrivals):
        assert at == pytest.approx(BEGINS + (index + 1) * CHARACTER)
    assert isinstance(parse(b"".join(data for _, data in arrivals)), LongFrame)
    assert wire.next_event() is None


@pytest.mark.parametrize("baudrate", [300, 2400, 9600, 38400])
@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05])
def test_the_answer_begins_within_the_window_of_the_standard(baudrate: int, delay: float) -> None:
    wire = Wire(SimulatedBus([meter(delay=delay)]), baudrate)
    wire.send(NKE, 100.0)
    ((at, data),) = heard(wire, 200.0)
    assert data == E5
    bit = 1 / baudrate
    begins = at - 11 * bit - (100.0 + 55 * bit)
    assert 11 * bit - 1e-9 <= begins <= 330 * bit + 0.05


def test_a_request_that_arrives_in_pieces_counts_from_its_last_byte() -> None:
    wire = Wire(SimulatedBus([meter()]), 2400)
    wire.send(NKE[:2], 0.0)
    wire.advance(0.012)
    wire.send(NKE[2:], 0.012)  # 7 bit times after the second byte
    ((at, data),) = heard(wire, 10.0)
    assert data == E5
    assert at == pytest.approx(0.012 + 3 * CHARACTER + 11 * BIT + 0.02 + CHARACTER)


def test_a_pause_of_33_bits_inside_a_request_ends_it_and_lets_the_meters_listen_anew() -> None:
    wire = Wire(SimulatedBus([meter()]), 2400)
    wire.send(NKE[:3], 0.0)
    wire.advance(3 * CHARACTER)
    wire.send(NKE[3:], 3 * CHARACTER + 34 * BIT)
    assert everything(wire) == b""
    wire.send(NKE, 10.0)
    assert everything(wire) == E5


@pytest.mark.parametrize("rubbish", ["55", "10 40 05 46 16", "68 FF FF 68 53", "E5 00 10"])
def test_after_rubbish_the_meters_are_deaf_until_the_line_was_idle(rubbish: str) -> None:
    wire = Wire(SimulatedBus([meter()]), 2400)
    wire.send(bytes.fromhex(rubbish) + NKE, 0.0)
    assert everything(wire, 5.0) == b""
    wire.send(NKE, 5.0)
    assert everything(wire) == E5


def test_a_request_into_an_answer_is_counted_and_spoils_the_rest() -> None:
    bus = SimulatedBus([meter()])
    wire = Wire(bus, 2400)
    wire.send(REQUEST, 0.0)
    first = everything(wire, BEGINS + 10.5 * CHARACTER)
    assert len(first) == 10
    wire.send(NKE, BEGINS + 10.5 * CHARACTER)
    rest = everything(wire)
    assert rest == bytes(17)  # and the request itself was heard by nobody
    assert bus.early_requests == 1
    wire.send(NKE, 30.0)
    assert everything(wire) == E5
    assert bus.early_requests == 1


def test_a_repetition_without_waiting_for_the_window_is_early_too() -> None:
    bus = SimulatedBus([meter()])
    wire = Wire(bus, 2400)
    wire.send(NKE + NKE, 0.0)
    assert everything(wire) == b"\x00"
    assert bus.early_requests == 1


def test_a_request_right_after_an_answer_is_in_order() -> None:
    bus = SimulatedBus([meter()])
    wire = Wire(bus, 300)
    wire.send(NKE, 0.0)
    ((at, _),) = heard(wire, 10.0)
    wire.send(REQUEST, at)
    assert len(everything(wire)) == 27
    assert bus.early_requests == 0


def test_answers_that_begin_together_collide_bit_by_bit() -> None:
    wire = Wire(SimulatedBus([meter(5), meter(6, records=["04 06 0A 00 00 00", "01 13 00"])]), 2400)
    wire.send(encode(ShortFrame(0x40, 0xFE)), 0.0)
    assert everything(wire) == E5
    wire.send(encode(ShortFrame(0x7B, 0xFE)), 10.0)
    collision = everything(wire)
    assert len(collision) == 30
    assert collision[1] == 0x15 & 0x18
    assert collision[5] == 5 & 6


def test_answers_of_different_delays_are_garbage_or_follow_each_other() -> None:
    close = Wire(SimulatedBus([meter(5), meter(6, delay=0.022)]), 2400)
    close.send(encode(ShortFrame(0x40, 0xFE)), 0.0)
    assert everything(close) not in (E5, E5 + E5, b"")
    far = Wire(SimulatedBus([meter(5), meter(6, delay=0.06)]), 2400)
    far.send(encode(ShortFrame(0x40, 0xFE)), 0.0)
    assert everything(far) == E5 + E5


@pytest.mark.parametrize(
    ("late_by", "intact"),
    [(0.44, True), (0.5, False)],  # between request and answer; into the answer
)
def test_a_late_answer_falls_into_the_next_exchange(*, late_by: float, intact: bool) -> None:
    bus = SimulatedBus([meter(5, faults=["late"], late_by=late_by), meter(6)])
    wire = Wire(bus, 2400)
    wire.send(NKE, 0.0)
    assert everything(wire, 0.45) == b""
    wire.send(encode(ShortFrame(0x7B, 6)), 0.46)
    arrived = everything(wire)
    alone = SimulatedBus([meter(6)]).answer(encode(ShortFrame(0x7B, 6)))
    assert alone is not None
    assert arrived != alone
    assert (arrived == E5 + alone) == intact
    assert bus.early_requests == 0  # the master had waited long enough


@pytest.mark.parametrize("baudrate", [0, 2400])
def test_whatever_the_master_sends_the_meters_listen_again_after_a_pause(baudrate: int) -> None:
    chance = Random(5)  # noqa: S311 (noise, no secret)
    bus = SimulatedBus(household(datetime(2025, 6, 1, 12, tzinfo=UTC)), echo=True)
    wire = Wire(bus, baudrate)
    now = 0.0
    frames = [NKE, REQUEST, encode(ShortFrame(0x7B, 0xFE)), encode(LongFrame(0x53, 0xFD, 0x52, bytes(8)))]
    for _ in range(300):
        now += chance.choice((0.0, 0.001, 0.1, 1.0))
        wire.send(chance.choice((chance.randbytes(chance.randrange(20)), *frames)), now)
        wire.advance(now + 0.02)
    bus.echo = False
    now += 100
    wire.advance(now)
    wire.send(NKE, now)
    assert wire.advance(now + 60) == E5


def test_echo_and_split_delivery() -> None:
    bus = SimulatedBus([meter()], echo=True)
    wire = Wire(bus, 2400)
    wire.send(NKE, 0.0)
    arrivals = heard(wire, 10.0)
    assert b"".join(data for _, data in arrivals) == NKE + E5
    assert arrivals[0][0] == pytest.approx(CHARACTER)
    bus.echo, bus.split = False, 4
    unpaced = Wire(bus, 0)
    unpaced.send(REQUEST, 0.0)
    assert [len(data) for _, data in heard(unpaced, 10.0)] == [4, 4, 4, 4, 4, 4, 3]


def test_without_pacing_answers_come_at_once_but_late_ones_stay_late() -> None:
    one = meter(late_by=0.5)
    wire = Wire(SimulatedBus([one]), 0)
    wire.send(NKE, 7.0)
    assert wire.advance(7.0) == E5
    one.faults.append(Fault.LATE)
    wire.send(NKE, 8.0)
    assert wire.advance(8.0) == b""
    ((at, data),) = heard(wire, 60.0)
    assert at == pytest.approx(8.52)
    assert data == E5


def test_the_pace_follows_the_rate_that_the_master_sets_and_meters_hear_their_own_only() -> None:
    one, slow = meter(rate=9600), meter(6, rate=300)
    bus = SimulatedBus([one, slow])
    wire = Wire(bus, 2400)
    now = 0.0
    for rate, address, answers in ((9600, 5, True), (9600, 6, False), (300, 6, True), (300, 5, False), (None, 5, True)):
        now += 100
        wire.tune(rate)
        wire.send(encode(ShortFrame(0x40, address)), now)
        arrivals = heard(wire, now + 60)
        assert [data for _, data in arrivals] == [E5] * answers
        bit = 1 / (rate or 2400)
        if answers:
            assert arrivals[0][0] == pytest.approx(now + 0.02 + (55 + 11 + 11) * bit)
    assert bus.rate is None


def test_without_pacing_the_rate_decides_who_hears_and_bytes_take_no_time() -> None:
    wire = Wire(SimulatedBus([meter(rate=300)]), 0)
    for rate, answer in ((9600, b""), (300, E5)):
        wire.tune(rate)
        wire.send(NKE, 1.0)
        assert wire.advance(1.0) == answer


def test_who_tells_no_rate_leaves_the_bus_as_it_is() -> None:
    bus = SimulatedBus([meter(rate=300)], rate=300)
    Wire(bus, 2400).tune(None)
    assert bus.rate == 300


# ---------------------------------------------------------------------------------- real sockets and terminals


async def ask(served: Served, request: bytes, size: int) -> bytes:
    assert served.tcp is not None
    reader, writer = await asyncio.open_connection(*served.tcp)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.readexactly(size), 5)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_round_trip_over_tcp() -> None:
    bus = SimulatedBus([meter()])
    async with opened(bus, tcp=("127.0.0.1", 0), baudrate=0) as served:
        assert await ask(served, NKE, 1) == E5
        assert isinstance(parse(await ask(served, REQUEST, 27)), LongFrame)
    assert bus.requests == 2


async def test_all_tcp_clients_hang_on_the_same_wire() -> None:
    async with opened(SimulatedBus([meter()]), tcp=("127.0.0.1", 0), baudrate=0) as served:
        assert served.tcp is not None
        reader, writer = await asyncio.open_connection(*served.tcp)
        assert await ask(served, NKE, 1) == E5
        assert await asyncio.wait_for(reader.readexactly(1), 5) == E5
        writer.close()
        await writer.wait_closed()


async def test_the_real_pace_over_tcp() -> None:
    loop = asyncio.get_running_loop()
    async with opened(SimulatedBus([meter()]), tcp=("127.0.0.1", 0), baudrate=9600) as served:
        began = loop.time()
        await ask(served, REQUEST, 27)
        assert loop.time() - began >= (5 + 1 + 27) * 11 / 9600 + 0.02


async def test_a_faster_clock_makes_a_faster_wire() -> None:
    loop = asyncio.get_running_loop()
    async with opened(SimulatedBus([meter()]), tcp=("127.0.0.1", 0), baudrate=300, speed=100) as served:
        began = loop.time()
        await ask(served, REQUEST, 27)
        assert 0.01 < loop.time() - began < 1.2  # 1.23 s at the pace of 300 Bd


async def test_clients_are_sent_away_at_the_end() -> None:
    async with opened(SimulatedBus([meter()]), tcp=("127.0.0.1", 0), baudrate=0) as served:
        assert served.tcp is not None
        reader, writer = await asyncio.open_connection(*served.tcp)
        writer.write(NKE)
        assert await asyncio.wait_for(reader.readexactly(1), 5) == E5
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), 5)
    writer.close()
    with pytest.raises(ConnectionError):
        await asyncio.open_connection(*served.tcp)


@contextmanager
def terminal(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY)
    try:
        tty.setraw(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def ask_terminal(path: Path, request: bytes, size: int, speed: int | None = None) -> bytes:
    with terminal(path) as descriptor:
        if speed is not None:
            attributes = termios.tcgetattr(descriptor)
            attributes[4] = attributes[5] = speed
            termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
        os.write(descriptor, request)
        answer = b""
        while len(answer) < size:
            answer += os.read(descriptor, size)
        return answer


async def test_a_round_trip_over_the_pseudo_terminal(tmp_path: Path) -> None:
    link = tmp_path / "port"
    link.symlink_to("/nowhere/stale")
    async with opened(SimulatedBus([meter()]), link=link, baudrate=0) as served:
        assert served.tcp is None
        assert str(link.readlink()) == served.device
        for _ in range(2):  # a client that left does not take the line with it
            answer = await asyncio.wait_for(asyncio.to_thread(ask_terminal, link, REQUEST, 27), 5)
            assert isinstance(parse(answer), LongFrame)
    assert not link.is_symlink()


async def test_a_client_of_the_pseudo_terminal_sets_the_rate(tmp_path: Path) -> None:
    bus = SimulatedBus([meter(5, rate=300), meter(6, rate=9600), meter(7)])
    link = tmp_path / "port"
    asked = [(5, termios.B300), (6, termios.B9600), (7, termios.B2400), (7, termios.B115200), (7, termios.B110)]
    rates = []
    async with opened(bus, link=link, baudrate=0):
        for address, speed in asked:
            request = encode(ShortFrame(0x40, address))
            assert await asyncio.wait_for(asyncio.to_thread(ask_terminal, link, request, 1, speed), 5) == E5
            rates.append(bus.rate)
    assert rates == [300, 9600, 2400, 115200, None]


async def test_a_client_that_sets_no_rate_has_that_of_the_bus(tmp_path: Path) -> None:
    bus = SimulatedBus([meter(rate=9600)])
    link = tmp_path / "port"
    async with opened(bus, tcp=("127.0.0.1", 0), link=link, baudrate=9600) as served:
        assert await asyncio.wait_for(asyncio.to_thread(ask_terminal, link, NKE, 1), 5) == E5
        assert bus.rate == 9600
        assert await ask(served, NKE, 1) == E5
        assert bus.rate is None, "a transparent converter does not tell"


async def test_a_meter_is_switched_to_another_rate_and_found_there(tmp_path: Path) -> None:
    """As `mbusd set-baudrate` does it on a pseudo-terminal."""
    one = meter(rate=2400, rates=[2400, 9600])
    link = tmp_path / "port"
    async with opened(SimulatedBus([one]), link=link, baudrate=0):
        switch = encode(LongFrame(0x53, 5, 0xBD))
        assert await asyncio.wait_for(asyncio.to_thread(ask_terminal, link, switch, 1, termios.B2400), 5) == E5
        assert await asyncio.wait_for(asyncio.to_thread(ask_terminal, link, NKE, 1, termios.B9600), 5) == E5
    assert one.rate == 9600


async def test_who_opens_the_terminal_hears_nothing_of_what_was_said_before(tmp_path: Path) -> None:
    link = tmp_path / "port"
    async with opened(SimulatedBus([meter()]), tcp=("127.0.0.1", 0), link=link, baudrate=0) as served:
        assert await ask(served, NKE, 1) == E5
        assert isinstance(
            parse(await asyncio.wait_for(asyncio.to_thread(ask_terminal, link, REQUEST, 27), 5)), LongFrame
        )
        assert await asyncio.wait_for(asyncio.to_thread(ask_terminal, link, REQUEST, 5), 5) == bytes.fromhex(
            "6815156808"
        )
        for _ in range(10):  # turns of the loop, in which the hang-up is seen: 22 bytes were left unread
            await asyncio.sleep(0)
        assert await asyncio.wait_for(asyncio.to_thread(ask_terminal, link, NKE, 1), 5) == E5


async def test_a_file_in_the_place_of_the_link_stays(tmp_path: Path) -> None:
    precious = tmp_path / "port"
    precious.write_text("mine")
    with pytest.raises(FileExistsError, match="is no symbolic link"):
        async with opened(SimulatedBus([]), link=precious):
            pass
    assert precious.read_text() == "mine"


async def test_serve_tells_where_and_cleans_up_when_cancelled(tmp_path: Path) -> None:
    link = tmp_path / "port"
    told: asyncio.Future[Served] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(SimulatedBus([meter()]), tcp=("127.0.0.1", 0), link=link, baudrate=0, ready=told.set_result)
    )
    served = await asyncio.wait_for(told, 5)
    assert await ask(served, NKE, 1) == E5
    assert link.is_symlink()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not link.is_symlink()


async def test_a_port_that_is_taken_is_an_error() -> None:
    async with opened(SimulatedBus([]), tcp=("127.0.0.1", 0)) as served:
        assert served.tcp is not None
        with pytest.raises(OSError, match="address already in use"):
            await serve(SimulatedBus([]), tcp=served.tcp)
