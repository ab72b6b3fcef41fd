"""Finds the meters of one bus, by primary addresses and by wildcards, one probe after the other.

Between two probes the wire is free for whatever else is due. Everything found is in the survey at once, so it is there
when the scan is cut short.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol, TypeVar, assert_never

from mbusd.light import dataclass
from mbusd.mbus.address import HIGHEST_PRIMARY, SecondaryAddress
from mbusd.mbus.asking import Answered
from mbusd.mbus.clamour import NOISE, Clamour
from mbusd.mbus.hurry import Haste
from mbusd.mbus.link import ATTEMPTS, Conversation, Doubtful, Silence, as_probe
from mbusd.mbus.observation import Observation
from mbusd.mbus.probe import (
    Crowd,
    Disturbance,
    Meter,
    Mute,
    Probe,
    Selection,
    Silent,
    is_no_answer,
    probe_primary,
    probe_secondary,
    release,
    wake,
)
from mbusd.mbus.search import Search, Step
from mbusd.mbus.trail import Trail
from mbusd.scanning.survey import Finding, Survey

__all__ = ["Finding", "Plan", "Progress", "Run", "Scanner", "Survey"]

T = TypeVar("T")

_ADDRESSES = HIGHEST_PRIMARY + 1
_MOST_UNREADABLE = 12  # primary addresses in a row
_SHORTEST_SEARCH = 11  # probes: all wildcards, and one digit


class Run(Protocol):
    """Carries a conversation on to its end, as `Bus.run` does."""

    def __call__(self, conversation: Conversation[T]) -> Awaitable[T]: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What to look for. `mask` None: no search; `known`: meters that are certainly there, which saves probes.

    `tries`: of each probe that stays silent. `resets` False asks primary addresses with REQ_UD2 at once.
    """

    primary: bool = True
    mask: SecondaryAddress | None = None
    known: Collection[SecondaryAddress] = ()
    tries: int = 1
    resets: bool = True
    exhaustive: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """After each probe: what was probed, how many are done, about how many are left, and whom it has found."""

    probed: str
    done: int
    left: int
    found: Finding | None = None


class Scanner:
    """One scan. `survey` is what has been found by now; `run` may be cancelled at any time."""

    def __init__(self, run: Run, plan: Plan, tell: Callable[[Progress], None] = lambda _: None) -> None:
        self.survey = Survey()
        self._run = run
        self._plan = plan
        self._tell = tell
        self._clamour = Clamour()
        self._haste = Haste()
        self._loses_answers = False  # a meter that was answering did not, and did when it was asked again

    async def scan(self) -> Survey:
        """Look for everything that was asked for. Raises what the bus raises when the port is lost."""
        self.survey.probes += 1
        await self._run(wake())  # a jumble is what is due there: no observation for a diagnosis
        if self._plan.primary:
            await self._look_at_primary_addresses()
        if self._plan.mask is not None and self._clamour.hopeless != NOISE:
            await self._search(self._plan.mask)
        self.survey.is_complete = True
        return self.survey

    async def _look_at_primary_addresses(self) -> None:
        silent = await self._look_at(range(_ADDRESSES))
        if self._loses_answers and self._plan.tries < ATTEMPTS:
            await self._look_at(silent, ATTEMPTS - self._plan.tries)
        if self.survey.misread:
            numbers = ", ".join(map(str, self.survey.misread))
            self.survey.problems.append(f"primary address {numbers}: somebody answers, but what arrives is wrong")

    async def _look_at(self, numbers: Sequence[int], tries: int = 0) -> list[int]:
        """Probe primary addresses; gives those that were silent."""
        silent: list[int] = []
        unreadable = 0
        tries = tries or self._plan.tries
        for done, number in enumerate(numbers, 1):
            is_hasty = self._plan.resets and tries == 1 and number != numbers[-1] and self._haste.is_worthwhile
            left = len(numbers) - done + (_SHORTEST_SEARCH if self._plan.mask is not None else 0)
            probe = await self._try(self._primary(number, tries), is_hasty=is_hasty)
            doubted = self._haste.doubted(probe, is_hasty=is_hasty)
            if doubted is not None or isinstance(probe, Doubtful):
                is_explained = await self._look_again(silent, doubted or 0, left)
                probe = await self._ask(self._primary(number, tries if is_explained else max(2, tries)))
            if isinstance(probe, Silent):
                silent.append(number)
            unreadable = 0 if isinstance(probe, Silent | Meter | Mute) else unreadable + 1
            if unreadable > _MOST_UNREADABLE or self._clamour.hopeless == NOISE:
                self._give_up_primary_addresses(number, unreadable)
                break
            self._report(f"address {number}", left, self._take_primary(number, probe))
        return silent

    async def _look_again(self, silent: list[int], doubted: int, left: int) -> bool:
        """Ask the last silent addresses again, with all patience; whether any of them was not silent."""
        doubtful = silent[len(silent) - doubted :]
        for number in doubtful:
            probe = await self._ask(self._primary(number, max(2, self._plan.tries)))
            if not isinstance(probe, Silent):
                silent.remove(number)
                self._report(f"address {number}", left, self._take_primary(number, probe))
        return any(number not in silent for number in doubtful)

    def _primary(self, number: int, tries: int) -> Conversation[Probe]:
        return probe_primary(number, tries, resets=self._plan.resets)

    def _give_up_primary_addresses(self, number: int, unreadable: int) -> None:
        """Whatever is asked is answered, by no meter: so it would go on to the last address."""
        first = number - unreadable + 1
        for numbers in (self.survey.crowded, self.survey.misread):
            numbers[:] = [one for one in numbers if one < first]
        where = f"addresses {first} to {number}" if unreadable > 1 else f"address {number}"
        self.survey.problems.append(f"{where}: {NOISE}; the others were not asked")

    def _take_primary(self, number: int, probe: Probe) -> Finding | None:
        survey = self.survey
        match probe:
            case Silent():
                return None
            case Meter(telegram, address, is_selectable):
                finding = Finding(address, number, telegram, is_selectable and address is not None)
                survey.alone.add(number)
            case Mute(why, telegram):
                finding = Finding(None, number, telegram, remark=why)
            case Crowd(heard):
                if heard and all(map(is_no_answer, heard)):
                    survey.misread.append(number)
                else:
                    survey.note_crowd(number)
                return None
            case Disturbance():
                survey.problems.append(f"address {number}: unreadable bytes, but only once: noise")
                return None
            case _:
                assert_never(probe)
        return survey.add(finding)

    async def _search(self, mask: SecondaryAddress) -> None:
        present = [one.address for one in self.survey.findings if one.is_selectable and one.address is not None]
        known = {*self._plan.known, *present}
        trail = Trail(lambda: Search(mask, known, tries=self._plan.tries, exhaustive=self._plan.exhaustive))
        seen = 0
        while True:
            seen = await self._walk(trail, seen)
            last = await self._try(release(), is_hasty=False)
            doubted = 0 if last is None else self._haste.doubted(last, is_hasty=False)
            if not doubted or not await self._goes_back(trail, doubted):
                break
            seen = self._take_new(trail, seen, "the last ones again")
        search = trail.search
        for identification in search.doubtful_identifications:
            why = "more meters than these may have this identification: mbusd scan --exhaustive looks for them"
            self.survey.problems.append(f"{identification}: {why}")
        for one in search.unresolved:
            self.survey.problems.append(f"{one.selection}: {one.why}")
            self.survey.note_twins(one.selection.mask)

    async def _walk(self, trail: Trail, seen: int) -> int:
        """Carry the search out to its end; of those whom it finds, so many are in the survey, before and after."""
        while (step := trail.step) is not None and not self._clamour.hopeless:
            is_hasty = step.tries == 1 and not step.deselects and self._haste.is_worthwhile
            probe = await self._try(self._secondary(trail, step, step.tries), is_hasty=is_hasty)
            doubted = self._haste.doubted(probe, is_hasty=is_hasty)
            if doubted is None or not await self._goes_back(trail, doubted):
                if doubted is not None or isinstance(probe, Doubtful):
                    probe = await self._ask(self._secondary(trail, step, max(2, step.tries)))
                trail.take(probe, loses=self._loses_answers)
            seen = self._take_new(trail, seen, str(step.selection))
        if trail.step is not None:
            self.survey.problems.append(f"{self._clamour.hopeless}: the search was ended")
        return seen

    def _take_new(self, trail: Trail, seen: int, probed: str) -> int:
        """Note whom the last step has found; gives how many the search has found by now."""
        found = list(trail.search.found.items())
        new = [self._take_secondary(*item) for item in found[seen:]]
        for finding in filter(None, new[:-1]):
            self._report(probed, trail.search.left, finding)
        self._report(probed, trail.search.left, new[-1] if new else None)
        return len(found)

    async def _goes_back(self, trail: Trail, doubted: int) -> bool:
        """Ask the last silent steps again, with all patience; whether the search goes on from one that was not."""
        steps = trail.last(doubted)
        for back, step in zip(range(len(steps), 0, -1), steps, strict=True):
            probe = await self._ask(self._secondary(trail, step, 2))
            if not isinstance(probe, Silent):
                trail.go_back(back, probe)
                return True
        return False

    def _secondary(self, trail: Trail, step: Step, tries: int) -> Conversation[Answered]:
        return probe_secondary(
            step.selection,
            tries,
            is_known=trail.search.is_known,
            deselects=step.deselects,
            reads=step.reads,
            is_noisy=self._clamour.is_noisy,
        )

    def _take_secondary(self, selection: Selection, meter: Meter) -> Finding | None:
        """Note a meter of the search. None: nobody new."""
        if selection.fabrication is not None:
            twin = Finding(selection.mask, meter.primary, meter.telegram, fabrication=selection.fabrication)
            return self.survey.add_twin(twin)
        return self.survey.merge(Finding(selection.mask, meter.primary, meter.telegram, is_selectable=True))

    def _report(self, probed: str, left: int, found: Finding | None) -> None:
        self._tell(Progress(probed, self.survey.probes, left, found))

    async def _ask(self, conversation: Conversation[T]) -> T:
        """Carry on a conversation with all patience."""
        self.survey.probes += 1
        return await self._run(self._observed(conversation))

    async def _try(self, conversation: Conversation[T], *, is_hasty: bool) -> T | Doubtful:
        """Carry it on as one probe of many; `is_hasty`: its first request is."""
        self.survey.probes += 1
        return await self._run(self._observed(as_probe(conversation, is_hasty=is_hasty)))

    def _observed(self, conversation: Conversation[T]) -> Conversation[T]:
        """The same conversation; what was answered is kept for a diagnosis, and that an answer was lost."""
        answered = silent = False
        try:
            request = next(conversation)
            while True:
                reply = yield request
                if not isinstance(reply, Doubtful):
                    self._clamour.hear(request, reply)
                if isinstance(reply, Silence):
                    silent = answered
                else:
                    self._loses_answers = self._loses_answers or (silent and request.attempt > 1)
                    answered, silent = True, False
                    self.survey.observations.append(Observation.of(request.frame, reply))
                request = conversation.send(reply)
        except StopIteration as end:
            self._clamour.end()
            result: T = end.value
            return result
