"""What a search does not take for granted: meters that hide behind another, and answers that do not add up.

Of meters that answer in the same bit there comes one telegram, and with bad luck it is, to the checksum, that of one
of them: then it has to be read alone to see who else was there (EN 13757-2 cl. 4: a space wins).
"""

from collections.abc import Callable, Sequence

from mbusd.mbus.apart import Apart
from mbusd.mbus.asking import Asker, Open, Steps
from mbusd.mbus.findings import Findings, free, likeness, put
from mbusd.mbus.probe import Crowd, Meter, Mute, Selection

_DECIMAL = "0123456789"
_ILLEGAL = "ABCDE"  # in BCD, but there are meters that have them; F would be a wildcard


class Doubts:
    """Second looks. `resolve` finds all meters behind masks that turn out to be crowds."""

    def __init__(
        self, asker: Asker, findings: Findings, apart: Apart, resolve: Callable[[Sequence[Open]], Steps]
    ) -> None:
        self._asker = asker
        self._findings = findings
        self._apart = apart
        self._resolve = resolve
        self._doubted: set[str] = set()  # masks that were taken for one meter's and looked at again

    def explain(self, crowd: Open, position: int) -> Steps:
        """More answered than was found. It was noise, or an answer was lost, or an identification has hex digits."""
        if self._findings.count(crowd.mask) >= crowd.least or self._asker.stuck is not None:
            return
        yield from self.look_for_missing(crowd.mask)
        probe = yield from self._asker.ask(crowd.mask, tries=2)
        if not isinstance(probe, Crowd | Mute):
            return
        for selection in self._findings.behind(crowd.mask):
            yield from self.look_behind(selection, thoroughly=True)
        if self._findings.count(crowd.mask) >= crowd.least:
            return
        yield from self.look_for_illegal(crowd.mask, [position], crowd.least)
        for part in (put(crowd.mask, position, value) for value in _DECIMAL):
            if self._findings.count(part) == 0:
                yield from self._ask_and_resolve(part, tries=2)
        if self._findings.count(crowd.mask) < crowd.least:
            others = [one for one in free(crowd.mask) if one != position]
            yield from self.look_for_illegal(crowd.mask, others, crowd.least)
        if self._findings.count(crowd.mask) < crowd.least:
            why = probe.why if isinstance(probe, Mute) else "several meters answer, or one that cannot be understood"
            self._findings.give_up(crowd.mask, why)

    def look_for_missing(self, mask: str) -> Steps:
        """Ask those who should be there one by one."""
        for address in self._findings.missing(mask):
            probe = yield from self._asker.ask(address.digits, tries=2)
            if not isinstance(probe, Meter):
                self._findings.forget(address)

    def look_for_illegal(self, mask: str, positions: list[int], enough: int | None = None) -> Steps:
        """Identifications with A to E at one of these positions, until there are enough."""
        for position in positions:
            for value in _ILLEGAL:
                yield from self._ask_and_resolve(put(mask, position, value))
            if enough is not None and self._findings.count(mask) >= enough:
                return

    def _ask_and_resolve(self, mask: str, tries: int = 0) -> Steps:
        probe = yield from self._asker.ask(mask, tries)
        if isinstance(probe, Crowd | Mute):
            yield from self._resolve([Open(mask, probe)])

    def look_for_hidden(self, root: str) -> Steps:
        """Look behind the only meter there is, and behind those that are new from the factory."""
        done: set[Selection] = set()
        while todo := [selection for selection in self._suspects(root) if selection not in done]:
            done.update(todo)
            for selection in todo:
                yield from self.look_behind(selection, thoroughly=True)

    def _suspects(self, root: str) -> list[Selection]:
        alike = self._findings.alike()
        return [
            selection
            for selection in self._findings.meters
            if (selection in alike or self._findings.mask_of(selection) == root)
            and selection.fabrication is None
            and selection.mask != self._asker.stuck
        ]

    def look_behind_lone(self, crowd: Open, position: int) -> Steps:
        """Look behind meters that seem to be alone in their part of a crowd while the others there are many."""
        for selection in self._findings.doubtful(crowd.mask, position):
            if self._findings.may_drown_another(selection):
                yield from self.look_behind(selection, thoroughly=False)

    def look_behind(self, selection: Selection, *, thoroughly: bool) -> Steps:
        """Make sure that no other meter hides behind this one.

        Of meters in step there comes one telegram, and it may be, to the checksum, that of the one whose number has
        the fewest bits. Alone it sends something else; or the same, where all are new: then having been read alone
        puts it one access number ahead, and the others are heard.
        """
        first, mask = self._findings.meters[selection], self._findings.mask_of(selection)
        alone = yield from self._asker.ask(selection.mask.digits)
        if isinstance(alone, Crowd):
            yield from self._apart.tell_apart_by_fabrication(selection.mask.digits)
        if not free(mask) or not isinstance(alone, Meter) or (likeness(alone) == likeness(first) and not thoroughly):
            return
        probe = yield from self._asker.ask(mask)
        drowned = isinstance(probe, Meter) and not _counts_on(first, alone, probe)
        if mask not in self._doubted and (isinstance(probe, Crowd) or drowned):
            self._doubted.add(mask)
            yield from self._resolve([Open(mask, Crowd())])

    def look_again(self) -> Steps:
        """Where answers get lost: whoever was silent is called again, whoever was alone is read twice more."""
        for mask in dict.fromkeys(self._asker.asked_once):
            for _ in range(2):
                before = len(self._findings.meters)
                probe = yield from self._asker.ask(mask)
                if isinstance(probe, Crowd | Mute):
                    yield from self._resolve([Open(mask, probe)])
                elif len(self._findings.meters) > before:  # another one than before: so there are two
                    yield from self._resolve([Open(mask, Crowd())])
                elif isinstance(probe, Meter) and free(mask):
                    continue
                break


def _counts_on(first: Meter, second: Meter, third: Meter) -> bool:
    """Whether the access number of a third telegram is that of the meter of the second; not all meters count."""
    numbers = [meter.telegram.header.access_number for meter in (first, second, third) if meter.telegram.header]
    step = 0 if numbers[0] == numbers[1] else 1
    return len(numbers) < 3 or (numbers[2] - numbers[1]) % 256 == step
