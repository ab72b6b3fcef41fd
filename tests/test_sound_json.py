"""What a damaged file may hold, and what is left of it."""

from decimal import Decimal

import pytest

from mbusd.exact_json import JsonValue, dumps
from mbusd.sound_json import loads, sound


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('{"a": [1, -2.5, "x", true, null]}', {"a": [1, -2.5, "x", True, None]}),
        ("[NaN, Infinity, -Infinity, 1e999, 1E308]", [None, None, None, None, 1e308]),
        (f"[{10**18 - 1}, -{10**18 - 1}, {10**18}, -{10**18}]", [10**18 - 1, 1 - 10**18, None, None]),
        (f"[{'1' * 5000}, 1]", [None, 1]),
        (r'["\ud83d\ude00", "\ud83d", "a\udc00"]', ["😀", None, None]),
        (r'{"\ud83d": 1, "b": {"\udc00": 2}}', {"b": {}}),
    ],
)
def test_what_cannot_be_is_nothing_and_the_rest_stays(text: str, left: JsonValue) -> None:
    assert loads(text) == left
    dumps(loads(text)).encode("utf-8")


@pytest.mark.parametrize("text", ["", "{", "nan", "\0" * 100])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"line 1"):
        loads(text)


def test_exact_numbers_stay_exact() -> None:
    assert sound([Decimal("18.360"), Decimal("NaN"), (1, 2)]) == [Decimal("18.360"), None, [1, 2]]
