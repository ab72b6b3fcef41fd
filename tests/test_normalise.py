"""From telegrams to readings: public keys, identity, zones, and what must never be published."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbusd.mbus.alarms import AlarmAnswer
from mbusd.mbus.frames import LongFrame, encode
from mbusd.mbus.master import LinkState
from mbusd.mbus.records import Record
from mbusd.mbus.telegram import Header, Telegram, decode
from mbusd.model import Alarm, Identity, Measurement, Reading
from mbusd.normalise import alarm_of, identity_of, reading
from mbusd.values.measures import keys
from tests.telegram_samples import long_header, telegram

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def read(*records: str, zone: ZoneInfo | None = None, header: bytes | None = None) -> Reading:
    return reading("heat_pump", [telegram(text, header) for text in records], NOON, zone)


def values(taken: Reading) -> dict[str, object]:
    return {item.key: item.value for item in taken.measurements}


def only(taken: Reading) -> Measurement:
    (item,) = taken.measurements
    return item


@pytest.mark.parametrize(
    ("records", "golden"),
    [
        ("0406 01000000", ["energy"]),
        ("0403 01000000", ["energy"]),  # another exponent, the same thing
        ("841006 01000000", ["energy_tariff_1"]),
        ("844006 01000000", ["energy_subunit_1"]),
        ("4406 01000000", ["energy_storage_1"]),
        ("C40106 01000000", ["energy_storage_3"]),
        ("142D 01000000", ["power_maximum"]),
        ("242D 01000000", ["power_minimum"]),
        ("342D 01000000", ["power_error"]),
        ("04863C 01000000", ["energy_backward"]),
        ("D45006 01000000", ["energy_maximum_tariff_1_subunit_1_storage_1"]),
        ("02FDC9FC01 E600", ["voltage_l1"]),
        ("0406 01000000 0406 02000000 0406 03000000", ["energy", "energy_2", "energy_3"]),
        ("040E 01000000 0406 01000000", ["energy", "energy_2"]),
        ("42EC7E 0111", ["date_future_storage_1"]),
        ("02FC0348522574 440D", ["relative_humidity"]),
        ("02FF68 0000", ["manufacturer_specific_mfr_68"]),
        ("04A618 01000000", ["operating_time"]),  # a record error is no part of what it is
    ],
)
def test_keys_are_golden(records: str, golden: list[str]) -> None:
    assert keys(telegram(records).records) == golden


_RECORDS = st.builds(
    Record,
    function=st.sampled_from(["instantaneous", "maximum"]),
    storage=st.integers(0, 3),
    tariff=st.integers(0, 2),
    subunit=st.integers(0, 2),
    quantity=st.sampled_from(["energy", "energy_2", "volume"]),
    unit=st.none(),
    kind=st.just("number"),
    value=st.just(1),
    exponent=st.integers(-3, 3),
    modifiers=st.lists(st.sampled_from(["forward", "2", "mfr:Ä"]), max_size=2).map(tuple),
    effect=st.just(""),
    dib=st.just(b"\x04"),
    vib=st.just(b"\x06"),
    raw=st.just(b"\x01\x00\x00\x00"),
)


@given(st.lists(_RECORDS, max_size=12))
def test_keys_are_distinct_and_plain(records: list[Record]) -> None:
    found = keys(records)
    assert len(set(found)) == len(records)
    assert all(re.fullmatch("[a-z0-9_]+", key) for key in found)


@given(st.lists(_RECORDS, max_size=8), st.integers(-6, 6))
def test_keys_do_not_hang_on_values_or_exponents(records: list[Record], exponent: int) -> None:
    assert keys([replace(record, value=None, exponent=exponent) for record in records]) == keys(records)


def test_telegrams_of_one_read_out_are_one_list() -> None:
    taken = read("0406 01000000 1F", "0406 02000000 0413 E8030000")
    assert values(taken) == {"energy": 1, "energy_2": 2, "volume": 1}
    assert taken.telegrams == (
        encode(telegram("0406 01000000 1F").frame),
        encode(telegram("0406 02000000 0413 E8030000").frame),
    )


def test_values_come_in_units_for_people() -> None:
    item = only(read("0414 05610800"))
    assert (item.value, item.unit, item.decimals) == (Decimal("5491.25"), "m³", 2)
    assert only(read("0C14 08610500")).value == Decimal("561.08")


def test_who_the_meter_is() -> None:
    identity = read("0406 01000000").identity
    assert identity == Identity("12345678", "KAM", 8, 4, "heat", "123456782D2C0804")


def test_the_identity_of_the_first_header_counts_and_the_given_one_stands_in() -> None:
    known = Identity("87654321", "ELS", 1, 7, "water", "8765432193150107")
    headerless = decode(LongFrame(0x08, 5, 0x78, bytes.fromhex("040601000000")))
    short = decode(LongFrame(0x08, 5, 0x7A, bytes.fromhex("01000000040601000000")))
    assert reading("m", [headerless, short], NOON, identity=known).identity == known
    assert reading("m", [headerless, telegram("")], NOON, identity=known).identity.identification == "12345678"
    assert reading("m", [headerless], NOON).identity.identification == ""


def test_the_fixed_structure_has_wildcards_for_what_it_does_not_send() -> None:
    fixed = decode(LongFrame(0x08, 5, 0x73, bytes.fromhex("214365870A000569316500006900 0000")))
    taken = reading("m", [fixed], NOON)
    assert taken.identity == Identity("87654321", "", None, 4, "heat", "87654321FFFFFF04")
    assert values(taken) == {"energy": 6531, "volume": Decimal("0.069")}
    assert identity_of(Header(None, None, None, None, None, 1, 0, 0)) is None


def test_the_status_is_told_in_words() -> None:
    assert read("", header=long_header(status=0x1C)).status == ("power_low", "permanent_error", "temporary_error")
    assert read("").status == ()


@pytest.mark.parametrize("vib", ["FD12", "FD13", "FD14", "FD15", "FD16", "FD19"])
def test_secrets_are_never_told(vib: str) -> None:
    with_error = f"FD{bytes.fromhex(vib)[1] | 0x80:02X}18"
    taken = read(f"04{vib} 44332211 0D{vib} 0434333231 0C{vib} 443322AA 04{with_error} 44332211")
    assert taken.measurements == ()
    assert taken.problems == ()


def test_what_nobody_can_use_is_left_out() -> None:
    container = "0DFD3B E3 010203"
    assert read(container).measurements == ()
    assert read("02FF68 0500").measurements == ()
    assert values(read("02FDC9FF01 E600")) == {"voltage_mfr_01": 230}


@pytest.mark.parametrize(
    ("records", "text"),
    [("01FD17 04", "04"), ("02FD17 0A00", "000A"), ("04FD17 00000080", "80000000"), ("02FD1B AB0C", "0CAB")],
)
def test_bits_are_hex_digits_of_the_width_of_the_record(records: str, text: str) -> None:
    item = only(read(records))
    assert (item.kind, item.value, item.unit, item.decimals) == ("bits", text, None, None)


def test_texts_lose_their_padding() -> None:
    assert only(read("0DFD11 05 2020424120")).value == "AB"
    assert only(read("0DFD11 02 2020")).value is None


def test_identifications_keep_their_zeros() -> None:
    assert only(read("0C78 01000000")).value == "00000001"


def test_dates_stay_dates() -> None:
    item = only(read("426C 5F1C"))
    assert (item.kind, item.value, item.storage) == ("date", date(2010, 12, 31), 1)


def test_without_a_zone_times_stay_naive() -> None:
    assert only(read("046D 05AE3E33")).value == datetime(2025, 3, 30, 14, 5)  # noqa: DTZ001 - as the meter tells it


@pytest.mark.parametrize(
    ("raw", "utc"),
    [
        ("050E3E33", "2025-03-30T12:05"),  # summer
        ("1E823A3A", "2025-10-26T00:30"),  # the hour that comes twice, summer time
        ("1E023A3A", "2025-10-26T01:30"),  # … and once more
    ],
)
def test_with_a_zone_times_are_moments(raw: str, utc: str) -> None:
    item = only(read(f"046D {raw}", zone=BERLIN))
    assert isinstance(item.value, datetime)
    assert item.value.astimezone(UTC) == datetime.fromisoformat(f"{utc}:00+00:00")


@pytest.mark.parametrize(("flag", "utc_hour"), [("02", 1), ("82", 0)])
def test_an_hour_that_never_was_is_read_by_the_summer_time_flag(flag: str, utc_hour: int) -> None:
    item = only(read(f"046D 1E{flag}3E33", zone=BERLIN))  # 2025-03-30 02:30
    assert isinstance(item.value, datetime)
    assert item.value.astimezone(UTC).hour == utc_hour


@pytest.mark.parametrize("records", ["0406 FFFFFFFF", "0213 FFFF", "0718 FFFFFFFFFFFFFFFF", "04FB8275 FFFFFFFF"])
def test_a_counter_of_all_ones_is_no_value(records: str) -> None:
    taken = read(records)
    assert only(taken).value is None
    assert only(taken).unit is not None
    assert "taken for no value" in taken.problems[0]


@pytest.mark.parametrize(
    ("records", "value"), [("022D FFFF", -100), ("0406 FEFFFFFF", -2), ("0265 FFFF", Decimal("-0.01"))]
)
def test_other_negative_values_stand(records: str, value: int | Decimal) -> None:
    assert only(read(records)).value == value


@pytest.mark.parametrize("tag", ["3D", "14"])
def test_a_unit_that_is_not_the_tables_is_not_told(tag: str) -> None:
    item = only(read(f"0486{tag} 05000000"))
    assert item.unit is None
    assert item.value is not None


def test_problems_name_the_record_in_hex() -> None:
    taken = read("426C 0000 04 06 0100")
    assert len(taken.problems) == 2
    assert "premature_end_of_data" in taken.problems[0]
    assert taken.problems[1].startswith("date_storage_1 (DIB 42, VIB 6C): ")
    assert values(taken) == {"date_storage_1": None}


def test_an_encrypted_telegram_says_so() -> None:
    header = long_header()[:10] + bytes.fromhex("1005")
    taken = read("0406 01000000 FFFFFFFFFFFFFFFFFFFF", header=header)
    assert taken.measurements == ()
    assert "encrypted" in taken.problems[0]


def test_the_moment_of_the_reading_is_utc() -> None:
    taken: Reading = reading("m", [telegram("")], datetime(2026, 7, 1, 14, tzinfo=BERLIN))
    assert (taken.taken_at, taken.taken_at.tzinfo) == (datetime(2026, 7, 1, 12, tzinfo=UTC), UTC)


def test_a_telegram_without_header_has_no_status() -> None:
    headerless: Telegram = decode(LongFrame(0x08, 5, 0x78, b""))
    assert reading("m", [headerless], NOON).status == ()


# ------------------------------------------------------------------------------------------------ alarms


def alarm(said: Telegram | None, name: str = "heat_pump", identity: Identity | None = None) -> Alarm:
    return alarm_of(name, AlarmAnswer(said, LinkState()), NOON.astimezone(BERLIN), BERLIN, identity)


def test_nothing_to_say_is_no_alarm() -> None:
    taken = alarm(None)
    assert taken == Alarm("heat_pump", NOON)
    assert (taken.is_raised, taken.bits) == (False, ())


@pytest.mark.parametrize(
    ("data", "code", "bits"), [("04", 4, (2,)), ("81", 0x81, (0, 7)), ("00", 0, ()), ("0080", 0x8000, (15,))]
)
def test_the_alarm_byte(data: str, code: int, bits: tuple[int, ...]) -> None:
    sent = LongFrame(0x08, 1, 0x71, bytes.fromhex(data))
    taken = alarm(decode(sent))
    assert (taken.code, taken.bits, taken.is_raised) == (code, bits, code != 0)
    assert (taken.measurements, taken.telegram) == ((), encode(sent))


def test_class_1_data_are_measurements_with_the_keys_and_zones_of_a_reading() -> None:
    taken = alarm(telegram("01FD17 02 046D 05AE3E33"))
    assert (taken.code, taken.is_raised) == (0, True)
    assert [(item.key, item.value) for item in taken.measurements] == [
        ("error_flags", "02"),
        ("datetime", datetime(2025, 3, 30, 14, 5, tzinfo=BERLIN)),
    ]


def test_a_meter_without_a_name_goes_by_its_address() -> None:
    known = Identity("87654321", "KAM", 8, 4, "heat", "876543212D2C0804")
    assert alarm(None, "", known).meter == "876543212D2C0804"
    assert alarm(telegram("01FD17 02"), "", known).meter == "123456782D2C0804"
    assert alarm(None, "").meter == ""
