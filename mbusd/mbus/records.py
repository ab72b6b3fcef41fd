"""DIF/DIFE and VIF/VIFE to records (EN 13757-3 cl. 6)."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

Value = int | Decimal | str | date | datetime | bytes | None
Function = Literal["instantaneous", "maximum", "minimum", "error"]
Kind = Literal["number", "text", "bits", "date", "datetime", "raw"]
"""What `value` is when it is not None: number int|Decimal, text str, bits int, date date, datetime a naive datetime,
raw bytes. Identifiers that are digits (fabrication number …) are text with their leading zeros."""
Effect = Literal["", "as_number", "as_date", "as_duration", "unit", "pulse", "profile", "manufacturer"]


@dataclass(frozen=True, slots=True)
class Record:
    """One data record: what it is, what it says, and the bytes that said it."""

    function: Function
    storage: int
    tariff: int
    subunit: int
    quantity: str  # a name of the VIF tables
    unit: str | None  # a unit of the VIF tables, or the plain text, or "Wh/h" …
    kind: Kind
    value: Value  # scaled to `unit`, exact; None = the meter says that it has no valid value
    exponent: (
        int | None
    )  # power of ten of the last digit of an integer or BCD value, in `unit`; None for reals and the rest
    modifiers: tuple[str, ...]  # tags of the VIFEs, in the order sent: part of the record's identity
    effect: Effect
    dib: bytes
    vib: bytes
    raw: bytes  # data, without the LVAR byte
    problem: str | None = None  # why the value is None or not decoded
    summer_time: bool = False  # of a date and time: the meter says that it is summer time
