"""Finds the meters of one bus, by primary addresses and by wildcards, one probe after the other.

Between two probes the wire is free for whatever else is due. Everything found is in the survey at once, so it is there
when the scan is cut short.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, assert_never

from mbusd.mbus.address import HIGHEST_PRIMARY, SecondaryAddress
from mbusd.mbus.frames import ACK, LONG, Noise
from mbusd.mbus.link import ATTEMPTS, Conversation, Silence
from mbusd.mbus.observation import Observation
from mbusd.mbus.probe import (
    Crowd,
    Disturbance,
    Meter,
    Mute,
    Probe,
    Selection,
    Silent,
    probe_primary,
    probe_secondary,
    release,
    wake,
)
from mbusd.mbus.search import Search
from mbusd.survey import Finding, Survey

__all__ = ["Finding", "Plan", "Progress", "Run", "Scanner", "Survey"]

T = TypeVar("T")

_ADDRESSES = HIGHEST_PRIMARY + 1
_MOST_UNREADABLE = 12  # primary addresses in a row
_MOST_MISHEARD = 3  # answers that no meters can have sent, before the first good one
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
        self._has_good = False  # a frame has come
        self._misheard = 0  # answers that no meters, however many, can have sent
        self._loses_answers = False  # a meter that was answering did not, and did when it was asked again

    async def scan(self) -> Survey:
        """Look for everything that was asked for. Raises what the bus raises when the port is lost."""
        self.survey.probes += 1
        await self._run(wake())  # a jumble is what is due there: no observation for a diagnosis
        if self._plan.primary:
            await self._look_at_primary_addresses()
        if self._plan.mask is not None:
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

    async def _look_at(self, numbers: Sequence[int], tries: int | None = None) -> list[int]:
        """Probe primary addresses; gives those that were silent."""
        silent: list[int] = []
        unreadable = 0
        for done, number in enumerate(numbers, 1):
            probe = await self._ask(probe_primary(number, tries or self._plan.tries, resets=self._plan.resets))
            if isinstance(probe, Silent):
                silent.append(number)
            unreadable = 0 if isinstance(probe, Silent | Meter | Mute) else unreadable + 1
            if unreadable > _MOST_UNREADABLE:
                self._give_up_primary_addresses(number, unreadable)
                break
            found = self._take_primary(number, probe)
            left = len(numbers) - done + (_SHORTEST_SEARCH if self._plan.mask is not None else 0)
            self._report(f"address {number}", left, found)
        return silent

    def _give_up_primary_addresses(self, number: int, unreadable: int) -> None:
        """Whatever is asked is answered, by no meter: so it would go on to the last address."""
        first = number - unreadable + 1
        for numbers in (self.survey.crowded, self.survey.misread):
            numbers[:] = [one for one in numbers if one < first]
        why = "something unreadable answers each: noise, a wrong rate, or no M-Bus behind this port"
        self.survey.problems.append(f"addresses {first} to {number}: {why}; the others were not asked")

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
                if heard and all(map(_is_no_collision, heard)):
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
        search = Search(mask, {*self._plan.known, *present}, tries=self._plan.tries, exhaustive=self._plan.exhaustive)
        steps = search.steps()
        seen = 0
        step = next(steps, None)
        while step is not None:
            probe = await self._ask(
                probe_secondary(
                    step.selection, step.tries, is_known=search.is_known, deselects=step.deselects, reads=step.reads
                )
            )
            if self._loses_answers:
                search.doubt()
            try:
                following = steps.send(probe)
            except StopIteration:
                following = None
            new = [self._take_secondary(*item) for item in list(search.found.items())[seen:]]
            seen = len(search.found)
            for finding in filter(None, new[:-1]):
                self._report(str(step.selection), search.left, finding)
            self._report(str(step.selection), search.left, new[-1] if new else None)
            step = following
            if self._misheard >= _MOST_MISHEARD and not self._has_good:
                self.survey.problems.append("no answer arrives as a meter sends it: the search was ended")
                break
        await self._ask(release())
        for identification in search.doubtful_identifications:
            why = "more meters than these may have this identification: mbusd scan --exhaustive looks for them"
            self.survey.problems.append(f"{identification}: {why}")
        for one in search.unresolved:
            self.survey.problems.append(f"{one.selection}: {one.why}")
            self.survey.note_twins(one.selection.mask)

    def _take_secondary(self, selection: Selection, meter: Meter) -> Finding | None:
        """Note a meter of the search. None: nobody new."""
        if selection.fabrication is not None:
            twin = Finding(selection.mask, meter.primary, meter.telegram, fabrication=selection.fabrication)
            return self.survey.add_twin(twin)
        return self.survey.merge(Finding(selection.mask, meter.primary, meter.telegram, is_selectable=True))

    def _report(self, probed: str, left: int, found: Finding | None) -> None:
        self._tell(Progress(probed, self.survey.probes, left, found))

    async def _ask(self, conversation: Conversation[T]) -> T:
        self.survey.probes += 1
        return await self._run(self._observed(conversation))

    def _observed(self, conversation: Conversation[T]) -> Conversation[T]:
        """The same conversation; what was answered is kept for a diagnosis, and that an answer was lost."""
        answered = silent = False
        try:
            request = next(conversation)
            while True:
                reply = yield request
                if isinstance(reply, Silence):
                    silent = answered
                else:
                    self._loses_answers = self._loses_answers or (silent and request.attempt > 1)
                    answered, silent = True, False
                    self._has_good = self._has_good or not isinstance(reply, Noise)
                    self._misheard += isinstance(reply, Noise) and _is_no_collision(reply.data)
                    self.survey.observations.append(Observation.of(request.frame, reply))
                request = conversation.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result


def _is_no_collision(heard: bytes) -> bool:
    """Whether this is the beginning of no answer, nor of several at once, which only clear bits (EN 13757-2 cl. 4)."""
    return bool(heard and heard[0] & ~ACK and heard[0] & ~LONG)
