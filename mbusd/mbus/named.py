"""A record as it was sent and as a profile names it; and that no two of one telegram get the same name."""

from collections.abc import Iterator, Sequence
from typing import Final

from mbusd.light import dataclass
from mbusd.mbus.profile import Naming
from mbusd.mbus.records import Record

UNNAMED: Final = Naming()


@dataclass(frozen=True, slots=True)
class Named:
    """One record, as sent and as understood."""

    sent: Record | None  # None: made of the maker's block
    record: Record
    naming: Naming

    @property
    def words(self) -> Iterator[str]:
        """The names of the bits that are set now, not in a stored word."""
        value = self.record.value
        if self.record.kind == "bits" and isinstance(value, int) and not self.record.storage:
            yield from (name for bit, name in self.naming.bits if value >> bit & 1)

    @property
    def is_read_otherwise(self) -> bool:
        """Whether a profile reads the data in another way than the standard."""
        naming, record, sent = self.naming, self.record, self.sent
        if sent is None or naming.factor is not None or naming.kind is not None:
            return True
        return record.function != sent.function or (record.kind, record.unit) != (sent.kind, sent.unit)


def origin_of(named: Named) -> object:
    """What a record was before a profile named it: two of the same name must have the same, or keep their names."""
    return named.naming if named.sent is None else what_of(named.sent)


_What = tuple[str, tuple[str, ...], str, int, int, int]


def what_of(record: Record) -> _What:
    """What makes two records of one telegram the same measurement."""
    return (
        record.quantity,
        record.modifiers,
        record.function,
        record.storage,
        record.tariff,
        record.subunit,
    )


def without_collisions(named: Sequence[Named], problems: list[str]) -> list[Named | None]:
    """A record that a profile would make the same as another one keeps its own name; such a field is dropped (None)."""
    kept: list[Named | None] = list(named)
    clashing = True
    while clashing:
        clashing = False
        origins = _origins(kept)
        for at, item in enumerate(kept):
            if item is None or len(origins.get(what_of(item.record), ())) < 2:
                continue
            if item.sent is not None and what_of(item.sent) == what_of(item.record):
                continue
            words = (item.record.quantity, *item.record.modifiers)
            problems.append(f"the profile would name two values {'_'.join(words)}; they keep their names")
            kept[at] = None if item.sent is None else Named(item.sent, item.sent, UNNAMED)
            clashing = True
    return kept


def _origins(named: Sequence[Named | None]) -> dict[_What, set[object]]:
    """What each measurement is made of; raw bytes are not told to anybody and cannot clash."""
    origins: dict[_What, set[object]] = {}
    for item in named:
        if item is not None and item.record.kind != "raw":
            origins.setdefault(what_of(item.record), set()).add(origin_of(item))
    return origins
