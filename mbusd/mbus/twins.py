"""What tells meters with the same identification apart: medium, manufacturer and version, and what each may be.

A selection knows wildcards for whole bytes only (EN 13757-3 cl. 11.3), so these are lists to be gone through: what
the bus has shown first, then what is usual, then the rest.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from mbusd.light import dataclass
from mbusd.mbus.address import manufacturer_code
from mbusd.mbus.media import MEDIA

_RESERVED = 0x40  # media from here on are nobody's
_MAKERS: Final = """
ABB ACW AMK AMT APA APT BMT CWA DME DWZ DZG EDC EFE ELS ELV EMH EMU GAV GMC GWF HYD IME INM ISK ITW JAN KAM LGB LGZ
LSE LSZ LUG NZR PAD PII QDS REL SAM SBC SEC SEN SLB SON STV SVM TCH TEC TIP ZRI ZRM
"""
"""Letters that wired meters bear."""

Tier = tuple[bool, list[str]]
"""Values to go through, and whether that is due even when what answered has been found by then."""


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of the second half of a secondary address, as digits of the whole."""

    name: str
    start: int
    end: int

    def is_free(self, mask: str) -> bool:
        """No value is given there."""
        return set(mask[self.start : self.end]) == {"F"}

    def put(self, mask: str, value: str) -> str:
        """The mask with this value."""
        return mask[: self.start] + value + mask[self.end :]

    def of(self, digits: str) -> str:
        """The value in an address."""
        return digits[self.start : self.end]


MAKER = Part("manufacturer", 8, 12)
_LOW = Part("manufacturer's low byte", 8, 10)
_HIGH = Part("manufacturer's high byte", 10, 12)
VERSION = Part("version", 12, 14)
MEDIUM = Part("medium", 14, 16)


def free_parts(mask: str) -> Iterator[Part]:
    """What to look at next, and what after that if it did not help: a manufacturer that is on no list."""
    if MEDIUM.is_free(mask):
        yield MEDIUM
    elif MAKER.is_free(mask) and VERSION.is_free(mask):
        yield MAKER
        yield VERSION
    elif VERSION.is_free(mask):
        yield VERSION
    elif _HIGH.is_free(mask):
        yield _HIGH
    elif _LOW.is_free(mask):
        yield _LOW


def tiers(part: Part, seen: Iterable[str]) -> list[Tier]:
    """The values of a part in the order of their likelihood, none twice; `seen` are addresses that may be alike."""
    first = list(dict.fromkeys(part.of(digits) for digits in seen))
    usual: list[Tier]
    match part.name:
        case MEDIUM.name:
            usual = [(True, _bytes(code for code in MEDIA if code < _RESERVED))]
        case MAKER.name:
            return _distinct([(True, first), (True, [_little_endian(letters) for letters in _MAKERS.split()])])
        case _HIGH.name:  # of letters A to Z
            usual = [(True, _bytes(range(0x04, 0x6C)))]
        case _LOW.name:
            usual = [(True, _bytes(code for code in range(256) if 1 <= code & 0x1F <= 26))]
        case _:
            usual = []
    return _distinct([(True, first), *usual, (False, _bytes(range(256)))])


def _distinct(tiers: list[Tier]) -> list[Tier]:
    """Each value once, and no wildcard."""
    known: set[str] = set()
    result: list[Tier] = []
    for is_due, values in tiers:
        fresh = [value for value in values if value not in known and value.strip("F")]
        known.update(fresh)
        result.append((is_due, fresh))
    return result


def _bytes(codes: Iterable[int]) -> list[str]:
    return [f"{code:02X}" for code in codes]


def _little_endian(letters: str) -> str:
    return manufacturer_code(letters).to_bytes(2, "little").hex().upper()
