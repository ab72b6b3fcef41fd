"""What a search has found so far, and what follows from it: who must answer to a mask, who may hide behind whom.

Masks are the 16 digits of a secondary address with wildcards, as texts.
"""

import re
from collections import Counter
from collections.abc import Collection
from functools import lru_cache

from mbusd.light import dataclass
from mbusd.mbus.address import SecondaryAddress
from mbusd.mbus.probe import Meter, Selection
from mbusd.mbus.split import DIGITS, Population

_DENSE = 2.0  # meters for each part of a crowd that is occupied


@dataclass(frozen=True, slots=True)
class Unresolved:
    """Somebody answers here, but who cannot be told; `why` says as much as is known."""

    selection: Selection
    why: str


class Findings:
    """Meters, where they were found, and what could not be told apart. `known` are there for certain."""

    def __init__(self, known: Collection[SecondaryAddress] = ()) -> None:
        self.meters: dict[Selection, Meter] = {}
        self.unresolved: list[Unresolved] = []
        self.doubtful_identifications: list[str] = []  # more meters than were found may have these
        self.population = Population()
        self._likenesses: set[bytes] = set()
        self._masks: dict[Selection, str] = {}
        self._known = set(known)
        for address in self._known:
            self.population.add(address.identification)

    def note(self, selection: Selection, meter: Meter, mask: str) -> None:
        """One meter that answered to this mask."""
        self.meters.setdefault(selection, meter)
        self._likenesses.add(likeness(self.meters[selection]))
        before = self._masks.setdefault(selection, mask)
        if 0 < len(free(mask)) < len(free(before)):
            self._masks[selection] = mask
        self.population.add(selection.mask.identification)

    def give_up(self, mask: str, why: str) -> None:
        """Whoever is behind this mask cannot be told apart."""
        self.unresolved.append(Unresolved(Selection(SecondaryAddress(mask)), why))

    def doubt_whether_all(self, mask: str) -> None:
        """More meters than were found may have this identification."""
        if mask[:DIGITS] not in self.doubtful_identifications:
            self.doubtful_identifications.append(mask[:DIGITS])

    def mask_of(self, selection: Selection) -> str:
        """The narrowest mask with wildcards behind which this meter was alone."""
        return self._masks[selection]

    def expected(self, mask: str) -> set[SecondaryAddress]:
        """Meters of which it is known that they answer to this mask."""
        present = {*self._known, *(selection.mask for selection in self.meters)}
        return {address for address in present if fits(mask, address)}

    def behind(self, mask: str) -> list[Selection]:
        """Who has been found behind this mask."""
        return [selection for selection in self.meters if fits(mask, selection.mask)]

    def count(self, mask: str) -> int:
        """How many have been found behind this mask; what could not be told apart counts as several."""
        return len(self.behind(mask)) + sum(2 for one in self.unresolved if fits(mask, one.selection.mask))

    def missing(self, mask: str) -> list[SecondaryAddress]:
        """Who is known to be there, behind this mask, but was not found."""
        missing = (one for one in self._known if Selection(one) not in self.meters and fits(mask, one))
        return sorted(missing, key=str)

    def forget(self, address: SecondaryAddress) -> None:
        """It is not there after all."""
        self._known.discard(address)

    def has_alike(self) -> bool:
        """Whether two meters send the very same, except for who they are."""
        return len(self._likenesses) < len(self.meters)

    def alike(self) -> set[Selection]:
        """Meters that send the very same as another, except for who they are: they have just come from the factory.

        Where that is every second one, the others are as new, though they may be the only ones of their kind.
        """
        likenesses = {selection: likeness(meter) for selection, meter in self.meters.items()}
        numbers = Counter(likenesses.values())
        alike = {selection for selection, one in likenesses.items() if numbers[one] > 1}
        return set(likenesses) if 2 * len(alike) >= len(likenesses) else alike

    def doubtful(self, mask: str, position: int) -> list[Selection]:
        """Who seems to be alone in its part of a mask split by this digit, while the others there are many."""
        inside = self.behind(mask)
        numbers = Counter(selection.mask.digits[position] for selection in inside)
        if len(inside) < _DENSE * len(numbers):
            return []
        lone = [one for one in inside if numbers[one.mask.digits[position]] == 1]
        return [one for one in lone if self._masks[one] == put(mask, position, one.mask.digits[position])]

    def may_drown_another(self, selection: Selection) -> bool:
        """Whether a meter may be there, behind the same mask, whose telegram would not show upon this one's.

        Only zeros show. So it must have all bits of this one's number, and more: and it may be there if another meter
        of its kind has such digits where the mask leaves them free.
        """
        digits = selection.mask.digits
        places = free(self._masks[selection])
        kin = (one.mask.digits for one in self.meters if one.mask.digits[DIGITS:] == digits[DIGITS:])
        return any(
            any(other[place] != digits[place] for place in places)
            and all(int(other[place], 16) & int(digits[place], 16) == int(digits[place], 16) for place in places)
            for other in kin
        )


def fits(mask: str, address: SecondaryAddress) -> bool:
    """Whether a meter with this address answers to the mask."""
    return _pattern(mask).fullmatch(address.digits) is not None


@lru_cache(maxsize=4096)
def _pattern(mask: str) -> re.Pattern[str]:
    """What `SecondaryAddress.matches` says, for the many comparisons of a search."""
    digits = ("." if digit == "F" else f"[{digit}F]" for digit in mask[:DIGITS])
    rest = (mask[at : at + 2] for at in range(DIGITS, len(mask), 2))
    return re.compile("".join(digits) + "".join(".." if byte == "FF" else f"(?:{byte}|FF)" for byte in rest))


def fits_mask(wide: str, narrow: str) -> bool:
    """Whether one mask holds the other, as far as their identifications go."""
    return all(wanted in ("F", own) for wanted, own in zip(wide[:DIGITS], narrow, strict=False))


def free(mask: str) -> list[int]:
    """The positions of wildcards in the identification."""
    return [position for position in range(DIGITS) if mask[position] == "F"]


def put(mask: str, position: int, value: str) -> str:
    """The mask with another digit at this position."""
    return mask[:position] + value + mask[position + 1 :]


def likeness(meter: Meter) -> bytes:
    """A telegram without what is the meter's own: its identification wherever it stands, and the access number."""
    data = meter.telegram.frame.data
    return data[4:8] + data[9:].replace(data[:4], b"")
