"""A broker that is stalled, slow, half gone, or throws us out: what is heard afterwards is right, and all of it."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mbusd.sinks.outbox import MOST_UNIQUE
from mbusd.sinks.topics import Message
from mbusd.sinks.window import SIZE
from tests.broker_relay import CONNACK, PUBACK, broker_relay
from tests.mosquitto import PATIENCE, Ear, Mosquitto, ear, mosquitto
from tests.sinks.clients import WILL, Client, Journal, journal

__all__ = ("journal",)  # a fixture


ONLINE = Message(WILL.topic, "online")


def event(number: int) -> Message:
    return Message("event", str(number), retain=False, is_unique=True)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path) as one:
        yield one


def in_order(payloads: list[str], count: int, most: int) -> None:
    """All came; each first time in order; none more often than there were connections to say it on."""
    assert list(dict.fromkeys(payloads)) == [str(number) for number in range(count)]
    assert max(payloads.count(payload) for payload in set(payloads)) <= most


async def has_heard(listener: Ear, topic: str, payload: str) -> None:
    await listener.until(lambda ear: payload in ear.payloads(topic))


async def test_several_messages_are_on_their_way_before_the_first_is_acknowledged(broker: Mosquitto) -> None:
    async with ear(broker.port) as listener, broker_relay(broker.port) as (port, relay):
        client = Client(port, given={"leave": 0.3})
        async with client.running(()):
            await client.connects()
            relay.withheld = frozenset({PUBACK})
            client.say(*(event(number) for number in range(100)))
            await has_heard(listener, "event", str(SIZE - 1))
            assert relay.most_unanswered <= SIZE
            assert str(SIZE) not in listener.payloads("event")


async def test_a_broker_that_never_acknowledges_is_given_up_and_loses_nothing(
    broker: Mosquitto, caplog: pytest.LogCaptureFixture, journal: Journal
) -> None:
    async with ear(broker.port) as listener, broker_relay(broker.port) as (port, relay):
        client = Client(port, given={"unacknowledged": 0.2})
        async with client.running(()):
            await client.connects()
            relay.withheld = frozenset({PUBACK})
            client.say(Message("state", "old"), *(event(number) for number in range(100)))
            await journal.until("has not acknowledged what was published within 0.2 s")
            client.say(Message("state", "new"))
            await relay.connected(4)
            relay.withheld = frozenset()
            await has_heard(listener, "event", "99")
            await listener.until_last("state", "new")
            client.say(Message("end", "1"))
            await listener.said("end")
            in_order(listener.payloads("event"), 100, relay.connections)
            states = listener.payloads("state")
            assert states == sorted(states, reverse=True)  # never an old one after a new one
    assert len(journal.warnings) == 1
    assert "Traceback" not in caplog.text


async def test_what_waits_for_a_stalled_broker_is_bounded_and_nobody_waits_for_it(broker: Mosquitto) -> None:
    async with broker_relay(broker.port) as (port, relay):
        client = Client(port, given={"leave": 0.3})
        async with client.running(()):
            await client.connects()
            relay.withheld = frozenset({PUBACK})
            for number in range(3 * MOST_UNIQUE):
                client.say(Message("state", str(number)), event(number))
            waiting = client.broker._talk.outbox.waiting  # noqa: SLF001 - nobody else can see how much waits
            assert len(waiting) <= MOST_UNIQUE + 1
            relay.cut()


async def test_a_broker_that_accepts_and_says_nothing_is_told_once_and_tried_again(
    broker: Mosquitto, caplog: pytest.LogCaptureFixture, journal: Journal
) -> None:
    async with ear(broker.port) as listener, broker_relay(broker.port) as (port, relay):
        relay.withheld = frozenset({CONNACK})
        client = Client(port, given={"answer": 0.1})
        client.say(Message("state", "1"))
        async with client.running(()):
            await relay.connected(4)
            relay.withheld = frozenset()
            await listener.until_last("state", "1")
        assert WILL.topic not in listener.last  # none of the vain tries has left its will
    assert [line for line in journal.warnings if "does not answer within 0.1 s" in line] == journal.warnings
    assert len(journal.warnings) == 1
    assert "Traceback" not in caplog.text


async def test_a_frozen_broker_is_right_again_as_soon_as_it_thaws(
    broker: Mosquitto, caplog: pytest.LogCaptureFixture, journal: Journal
) -> None:
    assert broker.process is not None
    client = Client(broker.port, given={"unacknowledged": 0.2, "answer": 0.2})
    async with ear(broker.port) as listener, client.running(()):
        client.say(ONLINE, Message("state", "0"))
        await listener.until_last("state", "0")
        broker.process.send_signal(signal.SIGSTOP)
        client.say(Message("state", "1"), *(event(number) for number in range(50)))
        await journal.until("has not acknowledged")
        await journal.until("does not answer within")
        client.say(Message("state", "2"))
        broker.process.send_signal(signal.SIGCONT)
        await has_heard(listener, "event", "49")
        client.say(Message("end", "1"))
        await listener.said("end")
        assert (listener.last["state"], listener.last[WILL.topic]) == ("2", "online")
        assert "1" not in listener.payloads("state")[listener.payloads("state").index("2") :]
        assert list(dict.fromkeys(listener.payloads("event"))) == [str(number) for number in range(50)]
    assert "Traceback" not in caplog.text


async def test_a_network_that_swallows_everything(
    broker: Mosquitto, caplog: pytest.LogCaptureFixture, journal: Journal
) -> None:
    async with ear(broker.port) as listener, broker_relay(broker.port) as (port, relay):
        client = Client(port, given={"unacknowledged": 0.2, "answer": 0.2})
        async with client.running(()):
            client.say(ONLINE)
            await listener.until_last(WILL.topic, "online")
            relay.is_dead = True
            client.say(*(event(number) for number in range(50)))
            await journal.until("has not acknowledged")
            await journal.until("does not answer within")
            assert not listener.payloads("event")
            before, relay.is_dead = relay.connections, False
            await has_heard(listener, "event", "49")
            in_order(listener.payloads("event"), 50, max(1, relay.connections - before))
            await listener.until_last(WILL.topic, "online")
    assert "Traceback" not in caplog.text


async def test_a_slow_broker_gets_all_of_it_over_one_connection(broker: Mosquitto) -> None:
    async with ear(broker.port) as listener, broker_relay(broker.port) as (port, relay):
        relay.delay = 0.02
        client = Client(port, given={"unacknowledged": 5.0})
        async with client.running(()):
            client.say(*(event(number) for number in range(400)))
            await has_heard(listener, "event", "399")
            in_order(listener.payloads("event"), 400, 1)
        assert relay.connections == 1


async def test_a_connection_that_is_cut_again_and_again_loses_no_event(
    broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    async with ear(broker.port) as listener, broker_relay(broker.port) as (port, relay):
        client = Client(port)
        async with client.running(()):
            for start in range(0, 500, 50):
                await client.connects()
                client.say(*(event(number) for number in range(start, start + 50)))
                await has_heard(listener, "event", str(start + 5))
                relay.cut()
            await has_heard(listener, "event", "499")
            assert set(listener.payloads("event")) == {str(number) for number in range(500)}
    assert "Traceback" not in caplog.text


async def test_two_with_one_client_id_are_told_so_once_and_do_not_race(
    broker: Mosquitto, caplog: pytest.LogCaptureFixture, journal: Journal
) -> None:
    given = {"steady": 60.0}
    one, other = (Client(broker.port, given=given, client_id="mbusd") for _ in range(2))
    async with one.running(()), other.running(()):
        await journal.until("is mqtt.client_id in use elsewhere", count=2)
        lines = len(journal.lines)
        for _ in range(5):
            await one.connects()
            one.broker.connected.clear()
        assert len(journal.lines) == lines
    assert "Traceback" not in caplog.text


async def test_what_is_of_now_or_never_is_not_said_late(
    broker: Mosquitto, caplog: pytest.LogCaptureFixture, journal: Journal
) -> None:
    fleeting = Message("emon/m", "late", retain=False, is_fleeting=True)
    async with ear(broker.port) as listener, broker_relay(broker.port) as (port, relay):
        client = Client(port, given={"late": 0.05, "unacknowledged": 0.4})
        async with client.running(()):
            await client.connects()
            relay.withheld = frozenset({PUBACK})
            client.say(*(event(number) for number in range(SIZE)), fleeting)
            await journal.until("has not acknowledged")
            client.say(fleeting)
            relay.withheld = frozenset()
            await client.connects()
            client.say(event(SIZE))
            await has_heard(listener, "event", str(SIZE))
            assert "emon/m" not in listener.last
    assert len(caplog.records) == 2  # given up, connected


async def test_a_stalled_broker_does_not_keep_us_from_leaving(broker: Mosquitto) -> None:
    async with broker_relay(broker.port) as (port, relay):
        client = Client(port, given={"leave": 0.3})
        async with asyncio.timeout(10), client.running():
            await client.connects()
            relay.is_dead = True
            client.say(*(event(number) for number in range(100)))
        relay.is_dead = False


async def packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Its type, and what follows the length (MQTT 3.1.1 cl. 2.2)."""
    head = (await reader.readexactly(1))[0]
    length = 0
    for place in range(4):
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            break
    return head >> 4, await reader.readexactly(length)


@pytest.mark.parametrize(("size", "acknowledges"), [(1, False), (5000, False), (5000, True)])
async def test_a_message_that_the_broker_ends_the_connection_for_does_not_keep_back_the_rest(
    size: int,
    acknowledges: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
    journal: Journal,
) -> None:
    """Some acknowledge what they find too long, and hang up then."""
    taken: list[str] = []
    has_best = asyncio.Event()

    async def fussy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Ends the connection at a message on `bad` (MQTT 3.1.1 cl. 3.3.5)."""
        is_bad = False
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while not is_bad:
                kind, rest = await packet(reader)
                length = int.from_bytes(rest[:2], "big")
                match kind:
                    case 1:
                        writer.write(b"\x20\x02\x00\x00")
                    case 8:
                        writer.write(b"\x90\x03" + rest[:2] + b"\x01")
                    case 3:
                        topic = rest[2 : 2 + length].decode()
                        is_bad = topic == "bad"
                        taken.append(topic)
                        if topic == "best":
                            has_best.set()
                        if acknowledges or not is_bad:
                            writer.write(b"\x40\x02" + rest[2 + length : 4 + length])
        writer.close()

    async with await asyncio.start_server(fussy, "127.0.0.1") as server:
        client = Client(server.sockets[0].getsockname()[1], given={"steady": 0.5})
        async with client.running(()):
            client.say(Message("good", "1"), Message("bad", "1" * size), Message("better", "1" * size))
            await journal.until(f"ends the connection whenever bad is published ({size} bytes)")
            client.say(Message("bad", "2" * size), Message("best", "1"))
            before = len(journal.lines)
            await client.connects()
            await asyncio.wait_for(has_best.wait(), PATIENCE)
    assert {"good", "better", "best"} <= set(taken)
    assert not [line for line in journal.lines[before:] if "ends" in line]
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("topic", ["a/+/b", "a/#", "a\0b", "", "half \ud800 pair", "long" * 20_000])
async def test_what_no_broker_could_be_given_is_left_out_and_said_once(
    topic: str, broker: Mosquitto, caplog: pytest.LogCaptureFixture, journal: Journal
) -> None:
    async with ear(broker.port) as listener:
        client = Client(broker.port)
        async with client.running(()):
            client.say(Message(topic, "1"), Message("good", "1"))
            await has_heard(listener, "good", "1")
            await journal.until("cannot be published and is left out")
            client.say(Message(topic, "2"), Message("good", "2"))
            await has_heard(listener, "good", "2")
    assert caplog.text.count("cannot be published") == 1
    assert len(caplog.text) < 2000
