"""The fixed data structure of EN 1434-3: its units, codings, storage and media, and what is none."""

from decimal import Decimal

import pytest

from mbusd.mbus.errors import DecodeError
from mbusd.mbus.frames import RSP_UD, LongFrame
from mbusd.mbus.records import Value
from mbusd.mbus.telegram import Telegram, decode


def telegram(data: str) -> Telegram:
    return decode(LongFrame(RSP_UD, 5, 0x73, bytes.fromhex(data)))


def structure(status: int, unit_1: int, unit_2: int, counters: str, medium: int = 7) -> Telegram:
    first, second = unit_1 | (medium & 3) << 6, unit_2 | medium >> 2 << 6
    return telegram(f"78 56 34 12 0A {status:02X} {first:02X} {second:02X} {counters}")


def test_a_historic_counter_has_the_unit_of_the_first_and_storage_1() -> None:
    now, then = structure(0, 0x29, 0x3E, "01 00 00 00 35 01 00 00").records
    assert (now.quantity, now.value, now.unit, now.storage) == ("volume", Decimal("0.001"), "m3", 0)
    assert (then.quantity, then.value, then.unit, then.storage) == ("volume", Decimal("0.135"), "m3", 1)


def test_the_status_says_that_both_are_stored() -> None:
    assert [record.storage for record in structure(2, 0x29, 0x05, "01 00 00 00 02 00 00 00").records] == [1, 1]
    assert [record.storage for record in structure(2, 0x29, 0x3E, "01 00 00 00 02 00 00 00").records] == [1, 1]


@pytest.mark.parametrize(
    ("status", "counter", "value"),
    [
        (0, "31 65 00 00", 6531),
        (0, "12 00 00 F0", -12),
        (0, "DD EB B4 DD", None),
        (1, "31 65 00 00", 0x6531),
        (1, "FF FF FF FF", -1),
        (1, "00 00 00 80", None),
    ],
)
def test_counters_are_bcd_or_signed_binary(status: int, counter: str, value: Value) -> None:
    first, second = structure(status, 0x2C, 0x2C, f"{counter} 01 00 00 00").records
    assert (first.value, second.value) == (value, 1)
    assert (first.problem is None) == (value is not None)
    assert first.kind == "number"
    assert (first.function, first.tariff, first.subunit) == ("instantaneous", 0, 0)


@pytest.mark.parametrize("counters", ["BB BB BB BB 01 00 00 00", "01 00 00 00 BB BB BB BB"])
def test_one_counter_with_letters_does_not_cost_the_other(counters: str) -> None:
    assert sorted(str(record.value) for record in structure(0, 0x2C, 0x2C, counters).records) == ["1", "None"]


def test_the_first_bits_of_the_status_are_no_error() -> None:
    header = structure(0b1111, 0x2C, 0x2C, "01 00 00 00 01 00 00 00").header
    assert header is not None
    assert header.status_words == ("power_low", "permanent_error")


@pytest.mark.parametrize(
    ("bits", "medium", "value"),
    [
        (0x00, 0x00, 1),
        (0x01, 0x01, 1),
        (0x02, 0x02, 1),
        (0x03, 0x03, 1),
        (0x04, 0x04, 1),
        (0x05, 0x05, 1),
        (0x06, 0x06, 1),
        (0x07, 0x07, 1),
        (0x08, 0x08, 1),
        (0x09, 0x0F, 1),
        (0x0A, 0x03, 1000000),
        (0x0B, 0x04, 1000000),
        (0x0C, 0x06, 1000000),
        (0x0D, 0x07, 1000000),
        (0x0E, 0x08, 1000000),
        (0x0F, 0x0F, 1),
    ],
)
def test_media_and_the_order_of_bytes(bits: int, medium: int, value: int) -> None:
    found = structure(0, 0x2C, 0x2C, "01 00 00 00 01 00 00 00", bits)
    assert found.header is not None
    assert found.header.medium == medium
    assert [record.value for record in found.records] == [value, value]


def test_clock_and_calendar_stay_raw() -> None:
    time, day = structure(0, 0x00, 0x01, "12 30 00 00 24 12 09 00").records
    assert (time.quantity, time.kind, time.value) == ("clock_time", "raw", b"\x12\x30\0\0")
    assert (day.quantity, day.kind, day.value) == ("calendar_date", "raw", b"\x24\x12\x09\0")


def test_a_reserved_unit_is_a_bare_number() -> None:
    record = structure(0, 0x3A, 0x2C, "07 00 00 00 01 00 00 00").records[0]
    assert (record.quantity, record.value, record.unit) == ("reserved", 7, None)


def test_the_bytes_are_kept() -> None:
    first, second = structure(0, 0x05, 0x29, "31 65 00 00 69 00 00 00").records
    assert (first.dib, first.vib, first.raw) == (b"", b"\xc5", b"\x31\x65\0\0")
    assert (second.dib, second.vib, second.raw) == (b"", b"\x69", b"\x69\0\0\0")


@pytest.mark.parametrize(
    "data",
    [
        "78 56 34 12 2D 2C 08 04 07 00 00 00 31 65 00 00 00",
        "78 56 34 1A 0A 00 05 69 31 65 00 00 69 00 00 00",
        "78 56 34 12 2D 2C 08 04 0A 00 00 00 AA BB CC DD",
        "78 56 34 12 2D 2C 08 04 00 00 00 0A DA 00 00 00",
        "78 56 34 12 2D 2C 08 04 0A 00 00 00 00 00 00 0A",
    ],
    ids=["17 bytes", "no identification", "no counter", "last digits", "last digits but one"],
)
def test_what_is_no_fixed_structure_is_a_compact_frame(data: str) -> None:
    with pytest.raises(DecodeError, match="compact frame") as raised:
        telegram(data)
    assert raised.value.code == "compact_frame"
