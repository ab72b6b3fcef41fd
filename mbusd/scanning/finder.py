"""Looks for meters on the bus of a running daemon, between its polls, and tells how it is getting on."""

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from mbusd.line.transport import TransportError
from mbusd.mbus.address import SecondaryAddress
from mbusd.mbus.errors import MBusError
from mbusd.model import FoundMeter, Outcome, ScanChanged, ScanMode, ScanState
from mbusd.normalise import identity_of
from mbusd.scanning.reach import address_of, answering, remark
from mbusd.scanning.survey import Finding, Survey

if TYPE_CHECKING:
    from mbusd.scanning.scanner import Progress, Run

log = logging.getLogger(__name__)

TOLD_EVERY = 25  # probes without news
LOGGED_EVERY = 100  # probes; who was found is logged when it is read
_UNREADABLE = "no address is its own alone: it cannot be read until it has one (mbusd set-address)"
ANY = SecondaryAddress("F" * 16)


class Finder:
    """One scan of a bus at a time."""

    def __init__(self, bus: str, run: "Run", tell: Callable[[ScanChanged], None]) -> None:
        self._bus = bus
        self._run = run
        self._tell = tell
        self._scan: asyncio.Task[Survey] | None = None

    def cancel(self) -> Outcome:
        """End the scan that runs; what it has found is kept."""
        if self._scan is None:
            return Outcome(error=f"no scan runs on {self._bus}")
        self._scan.cancel()
        return Outcome()

    async def scan(self, mode: ScanMode, known: Collection[SecondaryAddress]) -> tuple[Survey | None, Outcome]:
        """Scan to the end, or until it is cancelled or the port is lost; what was found by then is there."""
        from mbusd.scanning.scanner import Plan, Scanner  # noqa: PLC0415 - a megabyte that a bus without a search never needs

        if self._scan is not None:
            return None, Outcome(error=f"a scan runs on {self._bus} already")
        plan = Plan(mode != "secondary", ANY if mode != "primary" else None, known)
        scanner = Scanner(self._run, plan, self._progress)
        log.info("bus %s: looking for meters (%s); this can take some minutes", self._bus, mode)
        self._scan = asyncio.create_task(scanner.scan(), name=f"{self._bus}: scan")
        self._scan.add_done_callback(_looked_at)
        error = None
        try:
            await asyncio.wait((self._scan,))
            error = _failure(self._scan)
        finally:
            was_cancelled = self._scan.cancelled()
            self._scan.cancel()
            self._scan = None
        survey = scanner.survey
        state: ScanState = "failed" if error else "cancelled" if was_cancelled else "done"
        log.info("bus %s: scan %s after %d probes, %d meters", self._bus, state, survey.probes, len(survey.findings))
        self._tell(ScanChanged(self._bus, state, survey.probes, 0, why=error or ""))
        answered = answering(survey)
        found = tuple(_found(one, answered) for one in survey.findings)
        return survey, Outcome(error=error, found=found, remarks=tuple(survey.remarks()))

    def _progress(self, progress: "Progress") -> None:
        if progress.found is None and progress.done % LOGGED_EVERY == 0:
            log.info("bus %s: scan: %d probes done, about %d left", self._bus, progress.done, progress.left)
        found = None if progress.found is None else _found(progress.found, ())
        if found is not None or progress.done % TOLD_EVERY == 0:
            name = None if found is None else found.address
            self._tell(ScanChanged(self._bus, "running", progress.done, progress.left, name))


def _looked_at(scan: "asyncio.Task[Survey]") -> None:
    """Whoever waited may be gone by now: what it ended with is no news to the log then."""
    if not scan.cancelled():
        scan.exception()


def _failure(scan: "asyncio.Task[Survey]") -> str | None:
    error = None if scan.cancelled() else scan.exception()
    if error is None:
        return None
    if isinstance(error, MBusError | TransportError):
        return str(error)
    raise error


def _found(finding: Finding, answered: Collection[int | None]) -> FoundMeter:
    header = None if finding.telegram is None else finding.telegram.header
    identity = None if header is None else identity_of(header)
    way = address_of(finding)
    address = None if way is None else str(way)
    return FoundMeter(address, finding.primary, identity, remark(finding, answered) or _UNREADABLE * (address is None))
