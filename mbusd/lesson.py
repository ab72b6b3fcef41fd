"""What a reading teaches: the reading, and for each of its records where the data stand and what they measure. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from mbusd.mbus.layout import Span
from mbusd.mbus.profile import Profile, Show
from mbusd.mbus.records import Record, decode_records
from mbusd.mbus.telegram import Telegram
from mbusd.mbus.understanding import Understanding, understand
from mbusd.model import Measurement, Reading
from mbusd.slots import Unusual

MOST_REMEMBERED = 512  # data of one record, of all meters with this form
HIGH_FIRST = 0x76  # CI field of data in mode 2
_LVAR = 0x0D  # data field of a DIF

Measure = Callable[[str, Record, Show], Measurement | None]
"""The measurement of a record under its key, None where nobody is to see it."""

Look = Callable[[bytes], Measurement]
"""The measurement of data; raises Unusual where they have no valid value."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A reading, and everything that it was made of record by record."""

    telegrams: Sequence[Telegram]
    known: Understanding
    keys: Sequence[str]
    taken: Reading
    profile: Profile | None
    measure: Measure


@dataclass(frozen=True, slots=True)
class Source:
    """One record: as it was sent (None: made of the maker's block), as it was understood, and where its data stand."""

    telegram: int
    span: Span
    sent: Record | None
    record: Record
    key: str
    show: Show
    number: int  # of the record in its telegram, as understood


def look_of(one: Source, item: Measurement, lesson: Lesson) -> Look:
    """What any data measure: as the only record of a telegram, or with the rest of the maker's block."""
    said = lesson.telegrams[one.telegram]
    frame, header, profile, measure = said.frame, said.header, lesson.profile, lesson.measure
    key, show, kind = one.key, one.show, item.kind
    content, number = _content(one, said)

    @lru_cache(maxsize=MOST_REMEMBERED)
    def look(raw: bytes) -> Measurement:
        records, block = content(raw)
        alone = Telegram(frame, header, records, block, more_follows=False, encrypted=False)
        found = measure(key, understand([alone], profile).telegrams[0].records[number], show)
        if found is None or found.value is None or found.kind != kind:
            raise Unusual
        return found

    return look


_Content = tuple[tuple[Record, ...], bytes | None]
"""Records and block of a telegram."""


def _content(one: Source, said: Telegram) -> tuple[Callable[[bytes], _Content], int]:
    """What makes of other data the content of a telegram, as short as may be, and the number of the record there."""
    (start, end), data, sent = one.span, said.frame.data, one.sent
    if sent is not None:
        head = data[start - len(sent.dib) - len(sent.vib) - (sent.dib[0] & 0x0F == _LVAR) : start]
        high_first = said.frame.ci == HIGH_FIRST
        return lambda raw: (decode_records(head + raw, high_byte_first=high_first).records, None), 0
    block = said.manufacturer_data or b""
    before, after = block[: start - len(data)], block[len(block) + end - len(data) :]
    return lambda raw: ((), before + raw + after), one.number - len(said.records)
