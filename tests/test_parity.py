"""Marks of broken bytes: taken out wherever the stream is cut; a true FF through a real terminal."""

import asyncio
import os
import termios
from itertools import pairwise

import pytest

from mbusd.line.parity import MarkedPort, MarkReader, mark_errors
from mbusd.line.transport import Port, open_port, set_baudrate
from tests.wires import PATIENCE, terminal

MARKED = bytes.fromhex("E5 FF FF 68 FF 00 07 FF 00 FF FF FF FF 00 00 16 FF 03")
MEANT = [(0xE5, 0), (0xFF, 0), (0x68, 0), (7, 1), (0xFF, 1), (0xFF, 0), (0, 1), (0x16, 0), (0xFF, 0), (3, 0)]


def bytewise(reader: MarkReader, *pieces: bytes) -> list[tuple[int, int]]:
    return [(byte, int(broken)) for piece in pieces for run, broken in reader.feed(piece) for byte in run]


def test_marks_are_taken_out() -> None:
    assert bytewise(MarkReader(), MARKED) == MEANT


@pytest.mark.parametrize("first", range(len(MARKED)))
def test_wherever_the_stream_is_cut(first: int) -> None:
    for second in range(first, len(MARKED)):
        cuts = pairwise((0, first, second, len(MARKED)))
        assert bytewise(MarkReader(), *(MARKED[begin:end] for begin, end in cuts)) == MEANT


def test_in_single_bytes() -> None:
    assert bytewise(MarkReader(), *(bytes([byte]) for byte in MARKED)) == MEANT


def test_only_a_terminal_marks_errors() -> None:
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - its descriptor is what is wanted
        assert not mark_errors(nothing.fileno())


class Collector(asyncio.Protocol):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.gone = asyncio.Event()
        self._news = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.heard += data
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.gone.set()

    async def hears(self, size: int) -> bytes:
        async with asyncio.timeout(PATIENCE):
            while len(self.heard) < size:
                self._news.clear()
                await self._news.wait()
        data = bytes(self.heard)
        self.heard.clear()
        return data


async def test_who_does_not_ask_for_broken_bytes_gets_them_as_any_other() -> None:
    plain = Collector()
    port = MarkedPort(plain)
    port.data_received(b"\xff\x00")
    assert plain.heard == b"\xff\x00"  # as long as nothing is marked
    plain.heard.clear()
    port.is_marked = True
    port.data_received(MARKED)
    assert plain.heard == bytes(byte for byte, _ in MEANT)


async def test_every_byte_comes_through_a_terminal_that_marks_errors() -> None:
    """Also after the rate was changed, where pyserial takes the marks away."""
    everything = bytes(range(256)) + b"\xff\xff\x00\xff"
    with terminal() as pty:
        ear = Collector()
        port = Port(pty.device)
        transport = await open_port(port, lambda: ear)
        for baudrate in (2400, 300, 9600, 2400):
            await set_baudrate(port, transport, baudrate)
            settings = termios.tcgetattr(transport.get_extra_info("serial").fileno())
            assert settings[0] & termios.PARMRK
            assert settings[5] == getattr(termios, f"B{baudrate}")
            os.write(pty.end, everything)
            assert await ear.hears(len(everything)) == everything
        transport.close()
        await asyncio.wait_for(ear.gone.wait(), PATIENCE)


async def test_marks_are_what_the_terminal_makes_of_a_true_ff() -> None:
    """What the decoder undoes is really done by the kernel."""
    with terminal() as pty:
        device = os.open(pty.device, os.O_RDWR | os.O_NOCTTY)
        assert mark_errors(device)
        os.write(pty.end, b"\x01\xff\x02")
        assert os.read(device, 16) == b"\x01\xff\xff\x02"
        os.close(device)
