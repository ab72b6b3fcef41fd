"""What must not be lost, through brokers that come and go and a process that is killed: all of it, in order."""

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from mbusd.sinks.topics import Message
from mbusd.spool import Spool
from tests.broker_relay import PUBACK, broker_relay
from tests.mosquitto import Ear, Mosquitto, ear, mosquitto
from tests.sinks.clients import Client

DAY = 86400.0


def record(number: int) -> Message:
    return Message("mbusd/m/history", str(number), retain=False, is_unique=True, is_stream=True)


def records(start: int, end: int) -> list[Message]:
    return [record(number) for number in range(start, end)]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path) as one:
        yield one


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "spool.sqlite"


@pytest.fixture
def spool(file: Path) -> Iterator[Spool]:
    one = Spool(file, 1 << 24, DAY)
    yield one
    one.close()


async def hears(listener: Ear, end: int) -> list[str]:
    """Everything on the stream until that record."""
    await listener.until(lambda ear: str(end) in ear.payloads("mbusd/m/history"))
    return listener.payloads("mbusd/m/history")


def numbers(end: int) -> list[str]:
    return [str(number) for number in range(end)]


def first_times(heard: list[str]) -> list[str]:
    return list(dict.fromkeys(heard))


async def test_nothing_is_written_while_the_broker_takes_everything(broker: Mosquitto, tmp_path: Path) -> None:
    """Not even for a moment: the folder is made with the first file in it."""
    spool = Spool(tmp_path / "state" / "spool.sqlite", 1 << 24, DAY)
    client = Client(broker.port, spool=spool)
    async with ear(broker.port) as listener, client.running(()):
        await client.connects()
        client.say(*records(0, 500))
        assert await hears(listener, 499) == numbers(500)
        assert len(spool) == 0
    spool.close()
    assert not (tmp_path / "state").exists()


async def test_what_was_read_while_the_broker_was_away_comes_once_and_in_order(
    broker: Mosquitto, spool: Spool, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(broker.port, spool=spool)
    async with client.running(()):
        async with ear(broker.port) as listener:
            await client.connects()
            client.say(*records(0, 50))
            assert await hears(listener, 49) == numbers(50)
        broker.kill()
        client.say(record(50))
        await _holds(spool, 1)
        client.say(*records(51, 600))
        broker.start()
        async with ear(broker.port) as listener:
            client.say(*records(600, 700))
            assert await hears(listener, 699) == numbers(700)[50:]
            await _holds(spool, 0)
            client.say(*records(700, 800))
            assert await hears(listener, 799) == numbers(800)[50:]
            assert not list(file.parent.glob("spool*"))
    assert "Traceback" not in caplog.text


async def _holds(spool: Spool, count: int) -> None:
    """Wait until so many wait in it; it tells nobody."""
    async with asyncio.timeout(30):
        while len(spool) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_an_acknowledgement_that_is_late_puts_all_of_it_on_the_disk_and_nothing_comes_twice(
    broker: Mosquitto, spool: Spool
) -> None:
    async with ear(broker.port) as listener, broker_relay(broker.port) as (port, relay):
        client = Client(port, spool=spool, given={"late": 0.05})
        async with client.running(()):
            await client.connects()
            relay.hold(PUBACK)
            client.say(*records(0, 100))
            await _holds(spool, 100)
            relay.release()
            assert await hears(listener, 99) == numbers(100)
            await _holds(spool, 0)
        assert relay.connections == 1


async def test_a_connection_that_is_cut_again_and_again_loses_nothing(
    broker: Mosquitto, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    async with ear(broker.port) as listener, broker_relay(broker.port) as (port, relay):
        client = Client(port, spool=spool)
        async with client.running(()):
            for start in range(0, 500, 50):
                await client.connects()
                client.say(*records(start, start + 50))
                await hears(listener, start + 5)
                relay.cut()
            heard = await hears(listener, 499)
            await _holds(spool, 0)
            assert set(heard) == set(numbers(500))
            # the sequence of first times may jump back only to what was on its way when it was cut
            assert sorted(first_times(heard), key=int) == numbers(500)
    assert "Traceback" not in caplog.text


async def test_what_the_broker_has_not_acknowledged_at_the_end_waits_for_the_next_life(
    broker: Mosquitto, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(file, 1 << 24, DAY)
    async with ear(broker.port) as listener, broker_relay(broker.port) as (port, relay):
        client = Client(port, spool=spool, given={"leave": 0.2})
        async with client.running(()):
            await client.connects()
            relay.is_dead = True
            client.say(*records(0, 100))
        spool.close()
        assert not listener.payloads("mbusd/m/history")
        relay.is_dead = False
        again = Spool(file, 1 << 24, DAY)
        assert len(again) == 100
        client = Client(port, spool=again)
        async with client.running(()):
            client.say(*records(100, 110))
            assert await hears(listener, 109) == numbers(110)
            await _holds(again, 0)
        again.close()
    assert "Traceback" not in caplog.text


PROGRAM = """
    import asyncio, sys
    from pathlib import Path
    from mbusd.spool import Spool
    from tests.sinks.clients import Client
    from tests.sinks.test_stream import records

    async def main(file, port, start, end):
        spool = Spool(Path(file), 1 << 24, 86400.0)
        client = Client(int(port), spool=spool)
        async with client.running(()):
            client.say(*records(int(start), int(end)))
            while len(spool.head(int(end))) < int(end):  # unlike len, it waits for the disk
                await asyncio.sleep(0.001)
            print("spooled", flush=True)
            await asyncio.sleep(3600)

    asyncio.run(main(*sys.argv[1:]))
"""


async def test_kill_9_loses_nothing_that_was_spooled(tmp_path: Path, file: Path) -> None:
    with mosquitto(tmp_path, starts=False) as broker:
        for start in (0, 200):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", textwrap.dedent(PROGRAM), str(file), str(broker.port)),
                *(str(start), str(start + 200 + start)),
                stdout=subprocess.PIPE,
                cwd=Path(__file__).parents[2],
            )
            assert process.stdout is not None
            assert await asyncio.wait_for(process.stdout.readline(), 60) == b"spooled\n"
            process.kill()
            await process.wait()
        broker.start()
        spool = Spool(file, 1 << 24, DAY)
        client = Client(broker.port, spool=spool)
        async with ear(broker.port) as listener, client.running(()):
            assert await hears(listener, 599) == numbers(600)
            await _holds(spool, 0)
        spool.close()
