"""The connection to a real mosquitto: what it hears when we come, go, are killed, or when it is killed itself."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from mbusd.configuration.settings import MqttSettings
from mbusd.sinks.connection import connected
from mbusd.sinks.mqtt import Broker
from mbusd.sinks.topics import Message
from tests.mosquitto import PATIENCE, Mosquitto, ear, mosquitto, retained, with_password
from tests.sinks.clients import WILL, Client, Journal, journal

__all__ = ("journal",)  # a fixture


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path) as one:
        yield one


async def test_what_is_said_is_retained_and_the_farewell_comes_last(broker: Mosquitto) -> None:
    client = Client(broker.port)
    client.say(Message("mbusd/bridge/state", "online"), Message("mbusd/m", "1"), Message("mbusd/e", "x", retain=False))
    async with ear(broker.port) as listener, client.running():
        await listener.until_last("mbusd/m", "1")
        await listener.said("mbusd/e")
        client.say(Message("mbusd/m", "2"))
        await listener.until_last("mbusd/m", "2")
    assert await retained(broker.port) == {
        "mbusd/bridge/state": "offline",
        "mbusd/m": "2",
        "mbusd/m/availability": "offline",
    }


async def test_a_broker_that_comes_late_gets_the_last_word_of_each_topic_and_every_event(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with mosquitto(tmp_path, starts=False) as broker:
        client = Client(broker.port)
        for number in range(50):
            client.say(Message("mbusd/m", str(number)), Message("event", str(number), retain=False, is_unique=True))
        async with client.running():
            broker.start()
            async with ear(broker.port) as listener:
                await listener.until_last("mbusd/m", "49")
                await client.connects()
                client.say(Message("end", "1"))
                await listener.said("end")
                assert "0" not in listener.payloads("mbusd/m")
        assert (await retained(broker.port))["mbusd/m"] == "49"
    assert "Traceback" not in caplog.text


async def test_events_that_wait_come_all_and_in_order(broker: Mosquitto) -> None:
    client = Client(broker.port)
    client.say(*(Message("event", str(number), retain=False, is_unique=True) for number in range(300)))
    async with ear(broker.port) as listener, client.running():
        await listener.until_last("event", "299")
        assert listener.payloads("event") == [str(number) for number in range(300)]


async def test_a_broker_that_was_killed_and_is_empty_gets_everything_again_and_nothing_stale(
    broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(broker.port)
    client.say(*(Message(f"mbusd/m{number}", "old") for number in range(20)), Message("mbusd/gone", "x"))
    async with client.running():
        async with ear(broker.port) as listener:
            await listener.until_last("mbusd/gone", "x")
        broker.kill()
        client.say(Message("mbusd/m3", "new"), Message("mbusd/gone", ""))
        broker.start()
        async with ear(broker.port) as listener:
            await listener.until(lambda ear: len(ear.last) >= 20 and ear.last.get("mbusd/m3") == "new")
            assert "old" not in listener.payloads("mbusd/m3")
            assert "x" not in listener.payloads("mbusd/gone")
    left = await retained(broker.port)
    assert {topic for topic in left if topic.startswith("mbusd/m") and "/" not in topic[7:]} == {
        f"mbusd/m{number}" for number in range(20)
    }
    assert "Traceback" not in caplog.text


async def test_a_tombstone_goes_before_what_follows_it_however_often_the_broker_is_away(tmp_path: Path) -> None:
    with mosquitto(tmp_path, starts=False) as broker:
        client = Client(broker.port)
        first = [Message(topic, "first", is_unique=True) for topic in ("ha/old", "ha/a", "ha/b")]
        client.say(*first)
        client.say(Message("ha/a", "tombstone", is_unique=True), Message("ha/a", "last", is_unique=True))
        client.say(Message("ha/old", "", is_unique=True), Message("ha/new", "n", is_unique=True))
        client.broker.say_everything()  # Home Assistant was born meanwhile
        broker.start()
        async with ear(broker.port) as listener, client.running():
            await listener.until_last("ha/new", "n")
            assert [(heard.topic, heard.payload) for heard in listener.heard] == [
                ("ha/old", "first"),
                ("ha/a", "first"),
                ("ha/b", "first"),
                ("ha/a", "tombstone"),
                ("ha/a", "last"),
                ("ha/old", ""),
                ("ha/new", "n"),
            ]


async def test_what_was_said_comes_before_what_waits(broker: Mosquitto, caplog: pytest.LogCaptureFixture) -> None:
    client = Client(broker.port)
    client.say(Message("first", "1"), Message("second", "1"))
    async with client.running():
        async with ear(broker.port) as listener:
            await listener.until_last("second", "1")
        broker.kill()
        client.say(Message("third", "1"), Message("first", "2"))
        broker.start()
        async with ear(broker.port) as listener:
            await listener.until(lambda ear: {"first", "second", "third"} <= set(ear.last))
            await listener.until_last("first", "2")
    assert "Traceback" not in caplog.text


async def test_messages_arrive_whatever_they_hold(broker: Mosquitto) -> None:
    client = Client(broker.port)
    async with ear(broker.port) as speaker:
        await speaker.say("asked/before", "kept", retain=True)
        async with client.running():
            await client.receives(1)
            for topic, payload in (
                ("asked/binary", b"\xff\xfe\x00"),
                ("asked/empty", b""),
                ("asked/ü $ \u2028", "é".encode()),
                ("asked/huge", b"x" * 3_000_000),
            ):
                await speaker.say(topic, payload)
            await client.receives(5)
    assert client.received[0] == ("asked/before", "kept", True)
    assert client.received[1] == ("asked/binary", "\ufffd\ufffd\x00", False)
    assert client.received[2] == ("asked/empty", "", False)
    assert client.received[3] == ("asked/ü $ \u2028", "é", False)
    assert (client.received[4][0], len(client.received[4][1])) == ("asked/huge", 3_000_000)


async def test_half_a_surrogate_pair_does_not_stop_the_rest(broker: Mosquitto) -> None:
    client = Client(broker.port)
    client.say(Message("a", "\ud800"), Message("b", "1"))
    async with ear(broker.port) as listener, client.running():
        await listener.said("b")
        assert listener.last["a"] == "?"


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_no_message_is_acknowledged_before_it_was_sent(broker: Mosquitto, qos: int) -> None:
    """Else who sends the next one at each acknowledgement sends all of them without a pause, and no bus is read."""
    settings = MqttSettings.model_validate({"host": "127.0.0.1", "port": broker.port})
    (address,) = settings.addresses
    async with ear(broker.port) as listener, connected(address, settings, "c", None, PATIENCE) as line:
        landed = asyncio.Event()
        line.send(Message("a", "1", qos=qos), landed.set)
        assert not landed.is_set()
        async with asyncio.timeout(PATIENCE):
            await landed.wait()
        await listener.until_last("a", "1")


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_burst_comes_through_whole(broker: Mosquitto, qos: int) -> None:
    client = Client(broker.port)
    async with ear(broker.port) as listener, client.running():
        await client.connects()
        client.say(*(Message(f"burst/{number}", str(number), qos=qos) for number in range(1000)))
        await listener.until(lambda ear: len(ear.last) >= 1000)
    assert all(listener.last[f"burst/{number}"] == str(number) for number in range(1000))


async def test_a_wrong_password_is_one_line_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, journal: Journal
) -> None:
    password = tmp_path / "password"
    password.write_text("wrong")
    with mosquitto(tmp_path, *with_password(tmp_path, "meter", "right")) as broker:
        client = Client(broker.port, username="meter", password_file=password)
        async with client.running():
            await journal.until("refuses the login of meter")
            client.say(Message("a", "1"))
            password.write_text("right")
            await client.connects()
            async with ear(broker.port, username="meter", password="right") as listener:
                await listener.said("a")
    assert len(journal.warnings) == 1
    assert not {"right", "wrong"} & set(caplog.text.split())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "is away: "),
        ({"username": "u", "password_file": "{missing}"}, "cannot read {missing}: No such file or directory"),
        ({"username": "u", "password_file": "{binary}"}, "cannot read {binary}: it is no UTF-8 text"),
        ({"tls": {"ca_file": "{missing}"}}, "cannot read {missing}: No such file or directory"),
        ({"tls": {"cert_file": "{missing}"}}, "cannot read {missing}: No such file or directory"),
        ({"tls": {"ca_file": "{binary}"}}, "mqtt.tls: ca_file, cert_file or key_file is no certificate or key in PEM"),
        ({"host": "nowhere.invalid"}, "the broker nowhere.invalid:{port} cannot be found: no address for its name ("),
    ],
)
async def test_what_keeps_us_from_the_broker_is_said_once(
    settings: dict[str, object], said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, journal: Journal
) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    names = {"missing": str(tmp_path / "missing"), "binary": str(binary)}

    def filled(value: object) -> object:
        if isinstance(value, dict):
            return {key: filled(item) for key, item in value.items()}
        return value.format(**names) if isinstance(value, str) else value

    with mosquitto(tmp_path, starts=False) as broker:
        filled_settings = filled(settings)
        assert isinstance(filled_settings, dict)
        client = Client(broker.port, **filled_settings)
        async with client.running():
            await journal.until(said.format(port=broker.port, **names))
    assert len(journal.warnings) == 1
    assert journal.warnings[0].endswith("trying again")
    assert "Traceback" not in caplog.text


async def refuse_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A broker that knows CONNECT, SUBSCRIBE and PUBLISH, and grants the third subscription (MQTT 3.1.1 cl. 3.9.3)."""
    code = iter(b"\x80\x80\x01")
    while head := await reader.read(2):
        rest = await reader.readexactly(head[1])
        match head[0] >> 4:
            case 1:
                writer.write(b"\x20\x02\x00\x00")
            case 8:
                writer.write(b"\x90\x03" + rest[:2] + bytes([next(code)]))
    writer.close()


async def test_a_subscription_that_the_broker_refuses_is_told_once_and_asked_for_again(
    caplog: pytest.LogCaptureFixture, journal: Journal
) -> None:
    async with await asyncio.start_server(refuse_first, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        async with Client(port, given={"subscribe": 0.02}).running(()):
            await journal.until(f"the broker 127.0.0.1:{port} does not let us subscribe to asked/#")
            await journal.until(f"the broker 127.0.0.1:{port} lets us subscribe now")
    assert len(journal.warnings) == 1
    assert "Traceback" not in caplog.text


async def test_the_next_connection_of_a_process_ends_the_one_before(
    broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    """Its will must not come when we are back already: the broker would call us dead for ever."""
    client = Client(broker.port)
    async with client.running():
        await client.connects()
        first = client.broker._client_id  # noqa: SLF001 - the broker knows it, but tells nobody
        broker.kill()
        broker.start()
        async with ear(broker.port) as listener:
            client.say(Message("back", "1"))
            await listener.said("back")
        assert client.broker._client_id == first  # noqa: SLF001
    assert Client(broker.port).broker._client_id != first  # noqa: SLF001
    assert "Traceback" not in caplog.text


async def test_a_bug_in_what_takes_messages_is_not_hidden(broker: Mosquitto) -> None:
    def stumble(topic: str, payload: str, retained: bool) -> None:  # noqa: FBT001 - the broker's callback
        raise ZeroDivisionError(f"{topic} {payload} {retained}")

    settings = MqttSettings(host="127.0.0.1", port=broker.port)
    one = Broker(settings, WILL, ("asked/#",), stumble)
    async with ear(broker.port) as speaker:
        await speaker.say("asked/x", "1", retain=True)
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(one.run(lambda: ()), PATIENCE)


async def test_somebody_who_calls_us_dead_without_end_does_not_keep_us_from_speaking(broker: Mosquitto) -> None:
    client = Client(broker.port, subscriptions=("asked/#", WILL.topic))
    async with client.running(), ear(broker.port) as other:
        await client.connects()
        for number in range(200):
            client.say(Message(f"state/{number}", "1"))
        for _ in range(300):
            await other.say(WILL.topic, WILL.payload)
        await other.say("asked/last", "1")
        await client.receives(2)
        while client.received[-1][0] != "asked/last":
            await client.receives(len(client.received) + 1)
    dead = [topic for topic, _, retained in client.received if topic == WILL.topic and not retained]
    assert 1 <= len(dead) < 20
