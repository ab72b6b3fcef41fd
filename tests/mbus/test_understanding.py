"""What a profile makes of telegrams: names, units, exact numbers, bits in words; bytes stay, nothing raises."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbusd.mbus.frames import LongFrame
from mbusd.mbus.profile import DataField, DataLayout, DataType, Naming, Place, Profile, Rule, Status
from mbusd.mbus.records import Kind, Record
from mbusd.mbus.telegram import decode
from mbusd.mbus.understanding import Understanding, understand
from mbusd.values.measures import keys
from tests.telegram_samples import long_header, telegram


def family(*rules: Rule, data: tuple[DataLayout, ...] = (), vifes: tuple[tuple[int, str], ...] = ()) -> Profile:
    return Profile("KAM", "model", "a test", rules=rules, data=data, vifes=vifes)


def said(understood: Understanding) -> dict[str, Record]:
    records = [record for item in understood.telegrams for record in item.records]
    return dict(zip(keys(records), records, strict=True))


def only(records: str, *rules: Rule) -> Record:
    """The one record of a telegram, understood."""
    (record,) = understand([telegram(records)], family(*rules)).telegrams[0].records
    return record


def test_without_a_profile_everything_stays_as_it_is() -> None:
    sent = telegram("02 FF 07 01 02 04 06 01 00 00 00 0F AA", long_header(status=0x24))
    understood = understand([sent], None)
    assert understood == Understanding((sent,), ("normal", "normal"), ("power_low", "manufacturer_bit_5"))


def test_a_profile_that_knows_nothing_changes_nothing() -> None:
    sent = telegram("02 FF 07 01 02 04 06 01 00 00 00 0F AA")
    assert understand([sent], family()).telegrams == (sent,)


def test_a_makers_record_gets_a_name_a_unit_and_a_number_and_keeps_its_bytes() -> None:
    rule = Rule(("FF07",), Naming("frequency", unit="Hz", factor=Decimal("0.01"), show="diagnostic"))
    understood = understand([telegram("02 FF 07 89 13")], family(rule))
    record = said(understood)["frequency"]
    assert (record.value, record.unit, record.kind, record.exponent) == (Decimal("50.01"), "Hz", "number", -2)
    assert (record.dib, record.vib, record.raw) == (b"\x02", b"\xff\x07", b"\x89\x13")
    assert (record.effect, record.modifiers, record.problem) == ("", (), None)
    assert understood.shows == ("diagnostic",)


@pytest.mark.parametrize(
    ("records", "kind", "value"),
    [
        ("01 FF 07 FE", "number", -2),
        ("0A FF 07 34 12", "number", 1234),
        ("05 FF 07 00 00 20 40", "number", Decimal("2.5")),
        ("0D FF 07 03 43 42 41", "text", "ABC"),
        ("0C FF 07 78 56 34 02", "text", "02345678"),
        ("03 FF 07 01 00 80", "bits", 0x800001),
        ("04 FF 07 1E 0C E1 2B", "datetime", datetime(2023, 11, 1, 12, 30)),  # noqa: DTZ001 - a meter's clock has no zone
    ],
)
def test_what_a_dif_codes_can_be_read_as_its_kind(records: str, kind: Kind, value: object) -> None:
    record = only(records, Rule(("FF07",), Naming("something", kind=kind)))
    assert (record.kind, record.value, record.problem) == (kind, value, None)


def test_a_number_without_sign() -> None:
    rule = Rule(("FF07",), Naming("something", signed=False))
    assert only("01 FF 07 FE", rule).value == 0xFE


@pytest.mark.parametrize(
    ("records", "kind", "problem"),
    [
        ("0D FF 07 03 43 42 41", "number", "3 bytes of this coding are no number"),
        ("02 FF 07 01 02", "datetime", "2 bytes of this coding are no datetime"),
        ("05 FF 07 00 00 C0 FF", "number", "the real FFC00000 is not a number"),
        ("0A FF 07 AB 12", "number", "the meter shows '12AB' instead of decimal digits"),
        ("0D FF 07 02 01 02", "text", "control characters in a text"),
    ],
)
def test_data_that_do_not_fit_have_no_value_and_say_why(records: str, kind: Kind, problem: str) -> None:
    record = only(records, Rule(("FF07",), Naming("something", kind=kind)))
    assert (record.kind, record.value, record.problem) == (kind, None, problem)


def test_high_byte_first_is_read_so() -> None:
    header = long_header()
    turned = header[3::-1] + header[5:3:-1] + header[6:]
    sent = decode(LongFrame(0x08, 5, 0x76, turned + bytes.fromhex("02 FF 07 01 02")))
    (record,) = understand([sent], family(Rule(("FF07",), Naming("something")))).telegrams[0].records
    assert record.value == 0x0102


def test_another_unit_does_not_touch_the_value() -> None:
    rule = Rule(
        ("04",), Naming("reactive_energy", unit="varh"), subunits=((2, 2),), place=Place(subunit=0, storage=None)
    )
    understood = understand([telegram("84 80 40 04 05 00 00 00 04 04 07 00 00 00")], family(rule))
    assert {key: (record.value, record.unit) for key, record in said(understood).items()} == {
        "reactive_energy": (50, "varh"),
        "energy": (70, "Wh"),
    }


def test_the_makers_vifes_by_name() -> None:
    vifes = ((0, ""), (1, "l1"))
    understood = understand([telegram("02 AB FF 01 05 00 02 AB FF 00 06 00 02 AB FF 02 07 00")], family(vifes=vifes))
    assert {key: record.effect for key, record in said(understood).items()} == {
        "power_l1": "",
        "power": "",
        "power_mfr_02": "manufacturer",
    }


def test_behind_vif_ff_the_first_vife_is_the_vif_proper() -> None:
    rule = Rule(("FF01", "FF81FF0?"), Naming("power_factor"))
    understood = understand([telegram("01 FF 01 05 01 FF 81 FF 01 06")], family(rule, vifes=((1, "l1"),)))
    assert list(said(understood)) == ["power_factor", "power_factor_l1"]


def abb_like(*rules: Rule) -> Profile:
    return replace(family(*rules), ignored_vifes=frozenset({0x00, 0x15, 0x18}))


def test_a_last_vife_that_is_a_state_is_no_part_of_the_name() -> None:
    rule = Rule(("FF18",), Naming("power_failures"))
    understood = understand([telegram("02 FF 98 00 07 00 02 A9 FF 81 00 01 00")], abb_like(rule))
    assert list(said(understood)) == ["power_failures", "power_mfr_01"]


def test_a_last_vife_that_is_an_error_means_no_value() -> None:
    rule = Rule(("FF20",), Naming("ratio"))
    (record,) = understand([telegram("02 FF A0 15 07 00")], abb_like(rule)).telegrams[0].records
    assert (record.quantity, record.value, record.kind) == ("ratio", None, "number")
    assert record.problem == "the meter reports: no data available"


def test_a_code_that_is_the_vif_proper_is_never_ignored() -> None:
    sent = telegram("02 FF 15 07 00")
    assert understand([sent], abb_like()).telegrams == (sent,)


def test_bits_that_are_set_are_words_of_the_status() -> None:
    rule = Rule(("FD17",), Naming(kind="bits", bits=((0, "dry"), (1, "leak"), (9, "burst"))))
    sent = telegram("02 FD 17 02 02 42 FD 17 01 00", long_header(status=0x04))
    understood = understand([sent], family(rule))
    assert understood.status == ("power_low", "leak", "burst")  # the stored word is of the past
    assert said(understood)["error_flags"].value == 0x202


def test_a_value_during_an_error_is_none_where_the_profile_puts_it_under_the_usual_name() -> None:
    rule = Rule(("65",), Naming(modifiers=("average_1h",)), storages=((1, 1),), place=Place("instantaneous", 0))
    record = only("72 65 00 00", rule)
    assert (record.function, record.storage, record.value) == ("instantaneous", 0, None)
    assert record.problem == "the meter says that the value is not valid"
    assert only("42 65 34 08", rule).value == 21


def layout(*fields: DataField) -> DataLayout:
    return DataLayout(fields, lengths=((3, 4),), starts=b"\x01")


def test_the_makers_block_becomes_records() -> None:
    numerator = DataField(1, 1, "uint", Naming("numerator", kind="number", show="disabled"))
    volume = DataField(2, 2, "int", Naming("volume", unit="m3", factor=Decimal("0.001"), kind="number"))
    sent = telegram("01 FD 17 00 0F 01 FF 10 27")
    understood = understand([sent], family(data=(layout(replace(numerator, type="bits"), volume),)))
    values = {key: (record.value, record.unit, record.exponent) for key, record in said(understood).items()}
    assert values == {"error_flags": (0, None, None), "numerator": (255, None, None), "volume": (Decimal(10), "m3", -3)}
    assert understood.shows == ("normal", "disabled", "normal")
    assert understood.telegrams[0].manufacturer_data == sent.manufacturer_data


def test_a_field_behind_the_end_of_the_block_is_left_out_and_told() -> None:
    field = DataField(2, 2, "int", Naming("volume", kind="number"))
    understood = understand([telegram("0F 01 02 03")], family(data=(layout(field),)))
    assert understood.telegrams[0].records == ()
    assert understood.problems == ("volume: bytes 2 to 3 of the maker's data are not there, 3 bytes were sent",)


def test_a_block_of_another_layout_says_nothing() -> None:
    field = DataField(0, 1, "int", Naming("volume", kind="number"))
    for records in ("0F 02 02 03", "0F 01 02"):
        assert understand([telegram(records)], family(data=(layout(field),))).telegrams[0].records == ()


def test_a_name_that_another_record_has_is_not_given() -> None:
    rule = Rule(("FF07",), Naming("power", unit="W"))
    sent = telegram("02 FF 07 01 00 02 2B 02 00")
    understood = understand([sent], family(rule))
    assert understood.telegrams == (sent,)
    assert understood.problems == ("the profile would name two values power; they keep their names",)


def test_two_records_that_were_the_same_stay_so() -> None:
    rule = Rule(("FF07",), Naming("power", unit="W"))
    understood = understand([telegram("02 FF 07 01 00"), telegram("02 FF 07 02 00")], family(rule))
    assert [record.value for record in said(understood).values()] == [1, 2]
    assert understood.problems == ()


def test_a_field_of_the_block_does_not_take_the_name_of_a_record() -> None:
    field = DataField(1, 1, "int", Naming("power", kind="number"))
    understood = understand([telegram("02 2B 02 00 0F 01 05 00")], family(data=(layout(field),)))
    assert [record.value for record in said(understood).values()] == [2]
    assert len(understood.problems) == 1
    assert understood.shows == ("normal",)


_TYPES: tuple[DataType, ...] = ("int", "uint", "bcd", "real", "bits", "text", "digits", "date", "datetime")
_KINDS: tuple[Kind, ...] = ("number", "text", "bits", "date", "datetime")


@given(st.binary(max_size=60), st.sampled_from(_TYPES), st.sampled_from(_KINDS))
def test_no_bytes_of_a_meter_make_it_raise(data: bytes, data_type: DataType, kind: Kind) -> None:
    rules = (
        Rule(("??",), Naming("one", factor=Decimal("0.5") if kind == "number" else None, kind=kind)),
        Rule(("????",), Naming(kind=kind, bits=((1, "bit"),))),
    )
    block = DataLayout((DataField(1, 4, data_type, Naming("two")),))
    profile = replace(
        family(*rules, data=(block,)), ignored_vifes=frozenset(range(0x20)), status=Status(((5, "five"),))
    )
    sent = decode(LongFrame(0x08, 5, 0x72, long_header(status=0x20) + data))
    understood = understand([sent, sent], profile)
    assert len(understood.shows) == sum(len(item.records) for item in understood.telegrams)
    assert understood.status[0] == "five"
