"""Names of device types."""

import re

import pytest

from mbusd.mbus.media import MEDIA, medium_name


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (0x02, "electricity"),
        (0x04, "heat"),
        (0x06, "warm_water"),
        (0x0C, "heat_inlet"),
        (0x0D, "heat_cooling"),
        (0x16, "cold_water"),
        (0x31, "communication_controller"),
        (0x72, "reserved"),
    ],
)
def test_names(code: int, name: str) -> None:
    assert medium_name(code) == name


def test_each_name_is_one_word_and_stands_for_one_code() -> None:
    assert len(set(MEDIA.values())) == len(MEDIA)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in MEDIA.values())
