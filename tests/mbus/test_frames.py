"""Frames of EN 13757-2 cl. 5 in any stream: whole, in pieces, between noise, behind heads that are none."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mbusd.mbus.errors import DecodeError
from mbusd.mbus.frames import (
    LONGEST,
    Ack,
    Frame,
    FrameReader,
    LongFrame,
    Nack,
    Noise,
    ShortFrame,
    encode,
    parse,
)

BYTE = st.integers(0, 255)
CHECKED = st.one_of(st.builds(ShortFrame, BYTE, BYTE), st.builds(LongFrame, BYTE, BYTE, BYTE, st.binary(max_size=252)))
"""Frames with a checksum."""
FRAMES = st.one_of(st.just(Ack()), st.just(Nack()), CHECKED)
STARTS = b"\xe5\xa2\x10\x68"
HARMLESS = st.lists(BYTE.filter(lambda byte: byte not in STARTS), min_size=1, max_size=20).map(bytes)
"""Noise in which no frame can begin."""
TRICKY = st.lists(st.one_of(st.sampled_from([*STARTS, 0x16, 0x03, 0x04]), BYTE), max_size=30).map(bytes)
"""Noise that is full of heads and ends of frames."""

REAL = bytes.fromhex("68 04 04 68 08 01 70 08 81 16")  # "application busy"
REAL_FRAME = LongFrame(0x08, 0x01, 0x70, b"\x08")


def fed(*pieces: bytes) -> list[Frame | Noise]:
    """What a reader finds in these pieces, the pause after the last included."""
    reader = FrameReader()
    events = [event for piece in pieces for event in reader.feed(piece)]
    events += reader.flush()
    assert reader.is_idle
    return events


def at_once(data: bytes) -> list[Frame | Noise]:
    """What a reader gives without waiting for a pause."""
    return list(FrameReader().feed(data))


def as_bytes(event: Frame | Noise) -> bytes:
    return event.data if isinstance(event, Noise) else encode(event)


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


# ------------------------------------------------------------------------------------------------ one frame


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        ("E5", Ack()),
        ("A2", Nack()),
        ("10 40 01 41 16", ShortFrame(0x40, 1)),
        ("10 7B FD 78 16", ShortFrame(0x7B, 0xFD)),
        ("68 03 03 68 53 01 BD 11 16", LongFrame(0x53, 1, 0xBD)),
        (
            "68 0B 0B 68 53 FD 52 78 56 34 12 2D 2C 08 04 1B 16",
            LongFrame(0x53, 0xFD, 0x52, bytes.fromhex("78 56 34 12 2D 2C 08 04")),
        ),
        ("68 04 04 68 08 01 70 08 81 16", REAL_FRAME),
        ("68 03 03 68 08 01 70 79 16", LongFrame(0x08, 1, 0x70)),
    ],
)
def test_frames_of_the_standard(text: str, frame: Frame) -> None:
    data = bytes.fromhex(text)
    assert parse(data) == frame
    assert encode(frame) == data
    assert at_once(data) == [frame]


@given(FRAMES)
def test_parse_undoes_encode(frame: Frame) -> None:
    assert parse(encode(frame)) == frame


def test_the_longest_frame_has_261_bytes() -> None:
    frame = LongFrame(0x08, 1, 0x72, bytes(252))
    data = encode(frame)
    assert len(data) == LONGEST == 261
    assert parse(data) == frame
    with pytest.raises(ValueError, match="range"):
        encode(LongFrame(0x08, 1, 0x72, bytes(253)))


@pytest.mark.parametrize(
    ("text", "code", "offset"),
    [
        ("68 04 04 68 08 01 70 08 82 16", "checksum", 8),
        ("68 04 05 68 08 01 70 08 81 16", "length", 2),
        ("68 02 02 68 08 01 09 16", "length", 1),
        ("68 04 04 68 08 01 70 08 81 17", "stop", 9),
        ("10 40 01 42 16", "checksum", 3),
        ("10 40 01 41 17", "stop", 4),
        ("10 40 01 41", "length", 4),
        ("10 40 01 41 16 16", "length", 5),
        ("FE", "start", 0),
        ("E5 E5", "length", 1),
        ("", "empty", 0),
        ("68", "start", 1),
        ("68 04 04", "start", 3),
        ("68 04 04 67 08 01 70 08 81 16", "start", 3),
        ("68 04 04 68 08 01 70 08 81", "length", 9),
        ("68 04 04 68 08 01 70 08 81 16 00", "length", 10),
    ],
)
def test_a_bad_frame_is_refused_at_its_first_wrong_byte(text: str, code: str, offset: int) -> None:
    with pytest.raises(DecodeError) as refused:
        parse(bytes.fromhex(text))
    assert (refused.value.code, refused.value.offset) == (code, offset)
    assert f"at byte {offset} ({code})" in str(refused.value)


@given(st.one_of(st.binary(max_size=300), TRICKY))
def test_whatever_is_typed_parse_gives_a_frame_or_says_where_it_is_wrong(data: bytes) -> None:
    try:
        frame = parse(data)
    except DecodeError as error:
        offset = error.offset
    else:
        assert encode(frame) == data
        return
    assert offset is not None
    assert 0 <= offset <= len(data)


# ------------------------------------------------------------------------------------------------ the stream


@given(st.lists(CHECKED, min_size=1, max_size=4))
def test_frames_one_behind_the_other_are_found_at_once(frames: list[Frame]) -> None:
    assert at_once(b"".join(map(encode, frames))) == frames


@given(st.lists(st.one_of(FRAMES.map(encode), TRICKY, st.binary(max_size=20)), max_size=5), st.lists(BYTE, max_size=9))
def test_it_does_not_matter_how_the_stream_is_cut(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    whole = fed(data)
    assert fed(*pieces(data, cuts)) == whole
    assert fed(*(bytes([byte]) for byte in data)) == whole


@given(st.one_of(st.binary(max_size=60), TRICKY, st.tuples(TRICKY, CHECKED.map(encode), TRICKY).map(b"".join)))
def test_no_byte_is_lost_or_invented(data: bytes) -> None:
    assert b"".join(map(as_bytes, fed(data))) == data


@given(HARMLESS, CHECKED)
def test_noise_without_a_start_byte_delays_no_frame(noise: bytes, frame: Frame) -> None:
    assert at_once(noise + encode(frame)) == [Noise(noise), frame]


@given(TRICKY, CHECKED)
@example(noise=bytes.fromhex("68 FF FF 68"), frame=REAL_FRAME)
@example(noise=bytes.fromhex("10 AE"), frame=LongFrame(8, 1, 0x72, bytes(0x13)))  # with 68 16 16 a frame of its own
def test_noise_loses_a_frame_only_if_it_makes_another_of_its_head(noise: bytes, frame: Frame) -> None:
    """Heads in the noise hold the frame up, the pause at the end brings it; a valid frame across its begin hides it."""
    offset = 0
    for event in fed(noise + encode(frame)):
        end = offset + len(as_bytes(event))
        if offset == len(noise) and event == frame:
            return
        if not isinstance(event, Noise) and offset < len(noise) < end:
            return
        offset = end
    pytest.fail("the frame was lost")


@pytest.mark.parametrize(
    "head", ["68 05 05 68", "68 FF FF 68", "68", "68 04", "68 04 04", "10", "10 40", "10 40 01 41"]
)
def test_a_head_that_is_none_costs_no_frame_behind_it(head: str) -> None:
    false = bytes.fromhex(head)
    assert fed(false + REAL) == [Noise(false), REAL_FRAME]


def test_a_false_head_is_given_up_as_soon_as_its_length_is_over() -> None:
    false = bytes.fromhex("68 05 05 68")
    assert at_once(false + REAL) == [Noise(false), REAL_FRAME]


def test_a_false_head_with_a_great_length_is_given_up_at_the_pause() -> None:
    reader = FrameReader()
    assert list(reader.feed(bytes.fromhex("68 FF FF 68") + REAL)) == []
    assert not reader.is_idle
    assert list(reader.flush()) == [Noise(bytes.fromhex("68 FF FF 68")), REAL_FRAME]


def test_a_garbled_frame_costs_only_itself() -> None:
    garbled = bytearray(REAL)
    garbled[6] ^= 0x04
    assert at_once(bytes(garbled) + REAL) == [Noise(bytes(garbled)), REAL_FRAME]


@pytest.mark.parametrize("text", ["00 E5", "FE E5", "E4 E5 E5", "68 E5", "10 E5", "01 A2"])
def test_e5_inside_noise_is_no_ack(text: str) -> None:
    data = bytes.fromhex(text)
    assert fed(data) == [Noise(data)]


def test_e5_behind_a_good_frame_is_an_ack() -> None:
    assert at_once(REAL + b"\xe5") == [REAL_FRAME, Ack()]


def test_two_acks_one_after_the_other_are_two() -> None:
    assert at_once(b"\xe5\xe5") == [Ack(), Ack()]


def test_the_echo_of_a_request_stands_before_its_answer() -> None:
    assert at_once(bytes.fromhex("10 40 01 41 16 E5")) == [ShortFrame(0x40, 1), Ack()]


@pytest.mark.parametrize(
    "text",
    [
        "68 04 04 68 08 01 70 08 82 16",
        "68 04 05 68 08 01 70 08 81 16",
        "68 02 02 68 08 01 09 16",
        "68 04 04 68 08 01 70 08 81 17",
        "10 40 01 42 16",
        "FE",
    ],
)
def test_a_bad_frame_in_the_stream_is_noise(text: str) -> None:
    data = bytes.fromhex(text)
    assert fed(data) == [Noise(data)]


def test_an_unfinished_frame_is_noise_at_the_pause_and_not_before() -> None:
    reader = FrameReader()
    assert list(reader.feed(REAL[:-1])) == []
    assert not reader.is_idle
    assert list(reader.flush()) == [Noise(REAL[:-1])]
    assert reader.is_idle
    assert list(reader.feed(REAL)) == [REAL_FRAME]


def test_reset_forgets_what_is_unfinished() -> None:
    reader = FrameReader()
    assert list(reader.feed(b"\x00" + REAL[:7])) == []
    reader.reset()
    assert reader.is_idle
    assert list(reader.feed(REAL)) == [REAL_FRAME]


def test_a_jumble_is_as_long_as_its_length_field_says() -> None:
    """Of two telegrams of one length, sent at once: the head is readable, the checksum is wrong."""
    reader, jumble = FrameReader(), bytes.fromhex("68 04 04 68 08 01 70 08 80 16")
    for end in range(1, len(jumble) + 1):
        list(reader.feed(jumble[end - 1 : end]))
        assert reader.is_whole == (end == len(jumble))
    list(reader.feed(b"\x16"))
    assert not reader.is_whole
    reader.reset()
    list(reader.feed(REAL))
    assert not reader.is_whole


@pytest.mark.parametrize("text", ["", "68", "68 04", "68 04 04", "00 00 00 00", "04 04 68 68 00 00 00 00 00 00"])
def test_what_has_no_readable_head_is_never_whole(text: str) -> None:
    reader = FrameReader()
    list(reader.feed(bytes.fromhex(text)))
    assert not reader.is_whole


def test_a_long_break_is_one_noise() -> None:
    assert fed(*[b"\x00"] * 400) == [Noise(bytes(400))]
