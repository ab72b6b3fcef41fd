"""The connection to a real mosquitto: what it hears when we come, go, are killed, or when it is killed itself."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mbusd.settings import MqttSettings
from mbusd.sinks import mqtt
from mbusd.sinks.mqtt import Broker
from mbusd.sinks.topics import Message
from tests.mosquitto import PATIENCE, Mosquitto, authority, ear, mosquitto, retained, with_password, with_tls

WILL = Message("mbusd/bridge/state", "offline")
FAREWELL = (Message("mbusd/bridge/state", "offline"), Message("mbusd/m/availability", "offline"))


class Client:
    """A Broker as the daemon has it, and what it received."""

    def __init__(self, port: int, **settings: object) -> None:
        self.received: list[tuple[str, str, bool]] = []
        self._news = asyncio.Event()
        document = {"host": "127.0.0.1", "port": port} | settings
        self.broker = Broker(MqttSettings.model_validate(document), WILL, ("asked/#",), self._take)

    def _take(self, topic: str, payload: str, retained: bool) -> None:  # noqa: FBT001 - the broker's callback
        self.received.append((topic, payload, retained))
        self._news.set()

    async def receives(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while len(self.received) < count:
                await self._news.wait()
                self._news.clear()

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.broker.publish(message)

    @asynccontextmanager
    async def running(self, farewell: Iterable[Message] = FAREWELL) -> AsyncIterator[asyncio.Task[None]]:
        task: asyncio.Task[None] = asyncio.create_task(self.broker.run(lambda: farewell))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task], timeout=PATIENCE)
        assert task.cancelled()

    async def connects(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.broker.connected.wait()


class Journal(logging.Handler):
    """The log, for somebody who waits for a line of it."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []
        self._news = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname}: {record.getMessage()}")
        self._news.set()

    async def until(self, text: str) -> None:
        """Wait until a line has this text."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not any(text in line for line in self.lines):
                    await self._news.wait()
                    self._news.clear()
        except TimeoutError:
            raise AssertionError(f"'{text}' was not logged: {self.lines}") from None

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.lines if not line.startswith("INFO")]


@pytest.fixture
async def journal(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Journal]:
    one = Journal()
    logger = logging.getLogger("mbusd.sinks.mqtt")
    with caplog.at_level(logging.INFO, logger.name):
        logger.addHandler(one)
        yield one
        logger.removeHandler(one)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "RECONNECT_SECONDS", (0.05,))


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


def test_the_order_of_what_is_said_again() -> None:
    client = Client(1)
    client.say(Message("a", "1"), Message("b", "1"), Message("c", "1", retain=False), Message("a", "2"))
    client.broker.say_everything()
    assert [key[0] for key in client.broker._outbox] == ["b", "c", "a"]  # noqa: SLF001 - the order on the wire


def test_what_waits_does_not_grow_for_ever() -> None:
    client = Client(1)
    client.say(*(Message(f"ha/{number}", "x", is_unique=True) for number in range(30)))
    client.say(*(Message("event", str(number), retain=False, is_unique=True) for number in range(5000)))
    client.say(*(Message("state", str(number)) for number in range(5000)))
    waiting = client.broker._outbox  # noqa: SLF001 - nobody else can see how much waits
    assert len(waiting) == mqtt.MOST_UNIQUE + 30 + 1
    assert list(waiting.values())[-2].payload == "4999"


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


async def test_a_burst_comes_through_whole(broker: Mosquitto) -> None:
    client = Client(broker.port)
    async with ear(broker.port) as listener, client.running():
        await client.connects()
        client.say(*(Message(f"burst/{number}", str(number)) for number in range(1000)))
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
        ({"host": "nowhere.invalid"}, "the broker nowhere.invalid:{port} is away: "),
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


@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")  # paho leaves it to the collector
async def test_tls_with_an_authority_of_our_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, journal: Journal
) -> None:
    with mosquitto(tmp_path, *with_tls(tmp_path)) as broker:
        client = Client(broker.port, tls={"ca_file": tmp_path / "ca.pem"})
        async with client.running():
            await client.connects()
        for ca_file in (authority(tmp_path, "other"), None):
            journal.lines.clear()
            stranger = Client(broker.port, tls={"ca_file": ca_file})
            async with stranger.running():
                await journal.until("certificate verify failed")
                assert not stranger.broker.connected.is_set()
        elsewhere = Client(broker.port, host="127.0.0.2", tls={"ca_file": tmp_path / "ca.pem"})
        async with elsewhere.running():
            await journal.until("the broker 127.0.0.2")
            assert not elsewhere.broker.connected.is_set()
    assert "Traceback" not in caplog.text


async def refuse_subscriptions(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A broker that knows CONNECT, SUBSCRIBE and PUBLISH, and grants no subscription (MQTT 3.1.1 cl. 3.9.3)."""
    while head := await reader.read(2):
        rest = await reader.readexactly(head[1])
        match head[0] >> 4:
            case 1:
                writer.write(b"\x20\x02\x00\x00")
            case 8:
                writer.write(b"\x90\x03" + rest[:2] + b"\x80")
    writer.close()


async def test_a_subscription_that_the_broker_refuses_is_told(
    caplog: pytest.LogCaptureFixture, journal: Journal
) -> None:
    async with await asyncio.start_server(refuse_subscriptions, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        async with Client(port).running(()):
            await journal.until(f"the broker 127.0.0.1:{port} does not let us subscribe to asked/#")
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
