"""The quick way from bytes to readings and payloads says what the way record by record says, whatever is sent."""

import json
import tracemalloc
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbusd import exact_json, normalise
from mbusd.mbus.address import SecondaryAddress
from mbusd.mbus.errors import DecodeError
from mbusd.mbus.fetching import address_in
from mbusd.mbus.frames import LongFrame, parse
from mbusd.mbus.layout import layouts_of
from mbusd.mbus.profile import DataField, DataLayout, Naming, Profile
from mbusd.mbus.records import outline
from mbusd.mbus.telegram import Telegram, decode, decode_whole
from mbusd.model import Identity, Reading
from mbusd.profiles import Shelf, shelf_of
from mbusd.sinks.state import state
from mbusd.values import recognition
from mbusd.values.shaping import Shape, shaped
from tests.telegram_samples import frame, long_header

SHARED = Path(__file__).parents[2] / "shared" / "telegrams" / "telegrams.jsonl"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
Draw = Callable[[st.SearchStrategy[Any]], Any]
ZONES: tuple[tzinfo | None, ...] = (None, UTC, BERLIN, ZoneInfo("Australia/Lord_Howe"), ZoneInfo("America/St_Johns"))
RECORDS = (
    "0C 78 78 56 34 12",  # fabrication number
    "04 03 39 30 00 00 0C 13 21 43 65 00 0B 3B 13 00 F0 0A 5A 05 02",  # integer, BCD, BCD with a sign
    "05 2E 00 00 29 41 05 5B CD CC AC 41 05 3E 17 B7 D1 38",  # reals
    "04 6D 1D 2D 78 3B 42 6C 5F 3C 06 6D 00 1E 0C 14 3B 00",  # clocks and dates
    "01 FD 17 00 02 FD 17 05 00 0D FD 0F 05 30 2E 31 2E 41",  # bits, text
    "03 13 FF FF 0F 06 03 01 02 03 04 05 00 07 03 00 01 02 03 04 05 06 00",  # 3, 6 and 8 bytes
    "02 23 10 0E 04 24 10 0E 00 00 02 27 11 00",  # hours, seconds, days
    "04 10 07 00 00 00 01 00 0C 0C 00 00 00 00 04",  # places after the point, powers before it
    "04 86 3B 10 00 00 00 84 10 06 05 00 00 00 C4 00 06 01 00 00 00",
    "0F 01 02 03 04",
)
SAMPLES = tuple(frame(" ".join(records)) for records in (*((one,) for one in RECORDS), RECORDS[:8], RECORDS))


@pytest.fixture(autouse=True)
def _nothing_is_known() -> None:
    layouts_of.cache_clear()
    recognition.forget()


@cache
def answers() -> tuple[LongFrame, ...]:
    """Own telegrams, and those of real meters where they are at hand."""
    lines = map(json.loads, SHARED.read_text("utf-8").splitlines()) if SHARED.exists() else ()
    real = [parse(bytes.fromhex(line["hex"])) for line in lines if (line["kind"], line["direction"]) == ("ok", "slave")]
    return (*SAMPLES, *(one for one in real if isinstance(one, LongFrame)))


@cache
def shelf() -> Shelf:
    return shelf_of(None)[0]


def profile_of(sent: LongFrame) -> Profile | None:
    return shelf().of(address_in(decode_whole(sent)))


def reading(said: Sequence[Telegram], zone: tzinfo | None, profile: Profile | None) -> Reading:
    return normalise.reading("flat", said, NOON, zone, None, profile)


def whole(sent: Sequence[LongFrame], zone: tzinfo | None = BERLIN, profile: Profile | None = None) -> Reading:
    return normalise.reading_whole("flat", [decode_whole(one) for one in sent], NOON, zone, None, profile)


def learnt(sent: LongFrame, zone: tzinfo | None = BERLIN, profile: Profile | None = None) -> Reading:
    """The reading when this was heard some times before."""
    for _ in range(4):
        last = reading([decode(sent)], zone, profile)
    return last


def other(sent: LongFrame, data: bytes) -> LongFrame:
    return LongFrame(sent.control, sent.address, sent.ci, data)


def tampered(data: bytes, draw: Draw, spans: Sequence[tuple[int, int]]) -> bytes:
    """Values that move, bits that flip anywhere, bytes that change places, an end that is missing."""
    changed = bytearray(data)
    what = draw(st.sampled_from(("values", "values", "values", "bits", "swap", "cut", "nothing")))
    if what == "values" and spans:
        for start, end in draw(st.lists(st.sampled_from(list(spans)), min_size=1, max_size=6)):
            size = end - start
            special = st.sampled_from((b"\xff" * size, bytes(size), (bytes(size) + b"\x80")[-size:] if size else b""))
            digits = st.lists(st.integers(0, 99), min_size=size, max_size=size)
            changed[start:end] = draw(
                st.one_of(
                    st.binary(min_size=size, max_size=size),
                    special,
                    digits.map(lambda pairs: bytes(int(f"{pair:02}", 16) for pair in pairs)),
                )
            )
    elif what == "bits" and changed:
        for at in draw(st.lists(st.integers(0, len(changed) - 1), min_size=1, max_size=3)):
            changed[at] ^= 1 << draw(st.integers(0, 7))
    elif what == "swap" and len(changed) > 1:
        a, b = draw(st.integers(0, len(changed) - 1)), draw(st.integers(0, len(changed) - 1))
        changed[a], changed[b] = changed[b], changed[a]
    elif what == "cut":
        return bytes(changed[: draw(st.integers(0, len(changed)))])
    return bytes(changed)


def said_of(way: Callable[[LongFrame], Telegram], sent: LongFrame) -> Telegram | tuple[str, str, int | None] | None:
    try:
        return way(sent)
    except DecodeError as error:
        return trouble(error)


def trouble(error: DecodeError | None) -> tuple[str, str, int | None] | None:
    return None if error is None else (error.code, error.message, error.offset)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_both_ways_say_the_same_of_every_telegram(data: st.DataObject) -> None:
    sent = data.draw(st.sampled_from(answers()))
    zone = data.draw(st.sampled_from(ZONES))
    profile = profile_of(sent) if data.draw(st.booleans()) else None
    learnt(sent, zone, profile)
    layout = decode(sent).layout
    changed = other(
        sent, tampered(sent.data, data.draw, () if layout is None or layout.outline is None else layout.outline.spans)
    )
    expected = said_of(decode_whole, changed)
    if not isinstance(expected, Telegram):
        assert said_of(decode, changed) == expected
        return
    for _ in range(3):  # unknown, learning, known
        said = decode(changed)
        taken, right = reading([said], zone, profile), whole([changed], zone, profile)
        keys = tuple(data.draw(st.lists(st.sampled_from(("energy", "volume", 'é"%', "time_of")), max_size=3)))
        assert state(taken, keys) == state(right, keys)
        if taken.draft is not None:
            values = [(item.key, exact_json.dumps(item.value)) for item in right.measurements]
            assert list(taken.draft.texts()) == values
            assert list(taken.draft.texts(keys)) == [(key, text) for key, text in values if key in keys]
        assert taken == right
        assert trouble(said.error) == trouble(expected.error)
        for name in ("frame", "header", "records", "manufacturer_data", "more_follows", "encrypted"):
            assert getattr(said, name) == getattr(expected, name)


@cache
def pieces() -> tuple[bytes, ...]:
    """The records of all answers that go low byte first, heads and data."""
    found = [(one.data, outline(one.data, 12)) for one in answers() if one.ci == 0x72 and len(one.data) > 12]
    return tuple(
        sorted(
            {
                data[start - len(head.data) : end]
                for data, said in found
                for head, (start, end) in zip(said.heads, said.spans, strict=True)
            }
        )
    )


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_both_ways_say_the_same_of_records_that_were_never_together(data: st.DataObject) -> None:
    """Records that are known, each from another meter, make a layout that is heard for the first time."""
    records = data.draw(st.lists(st.sampled_from(pieces()), min_size=1, max_size=6))
    model = data.draw(st.sampled_from(answers()))
    header = model.data[:12] if model.ci == 0x72 and len(model.data) >= 12 else long_header()
    header = header[:10] + bytes(2)
    sent = LongFrame(0x08, 5, 0x72, header + b"".join(records) + data.draw(st.sampled_from((b"", b"\x0f\x00\x01"))))
    profile = profile_of(sent) if data.draw(st.booleans()) else None
    zone = data.draw(st.sampled_from(ZONES))
    right = whole([sent], zone, profile)
    for _ in range(3):
        taken = reading([decode(sent)], zone, profile)
        assert state(taken) == state(right)
        assert state(taken, ("volume", "energy")) == state(right, ("volume", "energy"))
        assert taken == right


def test_the_first_telegram_of_a_layout_is_no_more_than_its_values() -> None:
    """Its records need not be made one by one, as their meanings are known or learnt at once."""
    taken = reading([decode(frame("04 03 39 30 00 00 0C 13 21 43 65 00"))], BERLIN, None)
    assert taken.draft is not None
    assert state(taken) == '{"time": "2026-11-20T12:00:00Z", "status": [], "energy": 12.345, "volume": 654.321}'


def test_what_never_comes_again_fills_no_memory() -> None:
    """A text that is another one each time, and telegrams of layouts that never come again: 8000 telegrams."""
    tracemalloc.start()
    try:
        for number in range(4000):
            text = f"{number:08}".encode()[::-1].hex()
            storage, vife = 0x80 + number % 97, number // 97 % 97
            for records in (f"0D FD 0F 08 {text}", f"84 {storage:02X} 01 83 {vife:02X} 01 00 00 00"):
                state(reading([decode(frame(records))], BERLIN, None))
        filled = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert filled < 3_000_000


@pytest.mark.parametrize("sent", SAMPLES)
def test_own_telegrams_become_known(sent: LongFrame) -> None:
    taken = learnt(sent)
    assert taken.draft is not None
    assert taken == whole([sent])
    assert state(taken) == state(whole([sent]))


def test_other_meters_of_the_kind_profit_and_keep_their_names() -> None:
    sent = frame("04 03 39 30 00 00")
    learnt(sent)
    taken = reading([decode(frame("04 03 40 30 00 00", long_header("99999999")))], BERLIN, None)
    assert taken.draft is not None
    assert taken.identity.identification == "99999999"
    assert state(taken) == '{"time": "2026-11-20T12:00:00Z", "status": [], "energy": 12.352}'


def test_a_status_that_changes_is_told() -> None:
    learnt(frame("04 03 39 30 00 00"))
    taken = reading([decode(frame("04 03 39 30 00 00", long_header(status=4)))], BERLIN, None)
    assert taken.status == ("power_low",)


def test_a_value_that_becomes_invalid_is_null_and_told() -> None:
    learnt(frame("04 03 39 30 00 00 0C 13 21 43 65 00"))
    taken = reading([decode(frame("04 03 00 00 00 80 0C 13 21 43 6A 00"))], BERLIN, None)
    assert state(taken) == '{"time": "2026-11-20T12:00:00Z", "status": [], "energy": null, "volume": null}'
    assert len(taken.problems) == 2


def test_a_small_number_is_written_without_an_exponent() -> None:
    """10^-6 m3 each: 0.000007."""
    sent = frame("04 10 07 00 00 00")
    assert state(learnt(sent)).endswith('"volume": 0.000007}')


def test_the_hour_that_comes_twice_is_told_apart() -> None:
    """25 October 2026, 02:30, first in summer time, then not."""
    for clock, offset in (("04 6D 1E 82 59 3A", "+02:00"), ("04 6D 1E 02 59 3A", "+01:00")):
        assert f'"2026-10-25T02:30:00{offset}"' in state(learnt(frame(clock)))


def test_two_telegrams_make_one_reading() -> None:
    first, second = frame("04 03 39 30 00 00 1F"), frame("04 03 01 00 00 00 04 13 01 00 00 00")
    for _ in range(4):
        taken = reading([decode(first), decode(second)], BERLIN, None)
    assert taken.draft is not None
    assert taken == whole([first, second])
    assert '"energy": 12.345, "energy_2": 0.001' in state(taken)


def test_what_is_changed_of_a_draft_is_what_is_published() -> None:
    """A reading that its owner wants in other words forgets how its meter would have said it."""
    sent = frame("04 03 39 30 00 00")
    taken = shaped(learnt(sent), Shape(rename={"energy": "heat"}))
    assert taken.draft is None
    assert '"heat": 12.345' in state(taken)


def test_a_draft_keeps_its_values_under_another_name() -> None:
    who = Identity("1", "", None, None, "unknown", "F" * 16)
    taken = learnt(frame("04 03 39 30 00 00")).called("cellar", who)
    assert (taken.meter, taken.identity) == ("cellar", who)
    assert taken.draft is not None
    assert [item.key for item in taken.measurements] == ["energy"]


def test_an_own_profile_is_not_mixed_up_with_another() -> None:
    """One layout under two profiles has two forms."""
    sent = frame("04 03 39 30 00 00")
    plain, named = None, Profile("KAM", "a meter", "a test", medium=7)
    assert learnt(sent, BERLIN, plain).identity.medium == 4
    assert learnt(sent, BERLIN, named).identity.medium == 7
    assert learnt(sent, BERLIN, named).model == "a meter"
    assert learnt(sent, BERLIN, plain).model == ""


def test_an_encrypted_telegram_is_known_again_and_told() -> None:
    """It has no values, and says so each time; its status moves."""
    header = bytes([*long_header(status=4)[:10], 0x20, 0x05])
    sent = frame("7A 11 24 95 30 02 11 92 A8 7F 00 01 02 03 04 05", header)
    taken = learnt(sent)
    assert taken.draft is not None
    assert taken == whole([sent])
    assert taken.problems == ("the telegram is encrypted: it has no readable values",)
    assert state(taken) == '{"time": "2026-11-20T12:00:00Z", "status": ["power_low"]}'


def test_fields_of_a_profile_may_share_bytes() -> None:
    """One counter and its low half, and a BCD that begins inside it."""
    litres = Naming("volume", unit="m3", factor=Decimal("0.001"), kind="number")
    fields = (
        DataField(0, 4, "int", litres),
        DataField(0, 2, "int", Naming("volume", ("low",), unit="m3", factor=Decimal("0.1"), kind="number")),
        DataField(1, 2, "bcd", Naming("volume", ("digits",), unit="m3", factor=Decimal("0.1"), kind="number")),
        DataField(6, 4, "bcd", Naming("energy", ("digits",), unit="Wh", factor=Decimal(10), kind="number")),
        DataField(4, 2, "bcd", Naming("power", unit="W", factor=Decimal("0.1"), kind="number")),
    )
    profile = Profile("KAM", "a meter", "a test", data=(DataLayout(fields),))
    sent = frame("04 06 01 00 00 00 0F 39 30 12 00 34 12 78 56 34 12")
    right = state(whole([sent], profile=profile))
    assert '"volume": 1191.993, "volume_low": 1234.5, "volume_digits": 123' in right
    assert learnt(sent, BERLIN, profile).draft is not None
    assert state(learnt(sent, BERLIN, profile)) == right


def test_an_address_of_a_known_meter_is_that_of_its_header() -> None:
    sent = frame("04 03 39 30 00 00", long_header("87654321"))
    learnt(sent)
    assert address_in(decode(sent)) == SecondaryAddress("876543212D2C0804")
