"""What is kept of a meter whose keys are many: all that it sends now and then, and no more than a machine bears."""

from collections.abc import Iterable

from mbusd.model import Reading
from mbusd.sinks.last_said import AT_ONCE, LONG_AGO, MOST_KEYS, LastSaid, values
from mbusd.sinks.topics import Topics
from tests.sinks.readings import HEAT, NOON, measured


def of(keys: Iterable[str]) -> Reading:
    return Reading("heat_pump", HEAT, NOON, (), tuple(measured(key, 1) for key in keys))


def numbered(first: int, count: int) -> list[str]:
    return [f"k{number}" for number in range(first, first + count)]


def taken(known: LastSaid, *keys: str) -> tuple[str, ...]:
    known.take(of(keys))
    return known.give_way()


def test_a_meter_that_makes_up_keys_has_no_more_than_a_machine_bears() -> None:
    known, gone = LastSaid(), set[str]()
    for number in range(0, 3000, 10):
        given_up = taken(known, "energy", *numbered(number, 10))
        assert gone.isdisjoint(given_up), "what is gone goes once"
        gone.update(given_up)
        assert len(known.keys) <= AT_ONCE * MOST_KEYS
        assert gone.isdisjoint(known.keys)
        assert {"energy", *numbered(number, 10)} <= set(known.keys)
        assert len(known.readings) <= len(known.keys)
    assert gone | set(known.keys) == {"energy", *numbered(0, 3000)}
    whole = known.whole()
    assert whole is not None
    assert {item.key for item in whole.measurements} == set(known.keys)
    said = {message.topic.rpartition("/")[2] for message in values(known, Topics(), known.keys)}
    assert said - {"heat_pump"} == set(known.keys), "nothing is said again of what is gone"


def test_the_keys_that_go_are_those_that_were_not_seen_for_longest() -> None:
    known = LastSaid()
    taken(known, *numbered(0, 200))
    taken(known, *numbered(200, 100))
    assert taken(known, *numbered(0, 100)) == (), "there are more than usual, and all were seen of late"
    assert set(taken(known, *numbered(300, 100))) <= {*numbered(100, 100), *numbered(200, 100)}
    assert set(numbered(0, 100)) <= set(known.keys)
    assert len(known.keys) == MOST_KEYS


def test_one_read_out_may_have_more_keys_than_a_meter_usually_has() -> None:
    known = LastSaid()
    for _ in range(2 * LONG_AGO):
        assert taken(known, *numbered(0, 600)) == ()
    assert len(known.keys) == 600


def test_what_comes_now_and_then_stays_however_many_keys_there_are() -> None:
    known = LastSaid()
    for number in range(6 * LONG_AGO):
        more = ["alarm_text"] if number % (LONG_AGO - 1) == 0 else []
        assert taken(known, *numbered(150 * (number % 2), 150), *more) == ()
    assert len(known.keys) == 301


def test_of_few_keys_none_ever_goes() -> None:
    known = LastSaid()
    taken(known, "once")
    for number in range(3 * LONG_AGO):
        assert taken(known, *numbered(100 * (number % 2), 100)) == ()
    assert "once" in known.keys


def test_what_was_not_seen_for_long_goes_as_soon_as_there_are_too_many() -> None:
    known = LastSaid()
    taken(known, "once", *numbered(0, 255))
    assert taken(known, *numbered(1, 255), "another") == ()
    for _ in range(LONG_AGO - 2):
        assert taken(known, *numbered(1, 255), "another") == ()
    assert set(taken(known, *numbered(1, 255), "another")) == {"once", "k0"}


def test_the_successor_of_a_meter_with_many_keys_begins_with_none() -> None:
    known = LastSaid()
    taken(known, *numbered(0, 250))
    taken(known, *numbered(250, 50))
    known.forget()
    assert taken(known, "energy") == ()
    assert known.keys == ("energy",)
