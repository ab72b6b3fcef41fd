"""The search by wildcards: finds every meter that answers to a selection (EN 13757-3 cl. 11.3).

A mask that several meters answer is split by one of its free digits, until each part holds one meter or none. Which
digit is for split.py to say. The search asks for one probe after the other, so that other work fits in between.
"""

from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

from mbusd.mbus.address import SecondaryAddress
from mbusd.mbus.probe import Crowd, Meter, Mute, Probe, Selection, Silent
from mbusd.mbus.split import DIGITS, Population, best
from mbusd.mbus.twins import free_parts, tiers

ANY = SecondaryAddress("F" * 16)
_DECIMAL = "0123456789"
_ILLEGAL = "ABCDE"  # in BCD, but there are meters that have them; F would be a wildcard
_GUESS = 6.0  # meters on a bus of which nothing is known
_FEW = 2.2  # meters in a crowd of which nothing is known
_DENSE = 2.0  # meters for each part of a crowd that is occupied


@dataclass(frozen=True, slots=True)
class Step:
    """The next probe: whom to select, how often to try, and whether to take the selection from everybody before."""

    selection: Selection
    tries: int = 1
    deselects: bool = False


@dataclass(frozen=True, slots=True)
class Unresolved:
    """Somebody answers here, but who cannot be told; `why` says as much as is known."""

    selection: Selection
    why: str


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


@dataclass(slots=True)
class Search:
    """One search and what it has found by now: look at it at any time, keep what is there when it is cut short.

    `known`: meters that are there for certain; they save probes. `tries`: of each probe that stays silent.
    `exhaustive`: also what breaks the rules of identifications, or shares one with two others: minutes more.
    """

    mask: SecondaryAddress = ANY
    known: frozenset[SecondaryAddress] = frozenset()
    tries: int = 1
    exhaustive: bool = False
    found: dict[Selection, Meter] = field(default_factory=dict)
    unresolved: list[Unresolved] = field(default_factory=list)
    probes: int = 0
    _population: Population = field(default_factory=Population)
    _masks: dict[Selection, str] = field(default_factory=dict)  # behind which mask each meter was found
    _splits: list[_Split] = field(default_factory=list)
    _stuck: SecondaryAddress | None = None  # answers whoever is selected

    def __post_init__(self) -> None:
        for address in self.known:
            self._population.add(address.identification)

    @property
    def left(self) -> int:
        """About how many probes are still to come."""
        return sum(split.values + 12 * split.crowds for split in self._splits)

    def steps(self) -> Steps:
        """Yields what to probe, takes what came of it; ends when everything has been looked at."""
        root = self.mask.digits
        probe = yield from self._ask(root, tries=max(2, self.tries))  # meters that sleep hear the first one
        if isinstance(probe, Crowd | Mute):
            yield from self._resolve(_Crowd(root, probe), max(_GUESS, len(self.known)))
            if self.exhaustive:
                yield from self._look_for_illegal(root, _free(root))
        yield from self._look_for_hidden()
        for address in self.known:
            if Selection(address) not in self.found and self.mask.matches(address):
                yield from self._ask(address.digits, tries=2)

    # -- one probe --------------------------------------------------------------------------------------------------

    def _ask(self, mask: str, tries: int = 0, fabrication: str | None = None) -> Generator[Step, Probe, Probe]:
        """Probe one mask and note what was found. A meter that drowns another, which is there too, is a crowd."""
        selection = Selection(SecondaryAddress(mask), fabrication)
        probe = yield from self._probe(selection, tries or self.tries)
        if isinstance(probe, Meter) and not _is_meant(selection, probe):  # nobody asked for it
            self._note(probe, mask)
            if self._stuck is None:
                self._stuck = probe.address
                probe = yield from self._probe(selection, tries or self.tries)
        if not isinstance(probe, Meter):
            return probe
        if not _is_meant(selection, probe):
            return Silent()
        if probe.address is None:
            return Mute("sends data that do not name it", probe.telegram)
        self._note(probe, mask, fabrication)
        alone = fabrication is not None or self._expected(mask) <= {probe.address}
        return probe if alone else Crowd()

    def _probe(self, selection: Selection, tries: int) -> Generator[Step, Probe, Probe]:
        self.probes += 1
        return (yield Step(selection, tries, deselects=self._stuck is not None))

    def _note(self, probe: Meter, mask: str, fabrication: str | None = None) -> None:
        if probe.address is None:
            return
        selection = Selection(probe.address, fabrication)
        self.found.setdefault(selection, probe)
        self._masks.setdefault(selection, mask)
        self._population.add(probe.address.identification)

    def _expected(self, mask: str) -> set[SecondaryAddress]:
        """Meters of which it is known that they answer to this mask."""
        present = {*self.known, *(selection.mask for selection in self.found)} - {self._stuck}
        return {address for address in present if _fits(mask, address)}

    def _inside(self, mask: str) -> int:
        """How many have been found behind this mask by now; what could not be told apart counts as several."""
        unresolved = sum(2 for one in self.unresolved if _fits(mask, one.selection.mask))
        return unresolved + sum(1 for selection in self.found if _fits(mask, selection.mask))

    # -- identifications --------------------------------------------------------------------------------------------

    def _resolve(self, crowd: _Crowd, meters: float) -> Steps:
        """Find all of about so many meters behind a mask."""
        mask = crowd.mask
        if not _free(mask):
            yield from self._tell_apart(crowd)
            return
        split = _Split()
        self._splits.append(split)
        position = best(self._population, _free(mask), meters)
        crowds = yield from self._look(crowd, position, split)
        sizes: list[int] = []
        each = (meters - self._inside(mask)) / max(len(crowds), 1)
        for part in crowds:
            yield from self._resolve(part, max(_FEW, each))
            split.crowds -= 1
            sizes.append(self._inside(part.mask))
            each = sum(sizes) / len(sizes)
        self._splits.pop()
        yield from self._doubt(mask, position)
        if self._inside(mask) < crowd.least and self._stuck is None:
            yield from self._explain(crowd, position)

    def _look(self, crowd: _Crowd, position: int, split: _Split) -> Generator[Step, Probe, list[_Crowd]]:
        """Probe the ten parts of a crowd by one digit; gives those that are crowds themselves."""
        crowds: list[_Crowd] = []
        ordered = self._population.in_order(position, _DECIMAL)
        for done, value in enumerate(ordered, 1):
            split.values, split.crowds = len(ordered) - done + 1, len(crowds)
            part = _put(crowd.mask, position, value)
            probe: Probe
            if len(self._expected(part)) > 1:
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
        return isinstance(crowd.answer, Crowd) and self._stuck is None and self._inside(crowd.mask) == 0

    def _doubt(self, mask: str, position: int) -> Steps:
        """Look behind a lone meter where its neighbours are many."""
        inside = [
            (selection, selection.mask.digits[position]) for selection in self.found if _fits(mask, selection.mask)
        ]
        numbers = Counter(value for _, value in inside)
        if len(inside) < _DENSE * len(numbers):
            return
        for selection, value in inside:
            part = _put(mask, position, value)
            if numbers[value] == 1 and self._masks[selection] == part and self._has_likes(selection.mask, part):
                yield from self._look_behind(selection, thoroughly=False)

    def _has_likes(self, address: SecondaryAddress, mask: str) -> bool:
        """Whether there may be a meter behind this mask whose bits would not show upon those of this one.

        May be: another meter of its kind has such digits where the mask leaves them free.
        """
        own = address.identification
        kin = (one.mask.identification for one in self.found if one.mask.digits[DIGITS:] == address.digits[DIGITS:])
        free = _free(mask)
        return any(
            any(other[at] != own[at] for at in free)
            and all(int(other[at], 16) & int(own[at], 16) == int(own[at], 16) for at in free)
            for other in kin
        )

    # -- what does not add up ---------------------------------------------------------------------------------------

    def _explain(self, crowd: _Crowd, position: int) -> Steps:
        """More answered than was found. It was noise, or an answer was lost, or an identification has hex digits."""
        probe = yield from self._ask(crowd.mask, tries=2)
        if not isinstance(probe, Crowd | Mute):
            return
        for selection in [one for one in self.found if _fits(crowd.mask, one.mask)]:
            yield from self._look_behind(selection, thoroughly=True)
        if self._inside(crowd.mask) >= crowd.least:
            return
        yield from self._look_for_illegal(crowd.mask, [position], crowd.least)
        for part in (_put(crowd.mask, position, value) for value in _DECIMAL):
            if self._inside(part) == 0:
                yield from self._ask_and_resolve(part, tries=2)
        if self._inside(crowd.mask) < crowd.least:
            others = [one for one in _free(crowd.mask) if one != position]
            yield from self._look_for_illegal(crowd.mask, others, crowd.least)
        if self._inside(crowd.mask) < crowd.least:
            why = probe.why if isinstance(probe, Mute) else "several meters answer, or one that cannot be understood"
            self.unresolved.append(Unresolved(Selection(SecondaryAddress(crowd.mask)), why))

    def _look_for_illegal(self, mask: str, positions: list[int], enough: int | None = None) -> Steps:
        """Identifications with A to E at one of these positions, until there are enough."""
        for position in positions:
            for value in _ILLEGAL:
                yield from self._ask_and_resolve(_put(mask, position, value))
            if enough is not None and self._inside(mask) >= enough:
                return

    def _ask_and_resolve(self, mask: str, tries: int = 0) -> Steps:
        probe = yield from self._ask(mask, tries)
        if isinstance(probe, Crowd | Mute):
            yield from self._resolve(_Crowd(mask, probe), _FEW)

    def _look_for_hidden(self) -> Steps:
        """Look behind every meter that sends the same as another: a batch that is new from the factory."""
        done: set[Selection] = set()
        while todo := [selection for selection in self.found if selection not in done and self._may_hide(selection)]:
            done.update(todo)
            for selection in todo:
                yield from self._look_behind(selection, thoroughly=True)

    def _may_hide(self, selection: Selection) -> bool:
        if selection.fabrication is not None or selection.mask == self._stuck:
            return False
        own = _likeness(self.found[selection])
        alike = sum(1 for meter in self.found.values() if _likeness(meter) == own)
        return alike > 1 or self._masks[selection] == self.mask.digits

    def _look_behind(self, selection: Selection, *, thoroughly: bool) -> Steps:
        """Make sure that no other meter hides behind this one.

        Of meters in step there comes one telegram, and it may be, to the checksum, that of the one whose number has
        the fewest bits. Alone it sends something else; or the same, where all are new: then having been read alone
        puts it one access number ahead, and the others are heard.
        """
        first, mask = self.found[selection], self._masks[selection]
        if not _free(mask):
            return
        alone = yield from self._ask(selection.mask.digits)
        if not isinstance(alone, Meter) or (_likeness(alone) == _likeness(first) and not thoroughly):
            return
        probe = yield from self._ask(mask)
        if isinstance(probe, Crowd) or (isinstance(probe, Meter) and not _counts_on(first, alone, probe)):
            yield from self._resolve(_Crowd(mask, Crowd()), _FEW)

    # -- equal identifications --------------------------------------------------------------------------------------

    def _tell_apart(self, twins: _Crowd) -> Steps:
        """Meters with the same identification, by medium, manufacturer and version."""
        mask = twins.mask
        selection = Selection(SecondaryAddress(mask))
        if isinstance(twins.answer, Mute):
            self._take_nameless(selection, twins.answer)
            return
        if self._stuck is not None:
            self.unresolved.append(Unresolved(selection, f"{self._stuck} answers as well, whoever is selected"))
            return
        alike = [*(one.mask.digits for one in self.found), *_headers(twins, mask)]
        for part in free_parts(mask):
            for is_due, values in tiers(part, alike):
                if not is_due and not self.exhaustive and self._inside(mask) > 1:
                    break
                for value in values:
                    found = part.put(mask, value)
                    probe = yield from self._ask(found)
                    if isinstance(probe, Crowd | Mute):
                        yield from self._tell_apart(_Crowd(found, probe))
            if self._inside(mask) > 1:
                return
            probe = yield from self._ask(mask, tries=2)
            if not isinstance(probe, Crowd):
                return
        yield from self._tell_apart_by_fabrication(mask)

    def _take_nameless(self, selection: Selection, answer: Mute) -> None:
        """A meter that says nothing, or not who it is: the mask that it answers to is its name."""
        if answer.telegram is None:
            self.unresolved.append(Unresolved(selection, answer.why))
        else:
            self.found.setdefault(selection, Meter(answer.telegram, selection.mask))
            self._masks.setdefault(selection, selection.mask.digits)

    def _tell_apart_by_fabrication(self, mask: str) -> Steps:
        """The same eight bytes twice: some meters know the enhanced selection by fabrication number."""
        before = len(self.found)
        probe = yield from self._ask(mask, fabrication="F" * DIGITS)
        if isinstance(probe, Crowd):
            yield from self._split_fabrication(mask, "F" * DIGITS, DIGITS - 1)
        if len(self.found) < before + 2:
            why = "several meters have this same secondary address: give one of them another identification"
            self.unresolved.append(Unresolved(Selection(SecondaryAddress(mask)), why))

    def _split_fabrication(self, mask: str, fabrication: str, position: int) -> Steps:
        crowds: list[str] = []
        for value in _DECIMAL:
            part = _put(fabrication, position, value)
            probe = yield from self._ask(mask, fabrication=part)
            if isinstance(probe, Crowd):
                crowds.append(part)
        if len(crowds) == len(_DECIMAL) or position == 0:  # they do not look at the number
            return
        for part in crowds:
            yield from self._split_fabrication(mask, part, position - 1)


def _is_meant(selection: Selection, meter: Meter) -> bool:
    return meter.address is None or selection.mask.matches(meter.address)


def _fits(mask: str, address: SecondaryAddress) -> bool:
    """Whether a meter with this address answers to the mask."""
    digits = address.digits
    if any(wanted not in ("F", own) and own != "F" for wanted, own in zip(mask[:DIGITS], digits, strict=False)):
        return False
    return mask.endswith("F" * DIGITS) or SecondaryAddress(mask).matches(address)


def _free(mask: str) -> list[int]:
    return [position for position in range(DIGITS) if mask[position] == "F"]


def _put(mask: str, position: int, value: str) -> str:
    return mask[:position] + value + mask[position + 1 :]


def _likeness(meter: Meter) -> bytes:
    """A telegram without what is the meter's own: its identification wherever it stands, and the access number."""
    data = meter.telegram.frame.data
    own = data[:4]
    return data[4:8] + data[9:].replace(own, b"")


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
