"""One mapping of a meter file, read field by field: each error says where it is and what would be right."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from mbusd.simulation.behaviour import RATES

W = TypeVar("W", bound=str)

_LARGEST = 1e24  # beyond what any DIF carries, and safe to calculate with


@dataclass(frozen=True, slots=True)
class Fields:
    """A mapping, and what messages call the place where it stands. Its methods raise ValueError."""

    where: str
    mapping: Mapping[object, object]

    def only(self, allowed: frozenset[str]) -> None:
        for key in self.mapping:
            if key not in allowed:
                raise ValueError(f"{self.where}.{key}: is unknown; allowed: {', '.join(sorted(allowed))}")

    def has(self, key: str) -> bool:
        return self.mapping.get(key) is not None

    def get(self, key: str) -> object:
        return self.mapping.get(key)

    def text(self, key: str, default: str | None = None) -> str:
        value = self._given(key, "a text", default)
        if not isinstance(value, str):
            raise self._wrong(key, "a text (in quotes where it looks like a number)", value)
        return value

    def digits(self, key: str) -> str | None:
        """8 digits, None where the key is missing. A number is refused: it would have lost its leading zeros."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or len(value) != 8 or set(value.upper()) - set("0123456789ABCDE"):
            raise self._wrong(key, "8 digits in quotes", value)
        return value.upper()

    def whole(self, key: str, low: int, high: int, default: int | None = None) -> int:
        value = self._given(key, f"{low}..{high}", default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._wrong(key, f"a whole number {low}..{high}", value)
        return value

    def number(self, key: str, default: float | None = None) -> int | float:
        value = self._given(key, "a number", default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= _LARGEST:
            raise self._wrong(key, f"a number (up to {_LARGEST:g})", value)
        return value

    def seconds(self, key: str, default: float | None = None) -> float:
        value = self.number(key, default)
        if value < 0:
            raise self._wrong(key, "seconds, 0 or more", value)
        return value

    def rate(self, key: str) -> int:
        return self._rate(key, self._given(key, "a rate in Bd", None))

    def rates(self, key: str) -> list[int]:
        return [self._rate(key, value) for value in self.entries(key)]

    def _rate(self, key: str, value: object) -> int:
        if not isinstance(value, int) or value not in RATES:
            raise self._wrong(key, f"one of {', '.join(map(str, RATES))} Bd", value)
        return value

    def choice(self, key: str, allowed: tuple[W, ...], default: W) -> W:
        word = self.text(key, default)
        for known in allowed:
            if known == word:
                return known
        raise ValueError(f"{self.where}.{key}: '{word}' is unknown; allowed: {', '.join(allowed)}")

    def inner(self, key: str) -> "Fields":
        """The mapping below a key."""
        return Fields(f"{self.where}.{key}", mapping(f"{self.where}.{key}", self._given(key, "a mapping", None)))

    def by_code(self, key: str, low: int, high: int) -> Iterator[tuple[int, "Fields"]]:
        """The mappings below a key whose own keys are bytes in hex, in quotes; a number would be read as decimal."""
        inner = self.inner(key)
        for code in inner.mapping:
            is_byte = isinstance(code, str) and len(code) == 2 and not set(code.upper()) - set("0123456789ABCDEF")
            if not is_byte or not low <= int(str(code), 16) <= high:
                wanted = f"two hex digits in quotes, {low:02X} to {high:02X}, are wanted"
                raise ValueError(f"{inner.where}: {wanted}, not {code!r}")
            yield int(str(code), 16), inner.inner(str(code))

    def flag(self, key: str, *, default: bool) -> bool:
        value = self._given(key, "true or false", default)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return value

    def entries(self, key: str) -> list[object]:
        value = self._given(key, "a list", None)
        if not isinstance(value, list):
            raise self._wrong(key, "a list", value)
        return value

    def _given(self, key: str, wanted: str, default: object) -> object:
        value = self.get(key)
        if value is None and default is None:
            raise ValueError(f"{self.where}.{key}: is missing; {wanted} is wanted")
        return default if value is None else value

    def _wrong(self, key: str, wanted: str, value: object) -> ValueError:
        return ValueError(f"{self.where}.{key}: {wanted} is wanted, not {value!r}")


def mapping(where: str, entry: object) -> Mapping[object, object]:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where}: a mapping is wanted, not {entry!r}")  # noqa: TRY004 (content of a file)
    return entry
