"""`mbusd scan` on a virtual bus: what is printed, what the exit code says, what Ctrl-C leaves."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from random import Random

import pytest

from mbusd import config
from mbusd.commands import scan
from mbusd.mbus.address import SecondaryAddress
from mbusd.mbus.frames import Frame
from mbusd.mbus.master import snd_nke
from mbusd.mbus.search import ANY
from mbusd.scanning import scanner
from mbusd.simulation.meters import household
from mbusd.simulation.simulator import Answer, Moment, SimulatedBus, SimulatedMeter, identity
from mbusd.simulation.virtual_bus import opened
from tests.mbus.searching import meter, sending
from tests.wires import terminal

BEGAN = datetime(2026, 11, 20, 12, 0)  # noqa: DTZ001 - meters' clocks know no zone
QUICK = 0.02  # seconds: the window of a bus whose bytes take no time


@asynccontextmanager
async def bus_of(meters: list[SimulatedMeter], folder: Path, baudrate: int = 0) -> AsyncIterator[str]:
    link = folder / "ttyUSB7"
    async with opened(SimulatedBus(meters, BEGAN), link=link, baudrate=baudrate):
        yield str(link)


def question(port: str, **more: object) -> scan.Question:
    given: dict[str, object] = {"baudrate": 38400, "timeout": QUICK, **more}
    return scan.Question(port, **given)  # type: ignore[arg-type]  # checked by what the tests find


async def test_the_block_for_the_configuration_passes_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with bus_of(household(BEGAN), tmp_path) as port:
        assert await scan.run(question(port, mask=ANY), as_yaml=True) == 0
    printed = capsys.readouterr().out
    settings = config.parse(printed, "scan", {})
    (bus,) = settings.buses
    assert (bus.name, bus.port, bus.baudrate) == ("ttyUSB7", port, 38400)
    there = household(BEGAN)
    assert {str(one.address) for one in bus.meters} == {one.secondary.digits for one in there}
    assert len({one.name for one in bus.meters}) == len(there)
    assert "# KAM 68104402, heat, version 9, primary address 68" in printed


async def test_both_ways_of_looking_are_the_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at_one_address = [sending("51774213", "EC 22", primary=99), sending("50752942", "04 B9", primary=99)]
    async with bus_of([*household(BEGAN), *at_one_address], tmp_path) as port:
        assert await scan.run(question(port), as_json=True) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["complete"] is True
    meters = {one["secondary"]: one for one in document["meters"]}
    assert set(meters) == {one.secondary.digits for one in [*household(BEGAN), *at_one_address]}
    (remark,) = document["remarks"]
    assert remark.startswith("address 99: several meters answer: ")
    heat = meters["681044022D2C0904"]
    assert (heat["primary"], heat["manufacturer"], heat["medium_name"]) == (68, "KAM", "heat")
    assert heat["address"] == "681044022D2C0904"


async def test_without_a_terminal_there_is_one_line_for_each_meter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with bus_of(household(BEGAN), tmp_path) as port:
        assert await scan.run(question(port, mask=ANY)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(household(BEGAN))
    assert "ELS 21850344, gas, version 33 · primary address 3 · secondary address 2185034493152103" in lines


async def test_a_dead_bus_ends_with_a_verdict_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with bus_of([], tmp_path) as port:
        assert await scan.run(question(port, mask=ANY)) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "nobody answers" in printed.err
    assert "Traceback" not in printed.err


async def test_the_rate_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pseudo-terminal has no rate: everybody answers at every one, and the usual one is taken."""
    async with bus_of(household(BEGAN)[:1], tmp_path) as port:
        assert await scan.run(question(port, mask=ANY, baudrate="auto"), as_json=True) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["baudrate"] == 2400
    assert "somebody answers at every rate" in printed.err


async def test_a_bus_that_is_never_quiet_is_not_scanned(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal() as short:

        async def space() -> None:
            while True:
                os.write(short.end, bytes(5))
                await asyncio.sleep(0.01)

        task = asyncio.create_task(space())
        assert await scan.run(question(short.device), as_json=True) == 1
        task.cancel()
    document = json.loads(capsys.readouterr().out)
    assert "short circuit" in document["diagnosis"]
    assert (document["probes"], document["complete"]) == (0, False)


async def test_who_looks_at_primary_addresses_only_is_told_who_is_not_found_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanner, "_ADDRESSES", 5)
    for more, is_told in (({}, True), ({"resets": False}, False), ({"mask": ANY}, False)):
        async with bus_of(household(BEGAN)[:1], tmp_path) as port:
            await scan.run(question(port, primary=True, **more))
        assert ("ignores SND_NKE" in capsys.readouterr().err) is is_told


async def test_no_rate_is_looked_for_where_the_converter_sets_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert await scan.run(scan.Question("tcp://127.0.0.1:1", baudrate="auto")) == 2
    assert "the converter sets the rate" in capsys.readouterr().err


async def test_ctrl_c_keeps_what_was_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While the meter at address 12 is read, somebody presses Ctrl-C."""
    meters = household(BEGAN)
    (pressed,) = [one for one in meters if one.primary == 12]
    pages = pressed.pages

    def press(moment: Moment) -> Sequence[bytes]:
        os.kill(os.getpid(), signal.SIGINT)
        return pages(moment)

    pressed.pages = press
    async with bus_of(meters, tmp_path) as port:
        assert await scan.run(question(port), as_yaml=True) == 130
    printed = capsys.readouterr()
    assert "cut short" in printed.err
    assert "# the scan is not complete" in printed.out
    (bus,) = config.parse(printed.out, "scan", {}).buses
    before = {one.secondary.digits for one in meters if one.primary is not None and one.primary < 12}
    assert before <= {str(one.address) for one in bus.meters} < {one.secondary.digits for one in meters}


async def test_a_port_that_is_lost_keeps_what_was_found(capsys: pytest.CaptureFixture[str]) -> None:
    meters = household(BEGAN)
    (last,) = [one for one in meters if one.primary == 12]
    pages = last.pages
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(opened(SimulatedBus(meters, BEGAN), tcp=("127.0.0.1", 0), baudrate=0))

        def unplug(moment: Moment) -> Sequence[bytes]:
            asyncio.get_running_loop().create_task(stack.aclose())
            return pages(moment)

        last.pages = unplug
        assert served.tcp is not None
        assert await scan.run(question(f"tcp://127.0.0.1:{served.tcp[1]}")) == 1
    printed = capsys.readouterr()
    assert "primary address 3 " in printed.out
    assert "not complete" in printed.err


def twins() -> list[SimulatedMeter]:
    """Two meters that share both addresses; only their fabrication numbers differ."""
    chance = Random(3)  # noqa: S311 - simulates, keeps no secret
    address = identity("12345678", "KAM", 9, 4)
    return [meter(address, chance, primary=1, fabrication=number) for number in ("00000017", "00000027")]


async def test_meters_that_only_their_fabrication_numbers_tell_apart_stand_in_the_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with bus_of([*twins(), *household(BEGAN)[:1]], tmp_path) as port:
        assert await scan.run(question(port, mask=ANY), as_yaml=True) == 0
    printed = capsys.readouterr().out
    (bus,) = config.parse(printed, "scan", {}).buses
    assert {one.name: str(one.address) for one in bus.meters if one.name and one.name.startswith("heat_1")} == {
        f"heat_12345678_{number}": f"123456782D2C0904-{number}" for number in ("00000017", "00000027")
    }
    assert len(bus.meters) == 3


async def test_those_that_nothing_tells_apart_are_no_part_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    meters = twins()
    for one in meters:
        one.fabrication = None
    async with bus_of([*meters, *household(BEGAN)[:1]], tmp_path) as port:
        assert await scan.run(question(port, mask=ANY), as_yaml=True) == 0
    printed = capsys.readouterr().out
    (bus,) = config.parse(printed, "scan", {}).buses
    assert [str(one.address) for one in bus.meters] == [household(BEGAN)[0].secondary.digits]
    assert "# 123456782D2C0904: several meters have this same secondary address" in printed


async def test_both_of_them_are_in_the_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with bus_of(twins(), tmp_path) as port:
        assert await scan.run(question(port, mask=ANY), as_json=True) == 0
    meters = json.loads(capsys.readouterr().out)["meters"]
    assert [one["fabrication"] for one in meters] == ["00000017", "00000027"]
    assert [one["address"] for one in meters] == ["123456782D2C0904-00000017", "123456782D2C0904-00000027"]
    assert all("another meter has the same secondary address" in one["remark"] for one in meters)


async def test_a_converter_that_only_echoes_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = tmp_path / "ttyUSB7"
    async with opened(SimulatedBus([], BEGAN, echo=True), link=link, baudrate=0):
        assert await scan.run(question(str(link), mask=ANY), as_json=True) == 1
    said = json.loads(capsys.readouterr().out)["diagnosis"]
    assert said.startswith("the converter sends back what it is told, and no meter answers")
    assert "supply of the bus" in said


async def test_nobody_is_told_to_try_the_rates_of_a_converter_that_has_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with opened(SimulatedBus([], BEGAN), tcp=("127.0.0.1", 0), baudrate=0) as served:
        assert served.tcp is not None
        assert await scan.run(question(f"tcp://127.0.0.1:{served.tcp[1]}", mask=ANY)) == 1
    said = capsys.readouterr().err
    assert "nobody answers" in said
    assert "it is set at the converter itself" in said
    assert "--baudrate auto" not in said
    async with bus_of([], tmp_path) as port:
        assert await scan.run(question(port, mask=ANY)) == 1
    assert "--baudrate auto" in capsys.readouterr().err


class Late(SimulatedMeter):
    """Its E5 for SND_NKE comes when the next address is asked."""

    def answer(self, request: Frame, moment: Moment) -> Answer | None:
        return super().answer(snd_nke(5), moment) if request == snd_nke(6) else None


@pytest.mark.parametrize("is_alone", [True, False])
async def test_who_acknowledges_behind_a_silent_address_may_be_no_meter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *, is_alone: bool
) -> None:
    monkeypatch.setattr(scanner, "_ADDRESSES", 8)
    late = Late(identity("00000005", "SON", 1, 4), lambda _: [b""], primary=5)
    below = SimulatedMeter(identity("00000006", "SON", 1, 4), lambda _: [b"\x01\x06\x2a"], primary=5)
    for more, read in (({}, False), ({"as_json": True}, True), ({"as_yaml": True}, False)):
        async with bus_of([late] if is_alone else [late, below], tmp_path) as port:
            await scan.run(question(port, primary=True), **more)
        printed = capsys.readouterr().out
        if read:
            (printed,) = [one["remark"] for one in json.loads(printed)["meters"] if one["primary"] == 6]
        assert "acknowledges but sends no data" in printed
        assert ("unless that was the late answer of address 5: a longer timeout tells" in printed) is is_alone


async def test_a_mask_that_nobody_answers_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with bus_of(household(BEGAN), tmp_path) as port:
        asked = question(port, mask=SecondaryAddress("9FFFFFFFFFFFFFFF"))
        assert await scan.run(asked) == 1
        assert "nobody answers to 9FFFFFFF." in capsys.readouterr().err
        assert await scan.run(asked, as_json=True) == 1
        assert "nobody answers to 9FFFFFFF." in json.loads(capsys.readouterr().out)["diagnosis"]
