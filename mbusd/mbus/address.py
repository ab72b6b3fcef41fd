"""Primary and secondary addresses, and the manufacturer's three letters (EN 13757-2 cl. 5, -3 cl. 5.6).

A secondary address is written as libmbus writes it: 8 digits of identification, then optionally manufacturer
(4 hex digits), version (2) and medium (2) in the order of the wire; `F` is a wildcard nibble. Behind a `-` may stand
the fabrication number, for meters that nothing else tells apart.
"""

from typing import Self

from mbusd.light import dataclass
from mbusd.mbus.errors import AddressError

SELECTED = 0xFD  # the meter that was selected by its secondary address
TEST = 0xFE  # every meter answers
BROADCAST = 0xFF  # every meter obeys, none answers
HIGHEST_PRIMARY = 250

_HEX = frozenset("0123456789ABCDEF")


@dataclass(frozen=True, slots=True)
class PrimaryAddress:
    """The A field of one meter, 0..250; 0 is what meters have from the factory."""

    number: int

    def __post_init__(self) -> None:
        if not 0 <= self.number <= HIGHEST_PRIMARY:
            msg = f"{self.number} is no primary address: a meter has 0..250 (251..255 have other uses)"
            raise AddressError(msg)

    def __str__(self) -> str:
        return str(self.number)


@dataclass(frozen=True, slots=True)
class SecondaryAddress:
    """Identification, manufacturer, version and medium as 16 hex digits; F is a wildcard.

    Wildcards stand for single digits in the identification and for whole bytes in the rest (EN 13757-3 cl. 11.3).
    `fabrication`: 8 digits more, for the enhanced selection (cl. 11.4), or nothing.
    """

    digits: str
    fabrication: str = ""

    def __post_init__(self) -> None:
        if len(self.digits) != 16 or not _HEX.issuperset(self.digits):
            msg = f"'{self.digits}' is no secondary address: 8 or 16 digits are"
            raise AddressError(msg)
        if self.fabrication and (len(self.fabrication) != 8 or not _HEX.issuperset(self.fabrication)):
            msg = f"'{self.fabrication}' is no fabrication number: 8 digits are"
            raise AddressError(msg)

    @property
    def identification(self) -> str:
        """The first 8 digits, as printed on the meter."""
        return self.digits[:8]

    @property
    def is_exact(self) -> bool:
        """No wildcard in the identification, so that a selection means one meter as a rule."""
        return "F" not in self.identification

    def to_bytes(self) -> bytes:
        """The 8 bytes of a selection: identification low byte first, then the rest as it stands."""
        return bytes.fromhex(self.digits[:8])[::-1] + bytes.fromhex(self.digits[8:])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The first 8 bytes of a long header, as the meter sends them."""
        return cls((data[3::-1] + data[4:8]).hex().upper())

    def matches(self, other: "SecondaryAddress") -> bool:
        """Whether both can be addresses of one meter: a wildcard, or nothing, on either side fits anything."""
        if self.fabrication and other.fabrication and self.fabrication != other.fabrication:
            return False
        identification = zip(self.digits[:8], other.digits[:8], strict=True)
        rest = ((self.digits[i : i + 2], other.digits[i : i + 2]) for i in range(8, 16, 2))
        return all(a == b or "F" in (a, b) for a, b in identification) and all(
            a == b or "FF" in (a, b) for a, b in rest
        )

    def __str__(self) -> str:
        digits = self.digits[:8] if self.digits.endswith("FFFFFFFF") else self.digits
        return f"{digits}-{self.fabrication}" if self.fabrication else digits


Address = PrimaryAddress | SecondaryAddress


def parse_address(text: str | int) -> Address:
    """A primary address 0..250 or a secondary one of 8 or 16 digits, perhaps with `-` and 8 of fabrication number.

    Raises AddressError.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return PrimaryAddress(text)
    word = str(text).strip().upper()
    if word.isascii() and word.isdigit() and len(word) <= 3:
        return PrimaryAddress(int(word))
    digits, dash, fabrication = word.partition("-")
    is_whole = not dash or (len(fabrication) == 8 and _HEX.issuperset(fabrication))
    if len(digits) in (8, 16) and _HEX.issuperset(digits) and is_whole:
        return SecondaryAddress(digits.ljust(16, "F"), fabrication)
    msg = f"'{text}' is no address: a primary address is 0..250, a secondary one has 8 or 16 digits"
    raise AddressError(msg)


def manufacturer_letters(code: int) -> str:
    """Three letters of the 16-bit code (EN 13757-3 cl. 5.6), or `0x1234` where it gives none."""
    letters = "".join(chr(64 + (code >> shift & 31)) for shift in (10, 5, 0))
    valid = code < 0x8000 and all("A" <= letter <= "Z" for letter in letters)
    return letters if valid else f"0x{code:04X}"


def manufacturer_code(letters: str) -> int:
    """The 16-bit code of three letters A..Z. Raises AddressError."""
    if len(letters) != 3 or not all("A" <= letter <= "Z" for letter in letters):
        msg = f"'{letters}' is no manufacturer: three letters A to Z are"
        raise AddressError(msg)
    first, second, third = (ord(letter) - 64 for letter in letters)
    return first << 10 | second << 5 | third
