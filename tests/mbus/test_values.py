"""Data types A to J of EN 13757-3 annex A, each with what it has for "no valid value"."""

import struct
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mbusd.mbus import values
from mbusd.mbus.errors import DecodeError


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


@pytest.mark.parametrize(
    ("data", "value"),
    [("0A", 10), ("FF", -1), ("7F", 127), ("81", -127), ("C202", 706), ("FFFFFFFF", -1), ("E7910000", 37351)],
)
def test_type_b_is_signed(data: str, value: int) -> None:
    assert values.signed(raw(data)) == value


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 8])
def test_the_most_negative_number_is_no_value(size: int) -> None:
    with pytest.raises(DecodeError, match="no valid value"):
        values.signed(bytes(size - 1) + b"\x80")
    assert values.signed(b"\x01" + bytes(size - 2) + b"\x80" if size > 1 else b"\x81") == 1 - (1 << 8 * size - 1)


@given(st.sampled_from([1, 2, 3, 4, 6, 8]), st.data())
def test_type_b_round_trip(size: int, data: st.DataObject) -> None:
    limit = 1 << 8 * size - 1
    number = data.draw(st.integers(1 - limit, limit - 1))
    assert values.signed(number.to_bytes(size, "little", signed=True)) == number


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 8])
def test_type_c_is_unsigned_and_all_ones_are_no_value(size: int) -> None:
    assert values.unsigned(b"\xfe" + b"\xff" * (size - 1)) == (1 << 8 * size) - 2
    with pytest.raises(DecodeError, match="no valid value"):
        values.unsigned(b"\xff" * size)


def test_type_d_has_no_invalid_value() -> None:
    assert (values.bits(raw("FF")), values.bits(raw("0180")), values.bits(raw("00"))) == (255, 0x8001, 0)


@pytest.mark.parametrize(
    ("data", "value"),
    [("12", 12), ("08610500", 56108), ("99999999", 99999999), ("06F7", -706), ("1200F0", -12), ("F5", -5), ("00F0", 0)],
)
def test_type_a_is_bcd_with_a_minus_in_the_first_digit(data: str, value: int) -> None:
    assert values.bcd(raw(data)) == value


@pytest.mark.parametrize("data", ["FF", "FFFFFFFF", "DDEBB4DD", "0A", "A0", "1F", "F1FF"])
def test_type_a_with_other_letters_is_no_value(data: str) -> None:
    with pytest.raises(DecodeError, match="instead of decimal digits"):
        values.bcd(raw(data))


def test_the_problem_shows_what_the_meter_shows() -> None:
    with pytest.raises(DecodeError, match="'EBB4DD'"):
        values.bcd(raw("DDB4EB"))


def test_digits_of_an_lvar_have_no_sign() -> None:
    assert values.digits(raw("3412")) == 1234
    with pytest.raises(DecodeError):
        values.digits(raw("34F2"))


def test_identifiers_keep_their_zeros() -> None:
    assert values.identifier(raw("01000000")) == "00000001"
    with pytest.raises(DecodeError):
        values.identifier(raw("0A000000"))


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("0000A041", "20"),
        ("CDCCCC3D", "0.1"),
        ("119A6943", "233.60182"),
        ("00000000", "0"),
        ("00000080", "0"),
        ("01000000", "1E-45"),
        ("FFFF7F7F", "3.4028235E+38"),
        ("0000C0BF", "-1.5"),
        ("A2376762", "1.06630166e+21"),
    ],
)
def test_type_h_is_the_shortest_decimal(data: str, value: str) -> None:
    assert values.real(raw(data)) == Decimal(value)


@pytest.mark.parametrize("data", ["FFFFFF7F", "0000C0FF", "0000C07F", "0000807F", "000080FF", "FFFFFFFF"])
def test_type_h_that_is_no_number(data: str) -> None:
    with pytest.raises(DecodeError, match="not a number"):
        values.real(raw(data))


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
@example(3.4028234663852886e38)
@example(1.17549421069e-38)
def test_type_h_round_trip(number: float) -> None:
    data = struct.pack("<f", number)
    assert struct.pack("<f", float(values.real(data))) == data


@given(
    st.one_of(
        st.floats(width=32, allow_nan=False, allow_infinity=False),
        st.floats(2.0**-16, 2.0**46, width=32),
        st.decimals(-(10**7), 10**7, places=3).map(float),
    )
)
@example(2.0**23)
@example(-1e-4)
@example(9999999.0)
@example(5000000.5)
@example(0.1)
@example(0.0)
def test_the_quick_way_to_the_shortest_decimal_is_right_or_none(number: float) -> None:
    data = struct.pack("<f", number)
    said = values.nearest(data)
    assert said is None or Decimal(said[0]).scaleb(-said[1]) == Decimal(values.shortest(data))


@pytest.mark.parametrize("data", ["119A6943", "CDCCCC3D", "0000C0BF", "00000000", "00000080", "80969B4B"])
def test_what_meters_send_is_known_the_quick_way(data: str) -> None:
    assert values.nearest(raw(data)) is not None


@pytest.mark.parametrize("data", ["0000807F", "000080FF", "0000C07F", "01000000", "FFFF7F7F"])
def test_what_is_no_number_or_far_from_one_is_not_known_the_quick_way(data: str) -> None:
    assert values.nearest(raw(data)) is None


@pytest.mark.parametrize(
    ("number", "exponent", "value"),
    [
        (10, 3, 10000),
        (1836, -2, "18.36"),
        (1800, -2, 18),
        (1850, -2, "18.5"),
        (0, -9, 0),
        (-706, -1, "-70.6"),
        (2**63 - 1, -9, "9223372036.854775807"),
    ],
)
def test_scaled_numbers_are_exact(number: int, exponent: int, value: int | str) -> None:
    result = values.scaled(number, exponent, None, None)
    assert result == Decimal(value)
    assert str(result) == str(value)
    assert isinstance(result, int) == isinstance(value, int)


def test_factor_and_offset_are_exact() -> None:
    quarter = Decimal("0.000244140625")
    assert values.scaled(1024, 0, quarter, None) == Decimal("0.25")
    assert values.scaled(2**63 - 1, 0, quarter, None) * 4096 == 2**63 - 1
    assert values.scaled(215, -1, None, Decimal("0.01")) == Decimal("21.51")
    assert str(values.scaled(1, 30, None, Decimal("1E-30"))) == "1" + "0" * 30 + "." + "0" * 29 + "1"


@given(st.integers(-(10**18), 10**18), st.integers(-60, 60))
def test_scaling_can_be_undone(number: int, exponent: int) -> None:
    result = values.scaled(number, exponent, None, None)
    assert not isinstance(result, float)
    shifted = Decimal(result).as_tuple()
    assert isinstance(shifted.exponent, int)
    digits = int("".join(map(str, shifted.digits))) * (-1 if shifted.sign else 1)
    assert digits * 10 ** (shifted.exponent + 60) == number * 10 ** (exponent + 60)


@pytest.mark.parametrize(
    ("sent", "text"),
    [(b"EDCBA", "ABCDE"), (b" 5313MEi", "iEM3135"), (b"\0\0ba", "ab"), (b"", ""), (b"\xb0C"[::-1], "°C")],
)
def test_text_comes_last_letter_first(sent: bytes, text: str) -> None:
    assert values.text(sent) == text


def test_control_characters_are_no_text() -> None:
    assert values.text(raw("0AB3ED14CD")) is None


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("5F1C", date(2010, 12, 31)),
        ("3E33", date(2025, 3, 30)),
        ("0111", date(2008, 1, 1)),
        ("01A1", date(2080, 1, 1)),
        ("21A1", date(1981, 1, 1)),
        ("7FCC", date(1999, 12, 31)),
        ("1D02", date(2000, 2, 29)),
    ],
)
def test_type_g(data: str, value: date) -> None:
    assert values.date_g(raw(data)) == value


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("FFFF", "no valid value"),
        ("0000", "no date"),
        ("1E02", "2000-02-30"),
        ("010D", "2000-13-01"),
        ("0100", "no date"),
        ("0001", "every month or day"),
        ("010F", "every month or day"),
        ("E1F1", "every year"),
        ("81C1", "year 100"),
    ],
)
def test_type_g_without_a_date(data: str, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        values.date_g(raw(data))


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("05AE3E33", datetime(2025, 3, 30, 14, 5)),  # noqa: DTZ001 - the meter's clock has no zone
        ("1D0D9811", datetime(2012, 1, 24, 13, 29)),  # noqa: DTZ001
        ("00000101", datetime(2000, 1, 1, 0, 0)),  # noqa: DTZ001
        ("000021A1", datetime(1981, 1, 1, 0, 0)),  # noqa: DTZ001
        ("002021A1", datetime(2081, 1, 1, 0, 0)),  # noqa: DTZ001
        ("00402101", datetime(2101, 1, 1, 0, 0)),  # noqa: DTZ001
        ("3B177FCC", datetime(1999, 12, 31, 23, 59)),  # noqa: DTZ001
    ],
)
def test_type_f(data: str, value: datetime) -> None:
    assert values.datetime_f(raw(data)) == value


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("85AE3E33", "time is invalid"),
        ("00000000", "no date"),
        ("3F0E3E33", "every hour"),
        ("051F3E33", "every hour"),
        ("3C0E3E33", "14:60:00"),
        ("05183E33", "24:05:00"),
        ("050E2033", "every month or day"),
        ("050E3E3F", "every month or day"),
        ("050EFEF3", "every year"),
        ("FFFFFFFF", "time is invalid"),
    ],
)
def test_type_f_without_a_time(data: str, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        values.datetime_f(raw(data))


def test_type_i_has_seconds() -> None:
    assert values.datetime_i(raw("6405EE3E3300")) == datetime(2025, 3, 30, 14, 5, 36)  # noqa: DTZ001


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("6485EE3E3300", "time is invalid"),
        ("3F05EE3E3300", "every hour"),
        ("3C05EE3E3300", "14:05:60"),
        ("000000000000", "no date"),
        ("FFFFFFFFFFFF", "time is invalid"),
    ],
)
def test_type_i_without_a_time(data: str, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        values.datetime_i(raw(data))


def test_type_j_is_a_time_of_day() -> None:
    assert values.time_j(raw("1E0F17")) == "23:15:30"


@pytest.mark.parametrize(
    ("data", "why"), [("FFFFFF", "no valid value"), ("3F0F17", "every"), ("000F1F", "every"), ("000018", "24:00:00")]
)
def test_type_j_without_a_time(data: str, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        values.time_j(raw(data))


@given(st.dates(date(1981, 1, 1), date(2080, 12, 31)))
def test_type_g_round_trip(day: date) -> None:
    assert values.date_g(values.encode_g(day)) == day


@given(st.datetimes(datetime(1981, 1, 1), datetime(2299, 12, 31, 23, 59)), st.booleans())  # noqa: DTZ001
def test_type_f_round_trip_cuts_the_seconds_off(when: datetime, summer_time: bool) -> None:  # noqa: FBT001
    data = values.encode_f(when, summer_time=summer_time)
    assert values.datetime_f(data) == when.replace(second=0, microsecond=0)
    assert bool(data[1] & 0x80) == summer_time


@given(st.datetimes(datetime(1981, 1, 1), datetime(2080, 12, 31, 23, 59, 59)), st.booleans())  # noqa: DTZ001
def test_type_i_round_trip(when: datetime, summer_time: bool) -> None:  # noqa: FBT001
    data = values.encode_i(when, summer_time=summer_time)
    assert values.datetime_i(data) == when.replace(microsecond=0)
    assert bool(data[0] & 0x40) == summer_time
    assert data[2] >> 5 == when.isoweekday()


@pytest.mark.parametrize("year", [1, 1980, 2081, 2181])
def test_a_year_that_two_digits_cannot_say(year: int) -> None:
    for encode in (values.encode_g, values.encode_i):
        with pytest.raises(ValueError, match=f"the year {year} has no safe form: 1981 to 2080 have"):
            encode(datetime(year, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize("year", [1, 1900, 1980, 2300])
def test_a_year_that_type_f_cannot_say(year: int) -> None:
    with pytest.raises(ValueError, match=f"the year {year} has no form: 1981 to 2299 have"):
        values.encode_f(datetime(year, 1, 1))  # noqa: DTZ001


DATES: list[tuple[Callable[[bytes], object], int]] = [
    (values.date_g, 2),
    (values.datetime_f, 4),
    (values.datetime_i, 6),
    (values.time_j, 3),
]


@given(st.sampled_from(DATES), st.data())
def test_any_bytes_are_a_date_or_a_problem(kind: tuple[Callable[[bytes], object], int], data: st.DataObject) -> None:
    convert, size = kind
    try:
        assert convert(data.draw(st.binary(min_size=size, max_size=size)))
    except DecodeError as error:
        assert error.message  # noqa: PT017 - both outcomes are right
