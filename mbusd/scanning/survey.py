"""What a scan has found by now, and what follows from it: by which address each meter can be read, if by any. Pure.

Meters may share a primary address, and even a secondary one: then it is no address of theirs any more, for whoever
reads by it gets a jumble, or another meter's values.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import field, replace

from mbusd.light import dataclass
from mbusd.mbus.address import SecondaryAddress
from mbusd.mbus.observation import Observation
from mbusd.mbus.telegram import Telegram

MOST_OBSERVATIONS = 200
_TWIN = "another meter has the same secondary address"


@dataclass(frozen=True, slots=True)
class Finding:
    """One meter: the addresses that it has, as far as they are known."""

    address: SecondaryAddress | None
    primary: int | None
    telegram: Telegram | None
    is_selectable: bool = False  # answers to its secondary address, alone
    remark: str = ""
    fabrication: str | None = None  # 8 digits, where nothing else tells it from a meter with the same address
    is_alone: bool = True  # at its primary address, as far as is known
    baudrate: int | None = None  # where that is not the bus's

    def is_same(self, other: "Finding") -> bool:
        """Whether this is the same meter, found at another rate."""
        if self.address is None or other.address is None:
            return self.primary == other.primary
        return (self.address, self.fabrication) == (other.address, other.fabrication)

    @property
    def safest(self) -> SecondaryAddress | int | None:
        """The address to read it by: the secondary one means this meter and no other, and stays with it.

        None where every address that it has is another meter's, too.
        """
        if self.is_selectable and self.address is not None and self.address.is_exact:
            return self.address
        return self.primary if self.is_alone else None


@dataclass(slots=True)
class Survey:
    """What a scan has found by now."""

    findings: list[Finding] = field(default_factory=list)
    crowded: list[int] = field(default_factory=list)  # primary addresses that several meters answer
    misread: list[int] = field(default_factory=list)  # primary addresses that answer, but nothing a meter can send
    problems: list[str] = field(default_factory=list)
    observations: deque[Observation] = field(default_factory=lambda: deque(maxlen=MOST_OBSERVATIONS))
    alone: set[int] = field(default_factory=set)  # primary addresses at which one meter answered
    probes: int = 0
    is_complete: bool = False

    def remarks(self) -> list[str]:
        """What a person should know besides the meters; of each crowded address, who is known to be there."""
        remarks = list(self.problems)
        for number in self.crowded:
            there = [_name(one) for one in self.findings if one.primary == number and one.address]
            names = f": {', '.join(there)}" if there else "; a search by secondary addresses may tell them apart"
            remarks.append(f"address {number}: several meters answer{names}")
        return remarks

    def add(self, finding: Finding) -> Finding:
        """One more meter; who shares an address with it loses that. Gives it as it stands now."""
        self.findings.append(finding)
        if finding.address is not None and sum(one.address == finding.address for one in self.findings) > 1:
            self.note_twins(finding.address)
        if finding.primary is not None:
            together = sum(one.primary == finding.primary for one in self.findings) > 1
            if together or finding.primary in self.crowded:
                self.note_crowd(finding.primary)
        return self.findings[-1]

    def merge(self, finding: Finding) -> Finding | None:
        """A meter that a search found; the same may have been found at its primary address. None: nobody new."""
        for index, other in enumerate(self.findings):
            if other.address == finding.address:
                self.findings[index] = replace(other, is_selectable=other.remark != _TWIN)
                return None
            if finding.primary is not None and other.primary == finding.primary and not other.is_selectable:
                if other.fabrication is not None:
                    continue
                self.findings[index] = finding  # who is it? now that is known
                if other.address is not None:  # what had looked like one meter were two, one upon the other
                    self.note_crowd(finding.primary)
                return None
        return self.add(finding)

    def add_twin(self, finding: Finding) -> Finding:
        """One of the meters that only their fabrication numbers tell apart; who was taken for all of them is gone."""
        self.findings[:] = [one for one in self.findings if not self._stands_for(one, finding)]
        return self.add(replace(finding, is_selectable=False, remark=_TWIN))

    def note_crowd(self, number: int) -> None:
        """Several meters answer a primary address."""
        if number not in self.crowded:
            self.crowded.append(number)
        self.findings[:] = [replace(one, is_alone=one.is_alone and one.primary != number) for one in self.findings]

    def note_twins(self, address: SecondaryAddress) -> None:
        """Several meters answer a secondary address: what it brought is nobody's telegram for certain."""
        for index, one in enumerate(self.findings):
            if one.address == address:
                is_alone = one.is_alone and (one.fabrication is not None or one.primary in self.alone)
                self.findings[index] = replace(one, is_selectable=False, remark=_TWIN, is_alone=is_alone)

    def _stands_for(self, one: Finding, twin: Finding) -> bool:
        """Whether this is the same meter, or what several looked like together."""
        is_alike = one.address == twin.address and one.fabrication is None
        return is_alike and (one.primary == twin.primary or one.primary not in self.alone)


def at_all_rates(scans: Sequence[tuple[int, Survey]]) -> tuple[int, Survey]:
    """The scans at several rates as one, of which there is one at least, and the rate at which most meters were found.

    A meter that answers at several rates is found at that one.
    """
    rate, most = max(scans, key=lambda scan: len(scan[1].findings))
    whole = replace(most, findings=list(most.findings), crowded=list(most.crowded), problems=list(most.problems))
    for other_rate, other in scans:
        if other is most:
            continue
        whole.probes += other.probes
        whole.is_complete = whole.is_complete and other.is_complete
        whole.problems += [f"at {other_rate} Bd: {remark}" for remark in other.remarks()]
        for one in other.findings:
            if not any(one.is_same(mine) for mine in whole.findings):
                whole.findings.append(replace(one, baudrate=other_rate))
    return rate, whole


def _name(finding: Finding) -> str:
    tail = "" if finding.fabrication is None else f" (fabrication number {finding.fabrication})"
    return f"{finding.address}{tail}"
