"""The status byte of a header in words (EN 13757-3 cl. 5.11)."""

from typing import Final

_APPLICATION: Final = (None, "application_busy", "application_error", "abnormal_condition")
_FLAGS: Final = (
    (0x04, "power_low"),
    (0x08, "permanent_error"),
    (0x10, "temporary_error"),
    (0x20, "manufacturer_bit_5"),
    (0x40, "manufacturer_bit_6"),
    (0x80, "manufacturer_bit_7"),
)


def status_words(status: int, *, fixed: bool = False) -> tuple[str, ...]:
    """What is the matter with the meter, empty if nothing is.

    Bits 0 and 1 are one code, not two flags; in the fixed data structure they belong to the counters.
    """
    application = None if fixed else _APPLICATION[status & 3]
    words = (application, *(word for bit, word in _FLAGS if status & bit))
    return tuple(word for word in words if word is not None)
