"""The meters of one bus: those of the configuration, and those that were found on it."""

import logging
import random
import time
from collections.abc import Set as AbstractSet

from mbusd.mbus.address import PrimaryAddress, SecondaryAddress
from mbusd.meter import Meter
from mbusd.model import Change, Emit, MeterChanged
from mbusd.scanner import Finding, Survey
from mbusd.settings import BusSettings, MeterSettings

log = logging.getLogger(__name__)


class Roster:
    """All meters of one bus, `meters`; tells `emit` what becomes of each."""

    def __init__(self, settings: BusSettings, emit: Emit, phases: random.Random) -> None:
        self.meters: list[Meter] = []
        self.bus_is_open = False
        self._settings = settings
        self._emit = emit
        self._phases = phases
        self._doubtful: dict[SecondaryAddress, tuple[Finding, AbstractSet[SecondaryAddress]]] = {}
        for meter in settings.meters:
            self._add(meter)

    def named(self, name: str) -> Meter | None:
        """The meter that has this name."""
        return next((meter for meter in self.meters if meter.name == name), None)

    def known(self) -> list[SecondaryAddress]:
        """The secondary addresses of all meters, as far as they are known."""
        return [meter.secondary for meter in self.meters if meter.secondary is not None]

    def adopt(self, survey: Survey) -> list[str]:
        """Read from now on what a scan has found and is none of ours; gives remarks on what cannot be decided yet."""
        there = frozenset(one.address for one in survey.findings if one.address is not None)
        remarks = []
        for finding in survey.findings:
            if finding.safest not in survey.crowded:
                remarks += self._consider(finding, there)
        for remark in remarks:
            log.info("bus %s: %s", self._settings.name, remark)
        return remarks

    def settle(self) -> None:
        """Somebody was asked who he is: perhaps it can be decided now who was found."""
        doubtful, self._doubtful = self._doubtful, {}
        for finding, there in doubtful.values():
            self._consider(finding, there)

    def _consider(self, finding: Finding, there: AbstractSet[SecondaryAddress]) -> list[str]:
        """Adopt one; not a meter that is one of ours, nor one that may be the one whom nobody has asked yet."""
        address = finding.safest
        if address is None or any(_is_it(meter, finding, there) for meter in self.meters):
            return []
        unknown = [meter.label for meter in self.meters if meter.is_unknown] if finding.primary is None else []
        if unknown and isinstance(address, SecondaryAddress):
            self._doubtful[address] = (finding, there)
            who = " or ".join(unknown)
            return [f"{address}: perhaps it is {who}, not read yet; if not, it is read by itself once that is known"]
        self.tell(self._add(MeterSettings(address=address if isinstance(address, int) else address.digits)))
        return []

    def _add(self, settings: MeterSettings) -> Meter:
        meter = Meter.of(settings, self._settings, time.monotonic(), self._phases.random())
        self.meters.append(meter)
        return meter

    def forget_links(self) -> None:
        """Somebody else may have spoken to the meters, or they had no power: nobody knows their FCB memory."""
        for meter in self.meters:
            meter.link = meter.link.forgotten()

    def tell(self, meter: Meter, change: Change = "", why: str = "") -> None:
        """Tell what there is to say of a meter now."""
        self._emit(MeterChanged(meter.info(bus_is_open=self.bus_is_open), change, why))

    def tell_all(self) -> None:
        """The same of every meter."""
        for meter in self.meters:
            self.tell(meter)


def _is_it(meter: Meter, finding: Finding, there: AbstractSet[SecondaryAddress]) -> bool:
    """Whether the finding is this meter: at its address, unless the meter itself was found there, too."""
    if not meter.is_at(finding.primary, finding.address):
        return False
    is_by_primary = isinstance(meter.settings.address, PrimaryAddress)
    return not (is_by_primary and meter.secondary in there and finding.address not in (None, meter.secondary))
