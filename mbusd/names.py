"""Which meters go by their secondary address, having no name of their own: never two by the same one.

Meters that were never numbered, or that a maker has numbered twice, say that they are one and the same. Their values
must not mix: the second one goes by its place, and is known by that for ever, whoever is read first.
"""

import logging
from collections.abc import Callable

from mbusd.exact_json import JsonValue

log = logging.getLogger(__name__)

Place = tuple[str, str]
"""Bus and address."""

_TODO = (
    "if that is one meter, take one of the two addresses out of the configuration; if it is two, give each a name, or "
    "one another number (mbusd set-id)"
)


def of_two(place: Place, name: str, holder: Place) -> str:
    """What the log says of a meter that says that it is the one at another place."""
    return f"{'/'.join(place)} says that it is meter {name}, as {'/'.join(holder)} does: it goes by its place"


class Names:
    """Who has which; `note` is what an earlier life has kept by `keep`."""

    def __init__(self, note: JsonValue, keep: Callable[[JsonValue], None]) -> None:
        self._keep = keep
        self._holders: dict[str, Place] = {}
        self._held: dict[Place, str] = {}
        self._second: dict[Place, str] = {}
        for entry in note if isinstance(note, list) else ():
            match entry:
                case [str(bus), str(address), str(name)]:
                    self._second[bus, address] = name

    def claim(self, place: Place, name: str) -> bool:
        """Whether the meter at this place may have the name; where another one has it, the log says what to do."""
        if self._held.get(place) not in (None, name):
            self.release(place)
        if self._second.get(place) == name:
            return False
        holder = self._holders.setdefault(name, place)
        if holder == place:
            self._held[place] = name
            if self._second.pop(place, None) is not None:  # it is another meter now
                self._note()
            return True
        log.warning("%s; %s", of_two(place, name, holder), _TODO)
        self._second[place] = name
        self._note()
        return False

    def release(self, place: Place) -> None:
        """Nobody answers there any more."""
        name = self._held.pop(place, None)
        if name is not None:
            del self._holders[name]

    def _note(self) -> None:
        self._keep([[*place, name] for place, name in self._second.items()])
