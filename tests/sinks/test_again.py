"""What is said again to a broker that has lost everything is what was retained there, topic by topic."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC

import pytest

from mbusd.mbus.frames import LongFrame
from mbusd.mbus.telegram import decode
from mbusd.model import Event, MeterChanged, MeterGone, Reading, ReadingTaken
from mbusd.normalise import reading
from mbusd.sinks.outbox import Outbox
from mbusd.sinks.publisher import Publisher
from mbusd.sinks.topics import Message
from tests.sinks.readings import HEAT, NOON, SUCCESSOR, info
from tests.sinks.readings import reading as plain_reading
from tests.sinks.test_publisher import NEW, OLD, publisher

ENERGY, POWER, DUE = "04 06 {}", "04 2B {}", "42 6C 7F 2C"
NOTHING = "0A 5A BB BB"  # four digits that are none: no value
SECOND = replace(SUCCESSOR, identification="22222222", address="222222222D2C0804")


class House:
    """A publisher, what waits for the broker, and a broker that remembers what was retained."""

    def __init__(self, one: Publisher) -> None:
        self.publisher = one
        self.outbox = Outbox()
        self.retained: dict[str, str] = {}
        self.hears(one.greeting())

    def hears(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self.outbox.add(message)
        self.retained = self._drained(self.retained)

    def happens(self, *events: Event) -> None:
        for event in events:
            self.hears(self.publisher.take(event))

    def again(self) -> dict[str, str]:
        """What a broker has that knew nothing."""
        self.outbox.say_everything()
        return self._drained({})

    def _drained(self, before: dict[str, str]) -> dict[str, str]:
        held = dict(before)
        while (taken := self.outbox.take()) is not None:
            number, message = taken
            self.outbox.landed(number)
            if message.retain:
                held[message.topic] = message.payload
        return {topic: payload for topic, payload in held.items() if payload}


def drafted(number: int, *records: str, identification: str = "12345678") -> Reading:
    """A reading as the daemon makes it, with a number in each record that has a place for it."""
    head = bytes.fromhex(identification)[::-1] + bytes.fromhex("2D2C 08 04 01 00 00 00")
    body = bytes.fromhex(" ".join(records).format(*[number.to_bytes(4, "little").hex()] * len(records)))
    taken = reading("", [decode(LongFrame(0x08, 68, 0x72, head + body))], NOON, UTC)
    return taken.called("heat_pump", taken.identity)


def life() -> list[Event]:
    full, short = (ENERGY, POWER, DUE), (ENERGY, DUE)
    return [
        MeterChanged(info(online=None)),
        *(ReadingTaken(drafted(number, *full)) for number in (1, 2, 3)),
        *(ReadingTaken(drafted(number, *short)) for number in (4, 5)),
        ReadingTaken(drafted(6, *full)),
        ReadingTaken(drafted(7, *short)),
        ReadingTaken(drafted(8, *short, NOTHING)),
        MeterChanged(info(interval="20s")),
        *(ReadingTaken(drafted(number, *full, identification="87654321")) for number in (1, 2)),
        MeterChanged(info(interval="20s", online=False, identity=SUCCESSOR)),
    ]


@pytest.mark.parametrize("homeassistant", [True, False])
@pytest.mark.parametrize(
    "mqtt", [{}, {"only_on_change": True}, {"values": False}, {"retain": False}, {"telegrams": True, "qos": 0}]
)
def test_after_each_event_it_is_all_that_is_retained(*, mqtt: dict[str, object], homeassistant: bool) -> None:
    house = House(publisher({"enabled": homeassistant}, **mqtt))
    for at, event in enumerate(life()):
        house.happens(event)
        if at == 2:
            house.hears(house.publisher.learnt())
        if at == 5:
            house.hears(house.publisher.meters())
        known = house.again()
        known["mbusd/bridge/meters"] = house.retained.get("mbusd/bridge/meters", "")  # that list is of now
        assert {topic: payload for topic, payload in known.items() if payload} == house.retained
    assert house.retained["mbusd/heat_pump/interval"] == "20"
    assert ("mbusd/heat_pump" in house.retained) == (mqtt != {"retain": False})
    assert (NEW in house.retained) == homeassistant


def test_a_value_that_the_last_reading_lacks_is_the_last_one_that_came() -> None:
    house = House(publisher())
    house.happens(*life()[:8])
    assert house.again()["mbusd/heat_pump/power"] == house.retained["mbusd/heat_pump/power"] == "6"
    assert '"power": null' in house.retained["mbusd/heat_pump"]


def test_nothing_is_left_of_a_meter_that_is_gone() -> None:
    house = House(publisher())
    house.hears(house.publisher.learnt())
    house.happens(MeterChanged(info()), ReadingTaken(plain_reading()), MeterGone(info()))
    assert house.again() == house.retained
    assert not [topic for topic in house.retained if "heat_pump" in topic or topic == OLD]


def test_devices_that_change_names_are_said_as_they_are_now() -> None:
    house = House(publisher())
    house.hears(house.publisher.learnt())
    first, second = info("a"), info("b", address="69", identity=SECOND)
    house.happens(MeterChanged(first), MeterChanged(second))
    house.happens(ReadingTaken(plain_reading(HEAT, "a")), ReadingTaken(plain_reading(SECOND, "b")))
    house.happens(MeterGone(first), MeterGone(second), MeterChanged(info("b")), ReadingTaken(plain_reading(HEAT, "b")))
    assert house.again() == house.retained
    house.happens(MeterChanged(replace(second, name="a")), ReadingTaken(plain_reading(SECOND, "a")))
    assert house.again() == house.retained


def test_what_an_earlier_life_has_announced_is_said_to_a_broker_that_lost_it() -> None:
    """In this life nothing of it had to be said, for nothing has changed; and some meters have not answered yet."""
    earlier = House(publisher())
    earlier.hears(earlier.publisher.learnt())
    earlier.happens(MeterChanged(info()), ReadingTaken(plain_reading()))
    house = House(publisher())
    house.happens(MeterChanged(info(online=None, identity=None)))
    announced_then = {topic: text for topic, text in earlier.retained.items() if topic.startswith("homeassistant/")}
    assert len(announced_then) == 3  # bridge, bus, meter
    for topic, text in announced_then.items():
        assert house.publisher.learn(topic, text)
    house.hears(house.publisher.learnt())
    assert house.again().items() >= announced_then.items()
    house.happens(MeterChanged(info()), ReadingTaken(plain_reading(energy=1, volume=2)))
    assert house.again().items() >= announced_then.items()
    house.hears(house.publisher.after_birth())
    assert house.again() == house.retained | announced_then


def test_our_own_words_as_the_broker_passes_them_on_change_nothing() -> None:
    house = House(publisher())
    house.hears(house.publisher.learnt())
    house.happens(MeterChanged(info()), ReadingTaken(plain_reading()))
    for topic, payload in tuple(house.retained.items()):
        if topic.startswith("homeassistant/"):
            assert house.publisher.learn(topic, payload)
    assert house.again() == house.retained
