"""Telegrams of one layout: what a meter repeats is known again, whatever its values are."""

from dataclasses import replace

import pytest

from mbusd.mbus.frames import LongFrame
from mbusd.mbus.layout import MOST_LAYOUTS, layouts_of
from mbusd.mbus.telegram import decode, decode_whole
from tests.telegram_samples import frame, long_header


@pytest.fixture(autouse=True)
def _nothing_is_known() -> None:
    layouts_of.cache_clear()


def heard(*frames: LongFrame) -> None:
    for one in frames:
        decode(one)


def test_the_first_telegram_of_a_layout_makes_it_known() -> None:
    first, second = frame("04 06 01 00 00 00 0F 01 02"), frame("04 06 02 00 00 00 0F 03 04", long_header("00000001"))
    known = decode(first).layout
    assert known is not None
    assert decode(second).layout is known
    assert decode(second) == decode_whole(second)
    assert decode(first) == decode_whole(first)


def test_another_dif_vif_length_or_configuration_is_another_layout() -> None:
    known = frame("04 06 01 00 00 00")
    heard(known, known)
    encrypted = bytes([*long_header()[:10], 0x10, 0x05])
    for other in (frame("04 07 01 00 00 00"), frame("44 06 01 00 00 00"), frame("04 06 01 00 00 00", encrypted)):
        assert decode(other).layout is not decode(known).layout
        assert decode(other) == decode_whole(other)


def test_what_ends_in_trouble_has_no_layout() -> None:
    cut = frame("04 06 01 00 00 00 04 06 01")
    heard(cut, cut, cut)
    said = decode(cut)
    assert said.layout is None
    assert said.error is not None


def test_a_kind_that_never_repeats_itself_fills_no_memory() -> None:
    """Each telegram with another fixed byte: as many layouts are kept as are allowed."""
    for vif in range(100):
        heard(frame(f"04 {vif % 0x60:02X} 01 00 00 00"))
    kept = layouts_of(0x72, len(frame("04 06 01 00 00 00").data), long_header()[4:8])
    assert len(kept.known) == MOST_LAYOUTS


def test_a_telegram_with_other_records_is_of_no_layout() -> None:
    """Whoever puts other records into one must not be answered with those of the frame."""
    known = frame("04 06 01 00 00 00")
    heard(known, known)
    assert decode(known).layout is not None
    changed = replace(decode(known), records=())
    assert changed.layout is None
    assert changed.records == ()
