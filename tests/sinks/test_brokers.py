"""Several brokers: the next when one is lost or refuses, the first again when it is back; nothing is lost meanwhile."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from mbusd.configuration.settings import BrokerAddress, MqttSettings
from mbusd.sinks.rota import LONGEST_BACK, Rota
from mbusd.sinks.topics import Message
from tests.broker_relay import CONNACK, PUBACK, broker_relay
from tests.mosquitto import Ear, Mosquitto, ear, mosquitto, retained
from tests.sinks.clients import WILL, Client, Journal, journal

__all__ = ("journal",)  # a fixture

A, B, C = (BrokerAddress(name, 1883) for name in "abc")
ONLINE = Message(WILL.topic, "online")


@pytest.mark.parametrize(
    ("given", "addresses"),
    [
        ({}, ["localhost:1883"]),
        ({"host": "::1", "tls": True}, ["[::1]:8883"]),
        (
            {"hosts": ["a", "b:1884", "[::1]", "[fe80::1%eth0]:1"]},
            ["a:1883", "b:1884", "[::1]:1883", "[fe80::1%eth0]:1"],
        ),
        ({"hosts": ["a", "b:1884"], "port": 5, "tls": True}, ["a:5", "b:1884"]),
    ],
)
def test_brokers_are_listed_with_or_without_ports(given: dict[str, object], addresses: list[str]) -> None:
    assert [str(address) for address in MqttSettings.model_validate(given).addresses] == addresses


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"host": "a", "hosts": ["b"]}, "host and hosts exclude each other"),
        ({"hosts": []}, "at least one is needed"),
        ({"hosts": ["a", "a:1883"]}, "the same broker stands there twice"),
        ({"hosts": ["::1"]}, "an IPv6 address in brackets"),
        ({"hosts": ["a:0"]}, "'a:0' is not HOST or HOST:PORT"),
        ({"hosts": ["a:70000"]}, "'a:70000' is not HOST or HOST:PORT"),
        ({"hosts": ["mqtt://a"]}, "this is no name or address of a host: no mqtt://"),
        ({"hosts": ["a..b"]}, "'a..b' is no name or address of a host"),
        ({"hosts": "a"}, "tuple"),
    ],
)
def test_what_is_no_list_of_brokers(given: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError) as refused:
        MqttSettings.model_validate(given)
    assert why in str(refused.value)


def rota(*brokers: BrokerAddress) -> Rota:
    return Rota(brokers, pauses=(1.0, 2.0, 5.0), steady=10.0, back=60.0)


def test_all_are_tried_at_once_and_only_then_there_is_a_pause() -> None:
    one = rota(A, B, C)
    tried = [(one.turn, one.failed()) for _ in range(9)]
    assert tried == [(A, 0), (B, 0), (C, 1), (A, 0), (B, 0), (C, 2), (A, 0), (B, 0), (C, 5)]


def test_a_single_broker_is_tried_again_after_pauses_that_do_not_grow_for_ever() -> None:
    one = rota(A)
    assert [one.failed() for _ in range(4)] == [1, 2, 5, 5]
    one.holds()
    assert [one.lost(11), one.failed()] == [1, 2]


@pytest.mark.parametrize(("lost", "then"), [(A, [B, C, A]), (B, [A, C, B]), (C, [A, B, C])])
def test_after_a_loss_the_others_are_tried_first(lost: BrokerAddress, then: list[BrokerAddress]) -> None:
    one = rota(A, B, C)
    while one.turn != lost:
        one.failed()
    assert one.lost(held=11) == 0
    tried = []
    for _ in range(3):
        tried.append(one.turn)
        one.failed()
    assert tried == then


def test_connections_that_do_not_hold_are_made_slower_and_slower() -> None:
    one = rota(A, B)
    assert [one.lost(held=1) for _ in range(4)] == [1, 2, 5, 5]
    assert one.short == 4
    assert one.lost(held=11) == 0
    assert one.short == 0


def test_the_first_is_asked_less_often_when_it_does_not_stay() -> None:
    one = rota(A, B)
    assert one.look_back is None
    asked: list[float | None] = []
    for _ in range(8):
        one.lost(held=11)
        asked.append(one.look_back)
        one.back()
    assert asked == [60, 120, 240, 480, 960, 1920, LONGEST_BACK, LONGEST_BACK]
    one.lost(held=LONGEST_BACK)
    assert one.look_back == 60


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[tuple[Mosquitto, Mosquitto]]:
    folders = tmp_path / "a", tmp_path / "b"
    for folder in folders:
        folder.mkdir()
    with mosquitto(folders[0]) as one, mosquitto(folders[1]) as other:
        yield one, other


def hosts(*ports: int) -> list[str]:
    return [f"127.0.0.1:{port}" for port in ports]


def event(number: int) -> Message:
    return Message("event", str(number), retain=False, is_unique=True)


def all_events(*ears: Ear) -> list[int]:
    return sorted({int(payload) for one in ears for payload in one.payloads("event")})


async def test_the_next_takes_over_and_the_first_has_us_back(
    brokers: tuple[Mosquitto, Mosquitto], caplog: pytest.LogCaptureFixture, journal: Journal
) -> None:
    first, second = brokers
    client = Client(1883, hosts=hosts(first.port, second.port), given={"back": 0.2})
    async with ear(second.port) as other, client.running():
        client.say(ONLINE, Message("state", "1"))
        await journal.until(f"connected to the broker 127.0.0.1:{first.port}")
        first.kill()
        client.say(Message("state", "2"))
        await other.until_last("state", "2")
        await other.until_last(WILL.topic, "online")
        first.start()
        await journal.until(f"the broker 127.0.0.1:{first.port} is back; leaving 127.0.0.1:{second.port}")
        await other.until_last(WILL.topic, "offline")
        client.say(Message("state", "3"))
        async with ear(first.port) as listener:
            await listener.until_last("state", "3")
            await listener.until_last(WILL.topic, "online")
        assert other.last["state"] == "2"
    assert len(journal.warnings) == 1
    assert f"trying 127.0.0.1:{second.port}" in journal.warnings[0]
    assert (await retained(first.port))[WILL.topic] == "offline"
    assert "Traceback" not in caplog.text


async def heard_somewhere(number: int, *ears: Ear) -> None:
    waiting = [asyncio.create_task(one.until(lambda ear: str(number) in ear.payloads("event"))) for one in ears]
    done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    assert all(task.exception() is None for task in done)


async def test_no_event_is_lost_between_two_brokers(
    brokers: tuple[Mosquitto, Mosquitto], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = brokers
    async with ear(first.port) as one, ear(second.port) as other, broker_relay(first.port) as (port, relay):
        client = Client(1883, hosts=hosts(port, second.port), given={"back": 0.05})
        async with client.running(()):
            for start in range(0, 600, 100):
                await client.connects()
                client.say(*(event(number) for number in range(start, start + 100)))
                await heard_somewhere(start + 5, one, other)
                relay.refuses = not relay.refuses
                if relay.refuses:
                    relay.cut()
                else:
                    await relay.connected(relay.connections + 2)  # it is asked whether it is back, and used
            await heard_somewhere(599, one, other)
    assert all_events(one, other) == list(range(600))
    assert other.heard
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("fault", ["refuses", "no name", "no answer", "no acknowledgement"])
async def test_a_first_broker_that_is_no_good_is_passed_over(
    brokers: tuple[Mosquitto, Mosquitto], fault: str, caplog: pytest.LogCaptureFixture, journal: Journal
) -> None:
    first, second = brokers
    async with ear(second.port) as other, broker_relay(first.port) as (port, relay):
        relay.refuses = fault == "refuses"
        relay.withheld = frozenset({"no answer": {CONNACK}, "no acknowledgement": {PUBACK}}.get(fault, set()))
        bad = "nowhere.invalid" if fault == "no name" else f"127.0.0.1:{port}"
        given = {"answer": 0.2, "unacknowledged": 0.2}
        client = Client(1883, hosts=[bad, f"127.0.0.1:{second.port}"], given=given)
        client.say(ONLINE, Message("state", "1"))
        async with client.running(()):
            await other.until_last("state", "1")
            await journal.until(f"connected to the broker 127.0.0.1:{second.port}")
        if fault == "no acknowledgement":
            assert (await retained(first.port))[WILL.topic] == "offline"
    assert len(journal.warnings) == 1
    assert bad in journal.warnings[0]
    assert "Traceback" not in caplog.text


async def test_the_last_will_of_an_old_connection_is_put_right_with_all_that_it_may_have_spoilt(
    brokers: tuple[Mosquitto, Mosquitto],
) -> None:
    """A node of a cluster that was frozen says old things, and then that we are gone, when it thaws."""
    client = Client(brokers[0].port, subscriptions=(WILL.topic,))
    async with ear(brokers[0].port) as listener, client.running(()):
        client.say(ONLINE, Message("state", "new"))
        await listener.until_last("state", "new")
        await listener.say("state", "old", retain=True)
        await listener.say(WILL.topic, "offline", retain=True)
        await listener.until_last("state", "old")
        await listener.until_last("state", "new")
        await listener.until_last(WILL.topic, "online")
