"""Primary and secondary addresses as people write them and as the wire carries them (EN 13757-2 cl. 5, -3 cl. 5.6)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbusd.mbus.address import (
    PrimaryAddress,
    SecondaryAddress,
    manufacturer_code,
    manufacturer_letters,
    parse_address,
)
from mbusd.mbus.errors import AddressError

DIGITS = st.text("0123456789ABCDEF", min_size=16, max_size=16)


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("5", 5), ("250", 250), ("007", 7), (" 68 ", 68), (0, 0), (250, 250)]
)
def test_a_primary_address_is_0_to_250(text: str | int, number: int) -> None:
    assert parse_address(text) == PrimaryAddress(number)


@pytest.mark.parametrize("text", ["251", 251, 253, 254, 255, -1, "999", 12345678])
def test_the_reserved_a_fields_are_no_meters_addresses(text: str | int) -> None:
    with pytest.raises(AddressError, match=r"0\.\.250"):
        parse_address(text)


@pytest.mark.parametrize(
    "text",
    ["", " ", "-1", "5.0", "0x05", "1234567", "123456789", "1234567G", "12345678-KAM", "12345678 2D2C0804", "٣", "²"],
)
def test_what_is_no_address_is_refused_with_what_would_be_one(text: str) -> None:
    with pytest.raises(AddressError, match=r"primary address is 0\.\.250, a secondary one has 8 or 16 digits"):
        parse_address(text)


@pytest.mark.parametrize("truth", [True, False])
def test_a_truth_value_is_no_address(*, truth: bool) -> None:
    with pytest.raises(AddressError):
        parse_address(truth)


def test_eight_digits_leave_the_rest_open() -> None:
    address = parse_address("12345678")
    assert address == SecondaryAddress("12345678FFFFFFFF")
    assert str(address) == "12345678"


def test_sixteen_digits_are_identification_manufacturer_version_medium() -> None:
    address = parse_address("123456782d2c0804")
    assert address == SecondaryAddress("123456782D2C0804")
    assert str(address) == "123456782D2C0804"


def test_on_the_wire_the_identification_stands_low_byte_first() -> None:
    wire = bytes.fromhex("78 56 34 12 2D 2C 08 04")  # LINK layer example: 12345678 KAM 08 04
    assert SecondaryAddress("123456782D2C0804").to_bytes() == wire
    assert SecondaryAddress.from_bytes(wire) == SecondaryAddress("123456782D2C0804")
    assert SecondaryAddress.from_bytes(wire + b"\x05\x00\x00\x00") == SecondaryAddress("123456782D2C0804")


@given(DIGITS)
def test_to_bytes_and_from_bytes_are_inverse(digits: str) -> None:
    address = SecondaryAddress(digits)
    assert SecondaryAddress.from_bytes(address.to_bytes()) == address


@given(DIGITS)
def test_what_an_address_prints_can_be_typed(digits: str) -> None:
    address = SecondaryAddress(digits)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("mask", "fits"),
    [
        ("FFFFFFFFFFFFFFFF", True),
        ("12345678FFFFFFFF", True),
        ("1234567FFFFFFFFF", True),
        ("F2345678FFFFFFFF", True),
        ("123FFFFFFFFFFFFF", True),
        ("12345679FFFFFFFF", False),
        ("124FFFFFFFFFFFFF", False),
        ("FFFFFFFFFFFFFF04", True),
        ("FFFFFFFFFFFFFF07", False),
        ("FFFFFFFF2D2CFFFF", True),
        ("FFFFFFFF2D2DFFFF", False),
        ("FFFFFFFF2DFFFFFF", True),
        ("FFFFFFFFFFFF08FF", True),
        ("FFFFFFFFFFFF09FF", False),
    ],
)
def test_wildcards_stand_for_digits_of_the_identification_and_for_whole_bytes_of_the_rest(
    mask: str, *, fits: bool
) -> None:
    meter = SecondaryAddress("123456782D2C0804")
    assert SecondaryAddress(mask).matches(meter) == fits
    assert meter.matches(SecondaryAddress(mask)) == fits


def test_a_single_f_outside_the_identification_is_a_digit() -> None:
    assert not SecondaryAddress("FFFFFFFFFFFFFFF4").matches(SecondaryAddress("123456782D2C0804"))
    assert SecondaryAddress("FFFFFFFFFFFFFFF4").matches(SecondaryAddress("123456782D2C08F4"))


@pytest.mark.parametrize(
    ("digits", "exact"),
    [("12345678FFFFFFFF", True), ("1234567FFFFFFFFF", False), ("123456782D2C0804", True), ("ABCDE000FFFFFFFF", True)],
)
def test_an_exact_address_has_all_digits_of_its_identification(digits: str, *, exact: bool) -> None:
    assert SecondaryAddress(digits).is_exact == exact


@pytest.mark.parametrize("digits", ["", "12345678", "123456782d2c0804", "123456782D2C080G", "123456782D2C08040"])
def test_a_secondary_address_has_sixteen_hex_digits(digits: str) -> None:
    with pytest.raises(AddressError):
        SecondaryAddress(digits)


@pytest.mark.parametrize(("letters", "code"), [("KAM", 0x2C2D), ("AAA", 0x0421), ("ZZZ", 0x6B5A), ("SEN", 0x4CAE)])
def test_manufacturers_letters(letters: str, code: int) -> None:
    assert manufacturer_code(letters) == code
    assert manufacturer_letters(code) == letters


@given(st.integers(0, 0xFFFF))
def test_a_code_is_shown_as_letters_only_where_these_give_the_code_again(code: int) -> None:
    shown = manufacturer_letters(code)
    if shown.startswith("0x"):
        assert int(shown, 16) == code
    else:
        assert manufacturer_code(shown) == code


@pytest.mark.parametrize("letters", ["", "KA", "KAMS", "kam", "K1M", "K M", "KÄM"])
def test_a_manufacturer_has_three_letters(letters: str) -> None:
    with pytest.raises(AddressError, match="three letters"):
        manufacturer_code(letters)
