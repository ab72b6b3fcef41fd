"""Whether the broker passes on what we say. Pure.

MQTT 3.1.1 has no answer for a message that may not be published (cl. 3.3.5): the broker acknowledges it and drops it.
But what we are subscribed to we hear ourselves; where that does not come, somebody's rules are in the way.
"""

import re
from collections.abc import Iterable

_NOTHING = "(?!)"  # matches no text


def matches(topic: str, pattern: str) -> bool:
    """Whether a subscription gets a topic (cl. 4.7)."""
    levels, wanted = topic.split("/"), pattern.split("/")
    if wanted[-1] == "#":
        wanted.pop()
        levels = levels[: len(wanted)]
    return len(levels) == len(wanted) and all(want in ("+", level) for level, want in zip(levels, wanted, strict=True))


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    """Finds all topics that one of these subscriptions gets, and perhaps others: twenty topics a reading are none."""
    likely = [re.escape(one.removesuffix("#").removesuffix("/")).replace(r"\+", "[^/]*") for one in patterns]
    return re.compile("|".join(likely or [_NOTHING]))


class Echo:
    """By subscription: whether anything of our own was heard there since the connection was made."""

    def __init__(self) -> None:
        self._patterns: frozenset[str] = frozenset()
        self._awaited: dict[str, str] = {}  # by subscription, the first topic that we published there
        self._heard: set[str] = set()
        self._open: frozenset[str] = frozenset()  # neither heard nor awaited
        self._likely = _any_of(())  # of those

    def begin(self, patterns: Iterable[str]) -> None:
        """Another connection, with these subscriptions: all is open again."""
        self._patterns = frozenset(patterns)
        self._awaited.clear()
        self._heard.clear()
        self._leave_open(self._patterns)

    def said(self, topic: str) -> list[str]:
        """It was acknowledged; gives the subscriptions that must now bring it, for the first time."""
        if not self._likely.match(topic):
            return []
        fresh = [pattern for pattern in self._open if matches(topic, pattern)]
        self._awaited |= dict.fromkeys(fresh, topic)
        self._leave_open(self._open.difference(fresh))
        return fresh

    def heard(self, topic: str) -> None:
        """A message came that is not one of those that the broker had retained."""
        for pattern in self._patterns - self._heard:
            if matches(topic, pattern):
                self._heard.add(pattern)
                self._awaited.pop(pattern, None)
                self._leave_open(self._open - {pattern})

    def missed(self, pattern: str) -> str | None:
        """The topic that should have been heard by now; None where all is well."""
        return self._awaited.get(pattern)

    def _leave_open(self, patterns: frozenset[str]) -> None:
        self._open = patterns
        self._likely = _any_of(patterns)
