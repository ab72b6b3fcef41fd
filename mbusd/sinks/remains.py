"""What an earlier life has said under names that no meter has any more; it goes as soon as that is certain. Pure.

Where Home Assistant is told of meters, what is announced says that, too; this is for those who live without it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping

from mbusd.exact_json import JsonValue


class Remains:
    """Names of meters, and the keys that were said under each."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[str, ...]] = {}

    def recall(self, note: JsonValue) -> None:
        """What `note` gave in an earlier life."""
        for name, keys in note.items() if isinstance(note, Mapping) else ():
            if isinstance(keys, list):
                self._left[name] = tuple(key for key in keys if isinstance(key, str))

    def note(self, said: Mapping[str, Collection[str]]) -> JsonValue:
        """What the next life has to know, beside what is said in this one."""
        return {name: list(keys) for name, keys in {**self._left, **said}.items()}

    def let_go(self, is_certain: Callable[[str], bool]) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Each of them once, as soon as it is certain what is said under its name now."""
        for name in tuple(filter(is_certain, self._left)):
            yield name, self._left.pop(name)
