"""Keys that were announced in an earlier life of the daemon and that the meter has not sent in this one. Pure.

A read-out may lack what the next one brings again, and an entity that is taken back loses what its user has made of it.
So such keys stay, without a value, until enough read-outs have come without them or the owner does not want them.
"""

from collections.abc import Collection
from fnmatch import fnmatchcase

from mbusd.values.shaping import Shape

READINGS_WITHOUT = 3  # then the meter does not have it any more


class Absences:
    """How often each meter was read without a key that it once had."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, int]] = {}

    def expect(self, meter: str, keys: Collection[str]) -> None:
        """What was announced of this meter; it has been read once without these keys."""
        self._counts[meter] = dict.fromkeys(keys, 1)

    def read(self, meter: str, keys: Collection[str]) -> None:
        """A read-out brought these."""
        counts = self._counts.get(meter, {})
        left = {key: count + 1 for key, count in counts.items() if key not in keys and count + 1 < READINGS_WITHOUT}
        if left:
            self._counts[meter] = left
        else:
            self._counts.pop(meter, None)

    def forget(self, meter: str) -> None:
        """Another meter goes by this name now."""
        self._counts.pop(meter, None)

    def keys(self, meter: str) -> tuple[str, ...]:
        """What is still expected of it."""
        return tuple(self._counts.get(meter, ()))


def is_wanted(key: str, shape: Shape) -> bool:
    """Whether a key may be published at all, as its owner has it now: neither left out nor renamed."""
    own = next((own for own, name in shape.rename.items() if name == key), key)
    if own == key and shape.rename.get(key, key) != key:
        return False
    is_included = not shape.include or any(fnmatchcase(own, pattern) for pattern in shape.include)
    return is_included and not any(fnmatchcase(own, pattern) for pattern in shape.exclude)
