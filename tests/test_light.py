"""Dataclasses with shared methods behave as those of the standard library."""

import copy
import dataclasses
import gc
import pickle
from dataclasses import FrozenInstanceError, field, replace

import pytest

from mbusd.light import dataclass


@dataclass(frozen=True, slots=True)
class Pair:
    """Two numbers, and what is said of them."""

    one: int
    two: float = 0.0
    said: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Single:
    one: float


@dataclass(slots=True)
class Box:
    things: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Itself:
    one: int = 1


def test_they_are_equal_by_what_counts() -> None:
    assert Pair(1, 2.0, "this") == Pair(1, 2.0, "that")
    assert Pair(1, 2.0) != Pair(1, 3.0)
    assert Single(1).__eq__(Pair(1)) is NotImplemented
    assert Pair(1).__eq__((1, 0.0)) is NotImplemented
    assert Box([1]) == Box([1])
    assert Itself() != Itself()


def test_what_is_no_number_is_equal_to_itself_as_in_a_tuple() -> None:
    nan = float("nan")
    assert Single(nan) == Single(nan)


def test_frozen_ones_are_keys_and_others_are_none() -> None:
    assert {Pair(1, 2.0, "this"): 1}[Pair(1, 2.0, "that")] == 1
    assert hash(Single(1)) == hash(Single(1))
    assert len({Itself(), Itself()}) == 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(Box())


def test_frozen_ones_do_not_change() -> None:
    pair = Pair(1)
    for name in ("one", "three"):
        with pytest.raises(FrozenInstanceError, match=f"cannot assign to field '{name}'"):
            setattr(pair, name, 2)
    with pytest.raises(FrozenInstanceError):
        del pair.one
    assert replace(pair, two=3.0) == Pair(1, 3.0)


def test_they_say_what_they_are() -> None:
    assert repr(Pair(1, 2.0, "this")) == "Pair(one=1, two=2.0)"
    assert repr(Box()) == "Box(things=[])"
    assert (Pair.__doc__, Single.__doc__) == ("Two numbers, and what is said of them.", "Single")


def test_they_are_copied_taken_apart_and_kept() -> None:
    pair = Pair(1, 2.0, "this")
    assert copy.deepcopy(pair) == pickle.loads(pickle.dumps(pair)) == pair  # noqa: S301 - our own
    assert dataclasses.asdict(pair) == {"one": 1, "two": 2.0, "said": "this"}
    match pair:
        case Pair(one, two):
            assert (one, two) == (1, 2.0)


def test_no_second_class_is_kept_alive() -> None:
    gc.collect()
    assert [cls.__name__ for cls in object.__subclasses__() if cls.__module__ == __name__].count("Pair") == 1
