"""`mbusd sniff` at a bus that another master drives: over real sockets and terminals, and without a byte of its own."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mbusd.commands import sniff
from mbusd.commands.sniff import Question
from mbusd.line.bus import Bus
from mbusd.line.transport import Port, TransportError
from mbusd.mbus.address import parse_address
from mbusd.mbus.errors import NoAnswer
from mbusd.mbus.frames import LongFrame, encode
from mbusd.mbus.master import read_out, req_ud2, snd_nke
from mbusd.simulation.meter_file import meter_from
from mbusd.simulation.simulator import SimulatedBus, SimulatedMeter
from mbusd.simulation.virtual_bus import opened
from tests.wires import PATIENCE, Converter, Peer, converter

E5 = b"\xe5"
TELEGRAM = encode(LongFrame(0x08, 5, 0x72, bytes.fromhex("78 56 34 12 2D 2C 08 04 05 00 00 00 04 06 0A 00 00 00")))


def meter(address: int, **more: object) -> SimulatedMeter:
    entry: dict[str, object] = {
        "address": address,
        "identification": f"{12345670 + address:08}",
        "manufacturer": "KAM",
        "version": 8,
        "medium": 4,
        "records": ["04 06 0A 00 00 00", "02 5A C2 02"],
    }
    return meter_from(entry | more)


class Screen:
    """All that a command has printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._out = self._err = ""

    def _look(self) -> None:
        more = self._capsys.readouterr()
        self._out += more.out
        self._err += more.err

    @property
    def out(self) -> str:
        self._look()
        return self._out

    @property
    def err(self) -> str:
        self._look()
        return self._err

    async def shows(self, text: str) -> None:
        """Waits until it does, on either side."""
        await self._until(lambda: text in self.out + self.err)

    async def has_lines(self, count: int) -> None:
        """Waits until so many are on stdout."""
        await self._until(lambda: self.out.count("\n") >= count)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 - what is printed rings no bell
                await asyncio.sleep(0.002)


@pytest.fixture
def screen(capsys: pytest.CaptureFixture[str]) -> Screen:
    return Screen(capsys)


@asynccontextmanager
async def sniffing(screen: Screen, question: Question, *, as_json: bool = False) -> AsyncIterator[asyncio.Task[int]]:
    """The command at work; at the end it is told so as by Ctrl-C, and must end well."""
    task = asyncio.create_task(sniff.run(question, as_json=as_json))
    await screen.shows("listening on")
    yield task
    os.kill(os.getpid(), signal.SIGINT)
    assert await asyncio.wait_for(task, PATIENCE) == 0


@asynccontextmanager
async def bus_of(*meters: SimulatedMeter) -> AsyncIterator[Port]:
    """A bus whose wire tells every client both directions, at 38400 Bd."""
    async with opened(SimulatedBus(list(meters), echo=True), tcp=("127.0.0.1", 0), baudrate=38400) as served:
        assert served.tcp is not None
        yield Port(f"tcp://127.0.0.1:{served.tcp[1]}", 38400)


async def reads(port: Port, *addresses: str) -> None:
    """Another master on the same bus."""
    bus = Bus(port, 0.1)
    await bus.open()
    try:
        for address in addresses:
            try:
                await bus.run(read_out(parse_address(address)))
            except NoAnswer:
                continue
    finally:
        bus.close()


async def test_read_outs_of_another_master_are_told_with_identity_and_values(screen: Screen) -> None:
    async with bus_of(meter(1), meter(2)) as port, sniffing(screen, Question(port.name, None, 38400, None)):
        await reads(port, "1", "12345672")
        await screen.shows("SND_NKE to the selected meter\n")
    said = screen.out.splitlines()
    lines = [line[13:] for line in said]
    assert lines[:3] == ["> SND_NKE to 1", "< E5", "> REQ_UD2 to 1, FCB 1"]
    assert lines[3] == (
        "< KAM 12345671 · heat · version 8 · access number 1 · status 0: energy 10 kWh, flow_temperature 70.6 °C"
    )
    assert "> select 12345672" in lines
    assert "  1 (123456712D2C0804): 1 read-outs, 1 requests" in said
    assert "  123456722D2C0804: 1 read-outs, 1 requests" in said


async def documents(screen: Screen, count: int, **behaviour: object) -> list[Any]:
    """What is told of a read-out of meter 1 that takes so many exchanges."""
    async with (
        bus_of(meter(1, **behaviour)) as port,
        sniffing(screen, Question(port.name, None, 38400, None), as_json=True),
    ):
        await reads(port, "1")
        await screen.has_lines(count)
    assert f"{count} exchanges" in screen.err
    return [json.loads(line) for line in screen.out.splitlines()]


async def test_json_is_one_document_an_exchange_with_what_decode_would_say(screen: Screen) -> None:
    reset, data = await documents(screen, 2)
    assert (reset["outcome"], reset["request"]["hex"], reset["fcb"]) == ("answered", "1040014116", None)
    assert [answer["hex"] for answer in reset["answers"]] == ["E5"]
    assert (data["meter"], data["fcb"], data["repetition"], data["access_number"]) == ("1", True, 0, 1)
    (answer,) = data["answers"]
    assert answer["document"]["header"]["id"] == "12345671"
    assert [(record["key"], record["value"]) for record in answer["document"]["records"]] == [
        ("energy", 10000),
        ("flow_temperature", 70.6),
    ]
    assert data["time"] < answer["time"]
    assert 0 < data["latency"] < 1


async def test_a_meter_that_drops_answers_shows_as_silence_and_repetition(screen: Screen) -> None:
    told = await documents(screen, 4, faults=["none", "drop", "garble"])
    assert [(one["outcome"], one["repetition"]) for one in told] == [
        ("answered", 0),
        ("silent", 0),
        ("unreadable", 1),
        ("answered", 2),
    ]


async def connected(wire: Converter) -> Peer:
    """The converter's end, when the connection is there."""
    peer = await wire.peer()
    await asyncio.sleep(0)  # the peer is made one turn before it is told its transport
    return peer


async def test_two_adapters_hear_a_direction_each(screen: Screen) -> None:
    async with converter() as first, converter() as second:
        question = Question(first.port.name, second.port.name, 2400, None)
        async with sniffing(screen, question):
            master, meters = await connected(first), await connected(second)
            meters.says("E5")  # handed over before its request, as by a quicker adapter
            master.says(encode(snd_nke(5)).hex())
            await screen.shows("< E5")
            master.says(encode(req_ud2(5, fcb=True)).hex())
            await asyncio.sleep(0.15)  # what 27 bytes need on the wire
            meters.says(TELEGRAM.hex())
            await screen.shows("energy 10 kWh")
            assert (bytes(master.received), bytes(meters.received)) == (b"", b""), "a tap never says anything"
    assert [line[13:] for line in screen.out.splitlines()[:3]] == ["> SND_NKE to 5", "< E5", "> REQ_UD2 to 5, FCB 1"]


async def last_line(screen: Screen, heard: bytes) -> str:
    """How the summary of a tap ends that heard this on its only adapter, before its port was lost."""
    async with converter() as wire:
        task = asyncio.create_task(sniff.run(Question(wire.port.name, None, 2400, None), as_json=False))
        peer = await connected(wire)
        peer.says(heard.hex())
        peer.hangs_up()
        with pytest.raises(TransportError):
            await asyncio.wait_for(task, PATIENCE)
    return screen.out.splitlines()[-1]


@pytest.mark.parametrize(
    ("heard", "text"),
    [
        (b"", "nothing was heard"),
        (b"\xb6\x12\x32\x95\xd1\x71", "nothing readable in 6 bytes: is 2400 Bd the rate of this bus"),
        (bytes(40), "diagnosis: the bus is in a permanent space, as with a short circuit"),
        (encode(req_ud2(5, fcb=True)), "only requests were heard"),
        (TELEGRAM, "only answers were heard"),
        (encode(snd_nke(5)) + E5 + E5, "diagnosis: several meters answer at one address (address 5: E5 twice)"),
        (encode(snd_nke(5)) + E5, "  5: 0 read-outs, 0 requests"),
    ],
)
async def test_the_summary_says_what_is_odd(screen: Screen, heard: bytes, text: str) -> None:
    assert text in await last_line(screen, heard)


async def test_the_rate_of_a_converter_is_changed_at_the_converter(screen: Screen) -> None:
    """What these tests listen on is one."""
    heard = encode(snd_nke(5)) + b"\xfc" + encode(req_ud2(5, fcb=True)) + b"\xa2"
    told = await last_line(screen, heard)
    assert "the rate is wrong" in told
    assert "Set the converter itself" in told
    assert "--baudrate" not in told


@pytest.mark.parametrize(
    ("answered", "text"),
    [
        ("68 04 04 68 08 05 70 08 85 16", ": the meter reports: application too busy"),
        ("A2", "< A2"),
        ("FC", "? unreadable answer (1 bytes: FC)"),
    ],
)
async def test_answers_that_are_no_data_are_told_as_they_are(screen: Screen, answered: str, text: str) -> None:
    await last_line(screen, encode(req_ud2(5, fcb=True)) + bytes.fromhex(answered))
    assert text in screen.out


@pytest.mark.parametrize(
    ("heard", "text"),
    [
        ("10 7B 05 00 16", "> unreadable request (5 bytes: 10 7B 05 00 16)"),
        ("68 0B 0B 68 73 FD 52 00", "> unreadable request (8 bytes: 68 0B 0B 68 73 FD 52 00)"),
        ("B6 12 32", "? unreadable bytes (3 bytes: B6 12 32)"),
    ],
)
async def test_what_is_unreadable_is_no_answer_where_nobody_asked(screen: Screen, heard: str, text: str) -> None:
    await last_line(screen, bytes.fromhex(heard))
    assert text in screen.out
    assert "unreadable answer" not in screen.out


async def test_a_meter_that_is_asked_at_two_addresses_is_listed_once(screen: Screen) -> None:
    async with bus_of(meter(5)) as port, sniffing(screen, Question(port.name, None, 38400, None)):
        await reads(port, "5", "12345675")
        await screen.has_lines(12)
    assert "1 addresses" in screen.out
    assert screen.out.count("read-outs") == 1


async def test_swapped_adapters_are_told(screen: Screen) -> None:
    async with converter() as first, converter() as second:
        question = Question(first.port.name, second.port.name, 2400, None)
        async with sniffing(screen, question):
            meters, master = await connected(first), await connected(second)
            master.says(encode(snd_nke(5)).hex())
            meters.says("E5")
            await screen.shows("< E5")
    assert "the two ports are swapped" in screen.out


async def test_the_time_given_ends_it(screen: Screen) -> None:
    async with converter() as wire:
        assert await sniff.run(Question(wire.port.name, None, 2400, 0.01), as_json=False) == 0
    assert "0 exchanges" in screen.out


async def test_a_lost_port_ends_the_command_with_what_was_heard(screen: Screen) -> None:
    async with converter() as wire:
        task = asyncio.create_task(sniff.run(Question(wire.port.name, None, 2400, None), as_json=False))
        peer = await connected(wire)
        peer.says((encode(snd_nke(5)) + E5).hex())
        peer.hangs_up()
        with pytest.raises(TransportError, match="the connection was closed"):
            await asyncio.wait_for(task, PATIENCE)
    assert "> SND_NKE to 5" in screen.out
    assert "1 exchanges, 1 addresses" in screen.out


async def test_the_second_port_that_cannot_be_opened_closes_the_first() -> None:
    nowhere = "/dev/there-is-no-such-tap"
    async with converter() as wire:
        with pytest.raises(TransportError, match=nowhere):
            await sniff.run(Question(wire.port.name, nowhere, 2400, 1.0), as_json=False)
        await asyncio.wait_for((await connected(wire)).gone.wait(), PATIENCE)
