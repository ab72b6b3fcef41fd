"""The part of a meter's configuration that says what is made of its values; what it does: values/shaping.py."""

from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from mbusd.mbus.media import MEDIA
from mbusd.values.shaping import Shape

OWN_WORDS = frozenset(
    {"time", "status", "alarm", "availability", "get", "interval", "telegram", "last_read", "read_now"}
)
_MOST_DECIMALS = 12
_MOST_SHARED = 256  # different choices of options


class Section(BaseModel):
    """A mapping of the configuration: no unknown keys, never changed. The texts below its options are for schema.py."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        arbitrary_types_allowed=True,
        defer_build=True,  # a part is built with the whole: nobody needs it alone
    )

    def __deepcopy__(self, memo: dict[int, object] | None = None) -> Self:
        """Itself: pydantic asks for a copy of each default, for each meter."""
        return self

    def model_post_init(self, context: object, /) -> None:  # noqa: ARG002 - pydantic's
        """Make it small, as a house has hundreds of meters: the names of the options are kept once for all of a kind.

        Python does so for what is set one by one; pydantic gives each section a mapping of its own.
        """
        options = self.__dict__
        object.__delattr__(self, "__dict__")
        for name, value in options.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "__pydantic_fields_set__", _shared(frozenset(self.model_fields_set)))


@lru_cache(maxsize=_MOST_SHARED)
def _shared(names: frozenset[str]) -> set[str]:
    """One for all sections in which the same is written; none of them is ever changed."""
    return set(names)


def _key(text: str) -> str:
    if not text or any(letter in "/+#" or letter.isspace() or not letter.isprintable() for letter in text):
        raise ValueError("a key becomes a topic: no spaces, no / + #, not empty")
    if text in OWN_WORDS or text.startswith("status_"):
        raise ValueError(f"'{text}' is a word of the daemon's own")
    return text


def _medium(value: object) -> object:
    names = sorted({name for name in MEDIA.values() if name not in ("wildcard", "other")} | {"other"})
    if isinstance(value, str) and value not in names:
        raise ValueError(f"no medium; one of {', '.join(names)}")
    return value


def _scale(number: Decimal) -> Decimal:
    if not number.is_finite() or not number:
        raise ValueError("a finite number other than 0 is needed")
    return number


def _finite(number: Decimal) -> Decimal:
    if not number.is_finite():
        raise ValueError("a finite number is needed")
    return number


Key = Annotated[str, AfterValidator(_key)]
Medium = Annotated[str, BeforeValidator(_medium), Field(json_schema_extra={"enum": sorted(set(MEDIA.values()))})]
Number = Annotated[Decimal, AfterValidator(_finite), PlainSerializer(float)]
Decimals = Annotated[int, Field(ge=-_MOST_DECIMALS, le=_MOST_DECIMALS)]


class KeysSettings(Section):
    """Mappings go by key or pattern (`*` and `?` of the shell), as the meter's own keys are: `energy*`."""

    include: tuple[str, ...] = ()
    """Only these; default: all."""
    exclude: tuple[str, ...] = ()
    """All but these."""
    rename: dict[str, Key] = {}
    """Key: another name, for topics and entities."""
    unit: dict[str, str] = {}
    """Key: the unit to convert to; with a scale, too, what the scaled number is."""
    precision: dict[str, Decimals] = {}
    """Key: decimals to round to."""
    scale: dict[str, Annotated[Number, AfterValidator(_scale)]] = {}
    """Key: factor, for pulse adapters."""
    offset: dict[str, Number] = {}
    """Key: what is added after the scale, before the unit is converted."""

    @model_validator(mode="after")
    def _names_that_differ(self) -> "KeysSettings":
        taken: dict[str, str] = {}
        for key, name in self.rename.items():
            if name in taken:
                raise ValueError(f"rename: {taken[name]} and {key} cannot both be {name}")
            taken[name] = key
        return self

    def shape(self, medium: str | None) -> Shape:
        """The same as what values/shaping.py takes."""
        code = next((number for number, name in MEDIA.items() if name == medium), None)
        return Shape(
            include=self.include,
            exclude=self.exclude,
            rename=MappingProxyType(self.rename),
            unit=MappingProxyType(self.unit),
            precision=MappingProxyType(self.precision),
            scale=MappingProxyType(self.scale),
            offset=MappingProxyType(self.offset),
            medium=None if code is None or medium is None else (code, medium),
        )
