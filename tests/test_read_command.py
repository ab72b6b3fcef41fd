"""What a user is told when a meter cannot be read: each fault of a bus, on a real wire, named, with what to do."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from mbusd.commands.read import Question, run
from mbusd.mbus.address import parse_address
from mbusd.simulation.meter_file import meter_from
from mbusd.simulation.simulator import SimulatedBus
from mbusd.simulation.virtual_bus import opened
from tests.wires import terminal

TELEGRAM = bytes.fromhex("68 15 15 68 08 05 72 78 56 34 12 2D 2C 08 04 06 00 00 00 04 06 E7 91 00 00 80 16")
SND_NKE = 0x40


@dataclass
class Faulty:
    """The far end of the wire: what comes back to a request, and what comes by itself every so often."""

    answer: Callable[[bytes], bytes] = lambda _: b""
    talks: bytes = b""
    every: float = 0.05  # seconds


@asynccontextmanager
async def wired(wire: Faulty) -> AsyncIterator[str]:
    """A device with this bus on it."""
    loop = asyncio.get_running_loop()
    with terminal() as tty:
        held = os.open(tty.device, os.O_RDWR | os.O_NOCTTY)  # or each look at a closed port is an error

        def hear() -> None:
            os.write(tty.end, wire.answer(os.read(tty.end, 4096)))

        async def talk() -> None:
            while wire.talks:
                os.write(tty.end, wire.talks)
                await asyncio.sleep(wire.every)

        loop.add_reader(tty.end, hear)
        talking = asyncio.create_task(talk())
        try:
            yield tty.device
        finally:
            talking.cancel()
            loop.remove_reader(tty.end)
            os.close(held)


def e5_as(text: str) -> Callable[[bytes], bytes]:
    """A receiver that is set wrongly: this for E5, and telegrams that nobody can read."""
    return lambda asked: bytes.fromhex(text) if asked[1] == SND_NKE else b"\xff" * 9


FAULTS = [
    (Faulty(), "no answer", "nothing answers at address 5", "the bus powered"),
    (Faulty(e5_as("FD")), "unreadable", "E5 arrives as FD", "--baudrate auto"),
    (Faulty(e5_as("FE")), "unreadable", "E5 arrives as FE", "parity (8E1)"),
    (Faulty(e5_as("FC")), "unreadable", "E5 arrives as FC, as from meters at twice the rate", "--baudrate auto"),
    (Faulty(lambda asked: asked), "no answer", "the converter sends back what it is told", "look at the supply"),
    (Faulty(talks=b"\x5a\x33\x91", every=0.3), "", "noise on the bus while nobody speaks", "look for interference"),
    (Faulty(talks=bytes(16)), "unreadable", "permanent space, as with a short circuit", "Disconnect the bus"),
    (Faulty(lambda _: bytes(20)), "unreadable", "nothing but 00 comes", "Disconnect the bus"),
]


@pytest.mark.parametrize(("wire", "error", "what", "todo"), FAULTS)
async def test_a_fault_is_named_with_what_to_do(
    wire: Faulty, error: str, what: str, todo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with wired(wire) as device:
        assert await run(Question(device, parse_address(5), 2400, 0.05, 1), as_json=False) == 1
    out, err = capsys.readouterr()
    line, verdict = err.splitlines()
    assert out == ""
    assert line.startswith(f"mbusd: {device}: address 5 at 2400 Bd: ")
    assert error in line
    assert what in verdict
    assert todo in verdict


async def test_a_meter_that_answers_needs_no_diagnosis(capsys: pytest.CaptureFixture[str]) -> None:
    async with wired(Faulty(lambda asked: b"\xe5" if asked[1] == SND_NKE else TELEGRAM)) as device:
        assert await run(Question(device, parse_address(5), 2400, 0.05, 1), as_json=False) == 0
    out, err = capsys.readouterr()
    assert "37351" in out
    assert err == ""


@asynccontextmanager
async def house(*meters: dict[str, object]) -> AsyncIterator[str]:
    """Simulated meters on TCP."""
    made = [
        meter_from({"manufacturer": "KAM", "medium": 4, "records": ["04 06 0A 00 00 00"]} | meter) for meter in meters
    ]
    async with opened(SimulatedBus(made), tcp=("127.0.0.1", 0), baudrate=38400) as served:
        assert served.tcp is not None
        yield f"tcp://127.0.0.1:{served.tcp[1]}"


A, B, C = (
    {"address": 5, "identification": "12345671"},
    {"address": 5, "identification": "18765432", "records": ["04 06 77 15 00 00", "04 14 10 27 00 00"]},
    {"address": 6, "identification": "12345678"},
)


async def test_two_meters_at_one_address(capsys: pytest.CaptureFixture[str]) -> None:
    async with house(A, B) as port:
        assert await run(Question(port, parse_address(5), 38400, 0.1, 1), as_json=False) == 1
    err = capsys.readouterr().err
    assert "several meters answer at one address (address 5" in err
    assert "mbusd scan --secondary" in err


async def test_a_mask_is_read_if_it_means_one_meter_only(capsys: pytest.CaptureFixture[str]) -> None:
    async with house(A, B, C) as port:
        assert await run(Question(port, parse_address("18FFFFFF"), 38400, 0.1, 1), as_json=False) == 0
        assert "187654322D2C0104" in capsys.readouterr().out
        assert await run(Question(port, parse_address("1234567F"), 38400, 0.1, 1), as_json=False) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "a mask must mean one meter only: mbusd scan PORT --secondary 1234567F lists them" in err
