"""Finds the meters of one bus, by primary addresses and by wildcards, one probe after the other.

Between two probes the wire is free for whatever else is due. Everything found is in the survey at once, so it is there
when the scan is cut short.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar, assert_never

from mbusd.mbus.address import HIGHEST_PRIMARY, SecondaryAddress
from mbusd.mbus.link import Conversation, Silence
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
from mbusd.mbus.telegram import Telegram

T = TypeVar("T")

MOST_OBSERVATIONS = 200
_ADDRESSES = HIGHEST_PRIMARY + 1
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
class Finding:
    """One meter: the addresses that it has, as far as they are known."""

    address: SecondaryAddress | None
    primary: int | None
    telegram: Telegram | None
    is_selectable: bool = False  # answers to its secondary address, alone
    remark: str = ""

    @property
    def safest(self) -> SecondaryAddress | int | None:
        """The address to read it by: the secondary one means this meter and no other, and stays with it."""
        if self.is_selectable and self.address is not None and self.address.is_exact:
            return self.address
        return self.primary


@dataclass(slots=True)
class Survey:
    """What a scan has found by now."""

    findings: list[Finding] = field(default_factory=list)
    crowded: list[int] = field(default_factory=list)  # primary addresses that several meters answer
    problems: list[str] = field(default_factory=list)
    observations: deque[Observation] = field(default_factory=lambda: deque(maxlen=MOST_OBSERVATIONS))
    probes: int = 0
    is_complete: bool = False

    def remarks(self) -> list[str]:
        """What a person should know besides the meters; of each crowded address, who is known to be there."""
        remarks = list(self.problems)
        for number in self.crowded:
            there = [str(one.address) for one in self.findings if one.primary == number and one.address]
            names = f": {', '.join(there)}" if there else "; a search by secondary addresses may tell them apart"
            remarks.append(f"address {number}: several meters answer{names}")
        return remarks


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
        for number in range(_ADDRESSES):
            probe = await self._ask(probe_primary(number, self._plan.tries, resets=self._plan.resets))
            found = self._take_primary(number, probe)
            left = _ADDRESSES - 1 - number + (_SHORTEST_SEARCH if self._plan.mask is not None else 0)
            self._report(f"address {number}", left, found)

    def _take_primary(self, number: int, probe: Probe) -> Finding | None:
        survey = self.survey
        match probe:
            case Silent():
                return None
            case Meter(telegram, address, is_selectable):
                finding = Finding(address, number, telegram, is_selectable and address is not None)
            case Mute(why, telegram):
                finding = Finding(None, number, telegram, remark=why)
            case Crowd():
                survey.crowded.append(number)
                return None
            case Disturbance():
                survey.problems.append(f"address {number}: unreadable bytes, but only once: noise")
                return None
            case _:
                assert_never(probe)
        survey.findings.append(finding)
        return finding

    async def _search(self, mask: SecondaryAddress) -> None:
        present = [one.address for one in self.survey.findings if one.is_selectable and one.address is not None]
        search = Search(mask, {*self._plan.known, *present}, tries=self._plan.tries, exhaustive=self._plan.exhaustive)
        steps = search.steps()
        seen = 0
        step = next(steps, None)
        while step is not None:
            probe = await self._ask(
                probe_secondary(step.selection, step.tries, is_known=search.is_known, deselects=step.deselects)
            )
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
        await self._ask(release())
        self.survey.problems += [f"{one.selection}: {one.why}" for one in search.unresolved]

    def _take_secondary(self, selection: Selection, meter: Meter) -> Finding | None:
        """Note a meter of the search; one that was found at a primary address is the same. None: nobody new."""
        remark = "" if selection.fabrication is None else f"only by fabrication number {selection.fabrication}"
        finding = Finding(selection.mask, meter.primary, meter.telegram, not remark, remark)
        findings = self.survey.findings
        for index, other in enumerate(findings):
            if other.address == finding.address and not remark:
                findings[index] = replace(other, is_selectable=True)
                return None
            if finding.primary is not None and other.primary == finding.primary and not other.is_selectable:
                findings[index] = finding  # who is it? now that is known
                if other.address is not None:  # what had looked like one meter were two, one upon the other
                    self.survey.crowded.append(finding.primary)
                return None
        findings.append(finding)
        return finding

    def _report(self, probed: str, left: int, found: Finding | None) -> None:
        self._tell(Progress(probed, self.survey.probes, left, found))

    async def _ask(self, conversation: Conversation[T]) -> T:
        self.survey.probes += 1
        return await self._run(self._observed(conversation))

    def _observed(self, conversation: Conversation[T]) -> Conversation[T]:
        """The same conversation; what was answered is kept for a diagnosis."""
        try:
            request = next(conversation)
            while True:
                reply = yield request
                if not isinstance(reply, Silence):
                    self.survey.observations.append(Observation.of(request.frame, reply))
                request = conversation.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result
