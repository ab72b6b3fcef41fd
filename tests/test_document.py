"""The document of `mbusd decode --json`."""

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbusd.document import document
from mbusd.exact_json import JsonValue, dumps
from mbusd.mbus.frames import Ack, LongFrame, ShortFrame, encode
from tests.telegram_samples import frame

SHARED = Path(__file__).parents[2] / "shared" / "telegrams"
HEADER = bytes.fromhex("785634122D2C08040700") + bytes(2)


def said(records: str) -> dict[str, JsonValue]:
    return document(encode(frame(records)))


def record(records: str) -> dict[str, JsonValue]:
    found = said(records)["records"]
    assert isinstance(found, list)
    (only,) = found
    assert isinstance(only, dict)
    return only


def error(data: bytes) -> dict[str, JsonValue]:
    found = document(data)["error"]
    assert isinstance(found, dict)
    return found


def test_a_whole_document() -> None:
    assert said("84863C E8030000 0F AABB".replace("84863C", "04863C")) == {
        "error": None,
        "frame": {"control": 8, "address": 5, "ci": 0x72},
        "header": {
            "manufacturer": "KAM",
            "id": "12345678",
            "version": 8,
            "medium": 4,
            "medium_name": "heat",
            "access_number": 7,
            "status": 0,
            "signature": 0,
        },
        "records": [
            {
                "function": "instantaneous",
                "storage": 0,
                "tariff": 0,
                "subunit": 0,
                "quantity": "energy",
                "unit": "Wh",
                "value": 1000000,
                "modifiers": ["backward"],
                "key": "energy_backward",
                "dib": "04",
                "vib": "863C",
                "raw": "E8030000",
                "problem": None,
            }
        ],
        "manufacturer_data": "AABB",
        "more_records_follow": False,
        "encrypted": False,
    }


@pytest.mark.parametrize(
    ("records", "value"),
    [
        ("0413 B4470000", Decimal("18.356")),
        ("426C 5F1C", "2010-12-31"),
        ("046D 05AE3E33", "2025-03-30T14:05"),
        ("066D 2405EE3E3300", "2025-03-30T14:05:36"),
        ("0DFD11 05 4544434241", "ABCDE"),
        ("01FD17 04", 4),
        ("02FF68 0A0B", "0A0B"),
        ("0C78 01000000", "00000001"),
        ("426C FFFF", None),
        ("055B 0000A041", 20),
    ],
)
def test_values_have_the_form_of_the_contract(records: str, value: JsonValue) -> None:
    shown = record(records)["value"]
    assert json.loads(dumps(shown), parse_float=Decimal) == json.loads(dumps(value), parse_float=Decimal)


def test_a_missing_value_says_why() -> None:
    assert record("04A618 01000000")["problem"]


def test_more_records_may_follow() -> None:
    assert said("1F")["more_records_follow"] is True


def test_records_before_the_trouble_are_listed() -> None:
    broken = said("0406 01000000 0406 01")
    assert isinstance(broken["error"], dict)
    assert broken["error"]["code"] == "premature_end_of_data"
    assert broken["error"]["offset"] == 7 + 12 + 6
    assert isinstance(broken["records"], list)
    assert len(broken["records"]) == 1


def test_an_application_error_has_its_code() -> None:
    assert error(bytes.fromhex("6804046808017009 8216"))["application_error"] == 9


@pytest.mark.parametrize(
    ("data", "code"),
    [("", "empty"), ("99", "start"), ("1040054616", "checksum"), ("6803036808017215", "length")],
)
def test_a_frame_that_is_none_has_an_error_and_no_frame(data: str, code: str) -> None:
    found = document(bytes.fromhex(data))
    assert isinstance(found["error"], dict)
    assert found["error"]["code"] == code
    assert (found["frame"], found["header"], found["records"]) == (None, None, [])


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (encode(Ack()), {"control": None, "address": None, "ci": None}),
        (encode(ShortFrame(0x5B, 5)), {"control": 0x5B, "address": 5, "ci": None}),
    ],
)
def test_frames_that_say_nothing_are_good(data: bytes, shown: dict[str, JsonValue]) -> None:
    found = document(data)
    assert (found["error"], found["frame"], found["header"], found["records"]) == (None, shown, None, [])


@given(st.integers(0, 255), st.binary(max_size=40), st.booleans())
def test_any_frame_becomes_json(ci: int, data: bytes, with_header: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
    body = HEADER + data if with_header else data
    text = dumps(document(encode(LongFrame(0x08, 5, ci, body))))
    assert json.loads(text)["frame"]["ci"] == ci


@given(st.binary(max_size=20))
def test_any_bytes_become_json(data: bytes) -> None:
    assert "error" in json.loads(dumps(document(data)))


def test_the_judged_telegrams_of_real_meters() -> None:
    if not SHARED.is_dir():
        pytest.skip("../shared/telegrams, the telegrams of real meters, is not here")
    decoder = (
        "import sys; from mbusd.document import document; from mbusd.exact_json import dumps\n"
        "for line in sys.stdin: print(dumps(document(bytes.fromhex(line))))"
    )
    judge = [sys.executable, str(SHARED / "compare.py"), "--", sys.executable, "-c", decoder]
    judged = subprocess.run(judge, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])  # noqa: S603 - our own command
    assert judged.returncode == 0, judged.stdout
