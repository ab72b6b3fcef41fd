"""The JSON of mbusd: exact numbers, ISO dates, text as UTF-8."""

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbusd.exact_json import JsonValue, dumps


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("18.36"), "18.36"),
        (Decimal("18.3600"), "18.36"),
        (Decimal("1E-7"), "0.0000001"),
        (Decimal("1E+3"), "1000"),
        (Decimal("-0.0"), "0"),
        (Decimal(100), "100"),
        (0.1, "0.1"),
        (2**70, str(2**70)),
        (True, "true"),
        (None, "null"),
        ('Küche "1"\n', '"Küche \\"1\\"\\n"'),
        (date(2010, 12, 31), '"2010-12-31"'),
        (datetime(2025, 3, 30, 14, 5), '"2025-03-30T14:05:00"'),  # noqa: DTZ001 - a meter's clock has no zone
        (datetime(2025, 3, 30, 14, 5, tzinfo=UTC), '"2025-03-30T14:05:00Z"'),
        (datetime(2025, 3, 30, 14, 5, tzinfo=timezone(timedelta(hours=2))), '"2025-03-30T14:05:00+02:00"'),
        (("a", [1, {}]), '["a", [1, {}]]'),
        ({"a": 1, "b": None}, '{"a": 1, "b": null}'),
    ],
)
def test_each_value_has_its_form(value: JsonValue, text: str) -> None:
    assert dumps(value) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal("NaN"), Decimal("-Infinity")])
def test_what_is_no_number_is_refused(value: JsonValue) -> None:
    with pytest.raises(ValueError, match="no number"):
        dumps([value])


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20))
def test_no_digit_of_a_decimal_is_lost(number: Decimal) -> None:
    text = dumps(number)
    assert json.loads(text, parse_float=Decimal, parse_int=Decimal) == number
    assert "e" not in text.lower()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda each: st.lists(each) | st.dictionaries(st.text(), each),
    )
)
def test_other_readers_understand_it(document: JsonValue) -> None:
    assert json.loads(dumps(document)) == document
