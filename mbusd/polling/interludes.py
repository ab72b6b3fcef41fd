"""What happens on a bus between its polls: scans, at start and by request, and writes by request."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from mbusd.configuration.settings import MeterSettings
from mbusd.line.bus import Bus
from mbusd.line.transport import TransportError
from mbusd.mbus.address import SecondaryAddress
from mbusd.mbus.errors import MBusError
from mbusd.mbus.link import Conversation
from mbusd.model import ChangeMeter, Emit, Outcome, ScanMode
from mbusd.polling.meter import Meter
from mbusd.polling.roster import Roster
from mbusd.scanning.finder import Finder

log = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS = 30.0  # after a scan at start that the port did not survive
COURTESY_SECONDS = 0.1  # in which a program that was answered says its next request
MOST_TURNS = 8  # of others before a probe

T = TypeVar("T")


class Interludes:
    """Scans and writes on one bus; `found` is called when there may be new meters to read."""

    def __init__(self, name: str, bus: Bus, roster: Roster, emit: Emit, found: Callable[[], None]) -> None:
        self.opened = asyncio.Event()
        self._name = name
        self._bus = bus
        self._roster = roster
        self._found = found
        self._spoke_at = bus.last_request_at  # the last request that is known of here
        self._finder = Finder(name, self._probe, emit)

    async def scan(self, mode: ScanMode) -> Outcome:
        """Look for meters between the polls; new ones are read from now on."""
        survey, outcome = await self._finder.scan(mode, self._roster.known())
        if survey is None:
            return outcome
        remarks = self._roster.adopt(survey)
        if survey.is_complete and survey.findings:
            self._roster.note_scan(mode)
        self._found()
        return replace(outcome, remarks=(*outcome.remarks, *remarks))

    def cancel_scan(self) -> Outcome:
        """End the scan that runs."""
        return self._finder.cancel()

    async def discover(self, mode: ScanMode | None) -> None:
        """The scan at start, as soon as the bus is open; once more where the port was lost in it."""
        while mode is not None:
            await self.opened.wait()
            outcome = await self.scan(mode)
            if outcome.error is None:
                return
            await asyncio.sleep(LOOK_AGAIN_SECONDS)

    async def change(self, command: ChangeMeter) -> Outcome:
        """Write to a meter, which is read at its new place from then on; the file is the owner's to change."""
        from mbusd import changes, writes  # noqa: PLC0415 - most daemons never write

        meter = self._roster.named(command.meter)
        if meter is None:
            return Outcome(error=f"there is no meter {command.meter} on {self._name}")
        try:
            where = (meter.settings.address, meter.baudrate, self._bus)
            written = await changes.carry_out(command, *where, zone=meter.zone, manner=meter.recipe.manner)
        except (MBusError, TransportError, ValueError) as error:
            return Outcome(error=str(error))
        finally:
            self._roster.forget_links()
        log.warning("%s: %s by request: %s", meter.label, command.what, written.done)
        settings = changes.moved(meter.settings, command, written)
        remarks = changes.to_be_written(meter.settings, settings)
        for remark in remarks:
            log.warning("%s: %s", meter.label, remark)
        _move(meter, settings, written.meter)
        self._roster.tell(meter)
        return Outcome(written=writes.document(replace(written, remarks=(*written.remarks, *remarks))))

    async def _probe(self, conversation: Conversation[T]) -> T:
        """One probe of a scan, which may reset the link with any meter, or select another.

        Whoever has spoken before it may go on first: a client of the bus must not wait for a probe with each request.
        """
        results: list[T] = []
        try:
            for turn in range(MOST_TURNS + 1):
                await self._bus.run(self._after_others(conversation, results, is_last=turn == MOST_TURNS))
                if results:
                    break
                await asyncio.sleep(COURTESY_SECONDS)
            return results[0]
        finally:
            self._spoke_at = self._bus.last_request_at
            self._roster.forget_links()

    def _after_others(self, conversation: Conversation[T], results: list[T], *, is_last: bool) -> Conversation[None]:
        """The conversation, unless somebody else has spoken just before it got the wire."""
        if self._bus.last_request_at == self._spoke_at or is_last:
            results.append((yield from conversation))
        else:
            self._spoke_at = self._bus.last_request_at


def _move(meter: Meter, settings: MeterSettings, who: SecondaryAddress | None) -> None:
    """The same meter at another place, or at another rate, or by another number: no stranger that answers there."""
    meter.settings = settings
    if settings.baudrate is not None:
        meter.baudrate = settings.baudrate
        meter.recipe = replace(meter.recipe, manner=replace(meter.recipe.manner, baudrate=settings.baudrate))
    if meter.identity is not None and who is not None and who.digits != meter.identity.address:
        is_renumbered = who.digits[8:] == meter.identity.address[8:]
        renamed = replace(meter.identity, identification=who.identification, address=who.digits)
        meter.identity = renamed if is_renumbered else None
