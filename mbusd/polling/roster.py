"""The meters of one bus: those of the configuration, and those that were found on it."""

import logging
import random
import time
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import UTC, datetime

from mbusd.configuration.settings import BusSettings, MeterSettings
from mbusd.mbus.address import Address, PrimaryAddress, SecondaryAddress, parse_address
from mbusd.memory import Memory, Remembered
from mbusd.model import Change, Emit, Identity, MeterChanged, MeterGone, MeterInfo, ScanMode
from mbusd.normalise import identity_of
from mbusd.polling.meter import Meter
from mbusd.scanning.reach import address_of, is_twin, whole_of
from mbusd.scanning.survey import Finding, Survey

log = logging.getLogger(__name__)

_SHARED = "another meter has the same secondary address"


class Roster:
    """All meters of one bus, `meters`; tells `emit` what becomes of each.

    What a scan has found is kept in `memory`, and taken from there where the bus is to discover meters. `before`:
    meters of this bus until its settings changed; those that did not change go on as they are.
    """

    def __init__(
        self,
        settings: BusSettings,
        emit: Emit,
        phases: random.Random,
        memory: Memory | None = None,
        before: Sequence[Meter] = (),
    ) -> None:
        self.meters: list[Meter] = []
        self.bus_is_open = False
        self._settings = settings
        self._emit = emit
        self._phases = phases
        self._doubtful: dict[SecondaryAddress, tuple[Finding, AbstractSet[SecondaryAddress]]] = {}
        self._memory = Memory() if memory is None else memory
        self._before = before
        self._kept = {one.address: one for one in self._memory.meters(settings.name)}
        self._found: set[Meter] = set()
        self._names: dict[str, Meter] = {}  # who was found by a name before
        self._twins: dict[str, Identity] = {}  # who was found at a primary address, while another is called the same
        for meter in settings.meters:
            self._add(meter)
        if self._discovers:
            self._recall()
        elif settings.discover is None:
            self._tell_dropped()
        self._before = ()

    @property
    def _discovers(self) -> bool:
        return self._settings.scan_at_start is not None

    def named(self, name: str) -> Meter | None:
        """The meter that has this name."""
        before = self._names.get(name)
        if before is not None and before.name == name and before in self.meters:
            return before
        meter = next((meter for meter in self.meters if meter.name == name), None)
        self._names.pop(name, None)
        if meter is not None:
            self._names[name] = meter
        return meter

    def known(self) -> list[SecondaryAddress]:
        """The secondary addresses of all meters, as far as they are known and mean one meter each."""
        there = [(meter.secondary, meter.settings.address) for meter in self.meters]
        shared = {one.digits for _, one in there if isinstance(one, SecondaryAddress) and one.fabrication}
        return [secondary for secondary, _ in there if secondary is not None and secondary.digits not in shared]

    def adopt(self, survey: Survey) -> list[str]:
        """Read from now on what a scan has found and is none of ours; gives remarks on what cannot be decided yet."""
        there = frozenset(one.address for one in survey.findings if one.address is not None)
        remarks, before = [], len(self.meters)
        for finding in survey.findings:
            if address_of(finding) not in survey.crowded:
                remarks += self._consider(finding, there)
        if not self._discovers and len(self.meters) > before:
            remarks.append("discover is off: meters that stand in no file are read until mbusd stops; write them there")
        for remark in remarks:
            log.info("bus %s: %s", self._settings.name, remark)
        self._remember()
        return remarks

    def note_scan(self, mode: ScanMode) -> None:
        """The bus was looked through to the end: that need not be done again at the next start."""
        if self._discovers:
            self._memory.note_scan(self._settings.name, mode)

    def settle(self) -> None:
        """Somebody was asked who he is: perhaps it can be decided now who was found."""
        doubtful, self._doubtful = self._doubtful, {}
        for address, (finding, there) in doubtful.items():
            self._consider(finding, there)
            is_decided = address not in self._doubtful
            known = self._kept.get(str(address))
            if is_decided and known is not None and all(one.settings.address != address for one in self.meters):
                self._let_go(known)
        if doubtful:
            self._remember()

    @property
    def pending(self) -> list[str]:
        """Addresses of meters that were found, and of which each may be one that was never asked."""
        return list(map(str, self._doubtful))

    def _let_go(self, known: Remembered) -> None:
        """It goes by another name: it was one of those that were never asked."""
        if known.identity is not None:
            name, bus = known.identity.address, self._settings.name
            self._emit(MeterGone(MeterInfo(name, bus, known.address, "", known.identity)))

    def forget(self, meter: Meter) -> str | None:
        """Read a meter no more that a scan has found; gives why not, where that cannot be."""
        if meter not in self._found:
            return f"{meter.label} stands in the configuration: take it out there, then `reload`"
        self.meters.remove(meter)
        self._found.discard(meter)
        self._memory.names.release(meter.place)
        self._remember()
        return None

    def _recall(self) -> None:
        """Read what earlier scans have found."""
        meant = {one.address: parse_address(one.address) for one in self._kept.values()}
        findings = [_finding(meant[one.address], one) for one in self._kept.values()]
        numbers = Counter(one.address for one in findings)
        there = frozenset(one.address for one in findings if one.address is not None and one.primary is None)
        for one in findings:
            shares = not one.is_selectable and numbers[one.address] > 1
            self._decide(replace(one, remark=_SHARED) if shares else one, there)
        self._remember()

    def _tell_dropped(self) -> None:
        """Whoever writes a few of the meters that were found into the file reads only those: that may surprise."""
        listed = [meter.settings.address for meter in self.meters]
        found = [address for address in map(parse_address, self._kept) if isinstance(address, SecondaryAddress)]
        others = [
            one for one in found if not any(isinstance(at, SecondaryAddress) and at.matches(one) for at in listed)
        ]
        number = len(others) - sum(isinstance(at, PrimaryAddress) for at in listed)
        if number > 0:
            log.warning(
                "bus %s: %d meters that a search has found are read no more, for `meters` does not list them (%s …); "
                "list them as well, or write `discover: both`",
                self._settings.name,
                number,
                others[0],
            )

    def _remember(self) -> None:
        if not self._discovers:
            return
        now = datetime.now(UTC).replace(microsecond=0)
        places: dict[str, Identity | None] = {str(address): None for address in self._doubtful}
        places |= {str(meter.settings.address): meter.identity for meter in self.meters if meter in self._found}
        before, self._kept = self._kept, {}
        for address, identity in places.items():
            one = before.get(address, Remembered(address, now))
            self._kept[address] = replace(one, identity=identity or one.identity or self._twins.get(address))
        self._memory.keep_meters(self._settings.name, tuple(self._kept.values()))

    def _is_remembered(self, meter: Meter) -> bool:
        """Whether it is noted already, with all that is known of it."""
        known = self._kept.get(str(meter.settings.address))
        return known is not None and meter.identity in (None, known.identity)

    def _consider(self, finding: Finding, there: AbstractSet[SecondaryAddress]) -> list[str]:
        """Adopt one, and tell of it."""
        remarks, meter = self._decide(finding, there)
        if meter is not None:
            self.tell(meter)
        return remarks

    def _decide(self, finding: Finding, there: AbstractSet[SecondaryAddress]) -> tuple[list[str], Meter | None]:
        """Adopt one; not a meter that is one of ours, nor one that may be the one whom nobody has asked yet."""
        address = address_of(finding)
        if address is None or any(_is_it(meter, finding, there) for meter in self.meters):
            return [], None
        unknown = [meter for meter in self.meters if meter.is_unknown] if finding.primary is None else []
        if unknown and isinstance(address, SecondaryAddress):
            self._doubtful[address] = (finding, there)
            for meter in unknown:  # nobody shall wait for a cron line, or for somebody who asks
                meter.schedule.ask_once(time.monotonic())
            who = " or ".join(meter.label for meter in unknown)
            why = f"{address}: perhaps it is {who}, not read yet; if not, it is read by itself once that is known"
            return [why], None
        name = self._name_of(address, finding)
        meter = self._add(MeterSettings(address=address if isinstance(address, int) else str(address), name=name))
        self._found.add(meter)
        known = self._kept.get(str(address))
        if known is not None and known.identity is not None:
            meter.recognise(known.identity)
        return [], meter

    def _name_of(self, address: SecondaryAddress | int, finding: Finding) -> str | None:
        """Its place, where its secondary address is another meter's, too; None: that will do for a name."""
        if isinstance(address, SecondaryAddress) or not is_twin(finding):
            return None
        identity = _identity_in(finding)
        if identity is not None:
            self._twins[str(address)] = identity
        return f"{self._settings.name}-{address}"

    def _add(self, settings: MeterSettings) -> Meter:
        meter = Meter.of(settings, self._settings, time.monotonic(), self._phases.random())
        meter.names = self._memory.names
        here = next((one for one in self._before if one.settings.address == settings.address), None)
        if here is not None:
            meter = _successor(here, meter)
            if here.identity is not None:
                meter.recognise(here.identity)
        self.meters.append(meter)
        return meter

    def forget_links(self) -> None:
        """Somebody else may have spoken to the meters, or they had no power: nobody knows their FCB memory."""
        for meter in self.meters:
            meter.link = meter.link.forgotten()

    def tell(self, meter: Meter, change: Change = "", why: str = "") -> None:
        """Tell what there is to say of a meter now; nothing of one that was forgotten while it was read."""
        if meter not in self.meters:
            return
        if meter in self._found and not self._is_remembered(meter):
            self._remember()
        self._emit(MeterChanged(meter.info(bus_is_open=self.bus_is_open), change, why))

    def tell_all(self) -> None:
        """The same of every meter."""
        for meter in self.meters:
            self.tell(meter)


def _finding(address: Address, one: Remembered) -> Finding:
    """What an earlier scan has found. Where it has a secondary address, its primary one may be another's by now."""
    if isinstance(address, PrimaryAddress):
        named = one.identity is not None and one.identity.identification
        return Finding(SecondaryAddress(one.identity.address) if one.identity and named else None, address.number, None)
    number = address.fabrication or None
    return Finding(replace(address, fabrication=""), None, None, is_selectable=number is None, fabrication=number)


def _identity_in(finding: Finding) -> Identity | None:
    header = None if finding.telegram is None else finding.telegram.header
    return None if header is None else identity_of(header)


def _successor(old: Meter, new: Meter) -> Meter:
    """The old one, if nothing has changed; else the new one, who is known already."""
    intervals = {one.info(bus_is_open=False).interval for one in (old, new)}
    is_same = (old.settings, old.bus, old.baudrate) == (new.settings, new.bus, new.baudrate)
    if is_same and len(intervals) == 1 and (old.counters is None) == (new.counters is None):
        return old
    if old.budget is not None and new.budget is not None:
        new.budget.take_over(*old.budget.spent)
    if old.counters is not None and new.counters is not None:
        new.counters = old.counters
    new.implausible = old.implausible
    return new


def _is_it(meter: Meter, finding: Finding, there: AbstractSet[SecondaryAddress]) -> bool:
    """Whether the finding is this meter: at its address, unless the meter itself was found there, too."""
    mine = meter.settings.address
    if isinstance(mine, PrimaryAddress) and is_twin(finding):  # who it is tells nothing
        return mine.number == finding.primary
    if not meter.is_at(finding.primary, whole_of(finding)):
        return False
    is_by_primary = isinstance(mine, PrimaryAddress)
    return not (is_by_primary and meter.secondary in there and finding.address not in (None, meter.secondary))
