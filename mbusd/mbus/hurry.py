"""When a scan may be hasty, and which of its last probes a doubtful reply means: see `Request.is_hasty`."""

from mbusd.mbus.link import Doubtful
from mbusd.mbus.probe import WITHOUT_DATA, Present, Probe, Silent

_LAST = 3  # probes that an acknowledgement may belong to, when whoever was read after it said nothing
_SAVED = 8  # hasty silences that save the time which one doubt costs
_CREDIT = 16


class Haste:
    """Of one scan: `doubted` after each probe."""

    def __init__(self) -> None:
        self._row = 0  # hasty silences since the last reply
        self._silences = 0
        self._doubts = 0

    @property
    def is_worthwhile(self) -> bool:
        """Whether haste saves more than doubts cost."""
        return _SAVED * self._doubts <= self._silences + _CREDIT

    def doubted(self, probe: Probe | Present | Doubtful, *, is_hasty: bool) -> int | None:
        """How many of the last silent probes have to be asked again, and then this one, too; None: it is certain."""
        row = self._row
        if is_hasty and isinstance(probe, Silent):
            self._row += 1
            self._silences += 1
            return None
        self._row = 0
        if isinstance(probe, Doubtful):
            self._doubts += 1
            return min(probe.silences, row)
        if probe == WITHOUT_DATA and row:
            self._doubts += 1
            return min(_LAST, row)
        return None
