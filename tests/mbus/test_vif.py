"""The VIF tables: complete, equal to the reference where that is at hand, and what chains of VIFEs make of them."""

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from mbusd.mbus import vif
from mbusd.mbus.vif import ValueInformation, Vif, Vife, fixed_information, value_information

REFERENCE = Path(__file__).parents[3] / "shared" / "protocol" / "vif.yaml"

VIF_TABLES = {"primary": vif.PRIMARY, "fb": vif.FB, "fd": vif.FD, "fdfd": vif.FD_FD, "fixed": vif.FIXED}
VIFE_TABLES = {"combinable": vif.COMBINABLE, "combinable_fc": vif.COMBINABLE_FC}


def of(codes: str, text: bytes | None = None) -> ValueInformation:
    return value_information(bytes.fromhex(codes), text)


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    if not REFERENCE.exists():
        pytest.skip(f"the reference tables are not here: {REFERENCE}")
    tables: dict[str, Any] = yaml.safe_load(REFERENCE.read_text("utf-8"))
    return tables


def rows_by_code(rows: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {code: row for row in rows for code in range(row["codes"][0], row["codes"][1] + 1)}


def referred_number(row: dict[str, Any], code: int) -> int:
    """`n` of the reference's formulas."""
    if "n_bits" in row:
        return int(code & (1 << row["n_bits"]) - 1)
    return int(code - row.get("n_from", 0))


def referred_exponent(row: dict[str, Any], code: int) -> int:
    formula = re.fullmatch(r"(n?)([+-]?\d*)", row.get("exp", "0"))
    assert formula is not None
    return (referred_number(row, code) if formula[1] else 0) + int(formula[2] or 0)


@pytest.mark.parametrize("name", VIF_TABLES)
def test_vif_table_equals_the_reference(name: str, reference: dict[str, Any]) -> None:
    ours = {code: row for row in VIF_TABLES[name] for code in range(row.first, row.last + 1)}
    theirs = rows_by_code(reference[name])
    assert ours.keys() == theirs.keys()
    for code, row in ours.items():
        other = theirs[code]
        number = referred_number(other, code) - (other.get("n_from", 0) if "n_bits" in other else 0)
        unit = other["unit_by_n"][number] if "unit_by_n" in other else other["unit"]
        assert (row.quantity, row.unit_of(code), row.kind) == (other["quantity"], unit or None, other["kind"]), code
        if other["kind"] in ("number", "duration"):
            assert row.exponent_of(code) == referred_exponent(other, code), f"{name} {code:02X}"
            assert str(row.factor) == other.get("mul", "None"), f"{name} {code:02X}"


@pytest.mark.parametrize("name", VIFE_TABLES)
def test_vife_table_equals_the_reference(name: str, reference: dict[str, Any]) -> None:
    ours = {code: row for row in VIFE_TABLES[name] for code in range(row.first, row.last + 1)}
    theirs = rows_by_code(reference[name])
    assert ours.keys() == theirs.keys()
    for code, row in ours.items():
        other = theirs[code]
        assert (row.effect, row.tag) == (other["effect"], other["tag"]), f"{name} {code:02X}"
        assert row.by == other.get("by", other.get("type", "")), f"{name} {code:02X}"
        assert list(row.units) == other.get("unit_by_n", []), f"{name} {code:02X}"
        if row.effect in ("scale", "offset"):
            assert row.exponent + code - row.first == referred_exponent(other, code), f"{name} {code:02X}"


def test_record_errors_and_units_equal_the_reference(reference: dict[str, Any]) -> None:
    assert {code: error["name"] for code, error in reference["record_errors"].items()} == vif.RECORD_ERRORS
    units = {row.unit_of(code) or "" for rows in VIF_TABLES.values() for row in rows for code in codes_of(row)}
    assert units <= set(reference["units"])


def codes_of(row: Vif | Vife) -> range:
    return range(row.first, row.last + 1)


@pytest.mark.parametrize(("name", "codes"), [(name, 64 if name == "fixed" else 128) for name in VIF_TABLES])
def test_every_code_has_one_row(name: str, codes: int) -> None:
    assert [code for row in VIF_TABLES[name] for code in codes_of(row)] == list(range(codes))


@pytest.mark.parametrize("name", VIFE_TABLES)
def test_every_vife_has_one_row(name: str) -> None:
    assert [code for row in VIFE_TABLES[name] for code in codes_of(row)] == list(range(128))


@pytest.mark.parametrize(
    ("codes", "quantity", "unit", "exponent"),
    [
        ("00", "energy", "Wh", -3),
        ("06", "energy", "Wh", 3),
        ("0E", "energy", "J", 6),
        ("13", "volume", "m3", -3),
        ("1B", "mass", "kg", 0),
        ("22", "on_time", "h", 0),
        ("27", "operating_time", "d", 0),
        ("2D", "power", "W", 2),
        ("33", "power", "J/h", 3),
        ("3B", "volume_flow", "m3/h", -3),
        ("47", "volume_flow", "m3/min", 0),
        ("4F", "volume_flow", "m3/s", -2),
        ("53", "mass_flow", "kg/h", 0),
        ("59", "flow_temperature", "degC", -2),
        ("5E", "return_temperature", "degC", -1),
        ("61", "temperature_difference", "K", -2),
        ("6B", "pressure", "bar", 0),
        ("6E", "hca", "HCA", 0),
        ("70", "averaging_duration", "s", 0),
        ("FB00", "energy", "Wh", 5),
        ("FB01", "energy", "Wh", 6),
        ("FB09", "energy", "J", 9),
        ("FB0D", "energy", "cal", 6),
        ("FB1A", "relative_humidity", "%", -1),
        ("FB2F", "frequency", "Hz", 0),
        ("FB21", "volume", "ft3", -1),
        ("FD17", "error_flags", None, 0),
        ("FD31", "duration_of_tariff", "min", 0),
        ("FD33", "duration_of_tariff", "d", 0),
        ("FD48", "voltage", "V", -1),
        ("FD5C", "current", "A", 0),
        ("FD6E", "battery_operating_time", "month", 0),
        ("FDFD02", "remaining_battery_life", "month", 0),
    ],
)
def test_quantity_unit_and_exponent(codes: str, quantity: str, unit: str | None, exponent: int) -> None:
    information = of(codes)
    assert (information.quantity, information.unit, information.exponent) == (quantity, unit, exponent)
    assert (information.modifiers, information.effect, information.record_error) == ((), "", None)


def test_the_byte_after_fd_is_no_vife() -> None:
    """17 alone would be a record error, FD 17 are error flags; their own extension bit announces VIFEs."""
    assert of("FD17").record_error is None
    assert of("FDC9FC01").modifiers == ("l1",)
    assert of("FD9715").record_error == "no_data_available"


def test_hca_factors_are_4096ths() -> None:
    assert of("FB68").factor == Decimal(1) / 4096


@pytest.mark.parametrize(
    ("codes", "modifiers"),
    [
        ("863B", ("forward",)),
        ("863C", ("backward",)),
        ("EC7E", ("future",)),
        ("8612", ("average",)),
        ("86A828", ("per_input_pulse_0", "per_input_pulse_0")),
        ("8629", ("per_input_pulse_1",)),
        ("862B", ("per_output_pulse_1",)),
        ("86FC8CBB12", ("delta_import_export", "forward", "average")),
        ("86FC10", ("absolute_both",)),
        ("8610", ("vife_10",)),
        ("867C", ("vife_7c",)),
        ("86FC16", ("vife_fc_16",)),
        ("86FF8100", ("mfr_01", "mfr_00")),
        ("86BBFFFC01", ("forward", "mfr_7c", "mfr_01")),
        ("FFFF81FC15", ("mfr_7f", "mfr_01", "mfr_7c", "mfr_15")),
        ("FF2A", ("mfr_2a",)),
        ("867F", ()),
        ("EF8115", ("vife_01",)),
    ],
)
def test_modifiers_stand_in_the_order_sent(codes: str, modifiers: tuple[str, ...]) -> None:
    assert of(codes).modifiers == modifiers


@pytest.mark.parametrize("codes", ["8670", "8677", "867D", "8679", "86FC11", "86FC12", "8600", "8615", "860C"])
def test_the_key_knows_no_scales_types_and_errors(codes: str) -> None:
    assert of(codes).modifiers == ()
    assert of(codes).quantity == "energy"


@pytest.mark.parametrize(
    ("codes", "exponent"),
    [("8670", -3), ("8676", 3), ("8677", 4), ("867D", 6), ("86FD7D", 9), ("86F5BB72", -2), ("FDBA74", -2)],
)
def test_scales_add_up_wherever_they_stand(codes: str, exponent: int) -> None:
    assert of(codes).exponent == exponent


@pytest.mark.parametrize(
    ("codes", "offset"), [("DA78", "0.001"), ("DA7B", "1"), ("DAFAFA7B", "1.2"), ("DA74", None), ("DAFBBB70", "1")]
)
def test_offsets_add_up(codes: str, offset: str | None) -> None:
    assert of(codes).offset == (None if offset is None else Decimal(offset))


@pytest.mark.parametrize(
    ("codes", "effect", "kind", "unit", "tag"),
    [
        ("8639", "as_date", "datetime", None, "start_date_of"),
        ("866B", "as_date", "datetime", None, "end_of_first"),
        ("86FC13", "as_date", "datetime", None, "end_date_of"),
        ("8641", "as_number", "number", None, "exceeds_of_lower_limit"),
        ("8652", "as_duration", "duration", "h", "duration_first_lower_limit_exceed"),
        ("8667", "as_duration", "duration", "d", "duration_of_last"),
        ("8628", "pulse", "number", "Wh", "per_input_pulse_0"),
        ("8622", "unit", "number", "Wh/h", "per_hour"),
        ("8633", "unit", "number", "Wh/K*l", "per_kelvin_litre"),
        ("FDDC36", "unit", "number", "A*s", "times_second"),
        ("FDDC37", "unit", "number", "A*s/V", "times_second_per_volt"),
        ("FDE122", "unit", "number", None, "per_hour"),
        ("8614", "unit", "number", None, "relative_deviation"),
        ("863D", "unit", "number", None, "non_metric"),
        ("861E", "profile", "raw", "Wh", "compact_profile_register"),
        ("861F", "profile", "raw", "Wh", "compact_profile"),
        ("8613", "profile", "raw", "Wh", "inverse_compact_profile"),
        ("863F", "", "raw", "Wh", "obis_declaration"),
    ],
)
def test_effects(codes: str, effect: str, kind: str, unit: str | None, tag: str) -> None:
    information = of(codes)
    assert (information.effect, information.kind, information.unit) == (effect, kind, unit)
    assert information.modifiers == (tag,)


@pytest.mark.parametrize("effect", ["as_date", "as_number", "as_duration"])
def test_what_belongs_to_the_quantity_has_not_its_scale(effect: str) -> None:
    """`FB 68` is 2**-12, `06` kWh: a count, a date or a duration of them is neither."""
    vife = {"as_date": "39", "as_number": "41", "as_duration": "50"}[effect]
    assert (of("86" + vife).exponent, of("FBE8" + vife).factor) == (0, None)
    assert of("86FB" + vife).offset is None
    assert of("86F7" + vife).exponent == 1, "a scaling VIFE counts all the same"


def test_the_last_of_contradicting_effects_counts() -> None:
    information = of("86C139")
    assert (information.effect, information.kind) == ("as_date", "datetime")
    information = of("86B941")
    assert (information.effect, information.kind) == ("as_number", "number")


def test_the_strongest_effect_is_named() -> None:
    assert of("86A2A828").effect == "pulse"
    assert of("86A2B939").effect == "as_date"
    assert of("86A2FF01").effect == "unit"
    assert of("86FF01").effect == "manufacturer"
    assert of("FF01").effect == "manufacturer"


def test_units_unknown_to_us_leave_the_bare_number() -> None:
    information = of("86F7FBA23D")
    assert (information.unit, information.exponent, information.offset, information.factor) == (None, 0, None, None)


@pytest.mark.parametrize(
    ("vife", "error"),
    [
        ("00", None),
        ("01", "too_many_dife"),
        ("0F", "unimplemented_action"),
        ("15", "no_data_available"),
        ("16", "data_overflow"),
        ("17", "data_underflow"),
        ("18", "data_error"),
        ("08", "record_error_08"),
        ("1A", "record_error_1a"),
        ("1C", "premature_end_of_record"),
    ],
)
def test_record_errors(vife: str, error: str | None) -> None:
    assert of("A6" + vife).record_error == error


@pytest.mark.parametrize("code", sorted(vif.RECORD_ERRORS))
def test_every_record_error_is_read(code: int) -> None:
    assert (of(f"86{code:02X}").record_error is None) == (code == 0)


@pytest.mark.parametrize("codes", ["7B", "7D", "6F", "FD7D", "FB07", "FD7C", "FDFD01", "EF15"])
def test_what_has_no_meaning_is_reserved(codes: str) -> None:
    information = of(codes)
    assert (information.quantity, information.kind, information.record_error) == ("reserved", "number", None)


def test_data_types() -> None:
    assert (of("86FC11").data_type, of("86FC12").data_type, of("86").data_type) == ("C", "D", "")


@pytest.mark.parametrize(("sent", "unit"), [(b"HR%", "%RH"), (b"di .tsuc", "cust. id"), (b"\0h\0", "h"), (b"", None)])
def test_plain_text_units_come_last_letter_first(sent: bytes, unit: str | None) -> None:
    information = of("7C", sent)
    assert (information.quantity, information.unit, information.kind) == ("plain_text_unit", unit, "number")


def test_every_chain_of_any_two_bytes_has_a_meaning() -> None:
    for first in range(128, 256):
        for second in range(128):
            information = value_information(bytes([first, second]), b"")
            assert information.quantity
            assert information.quantity not in ("extension_fb", "extension_fd", "extension_fdfd")


@pytest.mark.parametrize(
    ("code", "quantity", "unit", "exponent"),
    [
        (0x02, "energy", "Wh", 0),
        (0x05, "energy", "Wh", 3),
        (0x0B, "energy", "J", 3),
        (0x0E, "energy", "J", 6),
        (0x14, "power", "W", 0),
        (0x29, "volume", "m3", -3),
        (0x2C, "volume", "m3", 0),
        (0x32, "volume_flow", "m3/h", -3),
        (0x38, "temperature", "degC", -3),
        (0x39, "hca", "HCA", 0),
        (0x3F, "dimensionless", None, 0),
    ],
)
def test_units_of_the_fixed_structure(code: int, quantity: str, unit: str | None, exponent: int) -> None:
    information = fixed_information(code)
    assert (information.quantity, information.unit, information.exponent) == (quantity, unit, exponent)
