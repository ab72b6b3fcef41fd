"""Which meters' next readings bring values and nothing else, so that nothing else need be looked at. Pure.

A reading is made of a form that stays and of values that move; what is announced of a meter hangs on its form, on who
it is, and on what others do. `changed` is called whenever anything but values may be another.
"""

from collections.abc import Iterable

from mbusd.light import dataclass
from mbusd.model import Identity, Reading

MOST_FORMS = 8  # that one meter's readings take turns in


@dataclass(slots=True)
class _Meter:
    identity: Identity
    keys: tuple[str, ...]
    revision: int
    forms: tuple[object, ...] = ()


class Steady:
    """By the names of meters."""

    def __init__(self) -> None:
        self._meters: dict[str, _Meter] = {}
        self._revision = 0

    def changed(self) -> None:
        """Nobody is steady any more."""
        self._revision += 1

    def forget(self, name: str) -> None:
        """No meter is called so any more."""
        self._meters.pop(name, None)

    def keys(self, reading: Reading) -> tuple[str, ...] | None:
        """All that the document of this reading carries; None where anything but values may be new in it."""
        if reading.draft is None:
            return None
        known = self._meters.get(reading.meter)
        if known is None or known.revision != self._revision or reading.draft.form not in known.forms:
            return None
        return known.keys if known.identity == reading.identity else None

    def note(self, reading: Reading, keys: Iterable[str]) -> None:
        """All of this reading was looked at, and its document carries these keys."""
        if reading.draft is None:
            return
        now = _Meter(reading.identity, tuple(keys), self._revision)
        known = self._meters.get(reading.meter)
        if known is not None and (known.identity, known.keys, known.revision) == (now.identity, now.keys, now.revision):
            now = known
        if reading.draft.form not in now.forms:
            now.forms = (*(now.forms if len(now.forms) < MOST_FORMS else ()), reading.draft.form)
        self._meters[reading.meter] = now
