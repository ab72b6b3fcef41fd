"""The search by wildcards: finds every meter that answers to a selection (EN 13757-3 cl. 11.3).

A mask that several meters answer is split by one of its free digits, until each part holds one meter or none. Which
digit is for split.py to say. The search asks for one probe after the other, so that other work fits in between.
"""

from collections.abc import Collection, Generator, Iterator
from dataclasses import dataclass

from mbusd.mbus.address import SecondaryAddress
from mbusd.mbus.findings import Findings, Unresolved, free, likeness, put
from mbusd.mbus.probe import Crowd, Meter, Mute, Probe, Selection, Silent
from mbusd.mbus.split import DIGITS, best
from mbusd.mbus.twins import free_parts, tiers

ANY = SecondaryAddress("F" * 16)
_DECIMAL = "0123456789"
_ILLEGAL = "ABCDE"  # in BCD, but there are meters that have them; F would be a wildcard
_GUESS = 6.0  # meters on a bus of which nothing is known
_FEW = 2.2  # meters in a crowd of which nothing is known


@dataclass(frozen=True, slots=True)
class Step:
    """The next probe: whom to select, how often to try, and whether to take the selection from everybody before."""

    selection: Selection
    tries: int = 1
    deselects: bool = False


@dataclass(frozen=True, slots=True)
class _Crowd:
    """A mask behind which somebody is, but not just one meter that names itself."""

    mask: str
    answer: Crowd | Mute | None  # None: concluded from the silence of all others

    @property
    def least(self) -> int:
        """How many meters there must be at the least."""
        return 1 if isinstance(self.answer, Mute) else 2


@dataclass(slots=True)
class _Split:
    """How much of a crowd is still to be looked at."""

    values: int = 0
    crowds: int = 0


Steps = Generator[Step, Probe, None]


class Search:
    """One search and what it has found by now: look at it at any time, keep what is there when it is cut short.

    `known`: meters that are there for certain; they save probes. `tries`: of each probe that stays silent.
    `exhaustive`: also what breaks the rules of identifications, or shares one with two others: minutes more.
    """

    def __init__(
        self,
        mask: SecondaryAddress = ANY,
        known: Collection[SecondaryAddress] = (),
        *,
        tries: int = 1,
        exhaustive: bool = False,
    ) -> None:
        self.mask = mask
        self.probes = 0
        self._known = frozenset(known)
        self._findings = Findings([one for one in self._known if mask.matches(one)])
        self._tries = tries
        self._exhaustive = exhaustive
        self._splits: list[_Split] = []
        self._doubted: set[str] = set()  # masks that were taken for one meter's and looked at again
        self._deselects = False  # somebody keeps a selection that is not for it
        self._stuck: SecondaryAddress | None = None  # and cannot be brought to give it up

    @property
    def found(self) -> dict[Selection, Meter]:
        """The meters found so far, and how each of them is selected."""
        return self._findings.meters

    @property
    def unresolved(self) -> list[Unresolved]:
        """Who answers, but could not be told apart."""
        return self._findings.unresolved

    @property
    def left(self) -> int:
        """About how many probes are still to come."""
        return sum(split.values + 12 * split.crowds for split in self._splits)

    def is_known(self, address: SecondaryAddress) -> bool:
        """Whether this meter need not be asked to confirm its address."""
        return address in self._known or Selection(address) in self.found

    def steps(self) -> Steps:
        """Yields what to probe, takes what came of it; ends when everything has been looked at."""
        root = self.mask.digits
        probe = yield from self._ask(root, tries=max(2, self._tries))  # meters that sleep hear the first one
        if isinstance(probe, Crowd | Mute):
            yield from self._resolve(_Crowd(root, probe), max(_GUESS, len(self._findings.expected(root))))
            if self._exhaustive:
                yield from self._look_for_illegal(root, free(root))
        yield from self._look_for_hidden()
        yield from self._look_for_missing(root)

    # -- one probe --------------------------------------------------------------------------------------------------

    def _ask(self, mask: str, tries: int = 0, fabrication: str | None = None) -> Generator[Step, Probe, Probe]:
        """Probe one mask and note what was found. A meter that drowns another, which is there too, is a crowd."""
        selection = Selection(SecondaryAddress(mask), fabrication)
        probe = yield from self._probe(selection, tries)
        if isinstance(probe, Meter) and not _is_meant(selection, probe):  # nobody asked for it
            self._note(probe, mask)
            if self._deselects:
                self._stuck = probe.address
            else:
                self._deselects = True
                probe = yield from self._probe(selection, tries)
        if not isinstance(probe, Meter):
            return probe
        if not _is_meant(selection, probe):
            return Silent()
        if probe.address is None:
            return Mute("sends data that do not name it", probe.telegram)
        self._note(probe, mask, fabrication)
        if fabrication is not None:
            return probe
        return probe if self._findings.expected(mask) <= {probe.address, self._stuck} else Crowd()

    def _probe(self, selection: Selection, tries: int) -> Generator[Step, Probe, Probe]:
        self.probes += 1
        return (yield Step(selection, tries or self._tries, self._deselects))

    def _note(self, meter: Meter, mask: str, fabrication: str | None = None) -> None:
        if meter.address is not None:
            self._findings.note(Selection(meter.address, fabrication), meter, mask)

    # -- identifications --------------------------------------------------------------------------------------------

    def _resolve(self, crowd: _Crowd, meters: float) -> Steps:
        """Find all of about so many meters behind a mask."""
        mask = crowd.mask
        if not free(mask):
            yield from self._tell_apart(crowd)
            return
        split = _Split()
        self._splits.append(split)
        members = [address.identification for address in self._findings.expected(mask)]
        position = best(self._findings.population, free(mask), meters, members)
        crowds = yield from self._look(crowd, position, split)
        sizes: list[int] = []
        each = (meters - self._findings.count(mask)) / max(len(crowds), 1)
        for part in crowds:
            yield from self._resolve(part, max(_FEW, each))
            split.crowds -= 1
            sizes.append(self._findings.count(part.mask))
            each = sum(sizes) / len(sizes)
        self._splits.pop()
        for selection in self._findings.doubtful(mask, position):
            if self._findings.may_drown_another(selection):
                yield from self._look_behind(selection, thoroughly=False)
        if self._findings.count(mask) < crowd.least and self._stuck is None:
            yield from self._explain(crowd, position)

    def _look(self, crowd: _Crowd, position: int, split: _Split) -> Generator[Step, Probe, list[_Crowd]]:
        """Probe the ten parts of a crowd by one digit; gives those that are crowds themselves."""
        crowds: list[_Crowd] = []
        ordered = self._findings.population.in_order(position, _DECIMAL)
        for done, value in enumerate(ordered, 1):
            split.values, split.crowds = len(ordered) - done + 1, len(crowds)
            part = put(crowd.mask, position, value)
            probe: Probe
            if len(self._findings.expected(part)) > 1:
                probe = Crowd()
            elif done == len(ordered) and not crowds and self._must_be_last(crowd):
                crowds.append(_Crowd(part, None))
                break
            else:
                probe = yield from self._ask(part)
            if isinstance(probe, Crowd | Mute):
                crowds.append(_Crowd(part, probe))
        split.values, split.crowds = 0, len(crowds)
        return crowds

    def _must_be_last(self, crowd: _Crowd) -> bool:
        """All meters of a crowd are in the last of its parts if nobody was in any other."""
        return isinstance(crowd.answer, Crowd) and self._stuck is None and self._findings.count(crowd.mask) == 0

    # -- what does not add up ---------------------------------------------------------------------------------------

    def _explain(self, crowd: _Crowd, position: int) -> Steps:
        """More answered than was found. It was noise, or an answer was lost, or an identification has hex digits."""
        yield from self._look_for_missing(crowd.mask)
        probe = yield from self._ask(crowd.mask, tries=2)
        if not isinstance(probe, Crowd | Mute):
            return
        for selection in self._findings.behind(crowd.mask):
            yield from self._look_behind(selection, thoroughly=True)
        if self._findings.count(crowd.mask) >= crowd.least:
            return
        yield from self._look_for_illegal(crowd.mask, [position], crowd.least)
        for part in (put(crowd.mask, position, value) for value in _DECIMAL):
            if self._findings.count(part) == 0:
                yield from self._ask_and_resolve(part, tries=2)
        if self._findings.count(crowd.mask) < crowd.least:
            others = [one for one in free(crowd.mask) if one != position]
            yield from self._look_for_illegal(crowd.mask, others, crowd.least)
        if self._findings.count(crowd.mask) < crowd.least:
            why = probe.why if isinstance(probe, Mute) else "several meters answer, or one that cannot be understood"
            self._findings.give_up(crowd.mask, why)

    def _look_for_missing(self, mask: str) -> Steps:
        """Ask those who should be there one by one."""
        for address in self._findings.missing(mask):
            probe = yield from self._ask(address.digits, tries=2)
            if not isinstance(probe, Meter):
                self._findings.forget(address)

    def _look_for_illegal(self, mask: str, positions: list[int], enough: int | None = None) -> Steps:
        """Identifications with A to E at one of these positions, until there are enough."""
        for position in positions:
            for value in _ILLEGAL:
                yield from self._ask_and_resolve(put(mask, position, value))
            if enough is not None and self._findings.count(mask) >= enough:
                return

    def _ask_and_resolve(self, mask: str, tries: int = 0) -> Steps:
        probe = yield from self._ask(mask, tries)
        if isinstance(probe, Crowd | Mute):
            yield from self._resolve(_Crowd(mask, probe), _FEW)

    def _look_for_hidden(self) -> Steps:
        """Look behind the only meter there is, and behind those that are new from the factory."""
        done: set[Selection] = set()
        while todo := [selection for selection in self._suspects() if selection not in done]:
            done.update(todo)
            for selection in todo:
                yield from self._look_behind(selection, thoroughly=True)

    def _suspects(self) -> list[Selection]:
        alike = self._findings.alike()
        return [
            selection
            for selection in self.found
            if (selection in alike or self._findings.mask_of(selection) == self.mask.digits)
            and selection.fabrication is None
            and selection.mask != self._stuck
        ]

    def _look_behind(self, selection: Selection, *, thoroughly: bool) -> Steps:
        """Make sure that no other meter hides behind this one.

        Of meters in step there comes one telegram, and it may be, to the checksum, that of the one whose number has
        the fewest bits. Alone it sends something else; or the same, where all are new: then having been read alone
        puts it one access number ahead, and the others are heard.
        """
        first, mask = self.found[selection], self._findings.mask_of(selection)
        alone = yield from self._ask(selection.mask.digits)
        if isinstance(alone, Crowd):
            yield from self._tell_apart_by_fabrication(selection.mask.digits)
        if not free(mask) or not isinstance(alone, Meter) or (likeness(alone) == likeness(first) and not thoroughly):
            return
        probe = yield from self._ask(mask)
        drowned = isinstance(probe, Meter) and not _counts_on(first, alone, probe)
        if mask not in self._doubted and (isinstance(probe, Crowd) or drowned):
            self._doubted.add(mask)
            yield from self._resolve(_Crowd(mask, Crowd()), _FEW)

    # -- equal identifications --------------------------------------------------------------------------------------

    def _tell_apart(self, twins: _Crowd) -> Steps:
        """Meters with the same identification, by medium, manufacturer and version."""
        mask = twins.mask
        if isinstance(twins.answer, Mute):
            self._take_nameless(mask, twins.answer)
            return
        if self._stuck is not None:
            self._findings.give_up(mask, f"{self._stuck} answers as well, whoever is selected")
            return
        alike = [*(one.mask.digits for one in self.found), *_headers(twins, mask)]
        for part in free_parts(mask):
            for is_due, values in tiers(part, alike):
                if not is_due and not self._exhaustive and self._findings.count(mask) > 1:
                    break
                for value in values:
                    found = part.put(mask, value)
                    probe = yield from self._ask(found)
                    if isinstance(probe, Crowd | Mute):
                        yield from self._tell_apart(_Crowd(found, probe))
            if self._findings.count(mask) > 1:
                return
            probe = yield from self._ask(mask, tries=2)
            if not isinstance(probe, Crowd):
                return
        yield from self._tell_apart_by_fabrication(mask)

    def _take_nameless(self, mask: str, answer: Mute) -> None:
        """A meter that says nothing, or not who it is: the mask that it answers to is its name."""
        if answer.telegram is None:
            self._findings.give_up(mask, answer.why)
        else:
            address = SecondaryAddress(mask)
            self._findings.note(Selection(address), Meter(answer.telegram, address), mask)

    def _tell_apart_by_fabrication(self, mask: str) -> Steps:
        """The same eight bytes twice: some meters know the enhanced selection by fabrication number."""
        before = len(self.found)
        probe = yield from self._ask(mask, fabrication="F" * DIGITS)
        if isinstance(probe, Crowd):
            yield from self._split_fabrication(mask, "F" * DIGITS, DIGITS - 1)
        if len(self.found) < before + 2:
            why = "several meters have this same secondary address: give one of them another identification"
            self._findings.give_up(mask, why)

    def _split_fabrication(self, mask: str, fabrication: str, position: int) -> Steps:
        crowds: list[str] = []
        for value in _DECIMAL:
            part = put(fabrication, position, value)
            probe = yield from self._ask(mask, fabrication=part)
            if isinstance(probe, Crowd):
                crowds.append(part)
        if len(crowds) == len(_DECIMAL) or position == 0:  # they do not look at the number
            return
        for part in crowds:
            yield from self._split_fabrication(mask, part, position - 1)


def _is_meant(selection: Selection, meter: Meter) -> bool:
    return meter.address is None or selection.mask.matches(meter.address)


def _counts_on(first: Meter, second: Meter, third: Meter) -> bool:
    """Whether the access number of a third telegram is that of the meter of the second; not all meters count."""
    numbers = [meter.telegram.header.access_number for meter in (first, second, third) if meter.telegram.header]
    step = 0 if numbers[0] == numbers[1] else 1
    return len(numbers) < 3 or (numbers[2] - numbers[1]) % 256 == step


def _headers(crowd: _Crowd, mask: str) -> Iterator[str]:
    """Addresses in garbled telegrams: of meters that send the same header, it is readable even so."""
    for heard in crowd.answer.heard if isinstance(crowd.answer, Crowd) else ():
        if heard[:1] == b"\x68" and heard[3:4] == b"\x68" and heard[6:7] == b"\x72" and len(heard) >= 15:
            address = SecondaryAddress.from_bytes(heard[7:15])
            if address.identification == mask[:DIGITS]:
                yield address.digits
