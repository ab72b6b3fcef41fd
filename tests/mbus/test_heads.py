"""Heads of records: where they end, and what their bits say of the data (EN 13757-3 cl. 6.2 to 6.4)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbusd.mbus.errors import DecodeError
from mbusd.mbus.heads import MOST_HEADS, SHORT, Head, head_at


def head(text: str, start: int = 0) -> Head:
    return head_at(bytes.fromhex(text), start)


def outcome(data: bytes, start: int) -> Head | str:
    try:
        return head_at(data, start)
    except DecodeError as error:
        return f"{error.code}: {error.message}"


def test_dib_and_vib_end_with_the_first_byte_without_an_extension_bit() -> None:
    said = head("FF 84 90 40 86 3B 01 02 03 04", 1)
    assert (said.dib, said.vib, said.data) == (b"\x84\x90\x40", b"\x86\x3b", bytes.fromhex("8490 40 863B"))
    assert (said.coding, said.size, said.tariff, said.subunit) == ("integer", 4, 1, 2)
    assert said.information.modifiers == ("forward",)


def test_the_length_of_data_with_an_lvar_byte_stands_in_the_head() -> None:
    said = head("0D FD 0F 05 30 2E 31 2E 41")
    assert (said.data, said.coding, said.size) == (bytes.fromhex("0DFD0F05"), "text", 5)


def test_the_text_of_a_unit_is_part_of_the_head() -> None:
    said = head("04 7C 03 68 57 6B 01 00 00 00")
    assert (said.data, said.information.unit, said.size) == (bytes.fromhex("047C0368576B"), "kWh", 4)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("3F 13", "reserved_dif"),
        ("84", "premature_end_of_dif"),
        ("04 93", "premature_end_of_vif"),
        ("84 80 80 80 80 80 80 80 80 80 80 80 13", "too_many_difes"),
        ("04 93 80 80 80 80 80 80 80 80 80 80 80", "too_many_vifes"),
        ("0D 13", "premature_end_of_data"),
        ("0D 13 FF", "reserved_lvar"),
    ],
)
def test_a_head_without_an_end_says_why(text: str, code: str) -> None:
    with pytest.raises(DecodeError) as caught:
        head(text)
    assert caught.value.code == code


@given(st.binary(min_size=1, max_size=30), st.binary(max_size=4))
def test_what_stands_before_and_behind_a_head_is_no_part_of_it(data: bytes, before: bytes) -> None:
    said, again = outcome(data, 0), outcome(before + data, len(before))
    assert said == again
    if not isinstance(said, Head):
        return
    assert data.startswith(said.dib + said.vib)
    assert len(said.data) - len(said.dib + said.vib) == (said.dib[0] & 0x0F == 0x0D)
    assert all(byte & 0x80 for byte in said.dib[:-1])
    assert not said.dib[-1] & 0x80


@given(st.lists(st.binary(min_size=2, max_size=8), min_size=1, max_size=40))
def test_no_head_that_is_known_by_its_bytes_begins_with_another(sent: list[bytes]) -> None:
    """So that whichever is found first is the one."""
    for data in sent:
        outcome(data, 0)
    for known in SHORT:
        assert not any(known[:size] in SHORT for size in range(len(known)))


def test_heads_without_end_fill_no_memory() -> None:
    """All storage numbers of two DIFEs."""
    for number in range(1 << 8):
        for vif in range(1 << 3):
            head_at(bytes([0x84, 0x80 | number & 0x0F, number >> 4, vif]), 0)
    assert 0 < len(SHORT) <= MOST_HEADS
