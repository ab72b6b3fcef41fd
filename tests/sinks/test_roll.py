"""The meters as the sinks know them: found by place and by name, whatever became of them before."""

from dataclasses import replace

from mbusd.model import Identity, MeterInfo
from mbusd.sinks.roll import Roll

WATER = Identity("12345678", "ABC", 1, 7, "water", "1234567843040107")
ONE = MeterInfo("one", "bus", "1", "60s", online=True)


def roll(*infos: MeterInfo) -> Roll:
    found = Roll()
    for info in infos:
        found.put(info)
    return found


def test_the_last_word_counts() -> None:
    known = roll(ONE, replace(ONE, failures=3))
    assert list(known) == [replace(ONE, failures=3)]
    assert known.at("bus", "1") == known.named("one") == replace(ONE, failures=3)


def test_a_name_that_was_given_up_is_nobodys() -> None:
    known = roll(ONE, replace(ONE, name="other"))
    assert known.named("one") is None
    assert known.named("other") == replace(ONE, name="other")


def test_of_two_with_one_name_the_other_is_left() -> None:
    two = replace(ONE, address="2")
    known = roll(ONE, two)
    assert known.named("one") == ONE
    known.drop(ONE)
    assert known.named("one") == two
    known.drop(two)
    assert (known.named("one"), len(known)) == (None, 0)


def test_who_has_not_settled() -> None:
    unasked, nameless = replace(ONE, online=None), replace(ONE, name="", address="2")
    known = roll(unasked, nameless)
    assert list(known.unsettled) == [unasked, nameless]
    known.put(ONE)
    known.put(replace(nameless, name="two"))
    assert not known.unsettled


def test_who_is_called_by_an_address() -> None:
    stranger = replace(ONE, name=WATER.address, identity=WATER)
    known = roll(stranger)
    assert list(known.called_by_address) == [stranger]
    known.put(replace(stranger, name="cellar"))
    assert not known.called_by_address
