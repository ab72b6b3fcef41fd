"""The owner of a meter wants other keys of it: by reload, or by a new file at a restart."""

import json
from collections.abc import Mapping

import pytest

from mbusd.configuration.settings import Settings
from mbusd.model import MeterChanged, ReadingTaken
from mbusd.sinks.publisher import Publisher
from tests.sinks.readings import HEAT, NOON, info, reading
from tests.sinks.test_again import House
from tests.sinks.test_publisher import OLD, components

FULL = {"energy": 10, "volume": 2, "power": 5300}
Keys = Mapping[str, object]


def settings(keys: Keys) -> Settings:
    meter = {"name": "heat_pump", "address": 68, "keys": keys}
    return Settings.model_validate({"buses": [{"name": "cellar", "port": "/dev/x", "meters": [meter]}]})


def house(keys: Keys, earlier: House | None = None) -> House:
    """Started with these keys wanted, at the broker that an earlier life has left."""
    one = Publisher(settings(keys), "1.2", NOON, {})
    made = House(one)
    if earlier is not None:
        made.retained = earlier.retained | made.retained
        for topic, text in earlier.retained.items():
            one.learn(topic, text)
    made.happens(MeterChanged(info(online=None)))
    made.hears(one.learnt())
    return made


def read(one: House, said: Mapping[str, int]) -> None:
    one.happens(MeterChanged(info()), ReadingTaken(reading(HEAT, "heat_pump", **said)))


def shows(one: House, *keys: str) -> None:
    """These and no others: in the document, on topics, and in Home Assistant."""
    document = json.loads(one.retained["mbusd/heat_pump"])
    assert document.keys() - {"time", "status"} == set(keys)
    prefix = "mbusd/heat_pump/"
    values = {topic.removeprefix(prefix) for topic in one.retained if topic.startswith(prefix)}
    assert values - {"availability", "interval"} == set(keys)
    assert {key for key in components(one.retained[OLD]) if key in (*FULL, "warmth")} == set(keys)
    assert one.again()[OLD] == one.retained[OLD]


@pytest.mark.parametrize("restarts", [True, False])
@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"exclude": ["pow*"]}, {"energy": 11, "volume": 3}),
        ({"include": ["energy"]}, {"energy": 11}),
        ({"rename": {"power": "warmth"}}, {"energy": 11, "volume": 3, "warmth": 5300}),
    ],
)
def test_what_is_not_wanted_any_more_is_nowhere(*, keys: Keys, said: dict[str, int], restarts: bool) -> None:
    one = house({})
    read(one, FULL)
    shows(one, *FULL)
    if restarts:
        one = house(keys, one)
    else:
        one.hears(one.publisher.reload(settings(keys), {}))
    read(one, said)
    shows(one, *said)
    if restarts:
        one = house({}, one)
        for _ in range(3):  # a key that the meter sent before may only be late
            read(one, FULL)
    else:
        one.hears(one.publisher.reload(settings({}), {}))
        read(one, FULL)
    shows(one, *FULL)


def test_a_meter_without_a_key_that_it_had_in_an_earlier_life_leaves_no_value_of_it() -> None:
    one = house({})
    read(one, FULL)
    one = house({}, one)
    for _ in range(3):
        assert one.retained["mbusd/heat_pump/power"] == "5300"
        read(one, {"energy": 11, "volume": 3})
    shows(one, "energy", "volume")


def test_a_reload_that_changes_nothing_of_a_meter_leaves_it_alone() -> None:
    one = house({"exclude": ["flow*"]})
    read(one, FULL)
    before = dict(one.retained)
    one.hears(one.publisher.reload(settings({"exclude": ["flow*"]}), {}))
    assert one.retained == before
