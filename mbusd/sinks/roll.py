"""The meters as the sinks know them: by their places, by their names, and who has not settled yet. Pure."""

from collections.abc import Collection, Iterator

from mbusd.configuration.durations import seconds
from mbusd.model import MeterInfo

Place = tuple[str, str]
"""Bus and address."""


class Roll:
    """What was last told of each meter; all of it is found without a look at the others."""

    def __init__(self) -> None:
        self._infos: dict[Place, MeterInfo] = {}
        self._first: dict[str, Place] = {}  # by name
        self._more: dict[str, dict[Place, None]] = {}  # those who have the name of another one, too
        self._by_address: dict[Place, MeterInfo] = {}
        self._unsettled: dict[Place, MeterInfo] = {}

    def __iter__(self) -> Iterator[MeterInfo]:
        return iter(self._infos.values())

    def __len__(self) -> int:
        return len(self._infos)

    def at(self, bus: str, address: str) -> MeterInfo | None:
        """The meter of this place."""
        return self._infos.get((bus, address))

    def named(self, name: str) -> MeterInfo | None:
        """The meter that has this name now; of several the first that had it."""
        place = self._first.get(name)
        return None if place is None else self._infos[place]

    @property
    def called_by_address(self) -> Collection[MeterInfo]:
        """Those that have no name of their own."""
        return self._by_address.values()

    @property
    def unsettled(self) -> Collection[MeterInfo]:
        """Those of whom it is not known yet who they are or whether they are there."""
        return self._unsettled.values()

    def put(self, info: MeterInfo) -> None:
        """What there is to say of a meter now."""
        place = info.bus, info.address
        before = self._infos.get(place)
        if before is not None and before.name != info.name:
            self._unname(place, before.name)
        self._infos[place] = info
        if self._first.setdefault(info.name, place) != place:
            self._more.setdefault(info.name, {})[place] = None
        for known, belongs in (
            (self._by_address, info.identity is not None and info.name == info.identity.address),
            (self._unsettled, not info.name or is_unsettled(info)),
        ):
            if belongs:
                known[place] = info
            else:
                known.pop(place, None)

    def drop(self, info: MeterInfo) -> None:
        """Nobody is at this place any more."""
        place = info.bus, info.address
        before = self._infos.pop(place, None)
        if before is not None:
            self._unname(place, before.name)
        self._by_address.pop(place, None)
        self._unsettled.pop(place, None)

    def _unname(self, place: Place, name: str) -> None:
        others = self._more.get(name, {})
        if self._first[name] != place:
            del others[place]
        elif others:
            self._first[name] = next(iter(others))
            del others[self._first[name]]
        else:
            del self._first[name]
        if not others:
            self._more.pop(name, None)


def is_unsettled(info: MeterInfo) -> bool:
    """It has neither answered nor stayed silent yet, and will be asked before long: not by request or cron line."""
    return info.online is None and interval_seconds(info) is not None


def interval_seconds(info: MeterInfo) -> float | None:
    """Between read-outs; None where they do not come so."""
    try:
        return seconds(info.interval)
    except ValueError:
        return None
