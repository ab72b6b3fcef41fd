"""What is known of one meter's counters: open while a reading is judged, shut between two of them. Pure.

Shut it takes a fifth of the room: what the counters are is kept once for all meters of a kind, of each meter only its
numbers, one behind the other. A block of flats has thousands.
"""

from collections.abc import Container, Mapping
from dataclasses import field
from functools import lru_cache
from struct import pack, unpack_from
from typing import Final, NamedTuple

from mbusd.light import dataclass
from mbusd.trust.counting import Place, number_of
from mbusd.trust.register import Register, What

MOST_KINDS = 512
MOST_COUNTERS = 256  # of one meter, unless one read-out has more: some call what they send by another name each time
_OF_EACH: Final = 4  # floats of a counter: two times, two rates
_SIZE: Final = 8  # bytes of a float


class Kind(NamedTuple):
    """What stands in a ledger besides numbers: the counters, and where its maxima belong."""

    counters: tuple[What, ...] = ()
    places: tuple[Place, ...] = ()


NOTHING: Final = Kind()


@dataclass(slots=True)
class Ledger:
    """Open. `maxima`: the highest that the meter has said twice of its power and flow."""

    registers: dict[str, Register] = field(default_factory=dict)
    maxima: Mapping[Place, float] = field(default_factory=dict)

    @classmethod
    def opened(cls, kind: Kind, numbers: bytes) -> "Ledger":
        """What `shut` gave."""
        counters, places = kind
        count = len(counters)
        in_all = _OF_EACH * count + len(places)
        floats = unpack_from(f"<{in_all}d", numbers)
        values = map(number_of, str(numbers[_SIZE * in_all :], "ascii").split())
        columns = (floats[one * count : (one + 1) * count] for one in range(_OF_EACH))
        registers = {one.what.key: one for one in map(Register, counters, values, *columns)}
        return cls(registers, dict(zip(places, floats[_OF_EACH * count :], strict=True)))

    def give_way(self, said: Container[str]) -> None:
        """Where there are too many, those go that were not said now, what was not said for longest first."""
        over = len(self.registers) - MOST_COUNTERS
        if over > 0:
            silent = [one for key, one in self.registers.items() if key not in said]
            for one in sorted(silent, key=lambda one: one.at)[:over]:
                del self.registers[one.what.key]

    def shut(self, before: Kind) -> tuple[Kind, bytes]:
        """`before`: of what kind it was."""
        all_of_them = self.registers.values()
        kind = Kind(tuple([one.what for one in all_of_them]), tuple(self.maxima))
        floats = [
            *[one.at for one in all_of_them],
            *[one.since for one in all_of_them],
            *[one.highest for one in all_of_them],
            *[one.second for one in all_of_them],
            *self.maxima.values(),
        ]
        values = " ".join([str(one.value) for one in all_of_them])
        numbers = pack(f"<{len(floats)}d", *floats) + values.encode("ascii")
        return before if kind == before else _shared(kind), numbers


@lru_cache(maxsize=MOST_KINDS)
def _shared(kind: Kind) -> Kind:
    """The same one for all meters with these counters."""
    return kind
