"""Every byte in words: the pieces are the frame, and they say the right thing in the right place."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mbusd.explain import explain
from mbusd.mbus.frames import LongFrame, encode
from tests.telegram_samples import frame, long_header

HEAT = "0406E7910000 426C5F1C 2F 0DFD11054544434241 0000 1FAA"


def words(data: bytes) -> dict[int, str]:
    return {offset: text for offset, _, text in explain(data)}


@given(st.binary(max_size=60))
@example(b"\x68")
@example(b"\x68\x03\x03\x68\x08\x01")
def test_the_pieces_are_the_bytes(data: bytes) -> None:
    assert b"".join(piece for _, piece, _ in explain(data)) == data


@given(
    st.sampled_from([0x50, 0x51, 0x52, 0x6E, 0x70, 0x71, 0x72, 0x73, 0x76, 0x78, 0x7A, 0xB1]),
    st.binary(max_size=60),
    st.integers(0, 70),
    st.integers(0, 255),
)
def test_the_pieces_are_the_bytes_of_any_telegram_broken_or_not(ci: int, data: bytes, at: int, wrong: int) -> None:
    whole = encode(LongFrame(0x08, 5, ci, data))
    broken = bytearray(whole)
    broken[at % len(broken)] = wrong
    for given_bytes in (whole, whole[:at], bytes(broken)):
        pieces = explain(given_bytes)
        assert b"".join(piece for _, piece, _ in pieces) == given_bytes
        assert [offset for offset, _, _ in pieces] == [
            sum(len(piece) for _, piece, _ in pieces[:number]) for number in range(len(pieces))
        ]
        assert all(piece and text for _, piece, text in pieces)


def test_a_telegram_in_words() -> None:
    found = [text for _, _, text in explain(encode(frame(HEAT, long_header(status=4))))]
    assert found == [
        "start of a long frame",
        "length: 39 bytes from the C field to the checksum",
        "length again",
        "start again",
        "C field: from the meter, RSP_UD, the answer",
        "A field: primary address 5",
        "CI field: variable data, long header",
        "identification 12345678",
        "manufacturer KAM",
        "version 8",
        "medium 04: heat",
        "access number 7",
        "status: power low",
        "configuration word 0000",
        "DIB: 4-byte integer, instantaneous",
        "VIB: energy in Wh x 10^3",
        "value: 37351000 Wh = 37351 kWh",
        "DIB: 2-byte integer, instantaneous, storage 1",
        "VIB: date",
        "value: 2010-12-31",
        "idle filler",
        "DIB: variable length, instantaneous",
        "VIB: customer",
        "LVAR 05: 5 bytes of data",
        "value: ABCDE",
        "records without data",
        "DIF 1F: the manufacturer's data from here on; more records follow in the next telegram",
        "manufacturer's data",
        "checksum, right",
        "stop",
    ]


@pytest.mark.parametrize(
    ("data", "offset", "text"),
    [
        ("E5", 0, "acknowledgement (E5)"),
        ("E5E5", 1, "behind the end of the frame: does not belong to it"),
        ("1040054516", 1, "C field: from the master, SND_NKE, link reset, FCB does not count"),
        ("107BFD7816", 1, "C field: from the master, REQ_UD2, asks for data, FCB 1"),
        ("107BFD7816", 2, "A field: the meter that was selected by its secondary address"),
        ("107BFD7716", 3, "checksum, wrong: 78 would be right"),
        ("107BFD7817", 4, "the stop byte 16 should stand here"),
        (
            "107B",
            1,
            "C field: from the master, REQ_UD2, asks for data, FCB 1; here the frame breaks off, bytes missing: 3",
        ),
        ("99", 0, "no frame: one begins with E5, 10 or 68"),
        (
            "680305 68",
            2,
            "length again, but it differs: here the frame breaks",
        ),
        ("680B0B6873FD5278563412FFFFFFFF", 11, "manufacturer any"),
        ("6804046808017009 8216", 7, "the meter reports: too many read-outs"),
        ("680303685301B1 0516", 6, "CI field: CI field B1 is manufacturer specific data, which is not decoded"),
        ("680303685305BB 1316", 6, "CI field: set 2400 baud"),
        ("680606687305510106 2A FA16", 9, "value: 42000 Wh = 42 kWh"),
        ("6813136808057321436587 0A 00 05 69 31650000 69000000 4716", 15, "first counter: 6531000 Wh = 6531 kWh"),
    ],
)
def test_pieces_in_words(data: str, offset: int, text: str) -> None:
    assert words(bytes.fromhex(data))[offset] == text


def test_it_says_where_the_decoding_ends() -> None:
    found = words(encode(frame("0406 01000000 0406 01")))
    assert found[7 + 12 + 6] == "here the decoding ends: 4 bytes of a value are due, 1 are there"
