"""What is known of counters outlives a restart: a wrong one in the first reading is not believed."""

import asyncio
import logging
from pathlib import Path
from random import Random

import pytest

from mbusd.line.bus import Bus
from mbusd.line.transport import Port
from mbusd.memory import Memory
from mbusd.model import BusChanged
from mbusd.poller import Poller
from mbusd.simulation.virtual_bus import opened
from tests.test_plausibility_on_a_bus import Register, energies, meter_of, read
from tests.test_poller import Seen, Wiretap, named, settings


async def test_a_wrong_counter_in_the_first_reading_after_a_restart_is_read_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    register, shown = Register(1000), []
    async with opened(Wiretap(meter_of(register)), link=tmp_path / "port", baudrate=0) as served:
        assert served.device is not None
        for life, lies in enumerate(([], [77])):
            memory, seen, register.lies = Memory.load(tmp_path), Seen(), lies
            bus = Bus(Port(served.device, 38400), 0.5)
            poller = Poller(settings(served.device, *named(5)), bus, seen, Random(1), memory=memory)  # noqa: S311
            task = asyncio.create_task(poller.run())
            await seen.until(lambda seen=seen: seen.of(BusChanged))  # type: ignore[misc]  # mypy and defaults
            await read(poller, register, 1000 + life)
            shown += energies(seen.readings("m5"))
            assert poller.statistics().implausible == life
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            memory.save()
    assert shown == [1000, 1001]
