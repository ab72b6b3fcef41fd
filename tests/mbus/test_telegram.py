"""Whole telegrams: every CI field, headers, encryption, the fixed structure, reports of errors."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbusd.mbus.errors import DecodeError
from mbusd.mbus.frames import RSP_UD, LongFrame, encode, parse
from mbusd.mbus.telegram import Telegram, decode

HEAT_METER = (
    "68 21 21 68 08 44 72 78 56 34 12 2D 2C 08 04 07 00 00 00"
    "0C 78 78 56 34 12 04 06 0A 00 00 00 14 3B 6E 05 00 00 AC 16"
)
WATER_METER = "68 0D 0D 68 08 01 7A 2B 04 00 00 04 13 15 31 00 00 0F 16"
FIXED = "68 13 13 68 08 05 73 21 43 65 87 0A 00 05 69 31 65 00 00 69 00 00 00 47 16"
BUSY = "68 04 04 68 08 01 70 09 82 16"
ENCRYPTED = (
    "68 1F 1F 68 08 01 72 78 56 34 12 2D 2C 08 04 2A 00 10 05B5 63 C6 A2 A5 62 2A 83 EA 00 4D E8 F6 0B 98 C9 E8 16"
)

LONG_HEADER = "78 56 34 12 2D 2C 08 04 07 00 00 00"


def telegram(text: str) -> Telegram:
    frame = parse(bytes.fromhex(text))
    assert isinstance(frame, LongFrame)
    return decode(frame)


def answer(ci: int, data: str) -> LongFrame:
    return LongFrame(RSP_UD, 1, ci, bytes.fromhex(data))


def refusal(frame: LongFrame) -> DecodeError:
    with pytest.raises(DecodeError) as raised:
        decode(frame)
    return raised.value


def test_long_header() -> None:
    found = telegram(HEAT_METER)
    header = found.header
    assert header is not None
    assert (header.identification, header.manufacturer, header.manufacturer_code) == ("12345678", "KAM", 0x2C2D)
    assert (header.version, header.medium, header.access_number) == (8, 4, 7)
    assert (header.status, header.signature, header.status_words) == (0, 0, ())
    assert [record.value for record in found.records] == ["12345678", 10000, Decimal("1.39")]
    assert (found.error, found.manufacturer_data, found.more_follows, found.encrypted) == (None, None, False, False)


def test_short_header() -> None:
    found = telegram(WATER_METER)
    header = found.header
    assert header is not None
    assert (header.identification, header.manufacturer, header.medium) == (None, None, None)
    assert (header.access_number, header.status, header.signature) == (0x2B, 4, 0)
    assert header.status_words == ("power_low",)
    assert [record.value for record in found.records] == [Decimal("12.565")]


def test_no_header() -> None:
    found = decode(answer(0x78, "01 16 07 0F 00"))
    assert found.header is None
    assert [record.value for record in found.records] == [7]
    assert found.manufacturer_data == b"\0"


def test_hex_digits_and_unknown_letters_are_shown() -> None:
    header = decode(answer(0x72, "3E 02 00 05 00 40 08 04 07 00 00 00")).header
    assert header is not None
    assert (header.identification, header.manufacturer) == ("0500023E", "0x4000")


def test_high_byte_first() -> None:
    found = decode(answer(0x76, "12 34 56 78 2C 2D 08 04 07 10 05 00 02 5A 02 C2 0C 13 00 00 12 34"))
    header = found.header
    assert header is not None
    assert (header.identification, header.manufacturer, header.signature) == ("12345678", "KAM", 0x0500)
    assert header.status_words == ("temporary_error",)
    assert [record.value for record in found.records] == [Decimal("70.6"), Decimal("1.234")]


def test_more_follows() -> None:
    assert decode(answer(0x72, LONG_HEADER + "01 16 07 1F")).more_follows
    assert not decode(answer(0x72, LONG_HEADER + "01 16 07 0F 1F")).more_follows


def test_an_empty_body_is_a_telegram() -> None:
    assert decode(answer(0x72, LONG_HEADER)).records == ()


def test_trouble_counts_from_the_start_of_the_frame() -> None:
    found = decode(answer(0x72, LONG_HEADER + "01 16 07 04 13 01"))
    assert [record.value for record in found.records] == [7]
    assert found.error is not None
    assert (found.error.code, found.error.offset) == ("premature_end_of_data", 22)
    whole = encode(found.frame)
    assert whole[found.error.offset :].startswith(b"\x04\x13\x01")


@pytest.mark.parametrize(
    ("ci", "data", "offset"),
    [
        (0x72, "", 7),
        (0x72, "02 03 02", 10),
        (0x7A, "2B 04 00", 10),
        (0x76, "00", 8),
        (0x73, "21 43", 9),
        (0x6E, "01", 8),
        (0x6F, "01 02 03 04 05", 12),
    ],
)
def test_headers_that_are_too_short(ci: int, data: str, offset: int) -> None:
    error = refusal(answer(ci, data))
    assert (error.code, error.offset) == ("short_header", offset)


def test_encrypted_data_are_recognised() -> None:
    found = telegram(ENCRYPTED)
    assert found.encrypted
    assert found.header is not None
    assert found.header.signature == 0x0510
    assert (found.records, found.manufacturer_data, found.error) == ((), None, None)


@pytest.mark.parametrize(
    ("signature", "encrypted"),
    [
        (0x0000, False),
        (0x0510, True),
        (0x05F0, True),
        (0x0500, False),
        (0x850F, False),
        (0x0710, True),
        (0x1510, False),
        (0xE510, True),
        (0xFFFF, False),
        (0xB627, False),
        (0x0210, False),
    ],
)
def test_only_modes_5_and_7_with_blocks_are_encrypted(signature: int, *, encrypted: bool) -> None:
    word = signature.to_bytes(2, "little").hex()
    for frame in (
        answer(0x7A, f"01 00 {word} 01 16 07"),
        answer(0x72, f"78 56 34 12 2D 2C 08 04 07 00 {word} 01 16 07"),
    ):
        found = decode(frame)
        assert found.encrypted == encrypted
        assert len(found.records) == (0 if encrypted else 1)


def test_fixed_structure() -> None:
    found = telegram(FIXED)
    header = found.header
    assert header is not None
    assert (header.identification, header.medium, header.access_number, header.status) == ("87654321", 4, 10, 0)
    assert (header.manufacturer, header.version, header.signature) == (None, None, None)
    energy, volume = found.records
    assert (energy.quantity, energy.value, energy.unit, energy.exponent) == ("energy", 6531000, "Wh", 3)
    assert (volume.quantity, volume.value, volume.unit, volume.storage) == ("volume", Decimal("0.069"), "m3", 0)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0x00, "unspecified"),
        (0x01, "CI field"),
        (0x02, "too long"),
        (0x03, "too many records"),
        (0x04, "premature end"),
        (0x05, "10 DIFEs"),
        (0x06, "10 VIFEs"),
        (0x07, "reserved"),
        (0x08, "too busy"),
        (0x09, "too many read-outs"),
        (0x10, "access denied"),
        (0x11, "command unknown"),
        (0x12, "parameter"),
        (0x13, "receiver address"),
        (0x14, "key failed"),
        (0x15, "encryption method"),
        (0x16, "signature method"),
        (0xF0, "dynamic"),
        (0x42, "unknown error 42"),
    ],
)
def test_application_errors(code: int, text: str) -> None:
    for frame, offset in (
        (answer(0x70, f"{code:02X}"), 7),
        (answer(0x6E, f"01 00 00 00 {code:02X}"), 11),
        (answer(0x6F, f"{LONG_HEADER} {code:02X}"), 19),
    ):
        error = refusal(frame)
        assert (error.code, error.application_error, error.offset) == ("application_error", code, offset)
        assert text in error.message


def test_an_application_error_may_have_no_code() -> None:
    for frame in (answer(0x70, ""), answer(0x6E, "01 00 00 00"), answer(0x6F, LONG_HEADER)):
        error = refusal(frame)
        assert (error.code, error.application_error) == ("application_error", None)
        assert "unspecified" in error.message


def test_too_many_read_outs() -> None:
    frame = parse(bytes.fromhex(BUSY))
    assert isinstance(frame, LongFrame)
    assert str(refusal(frame)) == "the meter reports: too many read-outs at byte 7 (application_error)"


def test_alarm() -> None:
    found = decode(answer(0x71, "81"))
    (record,) = found.records
    assert (record.quantity, record.kind, record.value, record.raw) == ("alarm_status", "bits", 0x81, b"\x81")
    assert (record.function, record.storage, record.tariff, record.subunit) == ("instantaneous", 0, 0, 0)
    assert found.header is None
    assert refusal(answer(0x71, "")).code == "premature_end_of_data"


DECODED = {0x6E, 0x6F, 0x70, 0x71, 0x72, 0x73, 0x76, 0x78, 0x7A}


@pytest.mark.parametrize("ci", [ci for ci in range(256) if ci not in DECODED])
def test_other_ci_fields_are_named(ci: int) -> None:
    error = refusal(answer(ci, LONG_HEADER))
    assert (error.code, error.offset) == ("unsupported_ci", 6)
    assert f"{ci:02X}" in error.message


@pytest.mark.parametrize(
    ("first", "last", "name"),
    [
        (0x50, 0x50, "application reset"),
        (0x51, 0x51, "data for a meter"),
        (0x52, 0x52, "selection of a meter"),
        (0x54, 0x55, "selected application"),
        (0x5A, 0x5B, "command"),
        (0x5C, 0x5C, "synchronisation"),
        (0x60, 0x61, "COSEM"),
        (0x64, 0x65, "COSEM"),
        (0x66, 0x68, "selected application"),
        (0x69, 0x6B, "format of compact frames"),
        (0x6C, 0x6D, "time synchronisation"),
        (0x74, 0x75, "alarm"),
        (0x77, 0x77, "high byte first"),
        (0x79, 0x79, "compact frame"),
        (0x7B, 0x7B, "compact frame"),
        (0x7C, 0x7D, "COSEM"),
        (0x7E, 0x7F, "OBIS"),
        (0x80, 0x97, "layer"),
        (0x98, 0x9F, "reserved"),
        (0xA0, 0xB7, "manufacturer specific"),
        (0xB8, 0xBF, "baud rate"),
        (0xC0, 0xC7, "security transfer"),
        (0xC8, 0xFF, "reserved"),
    ],
)
def test_the_name_says_what_it_is(first: int, last: int, name: str) -> None:
    for ci in (first, last):
        assert name in refusal(answer(ci, "")).message


@given(st.one_of(st.sampled_from(sorted(DECODED)), st.integers(0, 255)), st.binary(max_size=252))
def test_any_bytes_with_any_ci_are_a_telegram_or_a_decode_error(ci: int, data: bytes) -> None:
    frame = LongFrame(RSP_UD, 1, ci, data)
    try:
        assert decode(frame).frame == frame
    except DecodeError as error:
        assert error.offset is None or 6 <= error.offset <= 7 + len(data)  # noqa: PT017 - both outcomes are right


@given(st.sampled_from([HEAT_METER, WATER_METER, FIXED, ENCRYPTED]), st.data())
def test_damaged_telegrams_are_telegrams_or_decode_errors(text: str, data: st.DataObject) -> None:
    good = parse(bytes.fromhex(text))
    assert isinstance(good, LongFrame)
    body = bytearray(good.data)
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)))
    for damaged in (bytes(body), bytes(body[:cut]), bytes(body[cut:])):
        try:
            found = decode(LongFrame(good.control, good.address, good.ci, damaged))
        except DecodeError:
            continue
        assert all(record.value is not None or record.problem for record in found.records)
