"""The search by wildcards: finds every meter that answers to a selection (EN 13757-3 cl. 11.3).

A mask that several meters answer is split by one of its free digits, until each part holds one meter or none. Which
digit is for split.py to say; crowds that are split by the same digit share probes, see joint.py. The search asks for
one probe after the other, so that other work fits in between.
"""

from collections.abc import Collection, Iterator, Sequence

from mbusd.mbus.address import SecondaryAddress
from mbusd.mbus.apart import Apart
from mbusd.mbus.asking import Asker, HopelessError, Open, Step, Steps
from mbusd.mbus.doubts import Doubts
from mbusd.mbus.findings import Findings, Unresolved, fits_mask, free, put
from mbusd.mbus.joint import Chance, Level, common, divided, is_worthwhile
from mbusd.mbus.probe import Crowd, Meter, Mute, Present, Selection
from mbusd.mbus.split import best

__all__ = ["ANY", "Search", "Step"]

ANY = SecondaryAddress("F" * 16)
_DECIMAL = "0123456789"
_GUESS = 6.0  # meters on a bus of which nothing is known
_ENOUGH = 4  # meters that show how meters of this bus differ


class _Split:
    """Crowds that are split together by one digit; `crowded` are their parts that are crowds themselves."""

    def __init__(self, crowds: Sequence[Open], position: int) -> None:
        self.crowds = crowds
        self.position = position
        self.crowded: list[Open] = []
        self.resolved = 0  # of the crowded parts

    def is_split_up(self, mask: str) -> bool:
        """Whether a part of this crowd is known to be a crowd."""
        return any(fits_mask(mask, part.mask) for part in self.crowded)


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
        self._known = frozenset(known)
        self._findings = Findings([one for one in self._known if mask.matches(one)])
        self._tries = tries
        self._exhaustive = exhaustive
        self._asker = Asker(self._findings, tries)
        self._apart = Apart(self._asker, self._findings, mask.digits, exhaustive=exhaustive)
        self._doubts = Doubts(self._asker, self._findings, self._apart, self._resolve)
        self._levels = {tuple(free(mask.digits)): Level(guess=_GUESS)}
        self._due: list[float] = []  # about how many probes each split that is under way still needs

    @property
    def found(self) -> dict[Selection, Meter]:
        """The meters found so far, and how each of them is selected."""
        return self._findings.meters

    @property
    def unresolved(self) -> list[Unresolved]:
        """Who answers, but could not be told apart."""
        return self._findings.unresolved

    @property
    def doubtful_identifications(self) -> list[str]:
        """Identifications that more meters than were found may have."""
        return self._findings.doubtful_identifications

    @property
    def probes(self) -> int:
        """How many have been asked for."""
        return self._asker.probes

    @property
    def left(self) -> int:
        """About how many probes are still to come."""
        return round(sum(self._due))

    def is_known(self, address: SecondaryAddress) -> bool:
        """Whether this meter need not be asked to confirm its address."""
        return address in self._known or Selection(address) in self.found

    def doubt(self) -> None:
        """Answers get lost on this bus: one silence proves nothing, everything is looked at again at the end."""
        self._asker.loses = True

    def steps(self) -> Steps:
        """Yields what to probe, takes what came of it; ends when everything has been looked at."""
        try:
            yield from self._look_everywhere(self.mask.digits)
        except HopelessError:
            self._due.clear()
            why = "something unreadable answers whatever is asked: noise, a wrong rate, or no M-Bus behind this port"
            self._findings.give_up(self.mask.digits, why)

    def _look_everywhere(self, root: str) -> Steps:
        probe = yield from self._asker.ask(root, tries=max(2, self._tries))  # meters that sleep hear the first one
        if isinstance(probe, Crowd | Mute):
            yield from self._resolve([Open(root, probe)])
            if self._exhaustive:
                yield from self._doubts.look_for_illegal(root, free(root))
        yield from self._doubts.look_for_hidden(root)
        yield from self._doubts.look_for_missing(root)
        if self._asker.loses:
            yield from self._doubts.look_again()

    def _resolve(self, crowds: Sequence[Open]) -> Steps:
        """Find all meters behind masks that have the same digits free."""
        if len(crowds) > 1 and self._findings.population.size < _ENOUGH:  # the first one shows how they differ
            yield from self._resolve(crowds[:1])
            crowds = crowds[1:]
        if not free(crowds[0].mask):
            for crowd in crowds:
                yield from self._apart.tell_apart(crowd)
            return
        for split in list(self._splits(crowds)):
            yield from self._carry_out(split)

    def _splits(self, crowds: Sequence[Open]) -> Iterator[_Split]:
        """The crowds, by the digit that is best for each."""
        together: dict[int, list[Open]] = {}
        for crowd in crowds:
            members = [address.identification for address in self._findings.expected(crowd.mask)]
            size = max(self._level(crowd.mask).size, len(members))
            position = best(self._findings.population, free(crowd.mask), size, members, len(crowds))
            together.setdefault(position, []).append(crowd)
        for position, group in together.items():
            yield _Split(group, position)

    def _level(self, mask: str) -> Level:
        """What is known of masks that have these digits free."""
        return self._levels.setdefault(tuple(free(mask)), Level())

    def _carry_out(self, split: _Split) -> Steps:
        ordered = self._findings.population.in_order(split.position, _DECIMAL)
        self._due.append(0)
        for done, value in enumerate(ordered, 1):
            self._due[-1] = (len(ordered) - done + 1) * len(split.crowds) + 12 * (len(split.crowded) - split.resolved)
            yield from self._look(split, [crowd.mask for crowd in split.crowds], value, is_last=done == len(ordered))
            if len(split.crowded) > 2 and self._findings.population.size == 0:
                yield from self._resolve_parts(split, 1)  # shows how they differ
        self._due[-1] = 0
        yield from self._resolve_parts(split, len(split.crowded))
        self._due.pop()
        for crowd in split.crowds:
            yield from self._doubts.look_behind_lone(crowd, split.position)
            yield from self._doubts.explain(crowd, split.position)
            self._level(crowd.mask).add_resolved(self._findings.count(crowd.mask))

    def _resolve_parts(self, split: _Split, number: int) -> Steps:
        """Look through so many of the crowded parts, those that were looked through already included."""
        crowds = split.crowded[split.resolved : number]
        split.resolved = number
        if crowds:
            yield from self._resolve(crowds)

    def _look(self, split: _Split, masks: Sequence[str], value: str, *, is_last: bool) -> Steps:
        """Probe one part of each crowd, the same in each, all at once where that pays."""
        asked: list[str] = []
        for mask in masks:
            part = put(mask, split.position, value)
            if len(self._findings.expected(part)) > 1:
                split.crowded.append(Open(part, Crowd()))
            elif is_last and self._must_be_there(split, mask):
                split.crowded.append(Open(part, None))
            else:
                asked.append(part)
        yield from self._ask(split, asked)

    def _ask(self, split: _Split, parts: Sequence[str]) -> Steps:
        if len(parts) > 1 and not self._is_worthwhile(split, parts):
            for some in divided(parts):
                yield from self._ask(split, some)
        elif len(parts) > 1:
            probe = yield from self._asker.ask(common(parts))
            if isinstance(probe, Crowd | Mute):
                for some in divided(parts):
                    yield from self._ask(split, some)
        elif parts:
            yield from self._ask_one(split, parts[0])

    def _ask_one(self, split: _Split, part: str) -> Steps:
        level = self._level(part)
        probe = yield from self._asker.ask(part, reads=not (free(part) and level.is_crowded))
        if isinstance(probe, Crowd | Mute | Present):
            split.crowded.append(Open(part, probe))
            level.crowded += 1
        elif isinstance(probe, Meter):
            level.single += 1

    def _is_worthwhile(self, split: _Split, parts: Sequence[str]) -> bool:
        """Whether one probe for all these parts is likely to save some."""
        joint = common(parts)
        if self._findings.has_alike():  # reading some of them once more would hide who hides behind another
            return False
        if any(fits_mask(joint, part.mask) for part in split.crowded):
            return False
        masks = [put(part, split.position, "F") for part in parts]
        found = sum(self._findings.count(mask) for mask in masks)
        unknown = max(self._level(masks[0]).size * len(masks) - found, 0.5 * len(masks))
        chance = Chance.of(self._findings.population, joint, split.position, unknown)
        return is_worthwhile(parts, chance, len(self._findings.expected(joint)))

    def _must_be_there(self, split: _Split, mask: str) -> bool:
        """All meters of a crowd are in the last of its parts if nobody was in any other."""
        crowd = next(crowd for crowd in split.crowds if crowd.mask == mask)
        return (
            isinstance(crowd.answer, Crowd)
            and self._asker.stuck is None
            and self._findings.count(mask) == 0
            and not split.is_split_up(mask)
        )
