"""Long frames made of a header and records written in hex, for tests that look at what telegrams say."""

from mbusd.mbus.address import manufacturer_code
from mbusd.mbus.frames import LongFrame
from mbusd.mbus.telegram import Telegram, decode


def long_header(
    identification: str = "12345678", maker: str = "KAM", version: int = 8, medium: int = 4, status: int = 0
) -> bytes:
    """The 12 bytes behind CI 72."""
    code = manufacturer_code(maker).to_bytes(2, "little")
    return bytes.fromhex(identification)[::-1] + code + bytes([version, medium, 7, status, 0, 0])


def frame(records: str, header: bytes | None = None) -> LongFrame:
    """An answer with a long header and these records."""
    return LongFrame(0x08, 5, 0x72, (long_header() if header is None else header) + bytes.fromhex(records))


def telegram(records: str, header: bytes | None = None) -> Telegram:
    """The same, decoded."""
    return decode(frame(records, header))
