"""The application content of one long frame: CI field, header, records (EN 13757-3 cl. 4 to 6)."""

from dataclasses import dataclass

from mbusd.mbus.errors import DecodeError
from mbusd.mbus.frames import LongFrame
from mbusd.mbus.records import Record


@dataclass(frozen=True, slots=True)
class Header:
    """Long, short or fixed header; what a kind does not carry is None."""

    identification: str | None  # 8 hex digits as printed on the meter
    manufacturer: str | None  # three letters or "0x1234"
    manufacturer_code: int | None
    version: int | None
    medium: int | None
    access_number: int
    status: int
    signature: int | None  # configuration word


@dataclass(frozen=True, slots=True)
class Telegram:
    """What one frame says. `error` is set where the records end before the data do; what came before stands."""

    frame: LongFrame
    header: Header | None
    records: tuple[Record, ...]
    manufacturer_data: bytes | None
    more_follows: bool
    encrypted: bool
    error: DecodeError | None = None
