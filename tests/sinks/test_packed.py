"""Texts come out as they went in, and take little room where they are alike."""

from hypothesis import given
from hypothesis import strategies as st

from mbusd.sinks.packed import MOST_KINDS, Packed, Press

ROOM = 60  # bytes: a name and a number of one text that the other one has not


def _like(name: str) -> str:
    return ", ".join(f'"{key}": "sensor of {name}, {key**7}"' for key in range(100))


@given(st.lists(st.tuples(st.text(), st.integers(0, 3))))
def test_every_text_comes_out_as_it_went_in(texts: list[tuple[str, int]]) -> None:
    press = Press()
    packed = [press.pack(text, kind) for text, kind in texts]
    assert [one.text for one in packed] == [text for text, _ in texts]


_SOME = st.text("ab\x00\x01\x02 \ud800", max_size=30)


@given(st.lists(st.tuples(_SOME, st.lists(st.text("ab\x00\x01", min_size=1, max_size=5), max_size=4))))
def test_names_that_are_kept_once_come_out_too(texts: list[tuple[str, list[str]]]) -> None:
    press = Press()
    packed = [press.pack(text, 0, tuple(own)) for text, own in texts]
    assert [one.text for one in packed] == [text for text, _ in texts]


def test_a_text_that_has_other_names_only_takes_next_to_nothing() -> None:
    press = Press()
    names = [("mbusd_123456782D2C0804", "flat_1"), ("mbusd_876543212D2C0804", "flat_2"), ("mbusd_55555555", "attic")]
    texts = [", ".join(f'"{key}": "{one}_{key} of {other} is {key**7}"' for key in range(50)) for one, other in names]
    packed = [press.pack(text, "heat", own) for text, own in zip(texts, names, strict=True)]
    assert [one.text for one in packed] == texts
    assert len(packed[2]._data) < ROOM / 2  # noqa: SLF001 - what it takes


def test_the_third_of_a_kind_takes_no_more_than_what_tells_it_from_the_second() -> None:
    press = Press()
    sizes = [len(press.pack(_like("meter_1"), "heat")._data) for _ in range(3)]  # noqa: SLF001 - what it takes
    assert sizes[0] > 500
    assert sizes[2] < ROOM


def test_more_kinds_than_are_kept_are_packed_alone() -> None:
    press = Press()
    texts = [_like(f"meter_{number}") for number in range(2 * MOST_KINDS)]
    packed = [press.pack(text, number) for _ in range(3) for number, text in enumerate(texts)]
    assert [one.text for one in packed] == texts * 3
    assert len(packed[-1]._data) == len(Packed(texts[-1])._data)  # noqa: SLF001
