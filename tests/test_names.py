"""Who goes by a secondary address, over the lives of meters: never two by the same one."""

import logging

import pytest

from mbusd.exact_json import JsonValue
from mbusd.names import Names

FIRST, SECOND = ("cellar", "1"), ("attic", "1")
ADDRESS, OTHER = "123456782D2C0804", "876543212D2C0804"


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "mbusd.names")


def names(note: JsonValue = None) -> tuple[Names, list[JsonValue]]:
    kept: list[JsonValue] = []
    return Names(note, kept.append), kept


def test_the_second_goes_by_its_place_in_later_lives_too() -> None:
    one, kept = names()
    assert one.claim(FIRST, ADDRESS)
    assert not one.claim(SECOND, ADDRESS)
    assert one.claim(FIRST, ADDRESS)
    later, _ = names(kept[-1])
    assert not later.claim(SECOND, ADDRESS)
    assert later.claim(FIRST, ADDRESS)


def test_both_are_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "mbusd.names")
    one, _ = names()
    for _ in range(3):
        one.claim(FIRST, ADDRESS)
        one.claim(SECOND, ADDRESS)
    (line,) = caplog.messages
    assert line.startswith("attic/1 says that it is meter 123456782D2C0804, as cellar/1 does: it goes by its place;")


def test_a_meter_that_has_moved_keeps_its_name() -> None:
    one, kept = names()
    assert one.claim(FIRST, ADDRESS)
    one.release(FIRST)
    assert one.claim(SECOND, ADDRESS)
    assert kept == []


def test_the_name_of_a_meter_that_was_exchanged_is_free() -> None:
    one, _ = names()
    assert one.claim(FIRST, ADDRESS)
    assert one.claim(FIRST, OTHER)
    assert one.claim(SECOND, ADDRESS)


def test_a_second_that_was_exchanged_has_a_name_of_its_own() -> None:
    one, kept = names()
    one.claim(FIRST, ADDRESS)
    one.claim(SECOND, ADDRESS)
    assert one.claim(SECOND, OTHER)
    assert kept[-1] == []


@pytest.mark.parametrize("note", [7, {}, [7], [["a"]], [["a", 5, "b"]], [["a", "b", "c", "d"]]])
def test_a_note_that_is_none_is_nothing(note: JsonValue) -> None:
    one, _ = names(note)
    assert one.claim(FIRST, ADDRESS)
