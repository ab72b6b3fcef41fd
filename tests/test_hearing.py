"""Frames with broken bytes: noise, whatever their checksum says."""

import pytest

from mbusd.line.hearing import BusProtocol, CheckedReader, Heard
from mbusd.mbus.frames import Ack, Frame, LongFrame, Noise, encode

TELEGRAM = LongFrame(0x08, 5, 0x72, bytes.fromhex("78 56 34 12 2D 2C 08 04 05 E5 00 00 04 06 0A 00 00 00"))
DATA = encode(TELEGRAM)


def events(*heard: Heard) -> list[Frame | Noise]:
    reader = CheckedReader()
    return [*(event for one in heard for event in reader.hear(one)), *reader.end()]


def good(data: bytes) -> Heard:
    return Heard(data, frozenset())


def test_without_a_broken_byte_it_reads_as_any_reader() -> None:
    assert events(good(b"\xfe" + DATA), good(b"\xe5")) == [Noise(b"\xfe"), TELEGRAM, Ack()]


@pytest.mark.parametrize("place", range(len(DATA)))
def test_a_telegram_with_a_broken_byte_is_noise_and_the_next_is_not(place: int) -> None:
    assert events(Heard(DATA, frozenset({place})), good(DATA)) == [Noise(DATA), TELEGRAM]


@pytest.mark.parametrize("cut", range(1, len(DATA)))
def test_wherever_it_is_cut(cut: int) -> None:
    broken = len(DATA) - 3
    first = Heard(DATA[:cut], frozenset({broken} if broken < cut else ()))
    second = Heard(DATA[cut:] + DATA, frozenset({broken - cut} if broken >= cut else ()))
    assert events(first, second) == [Noise(DATA), TELEGRAM]


def test_broken_noise_before_a_telegram_does_not_matter() -> None:
    assert events(Heard(b"\xfe\x00" + DATA, frozenset({0, 1}))) == [Noise(b"\xfe\x00"), TELEGRAM]


def test_a_broken_e5_is_no_acknowledgement_nor_is_the_one_behind_it() -> None:
    assert events(Heard(b"\xe5\xe5", frozenset({0}))) == [Noise(b"\xe5"), Noise(b"\xe5")]
    assert events(Heard(b"\xe5", frozenset({0}))) == [Noise(b"\xe5")]


def test_after_a_reset_places_count_anew() -> None:
    reader = CheckedReader()
    assert list(reader.hear(Heard(DATA + b"\x68", frozenset({40})))) == [TELEGRAM]
    assert reader.is_waiting
    reader.reset()
    assert list(reader.hear(good(DATA + b"\xe5"))) == [TELEGRAM, Ack()]
    assert not reader.is_waiting


async def test_the_places_of_broken_bytes_are_kept_with_them() -> None:
    protocol = BusProtocol()
    protocol.data_received(b"\x01\x02")
    protocol.broken_received(b"\x03")
    protocol.data_received(b"\x04")
    assert protocol.take() == Heard(b"\x01\x02\x03\x04", frozenset({2}))
    protocol.broken_received(b"\x05")
    assert protocol.take() == Heard(b"\x05", frozenset({0}))
    assert protocol.take() == good(b"")
