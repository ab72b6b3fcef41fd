"""The status byte in words."""

import pytest

from mbusd.mbus.status import status_words


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0x00, ()),
        (0x01, ("application_busy",)),
        (0x02, ("application_error",)),
        (0x03, ("abnormal_condition",)),
        (0x04, ("power_low",)),
        (0x08, ("permanent_error",)),
        (0x10, ("temporary_error",)),
        (0x27, ("abnormal_condition", "power_low", "manufacturer_bit_5")),
        (0xC0, ("manufacturer_bit_6", "manufacturer_bit_7")),
    ],
)
def test_words(status: int, words: tuple[str, ...]) -> None:
    assert status_words(status) == words


@pytest.mark.parametrize("status", range(256))
def test_the_fixed_structure_has_no_application_code(status: int) -> None:
    assert status_words(status, fixed=True) == status_words(status & 0xFC)
