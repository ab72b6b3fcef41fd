"""What is known of one maker's meters beyond the standard: names of their own records, bits and status bits.

A profile is data (profiles.py reads it from files); what it makes of telegrams stands in understanding.py. The status
byte is that of EN 13757-3 cl. 5.11, the block behind DIF 0F that of cl. 6.5.
"""

from collections.abc import Sequence
from dataclasses import field, replace
from decimal import Decimal
from functools import lru_cache
from typing import Final, Literal

from mbusd.light import dataclass
from mbusd.mbus.records import Function, Kind, Record
from mbusd.mbus.status import status_words

Show = Literal["normal", "diagnostic", "disabled"]
"""How prominent a value is to be: as usual, with the device's diagnostics, or there but not shown until asked for."""
DataType = Literal["int", "uint", "bcd", "real", "bits", "text", "digits", "date", "datetime"]
Span = tuple[int, int]
"""A run of numbers, first and last."""

NAMED_BITS: Final[dict[int, str]] = {
    2: "power_low",
    3: "permanent_error",
    4: "temporary_error",
    5: "manufacturer_bit_5",
    6: "manufacturer_bit_6",
    7: "manufacturer_bit_7",
}
"""The bits of the status byte that are flags, and the words of those that no profile names."""


@dataclass(frozen=True, slots=True)
class Naming:
    """What raw data mean. None: as the VIF has it."""

    quantity: str | None = None
    modifiers: tuple[str, ...] = ()  # added to those that the VIFEs give
    unit: str | None = None  # of the VIF tables
    factor: Decimal | None = None  # raw number * factor = value in `unit`
    kind: Kind | None = None
    signed: bool = True
    bits: tuple[tuple[int, str], ...] = ()  # number and name of the bits that report something
    show: Show = "normal"


@dataclass(frozen=True, slots=True)
class Place:
    """The numbers that a DIB gives; None leaves them as they are."""

    function: Function | None = None
    storage: int | None = None
    tariff: int | None = None
    subunit: int | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """Which records it is about, and what they are. None matches anything.

    A pattern of a VIB is its hex digits, `?` for any; the extension bit of its last byte is not looked at.
    """

    vibs: tuple[str, ...]
    naming: Naming
    functions: frozenset[Function] | None = None
    storages: tuple[Span, ...] | None = None
    tariffs: tuple[Span, ...] | None = None
    subunits: tuple[Span, ...] | None = None
    lengths: tuple[Span, ...] | None = None  # bytes of data
    place: Place = field(default_factory=Place)

    def fits(self, record: Record, vib: bytes) -> bool:
        """Whether it is about a record; `vib` is the record's without the VIFEs that the profile ignores."""
        if not any(vib_fits(pattern, vib) for pattern in self.vibs):
            return False
        return (
            (self.functions is None or record.function in self.functions)
            and within(record.storage, self.storages)
            and within(record.tariff, self.tariffs)
            and within(record.subunit, self.subunits)
            and within(len(record.raw), self.lengths)
        )

    def overlaps(self, other: "Rule") -> bool:
        """Whether there can be a record that both are about."""
        functions = self.functions is None or other.functions is None or self.functions & other.functions
        pairs = (
            (self.storages, other.storages),
            (self.tariffs, other.tariffs),
            (self.subunits, other.subunits),
            (self.lengths, other.lengths),
        )
        if not functions or not all(spans_meet(mine, theirs) for mine, theirs in pairs):
            return False
        return any(_patterns_meet(mine, theirs) for mine in self.vibs for theirs in other.vibs)


@dataclass(frozen=True, slots=True)
class DataField:
    """`length` bytes of a maker's block from `offset`."""

    offset: int
    length: int
    type: DataType
    naming: Naming


@dataclass(frozen=True, slots=True)
class DataLayout:
    """What stands where behind DIF 0F, in blocks of these lengths that begin with these bytes."""

    fields: tuple[DataField, ...]
    lengths: tuple[Span, ...] | None = None
    starts: bytes = b""

    def fits(self, block: bytes) -> bool:
        """Whether a block is laid out so."""
        return within(len(block), self.lengths) and block.startswith(self.starts)


@dataclass(frozen=True, slots=True)
class Status:
    """What a maker means with the status byte: bits by name, bits that say nothing, values that are nothing unusual."""

    names: tuple[tuple[int, str], ...] = ()
    ignored: frozenset[int] = frozenset()
    usual: frozenset[int] = frozenset()  # of the whole byte


@dataclass(frozen=True, slots=True)
class Profile:
    """One family of meters: who belongs to it, and what is known of it. None matches anything."""

    manufacturer: str
    name: str  # the model, in plain words
    source: str  # who says so
    versions: tuple[Span, ...] | None = None
    media: frozenset[int] | None = None
    status: Status = field(default_factory=Status)
    ignored_vifes: frozenset[int] = frozenset()  # at the end of a VIB; no part of what the record is
    vifes: tuple[tuple[int, str], ...] = ()  # the maker's VIFEs by name; "" for one that says nothing
    rules: tuple[Rule, ...] = ()
    data: tuple[DataLayout, ...] = ()
    medium: int | None = None  # what the meter measures, whatever its header says
    is_own: bool = False  # of the user, not shipped
    origin: str = ""  # file and line, for messages

    def fits(self, manufacturer: str, version: int | None, medium: int | None) -> bool:
        """Whether a meter is of this family."""
        return (
            self.manufacturer == manufacturer
            and (self.versions is None or (version is not None and within(version, self.versions)))
            and (self.media is None or medium in self.media)
        )

    @property
    def specificity(self) -> int:
        """How closely it is cut: a version says more than a medium."""
        return (0 if self.versions is None else 2) + (0 if self.media is None else 1)

    @property
    def words(self) -> tuple[str, ...]:
        """All words that it adds to a reading's status."""
        names = [name for bit, name in self.status.names if bit not in self.status.ignored]
        for rule in self.rules:
            names += [name for _, name in rule.naming.bits]
        for layout in self.data:
            names += [name for item in layout.fields for _, name in item.naming.bits]
        return tuple(dict.fromkeys(names))

    def status_words(self, status: int, *, fixed: bool = False) -> tuple[str, ...]:
        """What is the matter with the meter by its status byte, in the maker's words where they are known."""
        if status in self.status.usual:
            return ()
        for bit in self.status.ignored:
            status &= ~(1 << bit)
        maker = {NAMED_BITS[bit]: name for bit, name in self.status.names}
        return tuple(maker.get(word, word) for word in status_words(status, fixed=fixed))


def profiles_for(
    profiles: Sequence[Profile], manufacturer: str, version: int | None, medium: int | None
) -> tuple[Profile, ...]:
    """The profiles of a meter: the user's before those that are shipped, the closest cut first."""
    fitting = [profile for profile in profiles if profile.fits(manufacturer, version, medium)]
    return tuple(sorted(fitting, key=lambda profile: (not profile.is_own, -profile.specificity)))


def merged(profiles: Sequence[Profile]) -> Profile | None:
    """All profiles of one meter as one, None if there are none: what an earlier one says goes before the later ones."""
    if not profiles:
        return None
    first = profiles[0]
    names = {bit: name for profile in reversed(profiles) for bit, name in profile.status.names}
    vifes = {code: name for profile in reversed(profiles) for code, name in profile.vifes}
    return replace(
        first,
        status=Status(
            tuple(sorted(names.items())),
            frozenset().union(*(profile.status.ignored for profile in profiles)),
            frozenset().union(*(profile.status.usual for profile in profiles)),
        ),
        ignored_vifes=frozenset().union(*(profile.ignored_vifes for profile in profiles)),
        vifes=tuple(vifes.items()),
        rules=tuple(rule for profile in profiles for rule in profile.rules),
        data=tuple(layout for profile in profiles for layout in profile.data),
        medium=next((profile.medium for profile in profiles if profile.medium is not None), None),
    )


def within(number: int, spans: tuple[Span, ...] | None) -> bool:
    """Whether a number is in one of the runs."""
    return spans is None or any(first <= number <= last for first, last in spans)


def spans_meet(mine: tuple[Span, ...] | None, theirs: tuple[Span, ...] | None) -> bool:
    """Whether a number can be in both."""
    if mine is None or theirs is None:
        return True
    return any(a[0] <= b[1] and b[0] <= a[1] for a in mine for b in theirs)


@lru_cache(maxsize=2048)
def vib_fits(pattern: str, vib: bytes) -> bool:
    """Whether a VIB is one of a pattern: hex digits, `?` for any."""
    if not vib or len(pattern) != 2 * len(vib):
        return False
    return _patterns_meet(pattern, vib.hex().upper())


def _patterns_meet(mine: str, theirs: str) -> bool:
    """Whether two patterns have a VIB in common; bit 7 of the last byte does not count."""
    if len(mine) != len(theirs):
        return False
    last = len(mine) - 2
    for at, (a, b) in enumerate(zip(mine, theirs, strict=True)):
        if "?" not in (a, b) and (int(a, 16) ^ int(b, 16)) & (7 if at == last else 15):
            return False
    return True
