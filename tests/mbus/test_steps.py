"""What an owner may write into a recipe: CI field and data, or whole frames; and what is refused because it writes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbusd.mbus.frames import LongFrame, ShortFrame, encode
from mbusd.mbus.quirks import RawFrame, Step
from mbusd.mbus.steps import step_of


def step(text: str) -> Step | RawFrame:
    return step_of(bytes.fromhex(text))


@pytest.mark.parametrize(
    ("text", "ci", "data"),
    [
        ("50", 0x50, ""),
        ("50 10", 0x50, "10"),
        ("B1", 0xB1, ""),
        ("54", 0x54, ""),
        ("51 08 06 08 14", 0x51, "08 06 08 14"),  # select what is read (LINK 7.13)
        ("51 C8 01 06", 0x51, "C8 01 06"),
        ("51 08 6D", 0x51, "08 6D"),  # to be read, not to be set
        ("51 7F 7E", 0x51, "7F 7E"),
        ("51 7F", 0x51, "7F"),
        ("51 0F 01 02", 0x51, "0F 01 02"),  # nobody but its maker knows
        ("16", 0x16, ""),
        ("E5", 0xE5, ""),
    ],
)
def test_a_ci_field_and_its_data(text: str, ci: int, data: str) -> None:
    assert step(text) == Step(ci, bytes.fromhex(data))


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        ("10 40 FE 3E 16", ShortFrame(0x40, 0xFE)),
        ("10 40 FF 3F 16", ShortFrame(0x40, 0xFF)),
        ("10 5B 05 60 16", ShortFrame(0x5B, 5)),
        ("68 03 03 68 53 01 B1 05 16", LongFrame(0x53, 1, 0xB1)),
        ("68 04 04 68 53 FE 50 10 B1 16", LongFrame(0x53, 0xFE, 0x50, b"\x10")),
        ("68 07 07 68 53 01 51 08 06 08 14 CF 16", LongFrame(0x53, 1, 0x51, bytes.fromhex("08 06 08 14"))),
    ],
)
def test_a_whole_frame_is_sent_as_it_stands(text: str, frame: ShortFrame | LongFrame) -> None:
    assert step(text) == RawFrame(frame)
    assert encode(frame) == bytes.fromhex(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10 5B 05 61 16", "begins with 10 like a whole frame, and is none: the checksum is 61, 60 would be right"),
        ("10 5B 05 60", "a short frame has 5 bytes, here are 4"),
        ("10 5B 05 60 17", "the stop byte is 17, not 16"),
        ("10", "a short frame has 5 bytes, here are 1"),
        ("68 03 03 68 53 01 B1 06 16", "begins with 68 like a whole frame, and is none: the checksum is 06, 05 would"),
        ("68 03 04 68 53 01 B1 05 16", "the length bytes differ: 03 and 04"),
        ("68 04 04 68 53 01 B1 05 16", "L says 10 bytes in all, here are 9"),
        ("68", "a long frame begins 68 L L 68"),
        ("68 03 03 68 08 01 72 7B 16", "is what a meter says, no request"),
        ("10 08 01 09 16", "is what a meter says, no request"),
        ("10 5B FF 5A 16", "asks for data at address 255, from where nobody answers"),
        ("10 7A FF 79 16", "asks for data at address 255, from where nobody answers"),
        ("", "no bytes"),
        ("50" * 254, "254 bytes are too many"),
    ],
)
def test_what_is_no_step_says_why(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        step(text)


WRITES = [
    (0x51, "01 7A 05", "`mbusd set-address`"),
    (0x51, "0C 79 04 03 02 01", "`mbusd set-id`"),
    (0x51, "07 79 04 03 02 01 2D 2C 08 04", "`mbusd set-id`"),
    (0x51, "04 6D 05 AE 3E 33", "`mbusd set-clock`"),
    (0x51, "06 6D 00 05 EE 3E 33 00", "`mbusd set-clock`"),
    (0x51, "02 6C 3E 33", "`mbusd set-clock`"),
    (0x51, "2F 2F 01 7A 05", "`mbusd set-address`"),
    (0x51, "08 06 01 7A 05", "`mbusd set-address`"),  # behind a selection
    (0x51, "0C 78 04 03 02 01", "fabrication.*DIF 08 selects what is read"),
    (0x51, "00 93 07", r"00 93 07 \(volume\).*DIF 08"),  # VIFE 07 clears
    (0x51, "01 7A", "cannot be read"),
    (0x5A, "00 00 00 00 01 7A 05", "`mbusd set-address`"),
    (0x5B, "78 56 34 12 2D 2C 08 04 00 00 00 00 04 6D 05 AE 3E 33", "`mbusd set-clock`"),
    (0x6C, "00", "`mbusd set-clock`"),
    (0x6D, "00", "`mbusd set-clock`"),
    (0xB8, "", "`mbusd set-baudrate`"),
    (0xBD, "", "`mbusd set-baudrate`"),
    (0xBF, "", "`mbusd set-baudrate`"),
    (0xC0, "", "keys or software"),
]


@pytest.mark.parametrize(("ci", "data", "message"), WRITES)
def test_what_a_meter_would_keep_is_refused_in_either_form(ci: int, data: str, message: str) -> None:
    body = bytes.fromhex(data)
    with pytest.raises(ValueError, match=message):
        step_of(bytes([ci]) + body)
    for control in (0x43, 0x53, 0x73):
        for address in (5, 0xFD, 0xFE, 0xFF):
            with pytest.raises(ValueError, match=message):
                step_of(encode(LongFrame(control, address, ci, body)))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_step_or_a_clear_error(data: bytes) -> None:
    why = ""
    try:
        made = step_of(data)
    except ValueError as error:
        why = str(error)
    else:
        assert (encode(made.frame) if isinstance(made, RawFrame) else bytes([made.ci]) + made.data) == data
    assert why or data
