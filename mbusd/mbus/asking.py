"""The asking side of a search: one probe after the other, each result noted, whoever answers uncalled kept apart."""

from collections.abc import Generator

from mbusd.light import dataclass
from mbusd.mbus.address import SecondaryAddress
from mbusd.mbus.findings import Findings
from mbusd.mbus.link import ATTEMPTS
from mbusd.mbus.probe import Crowd, Meter, Mute, Present, Probe, Selection, Silent


@dataclass(frozen=True, slots=True)
class Step:
    """The next probe: whom to select, how often to try, and whether to take the selection from everybody before.

    `reads` False: there are certainly several, so nobody need be read.
    """

    selection: Selection
    tries: int = 1
    deselects: bool = False
    reads: bool = True


_DEAF = 40  # probes of which none was silent, and none brought a meter
_LOST = 200  # crowds without another meter in between: one that cannot be read makes thirty or so

Answered = Probe | Present
Steps = Generator[Step, Answered, None]
Asking = Generator[Step, Answered, Answered]


@dataclass(frozen=True, slots=True)
class Open:
    """A mask behind which somebody is, but not just one meter that names itself."""

    mask: str
    answer: Crowd | Mute | Present | None  # None: concluded from the silence of all others

    @property
    def least(self) -> int:
        """How many meters there must be at the least."""
        return 1 if isinstance(self.answer, Mute | Present) else 2


class HopelessError(Exception):
    """Whatever is asked, something unreadable answers: these are no meters."""


class Asker:
    """Asks for probes and notes what comes of them. `tries`: of each probe that stays silent."""

    def __init__(self, findings: Findings, tries: int) -> None:
        self.probes = 0
        self.stuck: SecondaryAddress | None = None  # answers whoever is selected
        self.loses = False  # answers get lost here: from then on every silence is asked as often as the standard lets
        self.asked_once: list[str] = []  # masks that were one meter's, or silent when asked no more than that
        self._findings = findings
        self._tries = tries
        self._silences = 0
        self._crowds = 0  # since a meter was found
        self._deselects = False  # somebody keeps a selection that is not for it

    def ask(self, mask: str, tries: int = 0, fabrication: str | None = None, *, reads: bool = True) -> Asking:
        """Probe one mask and note what was found. A meter that drowns another, which is there too, is a crowd.

        Raises HopelessError.
        """
        selection = Selection(SecondaryAddress(mask), fabrication)
        probe = yield from self._probe(selection, tries, reads=reads or self._deselects)
        if isinstance(probe, Meter) and not _is_meant(selection, probe):  # nobody asked for it
            self._note(probe, mask)
            if self._deselects:
                self.stuck = probe.address
            else:
                self._deselects = True
                probe = yield from self._probe(selection, tries)
        if isinstance(probe, Meter) and not _is_meant(selection, probe):
            return Silent()
        if isinstance(probe, Meter) and probe.address is None:
            return Mute("sends data that do not name it", probe.telegram)
        if isinstance(probe, Silent) and fabrication is None and self._findings.behind(mask):
            self.loses = True
        if fabrication is None and (isinstance(probe, Meter) or (isinstance(probe, Silent) and not self.loses)):
            self.asked_once.append(mask)
        if not isinstance(probe, Meter) or probe.address is None:
            return probe
        if fabrication is not None:
            if "F" not in fabrication:
                self._note(probe, mask, fabrication)
            return probe
        self._note(probe, mask)
        return probe if self._findings.expected(mask) <= {probe.address, self.stuck} else Crowd()

    def _probe(self, selection: Selection, tries: int, *, reads: bool = True) -> Asking:
        if self._crowds > _LOST or (self.probes >= _DEAF and not self._silences and not self._findings.meters):
            raise HopelessError
        self.probes += 1
        tries = ATTEMPTS if self.loses else tries or self._tries
        probe = yield Step(selection, tries, self._deselects, reads)
        self._silences += isinstance(probe, Silent)
        self._crowds = 0 if isinstance(probe, Meter) else self._crowds + isinstance(probe, Crowd)
        return probe

    def _note(self, meter: Meter, mask: str, fabrication: str | None = None) -> None:
        if meter.address is not None:
            self._findings.note(Selection(meter.address, fabrication), meter, mask)


def _is_meant(selection: Selection, meter: Meter) -> bool:
    return meter.address is None or selection.mask.matches(meter.address)
