"""Whether the broker passes on what we say. Pure.

MQTT 3.1.1 has no answer for a message that may not be published (cl. 3.3.5): the broker acknowledges it and drops it.
But what we are subscribed to we hear ourselves; where that does not come, somebody's rules are in the way.
"""

from collections.abc import Iterable


def matches(topic: str, pattern: str) -> bool:
    """Whether a subscription gets a topic (cl. 4.7)."""
    levels, wanted = topic.split("/"), pattern.split("/")
    if wanted[-1] == "#":
        wanted.pop()
        levels = levels[: len(wanted)]
    return len(levels) == len(wanted) and all(want in ("+", level) for level, want in zip(levels, wanted, strict=True))


def _ends(pattern: str) -> tuple[str, str]:
    """What stands before the first wildcard and behind the last one; nothing is certain of a topic where # is."""
    wild = [at for at, letter in enumerate(pattern) if letter in "+#"]
    if not wild:
        return pattern, pattern
    return ("", "") if pattern[wild[-1]] == "#" else (pattern[: wild[0]], pattern[wild[-1] + 1 :])


class Echo:
    """By subscription: whether anything of our own was heard there since the connection was made."""

    def __init__(self) -> None:
        self._patterns: frozenset[str] = frozenset()
        self._awaited: dict[str, str] = {}  # by subscription, the first topic that we published there
        self._heard: set[str] = set()
        self._open: dict[str, tuple[str, str]] = {}  # neither heard nor awaited, with what every topic there has
        self._heads: tuple[str, ...] = ()  # of those
        self._tails: tuple[str, ...] = ()

    def begin(self, patterns: Iterable[str]) -> None:
        """Another connection, with these subscriptions: all is open again."""
        self._patterns = frozenset(patterns)
        self._awaited.clear()
        self._heard.clear()
        self._open = {pattern: _ends(pattern) for pattern in self._patterns}
        self._note_ends()

    def said(self, topic: str) -> list[str]:
        """It was acknowledged; gives the subscriptions that must now bring it, for the first time."""
        if not (topic.endswith(self._tails) and topic.startswith(self._heads)):
            return []
        likely = [one for one, (head, tail) in self._open.items() if topic.endswith(tail) and topic.startswith(head)]
        fresh = [pattern for pattern in likely if matches(topic, pattern)]
        for pattern in fresh:
            self._awaited[pattern] = topic
            del self._open[pattern]
        self._note_ends()
        return fresh

    def heard(self, topic: str) -> None:
        """A message came that is not one of those that the broker had retained."""
        for pattern in self._patterns - self._heard:
            if matches(topic, pattern):
                self._heard.add(pattern)
                self._awaited.pop(pattern, None)
                self._open.pop(pattern, None)
                self._note_ends()

    def missed(self, pattern: str) -> str | None:
        """The topic that should have been heard by now; None where all is well."""
        return self._awaited.get(pattern)

    def _note_ends(self) -> None:
        self._heads = tuple(head for head, _ in self._open.values())
        self._tails = tuple(tail for _, tail in self._open.values())
