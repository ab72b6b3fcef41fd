"""All buses of the daemon: keeps a poller alive for each, and exchanges those whose settings have changed."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from mbusd.configuration.settings import BusSettings
from mbusd.memory import Memory
from mbusd.model import Emit, MeterGone, MeterInfo
from mbusd.poller import Poller, budgets_of
from mbusd.polling.meter import Meter
from mbusd.profiles import Shelf

_DIGITS = 8  # of a meter's number


class Buses:
    """The pollers; they tell `emit` what comes of their meters."""

    def __init__(self, settings: Sequence[BusSettings], emit: Emit, shelf: Shelf, memory: Memory) -> None:
        self._emit = emit
        self._shelf = shelf
        self._memory = memory
        self._lives: dict[Poller, asyncio.Task[None]] = {}
        self._group = asyncio.TaskGroup()
        self._settle(settings)
        self.pollers = [Poller.of(bus, emit, shelf, memory) for bus in settings]

    @property
    def names(self) -> list[str]:
        """What the buses are called."""
        return [poller.name for poller in self.pollers]

    @property
    def meters(self) -> list[str]:
        """What the meters are called, as far as they have been named."""
        return [name for poller in self.pollers for name in poller.names]

    def named(self, bus: str) -> Poller | None:
        """The bus of that name."""
        return next((poller for poller in self.pollers if poller.name == bus), None)

    def of_meter(self, name: str) -> Poller | None:
        """The bus that the meter of that name is on."""
        return next((poller for poller in self.pollers if poller.knows(name)), None)

    def whole_name(self, name: str) -> str:
        """What a meter is called that people call by its number alone, as it stands on its face."""
        if len(name) != _DIGITS or not name.isdigit() or self.of_meter(name) is not None:
            return name
        meant = [one for one in self.meters if one.startswith(name)]
        return meant[0] if len(meant) == 1 else name

    async def run(self) -> None:
        """All of them, until cancelled; a bug in one ends all."""
        async with self._group:
            self._start(self.pollers)
            await asyncio.get_running_loop().create_future()

    async def change(self, settings: Sequence[BusSettings], shelf: Shelf) -> dict[str, list[str]]:
        """Go on with these buses: names of those that stay, are restarted, removed and new.

        A bus whose settings are the same goes on undisturbed, unless other profiles are on the shelf. On one that is
        restarted, or has another name now, the meters that did not change keep who they are and when they are due.
        """
        same_shelf = shelf == self._shelf
        staying = [old for old in self.pollers if same_shelf and old.settings in settings]
        leaving = [old for old in self.pollers if old not in staying]
        before = {key: info for poller in self.pollers for key, info in _places(poller)}
        heirs = {(old.name, old.settings.port): old.meters for old in leaving}
        await self._stop(leaving)
        for meter in (meter for old in leaving for meter in old.meters):
            self._memory.names.release(meter.place)  # those that stay claim theirs again
        self._shelf = shelf
        self._settle(settings)
        kept = {poller.name: poller for poller in staying}
        self.pollers = [
            kept.get(bus.name) or Poller.of(bus, self._emit, shelf, self._memory, _before(bus, heirs))
            for bus in settings
        ]
        for poller in staying:
            poller.restore_intervals()
        coming = [poller for poller in self.pollers if poller not in staying]
        for poller in coming:
            poller.tell_all()
        there = {key for poller in self.pollers for key, _ in _places(poller)}
        pending = {(poller.name, address) for poller in self.pollers for address in poller.pending}
        for key, info in before.items():
            if key not in there and key[:2] not in pending:
                self._emit(MeterGone(info))
        self._start(coming)
        return _compared(staying, leaving, coming)

    def _settle(self, settings: Iterable[BusSettings]) -> None:
        """What is remembered goes with a bus that has another name now."""
        for name, before in self._memory.settle({bus.name: bus.port for bus in settings}).items():
            self._memory.move_note(budgets_of(before), budgets_of(name))

    def _start(self, pollers: Iterable[Poller]) -> None:
        for poller in pollers:
            self._lives[poller] = self._group.create_task(poller.run(), name=f"bus {poller.name}")

    async def _stop(self, pollers: Iterable[Poller]) -> None:
        tasks = [self._lives.pop(poller) for poller in pollers]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _before(bus: BusSettings, heirs: Mapping[tuple[str, str], Sequence[Meter]]) -> Sequence[Meter]:
    """The meters of the bus that had this name, else of the one at this port."""
    by_name = next((meters for (name, _), meters in heirs.items() if name == bus.name), None)
    by_port = (meters for (_, port), meters in heirs.items() if port == bus.port)
    return next(by_port, ()) if by_name is None else by_name


def _places(poller: Poller) -> Iterable[tuple[tuple[str, str, str], MeterInfo]]:
    return (((info.bus, info.address, info.name), info) for info in poller.infos())


def _compared(staying: list[Poller], leaving: list[Poller], coming: list[Poller]) -> dict[str, list[str]]:
    left, came = ({poller.name for poller in pollers} for pollers in (leaving, coming))
    return {
        "unchanged": [poller.name for poller in staying],
        "restarted": sorted(left & came),
        "removed": sorted(left - came),
        "new": sorted(came - left),
    }
