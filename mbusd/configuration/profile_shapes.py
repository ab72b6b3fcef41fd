"""The shape of a file of profiles: every key with what it may be, and the profile that it makes.

What each key means is told in docs/profiles.md; what becomes of it stands in mbus/profile.py.
"""

import re
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from mbusd.mbus import vif
from mbusd.mbus.address import manufacturer_code
from mbusd.mbus.errors import AddressError
from mbusd.mbus.media import MEDIA
from mbusd.mbus.profile import (
    DataField,
    DataLayout,
    DataType,
    Naming,
    Place,
    Profile,
    Rule,
    Show,
    Span,
    Status,
)
from mbusd.mbus.records import Function
from mbusd.mbus.understanding import KINDS

Item = TypeVar("Item")
_WORD = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_TABLES: Final = (vif.PRIMARY, vif.FB, vif.FD, vif.FD_FD)


def _units() -> dict[str, frozenset[str]]:
    """The quantities of the VIF tables with their units."""
    units: dict[str, set[str]] = {}
    for row in (row for table in _TABLES for row in table):
        units.setdefault(row.quantity, set()).update({row.unit} if isinstance(row.unit, str) else row.unit)
    return {quantity: frozenset(known - {""}) for quantity, known in units.items()}


_UNITS_OF: Final = _units()
_UNITS: Final = frozenset[str]().union(*_UNITS_OF.values())


def _word(value: object) -> str:
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise ValueError(f"'{value}' is no name here: small letters, digits and single _ between them are")
    return value


def _digits(value: object, letters: str = "0123456789ABCDEF") -> str:
    """Hex digits in pairs, in capitals; a number without quotes is refused, YAML has eaten its leading zeros."""
    if not isinstance(value, str):
        raise ValueError(f"hex is put in quotes, {value!r} has none")  # noqa: TRY004 - pydantic wants ValueError
    digits = "".join(value.split()).upper()
    if not digits or len(digits) % 2 or set(digits) - set(letters):
        raise ValueError(f"'{value}' is no hex: pairs of 0-9 and A-F are")
    return digits


def _pattern(value: object) -> str:
    return _digits(value, "0123456789ABCDEF?")


def _data(value: object) -> bytes:
    return bytes.fromhex(_digits(value))


def _byte(value: object) -> int:
    data = _data(value)
    if len(data) != 1:
        raise ValueError(f"'{value}' is not one byte in hex")
    return data[0]


def _span(value: object) -> Span:
    """A number, or `2-5`; hex with 0x."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value, value
    match = re.fullmatch(r"\s*(\w+)\s*-\s*(\w+)\s*", value) if isinstance(value, str) else None
    try:
        first, last = (int(number, 0) for number in match.groups()) if match else (1, 0)
    except ValueError:
        first, last = 1, 0
    if first > last:
        raise ValueError(f"'{value}' is no number and no range: 3, 0x40, 2-5 or 0x28-0x3B are")
    return first, last


def _list(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


def _medium(value: object) -> int:
    names = {name: code for code, name in MEDIA.items()}
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255:
        return value
    if isinstance(value, str) and value in names:
        return names[value]
    raise ValueError(
        f"'{value}' is no medium: a number 0 to 255 is, or a name such as heat, cooling, water, electricity"
    )


def _letters(value: str) -> str:
    try:
        manufacturer_code(value)
    except AddressError as error:
        raise ValueError(str(error)) from error
    return value


def _factor(value: Decimal) -> Decimal:
    if not value.is_finite() or not value:
        raise ValueError("a factor is a number other than 0")
    return value


def _some(value: tuple[Item, ...]) -> tuple[Item, ...]:
    if not value:
        raise ValueError("at least one is needed")
    return value


def _unit(value: str) -> str:
    known = value in _UNITS or any(
        value.startswith(unit) and value[len(unit) : len(unit) + 1] in ("/", "*") and len(value) > len(unit) + 1
        for unit in _UNITS
    )
    if not known:
        raise ValueError(f"'{value}' is no unit of the VIF tables: {', '.join(sorted(_UNITS))}")
    return value


Word = Annotated[str, BeforeValidator(_word)]
Words = Annotated[tuple[Word, ...], BeforeValidator(_list)]
Byte = Annotated[int, BeforeValidator(_byte)]
Spans = Annotated[tuple[Annotated[Span, BeforeValidator(_span)], ...], BeforeValidator(_list)]
Medium = Annotated[int, BeforeValidator(_medium)]
BitName = Annotated[int, Field(ge=0, le=63)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _NamingShape(_Section):
    quantity: Word | None = None
    modifiers: Words = ()
    unit: Annotated[str, AfterValidator(_unit)] | None = None
    factor: Annotated[Decimal, AfterValidator(_factor)] | None = None
    bits: dict[BitName, Word] = Field(default_factory=dict)
    show: Show = "normal"

    @model_validator(mode="after")
    def _that_fits_together(self) -> "_NamingShape":
        units = _UNITS_OF.get(self.quantity or "")
        if self.unit is not None and units is not None and self.unit not in units:
            raise ValueError(f"{self.quantity} is in {' or '.join(sorted(units)) or 'no unit'}, not in {self.unit}")
        return self


class PlaceShape(_Section):
    function: Function | None = None
    storage: Annotated[int, Field(ge=0)] | None = None
    tariff: Annotated[int, Field(ge=0)] | None = None
    subunit: Annotated[int, Field(ge=0)] | None = None


class RuleShape(_NamingShape):
    vib: Annotated[tuple[Annotated[str, BeforeValidator(_pattern)], ...], BeforeValidator(_list)]
    function: Annotated[tuple[Function, ...], BeforeValidator(_list)] | None = None
    storage: Spans | None = None
    tariff: Spans | None = None
    subunit: Spans | None = None
    length: Spans | None = None
    kind: Literal["number", "text", "bits", "date", "datetime"] | None = None
    signed: bool = True
    becomes: PlaceShape = PlaceShape()

    @model_validator(mode="after")
    def _says_something(self) -> "RuleShape":
        if self.bits and self.kind != "bits":
            raise ValueError("bits have names only where kind is bits")
        if self.factor is not None and self.kind not in (None, "number"):
            raise ValueError(f"a factor is for a number, not for {self.kind}")
        return self

    def rule(self) -> Rule:
        naming = Naming(
            self.quantity,
            self.modifiers,
            self.unit,
            self.factor,
            self.kind,
            self.signed,
            tuple(sorted(self.bits.items())),
            self.show,
        )
        place = Place(self.becomes.function, self.becomes.storage, self.becomes.tariff, self.becomes.subunit)
        functions = None if self.function is None else frozenset(self.function)
        return Rule(self.vib, naming, functions, self.storage, self.tariff, self.subunit, self.length, place)


class FieldShape(_NamingShape):
    quantity: Word
    offset: int = Field(ge=0, le=252)
    length: int = Field(ge=1, le=252)
    type: DataType

    @model_validator(mode="after")
    def _can_be_read(self) -> "FieldShape":
        lengths = {"real": (4,), "date": (2,), "datetime": (4, 6), "text": range(1, 253)}.get(self.type, range(1, 9))
        if self.length not in lengths:
            raise ValueError(f"{self.length} bytes are no {self.type}: {', '.join(map(str, lengths))} can be")
        if self.bits and self.type != "bits":
            raise ValueError("bits have names only where type is bits")
        if self.factor is not None and KINDS[self.type] != "number":
            raise ValueError(f"a factor is for a number, not for {self.type}")
        return self

    def field(self) -> DataField:
        kind, bits = KINDS[self.type], tuple(sorted(self.bits.items()))
        naming = Naming(self.quantity, self.modifiers, self.unit, self.factor, kind=kind, bits=bits, show=self.show)
        return DataField(self.offset, self.length, self.type, naming)


class LayoutShape(_Section):
    length: Spans | None = None
    starts: Annotated[bytes, BeforeValidator(_data)] = b""
    fields: Annotated[tuple[FieldShape, ...], AfterValidator(_some)]

    def layout(self) -> DataLayout:
        return DataLayout(tuple(shape.field() for shape in self.fields), self.length, self.starts)


class StatusShape(_Section):
    names: dict[Annotated[int, Field(ge=2, le=7)], Word] = Field(default_factory=dict)
    ignore: tuple[Annotated[int, Field(ge=2, le=7)], ...] = ()
    usual: Annotated[tuple[Byte, ...], BeforeValidator(_list)] = ()


class TrialShape(_Section):
    telegram: Annotated[tuple[Annotated[bytes, BeforeValidator(_data)], ...], BeforeValidator(_list)]
    says: dict[str, Any] = Field(default_factory=dict)
    status: tuple[str, ...] = ()


class ProfileShape(_Section):
    manufacturer: Annotated[str, AfterValidator(_letters)]
    versions: Spans | None = None
    media: Annotated[tuple[Medium, ...], BeforeValidator(_list)] | None = None
    name: Annotated[str, Field(min_length=1, max_length=100)]
    source: Annotated[str, Field(min_length=1)]
    medium: Medium | None = None
    status: StatusShape = StatusShape()
    ignore_vifes: tuple[Byte, ...] = ()
    vifes: dict[Byte, Literal[""] | Word] = Field(default_factory=dict)
    records: tuple[RuleShape, ...] = ()
    data: tuple[LayoutShape, ...] = ()
    test: TrialShape | None = None

    def profile(self, origin: str, *, is_own: bool) -> Profile:
        status = Status(
            tuple(sorted(self.status.names.items())), frozenset(self.status.ignore), frozenset(self.status.usual)
        )
        return Profile(
            manufacturer=self.manufacturer,
            name=self.name,
            source=self.source,
            versions=self.versions,
            media=None if self.media is None else frozenset(self.media),
            status=status,
            ignored_vifes=frozenset(self.ignore_vifes),
            vifes=tuple(self.vifes.items()),
            rules=tuple(shape.rule() for shape in self.records),
            data=tuple(shape.layout() for shape in self.data),
            medium=self.medium,
            is_own=is_own,
            origin=origin,
        )


class FileShape(_Section):
    """A file of profiles."""

    profiles: Annotated[tuple[ProfileShape, ...], AfterValidator(_some)]
