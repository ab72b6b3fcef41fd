"""DIF/DIFE and VIF/VIFE to records (EN 13757-3 cl. 6).

A record that cannot be valued keeps its place with `value` None and a `problem`; only bytes whose length nobody can
know end the decoding.
"""

from decimal import Decimal

from mbusd.light import dataclass
from mbusd.mbus import values
from mbusd.mbus.errors import DecodeError
from mbusd.mbus.heads import DATA_FIELDS, SHORT, Coding, Function, Head, Kind, Value, head_at
from mbusd.mbus.vif import Effect

__all__ = [
    "DATA_FIELDS",
    "Coding",
    "DataBlock",
    "Effect",
    "Function",
    "Kind",
    "Outline",
    "Record",
    "Span",
    "Value",
    "decode_records",
    "outline",
    "record_of",
    "records_of",
]

Span = tuple[int, int]
"""From a byte to another, which is behind its end."""


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


@dataclass(frozen=True, slots=True)
class DataBlock:
    """The data of one frame: its records and what stands behind DIF 0F or 1F.

    `error` says why the records end before the data do; its offset is that of the first byte that was not read.
    """

    records: tuple[Record, ...]
    manufacturer_data: bytes | None = None
    more_follows: bool = False
    error: DecodeError | None = None


@dataclass(frozen=True, slots=True)
class Outline:
    """Where the records of a block stand: the heads and the spans of their data, and where the maker's block begins.

    `staying`: ones for the bytes that stay the same from one telegram to the next, zeros for those of data; as far as
    there are records.
    """

    heads: list[Head]
    spans: list[Span]
    staying: bytes
    maker: int | None = None
    more_follows: bool = False
    error: DecodeError | None = None


def decode_records(data: bytes, offset: int = 0, *, high_byte_first: bool = False) -> DataBlock:
    """All records of `data`, which stands at byte `offset` of its frame. Never raises: see DataBlock.error."""
    return records_of(outline(data, 0, offset), data, high_byte_first=high_byte_first)


def outline(data: bytes, start: int, offset: int = 0) -> Outline:
    """Where the records stand in `data` from byte `start`; `offset` is the number of byte 0 in errors. Never raises."""
    heads: list[Head] = []
    spans: list[Span] = []
    staying: list[bytes] = []
    at, length, known = start, len(data), SHORT.get
    try:
        while at < length:
            head = known(data[at : at + 2]) or known(data[at : at + 3]) or known(data[at : at + 4])
            if head is None:
                dif = data[at]
                if dif in (0x0F, 0x1F):
                    return Outline(heads, spans, b"".join((*staying, b"\xff")), at + 1, dif == 0x1F)
                if dif == 0x2F:
                    staying.append(b"\xff")
                    at += 1
                    continue
                head = head_at(data, at)
            end = at + len(head.staying)
            begin = end - head.size
            if end > length:
                text = f"{head.size} bytes of a value are due, {length - begin} are there"
                raise DecodeError("premature_end_of_data", text)  # noqa: TRY301 - as where a head ends too early
            if not head.is_empty:
                heads.append(head)
                spans.append((begin, end))
            staying.append(head.staying)
            at = end
    except DecodeError as error:
        return Outline(heads, spans, b"", error=DecodeError(error.code, error.message, offset + at))
    return Outline(heads, spans, b"".join(staying))


def records_of(said: Outline, data: bytes, *, high_byte_first: bool = False) -> DataBlock:
    """The records whose outline it is."""
    records = tuple(
        [
            record_of(head, data[start:end], high_byte_first=high_byte_first)
            for head, (start, end) in zip(said.heads, said.spans, strict=True)
        ]
    )
    block = None if said.maker is None else data[said.maker :]
    return DataBlock(records, block, said.more_follows, said.error)


def record_of(head: Head, raw: bytes, *, high_byte_first: bool = False) -> Record:
    """The record of a head with its data."""
    kind, value, problem, summer_time = _value(head, raw[::-1] if high_byte_first else raw)
    return Record(
        head.function,
        head.storage,
        head.tariff,
        head.subunit,
        head.information.quantity,
        head.information.unit,
        kind,
        raw if isinstance(value, bytes) else value,
        head.exponent if kind == "number" else None,
        head.information.modifiers,
        head.information.effect,
        head.dib,
        head.vib,
        raw,
        problem,
        summer_time,
    )


def _value(head: Head, raw: bytes) -> tuple[Kind, Value, str | None, bool]:
    """Kind, value, problem and summer time of the data, which are in the order of mode 1."""
    kind, convert, information = head.kind, head.convert, head.information
    if information.record_error is not None:
        return kind, None, f"the meter reports: {information.record_error.replace('_', ' ')}", False
    try:
        value = convert(raw)
    except DecodeError as error:
        return kind, None, error.message, False
    if kind == "number" and isinstance(value, int | Decimal):
        value = values.scaled(value, information.exponent, information.factor, information.offset)
    summer_time = (convert is values.datetime_f and raw[1] & 0x80 != 0) or (
        convert is values.datetime_i and raw[0] & 0x40 != 0
    )
    if value is None:  # bytes that should be text and are none
        return "raw", raw, "control characters in a text", False
    no_date = kind == "raw" and information.kind in ("date", "datetime")
    return kind, value, "data of this length are no date" if no_date else None, summer_time
