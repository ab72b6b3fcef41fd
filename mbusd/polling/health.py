"""What is wrong with a wire, told once, and only when it is certain: on some buses an answer is lost now and then.

Each read-out that fails is evidence; how much of it a verdict needs depends on whether anybody answers. While others
answer it must be the same verdict about the same meter, again and again (`PROOF`), and one that is the bus's fault.
When nobody has answered for a while it must be true of all who were asked.
"""

import logging
from collections.abc import Sequence
from itertools import chain
from typing import Final, Protocol

from mbusd.light import dataclass
from mbusd.line.transport import Port
from mbusd.mbus.observation import Observation
from mbusd.mbus.verdict import Observations, Verdict
from mbusd.model import BusTroubled, Emit
from mbusd.polling.meter import Meter

log = logging.getLogger(__name__)

PROOF: Final = {  # read-outs of one meter that must have failed so, one after the other, while others answer
    "another_master": 2,  # only a master says what was heard, but it may have been there once, for a service
    "several_meters": 3,  # three spoilt answers look like two meters
    "noise": 3,
    "short_circuit": 3,
    "late_answers": 3,
    "levels": 3,
}
OF_A_METER: Final = ("no_answer", "meter_silent")
"""Verdicts that are no fault of the bus."""
MANY: Final = 5
"""Meters that answered before and fail one after the other, with nobody in between who answers: that is no chance."""
LEAST: Final = 3
"""Read-outs without an answer, if the bus has fewer meters."""


class Wire(Protocol):
    """What is remembered of a wire, as `Bus` does."""

    @property
    def recent(self) -> Sequence[Observation]:
        """The last exchanges."""

    @property
    def idle_noise(self) -> bytes:
        """What was heard before anything was asked."""

    @property
    def port(self) -> Port:
        """Where it hangs."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What is to be thought of a read-out that failed: the best guess, and whether the bus was said to be at fault."""

    verdict: Verdict | None
    is_of_bus: bool


class Health:
    """What is wrong with one bus, whose `meters` may change; `emit` hears of it when it changes."""

    def __init__(self, bus: str, wire: Wire, meters: Sequence[Meter], emit: Emit) -> None:
        self._bus = bus
        self._wire = wire
        self._meters = meters
        self._emit = emit
        self._told: Verdict | None = None
        self._shared: dict[Meter, Verdict] = {}  # at whose address two answer by turns
        self._mark: Observation | None = None  # the last exchange before the read-out that goes on
        self._good: tuple[Observation, ...] = ()  # the last read-out that did not fail
        self._begin()

    def listen(self) -> None:
        """A read-out begins, with the wire in its hands: what is heard from now on is evidence."""
        self._mark = self._wire.recent[-1] if self._wire.recent else None

    def reopened(self) -> None:
        """The port was opened: what was before is no evidence any more."""
        self._good = ()
        self._begin()

    def _begin(self) -> None:
        self._failed: dict[Meter, tuple[Observation, ...]] = {}  # the last of them since anybody answered
        self._silent: set[Meter] = set()  # all of them since then
        self._witnesses: set[Meter] = set()  # whose silence would be news
        self._enough = 0  # so many of them
        self._failures = 0
        self._of_all: Verdict | None = None
        self._times = 0  # how often that was the verdict, without another in between
        self._of_one: dict[Meter, tuple[Verdict, int]] = {}

    def answered(self) -> None:
        """Somebody has answered: the bus is alive."""
        of_one = self._of_one
        self._begin()
        self._of_one = of_one
        left = self._found()
        self._tell(left)
        if self._told is not None and left is None:
            log.info("bus %s: meters answer again, no trouble any more (%s)", self._bus, self._told.code)
            self._told = None
            self._emit(BusTroubled(self._bus, None))

    def succeeded(self, meter: Meter) -> None:
        """A meter was read: nothing is wrong with it, nor with the bus as a whole."""
        self._good = self._heard()[-1:]
        self._of_one.pop(meter, None)
        self.answered()

    def shares(self, meter: Meter, verdict: Verdict | None) -> None:
        """Whether a meter shares its address with one that answers as well as itself: no read-out need fail for that.

        It is told, or over, with the next read-out that says how the bus is.
        """
        if verdict is None:
            self._shared.pop(meter, None)
        elif meter not in self._shared:
            self._shared[meter] = verdict
            if self._told is not None and self._told.code == verdict.code:  # of another address
                log.warning("bus %s: %s", self._bus, verdict)

    def failed(self, meter: Meter) -> Opinion:
        """A read-out has failed, though the port is open."""
        heard = self._heard()
        self._take(meter, heard)
        own = self._diagnosed(heard)
        if own is None:
            self._of_one.pop(meter, None)
        else:
            self._of_one[meter] = (own, 1 + self._times_before(meter, own))
        self._tell(self._found())
        is_of_bus = self._told is not None and (self._is_about(meter, self._told.code) or self._is_dead())
        return Opinion(own if self._is_dead() else self._among_others(heard) or own, is_of_bus)

    def _heard(self) -> tuple[Observation, ...]:
        """What was asked in this read-out and what came, first what came unasked just before it."""
        recent = tuple(self._wire.recent)
        mark = self._mark
        for index in reversed(range(len(recent))):
            if mark is not None and recent[index].request is mark.request:
                return recent[index if recent[index].after else index + 1 :]
        return recent

    def _take(self, meter: Meter, heard: tuple[Observation, ...]) -> None:
        if not self._failures:
            self._call_witnesses(meter)
        self._failures += 1
        self._silent.add(meter)
        self._failed.pop(meter, None)
        self._failed[meter] = heard
        while len(self._failed) > MANY:
            del self._failed[next(iter(self._failed))]
        idle = b"" if self._good else self._wire.idle_noise
        asked = tuple(chain.from_iterable(self._failed.values()))
        verdict = self._diagnosed(asked, idle, is_all=True)
        is_same = verdict and self._of_all and verdict.code == self._of_all.code
        self._times = self._times + 1 if is_same else 1
        self._of_all = verdict

    def _call_witnesses(self, first: Meter) -> None:
        """Who has answered until now and will be asked; as long as nobody ever has, all who will be asked."""
        asked = {first, *(one for one in self._meters if one.schedule.interval is not None)}
        used_to_answer = any(one.answers for one in self._meters)
        self._witnesses = {one for one in asked if one.answers} if used_to_answer else asked
        self._enough = min(len(self._witnesses), MANY) if used_to_answer else len(self._witnesses)

    @property
    def _patience(self) -> int:
        """How often silence must be the verdict; of an only meter until it counts as silent itself, or it was a nap."""
        return max(LEAST, self._meters[0].settings.offline_after) if len(self._meters) == 1 else 2

    def _times_before(self, meter: Meter, verdict: Verdict) -> int:
        before, times = self._of_one.get(meter, (None, 0))
        return times if before is not None and before.code == verdict.code else 0

    def _is_dead(self) -> bool:
        """Nobody answers who should: not all of a big house need be asked, if they used to answer."""
        return self._failures >= LEAST and len(self._witnesses & self._silent) >= self._enough > 0

    def _found(self) -> Verdict | None:
        """What is certain by now.

        Silence of all needs no more than their silence; that of an only meter may be its own fault. Any other verdict
        may rest on what was heard once, behind one read-out and before the next: it must hold until both are forgotten.
        """
        verdict = self._of_all
        if verdict is not None and verdict.code not in OF_A_METER and self._is_dead():
            needed = self._patience if verdict.code == "bus_silent" else len(self._failed) + 2
            if self._times >= needed:
                return verdict
        told = None if self._told is None else self._told.code
        certain = [one for one, times in self._of_one.values() if times >= PROOF.get(one.code, times + 1)]
        certain += [one for meter, one in self._shared.items() if meter in self._meters]
        return next((one for one in certain if one.code == told), certain[0] if certain else None)

    def _is_about(self, meter: Meter, code: str) -> bool:
        verdict, _ = self._of_one.get(meter, (None, 0))
        return verdict is not None and verdict.code == code and code in PROOF

    def _among_others(self, heard: tuple[Observation, ...]) -> Verdict | None:
        """What the read-out looks like beside one that went well."""
        return self._diagnosed((*self._good, *heard)) if self._good else None

    def _diagnosed(self, asked: tuple[Observation, ...], idle: bytes = b"", *, is_all: bool = False) -> Verdict | None:
        sets_rate = self._wire.port.sets_rate
        return _diagnosis(Observations(asked, idle, expected=len(self._meters), is_all=is_all, sets_rate=sets_rate))

    def _tell(self, verdict: Verdict | None) -> None:
        """Say what is wrong, if that is not what was said before."""
        if verdict is None or (self._told is not None and verdict.code == self._told.code):
            return
        self._told = verdict
        log.warning("bus %s: %s", self._bus, verdict)
        self._emit(BusTroubled(self._bus, verdict.code, verdict.what, verdict.todo))


def of_port(why: str) -> str:
    """Why a port cannot be opened or was lost, and what to do about it."""
    verdict = _diagnosis(Observations(port_trouble=why))
    return why if verdict is None else str(verdict)


def _diagnosis(observations: Observations) -> Verdict | None:
    from mbusd.mbus.diagnosis import diagnose  # noqa: PLC0415 - a bus that is well needs none

    return diagnose(observations)
