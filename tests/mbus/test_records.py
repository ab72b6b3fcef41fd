"""Records of EN 13757-3 cl. 6: worked examples, every data field and LVAR class, and bytes that are no records."""

import re
from datetime import date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbusd.mbus.records import DataBlock, Record, Value, decode_records


def block(text: str, offset: int = 0) -> DataBlock:
    return decode_records(bytes.fromhex(text), offset)


def one(text: str) -> Record:
    """The single record that these bytes are."""
    found = block(text)
    assert found.error is None
    assert len(found.records) == 1
    return found.records[0]


WORKED: list[tuple[str, str, str | None, Value]] = [
    ("04 06 E7 91 00 00", "energy", "Wh", 37351000),
    ("0C 14 08 61 05 00", "volume", "m3", Decimal("561.08")),
    ("0B 60 76 60 01", "temperature_difference", "K", Decimal("16.076")),
    ("02 5A C2 02", "flow_temperature", "degC", Decimal("70.6")),
    ("14 3B 74 02 00 00", "volume_flow", "m3/h", Decimal("0.628")),
    ("42 6C 5F 1C", "date", None, date(2010, 12, 31)),
    ("42 EC 7E 01 11", "date", None, date(2008, 1, 1)),
    ("04 86 3C 00 00 00 00", "energy", "Wh", 0),
    ("05 5B 00 00 A0 41", "flow_temperature", "degC", 20),
    ("0D FD 11 05 45 44 43 42 41", "customer", None, "ABCDE"),
    ("04 6D 05 AE 3E 33", "datetime", None, datetime(2025, 3, 30, 14, 5)),  # noqa: DTZ001 - the meter's clock
    ("01 FD 17 00", "error_flags", None, 0),
    ("0A A6 18 00 00", "operating_time", "h", None),
    ("0A 5A 06 F7", "flow_temperature", "degC", Decimal("-70.6")),
    ("0B 3B 12 00 F0", "volume_flow", "m3/h", Decimal("-0.012")),
    ("02 FC 03 48 52 25 74 D4 11", "plain_text_unit", "%RH", Decimal("45.64")),
    ("02 FD C9 FC 01 E6 00", "voltage", "V", 230),
    ("04 FB 00 01 00 00 00", "energy", "Wh", 100000),
]


@pytest.mark.parametrize(("text", "quantity", "unit", "value"), WORKED)
def test_worked_examples(text: str, quantity: str, unit: str | None, value: Value) -> None:
    record = one(text)
    assert (record.quantity, record.unit, record.value) == (quantity, unit, value)
    assert type(record.value) is type(value)


def test_a_record_keeps_its_bytes() -> None:
    record = one("C4 01 86 3B 0A 00 00 00")
    assert (record.dib, record.vib, record.raw) == (b"\xc4\x01", b"\x86\x3b", b"\x0a\0\0\0")
    record = one("0D FD 11 02 42 41")
    assert (record.vib, record.raw) == (b"\xfd\x11", b"BA"), "the LVAR byte is none of the data"
    record = one("02 FC 03 48 52 25 74 D4 11")
    assert record.vib == bytes.fromhex("FC 03 48 52 25 74")


@pytest.mark.parametrize(
    ("dib", "function", "storage", "tariff", "subunit"),
    [
        ("04", "instantaneous", 0, 0, 0),
        ("14", "maximum", 0, 0, 0),
        ("24", "minimum", 0, 0, 0),
        ("34", "error", 0, 0, 0),
        ("44", "instantaneous", 1, 0, 0),
        ("84 10", "instantaneous", 0, 1, 0),
        ("84 40", "instantaneous", 0, 0, 1),
        ("84 80 40", "instantaneous", 0, 0, 2),
        ("84 C0 40", "instantaneous", 0, 0, 3),
        ("C4 01", "instantaneous", 3, 0, 0),
        ("84 04", "instantaneous", 8, 0, 0),
        ("D4 C1 92 34", "maximum", 3 + (2 << 5) + (4 << 9), 0 + (1 << 2) + (3 << 4), 1),
        ("C4 8F 8F 8F 8F 8F 8F 8F 8F 8F 7F", "instantaneous", 2**41 - 1, 3 << 18, 1 << 9),
        ("84 00", "instantaneous", 0, 0, 0),
    ],
)
def test_storage_tariff_subunit(dib: str, function: str, storage: int, tariff: int, subunit: int) -> None:
    record = one(f"{dib} 13 01 00 00 00")
    assert (record.function, record.storage) == (function, storage)
    assert (record.tariff, record.subunit) == (tariff, subunit)


@pytest.mark.parametrize(
    ("text", "value", "exponent"),
    [
        ("01 3E 85", -123, 0),
        ("02 3D FF FF", Decimal("-0.1"), -1),
        ("03 06 01 00 00", 1000, 3),
        ("04 13 FF FF FF FF", Decimal("-0.001"), -3),
        ("05 2E 00 00 C0 3F", 1500, None),
        ("06 03 00 00 00 00 00 01", 2**40, 0),
        ("07 03 00 00 00 00 00 00 00 01", 2**56, 0),
        ("09 5B 21", 21, 0),
        ("0A 59 50 18", Decimal("18.5"), -2),
        ("0B 59 00 18 00", 18, -2),
        ("0C 16 78 56 34 12", 12345678, 0),
        ("0E 13 21 43 65 87 09 21", Decimal("210987654.321"), -3),
    ],
)
def test_every_data_field(text: str, value: Value, exponent: int | None) -> None:
    record = one(text)
    assert (record.value, record.exponent, record.kind) == (value, exponent, "number")
    assert type(record.value) is type(value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("01 3E 80", "number"),
        ("04 06 00 00 00 80", "number"),
        ("0A 5A BB 0B", "number"),
        ("05 2B 00 00 C0 7F", "number"),
        ("01 7A FF", "number"),
        ("04 86 FC 11 FF FF FF FF", "number"),
        ("0C 78 0A 00 00 00", "text"),
        ("42 6C FF FF", "date"),
        ("04 6D 85 AE 3E 33", "datetime"),
        ("03 6D FF FF FF", "text"),
        ("06 6D 00 00 00 00 00 00", "datetime"),
        ("02 86 39 FF FF", "date"),
        ("0D 13 C0", "number"),
        ("0D 13 E0", "number"),
        ("0D 13 D1 F1", "number"),
    ],
)
def test_no_valid_value_is_a_problem_of_one_record_only(text: str, kind: str) -> None:
    good, bad, other = block(f"01 13 01 {text} 01 13 02").records
    assert (bad.value, bad.kind, bad.summer_time) == (None, kind, False)
    assert bad.problem
    assert (good.value, good.problem) == (Decimal("0.001"), None)
    assert (other.value, other.problem) == (Decimal("0.002"), None)


def test_a_record_error_takes_the_value_but_not_the_identity() -> None:
    good, bad = one("0A 26 34 12"), one("0A A6 18 34 12")
    assert bad.value is None
    assert bad.problem == "the meter reports: data error"
    assert (bad.quantity, bad.unit, bad.modifiers, bad.kind) == (good.quantity, good.unit, good.modifiers, good.kind)


@pytest.mark.parametrize(
    ("text", "value", "kind"),
    [
        ("04 86 FC 11 FE FF FF FF", 4294967294000, "number"),
        ("02 86 FC 12 01 80", 0x8001, "bits"),
        ("02 FD 17 01 80", 0x8001, "bits"),
        ("02 FD 97 FC 11 01 80", 0x8001, "number"),
        ("01 FD 1B 80", 0x80, "bits"),
        ("02 FD 0E 01 80", 0x8001, "number"),
        ("01 FD 09 FE", 0xFE, "number"),
        ("04 78 2E 25 4C 00", 4990254, "number"),
        ("04 FD 10 FE FF FF FF", 0xFFFFFFFE, "number"),
        ("01 7A FA", 250, "number"),
    ],
)
def test_unsigned_numbers_and_bits(text: str, value: int, kind: str) -> None:
    record = one(text)
    assert (record.value, record.kind) == (value, kind)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0C 78 01 00 00 00", "00000001"),
        ("0C 79 78 56 34 12", "12345678"),
        ("0C FD 10 95 50 26 01", "01265095"),
        ("07 79 78 56 34 12 2D 2C 08 04", "123456782D2C0804"),
        ("07 7A 78 56 34 12 2D 2C 08 04", "123456782D2C0804"),
        ("02 FD 0A 2D 2C", "KAM"),
        ("03 6D 1E 0F 17", "23:15:30"),
        ("0D FD 0E 07 30 2E 34 32 2E 31 42", "B1.24.0"),
        ("0D 78 C4 01 00 00 00", "00000001"),
        ("0D FD 10 00", ""),
    ],
)
def test_identifiers_and_texts(text: str, value: str) -> None:
    record = one(text)
    assert (record.value, record.kind, record.exponent) == (value, "text", None)


def test_versions_in_bcd_are_numbers() -> None:
    assert one("09 FD 0E 02").value == 2


@pytest.mark.parametrize(
    ("lvar", "size", "value"),
    [
        ("C2 34 12", 2, 1234),
        ("C9 99 99 99 99 99 99 99 99 99", 9, 10**18 - 1),
        ("D2 34 12", 2, -1234),
        ("D9 01 00 00 00 00 00 00 00 00", 9, -1),
        ("E1 FF", 1, -1),
        ("E8 01 00 00 00 00 00 00 00", 8, 1),
        ("E9" + "01" * 9, 9, b"\x01" * 9),
        ("EF" + "01" * 15, 15, b"\x01" * 15),
        ("F0" + "01" * 16, 16, b"\x01" * 16),
        ("F4" + "01" * 32, 32, b"\x01" * 32),
        ("F5" + "01" * 48, 48, b"\x01" * 48),
        ("F6" + "01" * 64, 64, b"\x01" * 64),
        ("00", 0, ""),
        ("BF" + "41" * 191, 191, "A" * 191),
    ],
)
def test_every_class_of_lvar(lvar: str, size: int, value: Value) -> None:
    found = block(f"0D 16 {lvar} 01 16 07")
    assert [len(record.raw) for record in found.records] == [size, 1]
    assert [record.value for record in found.records] == [value, 7]


@pytest.mark.parametrize("lvar", [0xCA, 0xCF, 0xDA, 0xDF, 0xF7, 0xFF])
def test_a_reserved_lvar_ends_the_records(lvar: int) -> None:
    found = block(f"01 16 07 0D 16 {lvar:02X} 01 02", 19)
    assert [record.value for record in found.records] == [7]
    assert found.error is not None
    assert (found.error.code, found.error.offset) == ("reserved_lvar", 22)


@pytest.mark.parametrize("vib", ["FD 3B", "FD 76", "86 1E", "86 1F", "86 13", "FD 73", "86 3F"])
def test_containers_and_profiles_are_raw_and_not_reversed(vib: str) -> None:
    record = one(f"0D {vib} 03 41 42 43")
    assert (record.kind, record.value, record.problem) == ("raw", b"ABC", None)


def test_what_is_the_manufacturers_is_raw() -> None:
    record = one("04 FF 2A 01 02 03 04")
    assert (record.quantity, record.kind, record.value) == ("manufacturer_specific", "raw", b"\x01\x02\x03\x04")
    assert (record.modifiers, record.effect) == (("mfr_2a",), "manufacturer")


def test_a_manufacturers_vife_leaves_the_value_of_a_known_quantity() -> None:
    record = one("02 AC FF 01 4F 00")
    assert (record.quantity, record.value, record.unit) == ("power", 790, "W")
    assert (record.modifiers, record.effect) == (("mfr_01",), "manufacturer")


@pytest.mark.parametrize("text", ["0D FD 11 04 0A B3 ED 14", "0D 7C 03 79 65 6B 02 01 02"])
def test_text_that_is_none_stays_raw(text: str) -> None:
    record = one(text)
    assert (record.kind, record.value) == ("raw", record.raw)
    assert record.problem


@pytest.mark.parametrize(
    "text", ["0C 6D 01 02 03 04", "0E ED 6B 01 02 03 04 05 06", "03 6C 01 02 03", "05 6D 00000000"]
)
def test_data_that_are_no_date_stay_raw(text: str) -> None:
    record = one(text)
    assert (record.kind, record.value) == ("raw", record.raw)
    assert record.problem


@pytest.mark.parametrize(
    ("text", "value", "kind"),
    [
        ("02 6D 3E 33", date(2025, 3, 30), "date"),
        ("04 6C 05 AE 3E 33", datetime(2025, 3, 30, 14, 5), "datetime"),  # noqa: DTZ001 - the meter's clock
        ("06 6D 64 05 EE 3E 33 00", datetime(2025, 3, 30, 14, 5, 36), "datetime"),  # noqa: DTZ001
        ("02 FD 30 3E 33", date(2025, 3, 30), "date"),
        ("04 96 6E 05 AE 3E 33", datetime(2025, 3, 30, 14, 5), "datetime"),  # noqa: DTZ001
    ],
)
def test_the_data_field_chooses_the_type_of_a_date(text: str, value: Value, kind: str) -> None:
    record = one(text)
    assert (record.value, record.kind, record.unit, record.exponent) == (value, kind, None, None)


def test_summer_time_is_told() -> None:
    assert one("04 6D 05 AE 3E 33").summer_time
    assert not one("04 6D 05 2F 3E 33").summer_time
    assert one("06 6D 64 05 EE 3E 33 00").summer_time
    assert not one("06 6D 25 05 EE 3E 33 00").summer_time
    assert not one("02 6C 3E 33").summer_time


@pytest.mark.parametrize(
    ("text", "value", "unit", "exponent"),
    [
        ("02 DA 76 C2 02", Decimal("70.6"), "degC", -1),
        ("02 DA 75 C2 02", Decimal("7.06"), "degC", -2),
        ("02 DA 7D C2 02", 70600, "degC", 2),
        ("02 DA 78 C2 02", Decimal("70.601"), "degC", -3),
        ("02 DA 7B C2 02", Decimal("71.6"), "degC", -1),
        ("02 86 22 0A 00", 10000, "Wh/h", 3),
        ("02 86 41 0A 00", 10, None, 0),
        ("02 86 51 0A 00", 10, "min", 0),
        ("02 86 3D 0A 00", 10, None, 0),
        ("02 FB 68 00 04", Decimal("0.25"), None, None),
        ("02 86 28 0A 00", 10000, "Wh", 3),
    ],
)
def test_vifes_change_value_unit_and_resolution(text: str, value: Value, unit: str | None, exponent: int) -> None:
    record = one(text)
    assert (record.value, record.unit, record.exponent) == (value, unit, exponent)


@pytest.mark.parametrize("vif", ["7B", "7D", "6F", "7E"])
def test_vifs_without_a_meaning_are_bare_numbers(vif: str) -> None:
    found = block(f"0C {vif} 34 12 00 00 01 16 07")
    assert [record.value for record in found.records] == [1234, 7]
    assert found.records[0].unit is None


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("02 7C 03 48 52 25 C2 02", "%RH", 706),
        ("02 FC 03 48 52 25 74 C2 02", "%RH", Decimal("7.06")),
        ("02 FC 74 03 48 52 25 C2 02", "%RH", Decimal("7.06")),
        ("02 FC FC 01 03 48 52 25 C2 02", "%RH", 706),
        ("02 FC 01 B0 74 C2 02", "°", Decimal("7.06")),
        ("02 FC 03 41 20 41 74 C2 02", "A A", Decimal("7.06")),
        ("02 FC 0F" + "41" * 15 + "74 C2 02", "A" * 15, Decimal("7.06")),
        ("02 7C 00 C2 02", None, 706),
        ("0D 7C 08 44 49 20 2E 74 73 75 63 02 42 41", "cust. ID", "AB"),
    ],
)
def test_plain_text_units_stand_before_or_behind_the_vifes(text: str, unit: str | None, value: Value) -> None:
    record = one(text)
    assert (record.quantity, record.unit, record.value) == ("plain_text_unit", unit, value)


def test_what_looks_like_text_but_is_too_long_are_vifes() -> None:
    """10h is a reserved VIFE; as the length of a text it would be more than any unit has."""
    record = one("02 FC 90 74 02 57 50 0A 00")
    assert (record.unit, record.modifiers, record.value) == ("PW", ("vife_10",), Decimal("0.1"))
    record = one("02 FC 10 10" + "41" * 16 + "0A 00")
    assert (record.unit, record.modifiers) == ("A" * 16, ("vife_10",))


def test_a_text_without_letters_is_none() -> None:
    record = one("02 FC 00 00 0A 00")
    assert (record.unit, record.problem, record.value) == (None, None, 10)


def test_a_selection_has_no_data() -> None:
    assert [record.value for record in block("08 13 01 16 07").records] == [7]


def test_idle_fillers_and_zero_bytes_are_skipped() -> None:
    found = block("2F 2F 01 16 07 2F 00 00 00 00 01 16 08 00 13 2F")
    assert [record.value for record in found.records] == [7, 8]
    assert (found.error, found.manufacturer_data, found.more_follows) == (None, None, False)


def test_no_data_with_a_record_error_is_a_record() -> None:
    record = one("00 93 15")
    assert (record.quantity, record.value, record.kind) == ("volume", None, "number")
    assert record.problem == "the meter reports: no data available"


def test_equal_records_both_stay() -> None:
    assert [record.value for record in block("01 16 07 01 16 07").records] == [7, 7]


@pytest.mark.parametrize(
    ("text", "data", "more"),
    [("0F AB 1F", b"\xab\x1f", False), ("0F", b"", False), ("1F", b"", True), ("1F 01 02", b"\x01\x02", True)],
)
def test_manufacturer_data_go_to_the_end(text: str, data: bytes, *, more: bool) -> None:
    found = block(f"01 16 07 {text}")
    assert [record.value for record in found.records] == [7]
    assert (found.manufacturer_data, found.more_follows, found.error) == (data, more, None)


@pytest.mark.parametrize("dif", ["3F", "4F", "5F", "6F", "7F", "8F", "FF"])
def test_an_undefined_dif_ends_the_records(dif: str) -> None:
    found = block(f"01 16 07 {dif} 13 01", 19)
    assert [record.value for record in found.records] == [7]
    assert found.error is not None
    assert (found.error.code, found.error.offset) == ("reserved_dif", 22)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("84", "premature_end_of_dif"),
        ("84 80", "premature_end_of_dif"),
        ("04", "premature_end_of_vif"),
        ("84 00", "premature_end_of_vif"),
        ("04 86", "premature_end_of_vif"),
        ("04 FD", "premature_end_of_vif"),
        ("04 86 FC", "premature_end_of_vif"),
        ("04 86 FF", "premature_end_of_vif"),
        ("02 7C", "premature_end_of_vif"),
        ("02 7C 03 48 52", "premature_end_of_vif"),
        ("02 FC", "premature_end_of_vif"),
        ("02 FC 03 48 52 25", "premature_end_of_vif"),
        ("02 FC 03 48 52 25 F4", "premature_end_of_vif"),
        ("04 13", "premature_end_of_data"),
        ("04 13 01 02 03", "premature_end_of_data"),
        ("0D FD 11", "premature_end_of_data"),
        ("0D FD 11 05 41", "premature_end_of_data"),
        ("84" + "80" * 10 + "00 13 01 00 00 00", "too_many_difes"),
        ("04 93" + "80" * 10 + "00 01 00 00 00", "too_many_vifes"),
        ("04 FD 93" + "80" * 9 + "00 01 00 00 00", "too_many_vifes"),
        ("02 FC 01 48" + "F4" * 10 + "74 01 00", "too_many_vifes"),
    ],
)
def test_what_stands_before_the_trouble_stays(text: str, code: str) -> None:
    found = block(f"01 16 07 {text}", 19)
    assert [record.value for record in found.records] == [7]
    assert found.error is not None
    assert (found.error.code, found.error.offset) == (code, 22)
    assert found.error.message


def test_ten_difes_and_ten_vifes_are_allowed() -> None:
    assert one("84" + "80" * 9 + "40 13 01 00 00 00").subunit == 1 << 9
    assert one("04 93" + "80" * 9 + "3B 01 00 00 00").modifiers == ("forward",)
    assert one("02 FC 01 48" + "BB" * 9 + "74 01 00").value == Decimal("0.01")


def test_high_byte_first() -> None:
    data = bytes.fromhex("0C 13 00 00 12 34 42 6C 1C 5F 0D FD 11 02 41 42 04 FF 2A 01 02 03 04")
    found = decode_records(data, high_byte_first=True)
    assert [record.value for record in found.records] == [
        Decimal("1.234"),
        date(2010, 12, 31),
        "AB",
        b"\x01\x02\x03\x04",
    ]
    assert found.records[0].raw == bytes.fromhex("00 00 12 34")


LIKELY = st.sampled_from(
    [*bytes.fromhex("01 02 03 04 05 06 07 09 0A 0B 0C 0D 0E 84 C4 0F 1F 2F 13 6C 6D FD FB FC FF 7C 93 86 EF C2 F0")]
)


@given(st.one_of(st.binary(max_size=240), st.lists(st.one_of(LIKELY, st.integers(0, 255)), max_size=120).map(bytes)))
def test_any_bytes_are_records_in_their_order_and_a_rest(data: bytes) -> None:
    found = decode_records(data, 100)
    at = 0
    for record in found.records:
        length = b"." if record.dib[0] & 0x0F == 0x0D else b""
        stands = re.compile(re.escape(record.dib + record.vib) + length + re.escape(record.raw), re.DOTALL)
        there = stands.search(data, at)
        assert there is not None
        at = there.end()
        assert (record.value is not None) or record.problem
        assert not isinstance(record.value, float)
    if found.error is not None:
        assert found.error.offset is not None
        assert 100 + at <= found.error.offset < 100 + len(data)
    if found.manufacturer_data is not None:
        assert data[at:].endswith(found.manufacturer_data)


@given(st.binary(max_size=240))
def test_high_byte_first_never_fails(data: bytes) -> None:
    assert len(decode_records(data, high_byte_first=True).records) == len(decode_records(data).records)
