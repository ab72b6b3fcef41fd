"""Reads one meter of a bus at a time: a second look before something odd is believed, and what follows from a result.

Odd are a meter that was not there before, and a counter that cannot have counted what is read. A read-out that fails
is the meter's trouble until the whole bus is known to be at fault; it is not a port that is lost.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from mbusd import clock
from mbusd.line.bus import Bus
from mbusd.line.transport import RateError, TransportError
from mbusd.mbus.address import PrimaryAddress, SecondaryAddress
from mbusd.mbus.errors import MBusError, NoAnswer, Refused, WrongMeter
from mbusd.mbus.link import Conversation, in_manner
from mbusd.mbus.master import Interrupted, LinkState, ReadOut, knock, read_out
from mbusd.model import Change, Emit, Identity, Outcome, Reading, ReadingTaken
from mbusd.normalise import reading
from mbusd.polling.health import Health, Opinion
from mbusd.polling.meter import Meter
from mbusd.polling.roster import Roster
from mbusd.profiles import Shelf
from mbusd.trust.misgivings import Misgivings
from mbusd.trust.plausibility import Counters, Implausible, Verdict
from mbusd.trust.surprise import Surprises
from mbusd.trust.turns import Turns, WrongTurn, patience_of
from mbusd.trust.witness import Damage, witnessed
from mbusd.values.shaping import shaped

log = logging.getLogger(__name__)

MOST_KNOWN = 1000  # meters, and lists of keys
Keys = tuple[tuple[str, str | None, str], ...]
TOO_MANY_READ_OUTS = 0x09  # application error: the battery's budget is used up
Answer = Callable[[Meter, Outcome], None]


class Attendance:
    """Read-outs on one bus. Tells `emit` of readings and `answer` what came of each; counts both."""

    def __init__(self, bus: Bus, roster: Roster, health: Health, emit: Emit, answer: Answer, shelf: Shelf) -> None:
        self.read_outs = 0
        self.failures = 0
        self.implausible = 0
        self._bus = bus
        self._roster = roster
        self._health = health
        self._emit = emit
        self._answer = answer
        self._shelf = shelf
        self._damage = Damage()
        self._misgivings = Misgivings()
        self._surprises: dict[Meter, Surprises] = {}
        self._forms: dict[Meter, object] = {}  # of each meter's last reading
        self._lists: dict[Keys, Keys] = {}
        self._turns: dict[Meter, Turns] = {}  # of meters at whose address strangers have answered

    async def read(self, meter: Meter, *, is_forced: bool = False) -> None:
        """Read a meter, whatever comes of it, if its budget lets it. While the port is lost the meter stays due."""
        refusal = None if is_forced else meter.refusal(time.time())
        if refusal is not None:
            self._answer(meter, Outcome(error=f"{meter.label}: {refusal}", failed={meter.label: refusal}))
            await asyncio.sleep(0)
            return
        try:
            result = await self._read_out(meter, is_forced=is_forced)
            taken = await self._checked(meter, result, is_forced=is_forced)
        except RateError as error:
            self._failed(meter, error)
        except TransportError as error:
            self._answer(meter, Outcome(error=str(error), failed={meter.label: str(error)}))
            await asyncio.sleep(0)
        except (NoAnswer, WrongMeter) as error:
            self._failed(meter, error, self._health.failed(meter))
        except MBusError as error:  # it has answered, though with nothing that could be read
            self._health.answered()
            self._failed(meter, error)
        else:
            self._health.succeeded(meter)
            self._succeeded(meter, taken)
        self._roster.settle()

    async def knock(self, meter: Meter) -> None:
        """Try once whether a silent meter is back: then it is read. Nobody hears of it."""
        if meter.refusal(time.time()) is not None:
            meter.knocked(time.monotonic())
            await asyncio.sleep(0)
            return
        meter.spend(time.time())
        meter.link = LinkState()
        is_heard = False
        try:
            is_heard = await self._bus.run(in_manner(knock(meter.settings.address, meter.recipe), meter.recipe.manner))
        except TransportError:
            await asyncio.sleep(0)
        if is_heard:
            meter.is_heard(time.monotonic())
        else:
            meter.knocked(time.monotonic())

    async def _read_out(self, meter: Meter, *, is_forced: bool) -> ReadOut:
        """One read-out; a second one before a stranger is believed.

        The answers of two meters at one address, one upon the other, can pass the checksum by chance: a meter that
        does not exist. Whoever is no more than that does not come twice.
        """
        result = await self._converse(meter, self._health.listen)
        if not self._is_strange(meter, result):
            return result
        meter.link = LinkState()
        refusal = None if is_forced else meter.refusal(time.time())
        if refusal is not None:
            raise NoAnswer(f"{result.address} answers, and there is no second look to be sure: {refusal}")
        again = await self._converse(meter)
        turns = self._turns.get(meter)
        if turns is not None and not self._is_strange(meter, again):
            return again
        if turns is not None and turns.is_shared:
            meter.link = LinkState()
            raise WrongTurn(f"{again.address} answers, and {turns.owner.address} is the meter of this address")
        if again.address != result.address:
            raise NoAnswer(f"{result.address} answers, then {again.address}: are there two meters at this address?")
        may_look = is_forced or meter.refusal(time.time()) is None  # else two looks have to do: its budget is used up
        if turns is not None and may_look and await self._still_answers(meter, turns.owner):
            for who in (SecondaryAddress(turns.owner.address), again.address):
                turns.hears(who, time.monotonic())
            self._health.shares(meter, turns.verdict(str(meter.settings.address)))
            raise WrongTurn(f"{again.address} answers, and {turns.owner.address} is the meter of this address")
        return again

    async def _still_answers(self, meter: Meter, owner: Identity) -> bool:
        """Whether the meter that was here answers by its secondary address: then it was not exchanged."""
        meter.link = LinkState()
        meter.spend(time.time())
        conversation = read_out(SecondaryAddress(owner.address), meter.recipe, LinkState())
        try:
            found = await self._bus.run(in_manner(conversation, meter.recipe.manner))
        except MBusError:
            return False
        return found.is_from(owner.address)

    def _is_strange(self, meter: Meter, result: ReadOut) -> bool:
        """Whether it is not from the meter that was here, as far as anybody was; who answers by turns is noted."""
        turns = self._turns.get(meter)
        if turns is None:
            if not _is_stranger(meter, result):
                return False
            if meter.identity is None or not isinstance(meter.settings.address, PrimaryAddress):
                return True
            turns = Turns(meter.identity, patience_of(meter.schedule.interval), time.monotonic())
            self._turns[meter] = turns
        is_strange = turns.hears(result.address, time.monotonic()) != "own"
        if not is_strange and meter.identity is not None and not turns.is_owner(meter.identity):
            meter.recognise(turns.owner)  # who is back
        self._health.shares(meter, turns.verdict(str(meter.settings.address)) if turns.is_shared else None)
        if turns.is_over:
            del self._turns[meter]
        return is_strange

    async def _converse(self, meter: Meter, begins: Callable[[], None] = lambda: None) -> ReadOut:
        """One read-out as the meter wants it; on a wire that may damage telegrams unseen some must come twice.

        After anything that went wrong the state of its link is unknown.
        """
        conversation = _when_it_is_our_turn(meter, begins)
        if not self._bus.port.hears_parity:
            if len(self._surprises) >= MOST_KNOWN:
                self._surprises.clear()
            surprises = self._surprises.setdefault(meter, Surprises())
            conversation = witnessed(conversation, self._damage, surprises, time.monotonic())
        result = await self._bus.run(conversation)
        meter.link = result.link
        return result

    async def _checked(self, meter: Meter, result: ReadOut, *, is_forced: bool) -> Reading:
        """The reading, or that of a second read-out where a counter cannot have counted what it says.

        Raises Implausible where that decides nothing, or cannot be had: then the next read-out is the second look.
        """
        taken = self._understood(meter, result)
        if meter.counters is None:
            return taken
        first = meter.counters.judge(taken, time.monotonic())
        if first.is_accepted:
            self._misgivings.believed(meter.label, first, "the read-out before", time.monotonic())
            return taken
        refusal = None if is_forced else meter.refusal(time.time())
        if refusal is not None:
            self._drop(meter)
            raise Implausible(f"{first}; not published, the next read-out decides: {refusal}")
        again = self._understood(meter, await self._fresh(meter, result, first))
        return self._decided(meter, meter.counters, first, again)

    async def _fresh(self, meter: Meter, result: ReadOut, doubted: Verdict) -> ReadOut:
        """The same meter once more, over a link that is reset: what it says is no repetition. Raises Implausible."""
        meter.link = meter.link.forgotten()
        try:
            again = await self._converse(meter)
        except (MBusError, RateError, TransportError) as error:
            self._drop(meter)
            if not isinstance(error, MBusError):
                raise
            why = f"{doubted}; not published, the next read-out decides: a second one has failed: {error}"
            raise Implausible(why) from error
        if again.address != result.address:
            self._drop(meter, 2)
            raise Implausible(f"{doubted}; not published: a second read-out is from another meter, {again.address}")
        return again

    def _decided(self, meter: Meter, counters: Counters, first: Verdict, again: Reading) -> Reading:
        """The second reading, if it agrees with what is known or with the first. Raises Implausible."""
        second = counters.judge(again, time.monotonic())
        if not second.is_accepted:
            self._drop(meter, 2)
            raise Implausible(f"{first}; in a second read-out {second}; neither is published")
        if second.finding == "plausible":
            self._drop(meter)
            self._misgivings.dropped(meter.label, first, again, time.monotonic())
        self._misgivings.believed(meter.label, second, "a second read-out", time.monotonic())
        return again

    def _drop(self, meter: Meter, count: int = 1) -> None:
        self.implausible += count
        meter.implausible += count

    def _understood(self, meter: Meter, result: ReadOut) -> Reading:
        """A read-out as a reading of now that has no name yet."""
        profile = self._shelf.of(result.address or meter.secondary)
        taken = reading("", result.telegrams, clock.now(), meter.zone, meter.identity, profile)
        return replace(taken, problems=(*taken.problems, *result.problems)) if result.problems else taken

    def _succeeded(self, meter: Meter, taken: Reading) -> None:
        was_silent = meter.answers is False
        self.read_outs += 1
        change: Change = "back" if was_silent else "found" if meter.identity is None else ""
        is_first = meter.last_read is None
        self._recognise(meter, taken)
        meter.last_read, meter.answers = taken.taken_at, True
        taken = shaped(taken.called(meter.name or "", meter.told_apart(taken.identity)), meter.shape)
        meter.was_read(taken, time.monotonic())
        self._note_keys(meter, taken)
        if taken.problems and is_first:
            log.info("%s: not everything could be had: %s", meter.label, "; ".join(taken.problems))
        if change:
            log.info("%s: %s", meter.label, "answers again" if was_silent else f"found, {_describe(taken.identity)}")
        self._roster.tell(meter, change)
        self._roster.settle()  # before its values are said: perhaps it had another name until now
        self._emit(ReadingTaken(taken))
        self._answer(meter, Outcome(readings=(taken,)))

    def _recognise(self, meter: Meter, taken: Reading) -> None:
        if meter.identity is not None and meter.identity != taken.identity:
            log.warning("%s: another meter answers here now: %s", meter.label, _describe(taken.identity))
            if meter in self._turns and not self._turns[meter].is_owner(taken.identity):
                self._turns[meter].exchanged(taken.identity, time.monotonic())
        meter.recognise(taken.identity)

    def _note_keys(self, meter: Meter, taken: Reading) -> None:
        """What it measures; meters of one kind share the list, and a reading of a known form brings no other."""
        if taken.draft is not None and self._forms.get(meter) is taken.draft.form:
            return
        keys = tuple((item.key, item.unit, item.quantity) for item in taken.measurements)
        meter.keys = self._lists.setdefault(keys, keys)
        if len(self._forms) >= MOST_KNOWN or len(self._lists) >= MOST_KNOWN:
            self._forms.clear()
            self._lists.clear()
        self._forms.pop(meter, None)
        if taken.draft is not None:
            self._forms[meter] = taken.draft.form

    def _failed(self, meter: Meter, error: MBusError | RateError, opinion: Opinion | None = None) -> None:
        self.failures += 1
        now = time.monotonic()
        if isinstance(error, Refused) and error.code == TOO_MANY_READ_OUTS:
            meter.has_refused(now)
        else:
            meter.has_failed(now)
        failures = meter.schedule.failures
        goes_silent = failures == meter.settings.offline_after
        if goes_silent:
            meter.goes_silent()
            if isinstance(error, Interrupted):
                meter.link = LinkState()  # it has fewer telegrams than it had: what there is will do
        _log_failure(meter, error, opinion)
        self._roster.tell(meter, "silent" if goes_silent else "", str(error))
        self._answer(meter, Outcome(error=f"{meter.label}: {error}", failed={meter.label: str(error)}))


def _when_it_is_our_turn(meter: Meter, begins: Callable[[], None]) -> Conversation[ReadOut]:
    """The read-out, with the link as it is when the wire is ours: until then somebody else may speak to the meter."""
    begins()
    meter.spend(time.time())
    recipe, link = meter.recipe, meter.link
    meter.link = link.forgotten()
    return (yield from in_manner(read_out(meter.settings.address, recipe, link), recipe.manner))


def _is_stranger(meter: Meter, result: ReadOut) -> bool:
    """Not the meter that was here, or the first one to be understood after failures."""
    if meter.identity is None:
        return meter.schedule.failures > 0
    return not result.is_from(meter.identity.address)


def _log_failure(meter: Meter, error: MBusError | RateError, opinion: Opinion | None) -> None:
    """A warning with what to do when a meter goes silent, unless the bus is at fault; for the rest ever more rarely."""
    failures = meter.schedule.failures
    if failures == meter.settings.offline_after and not (opinion and opinion.is_of_bus):
        todo = "" if opinion is None or opinion.verdict is None else f". {opinion.verdict.todo}"
        log.warning("%s: read-out failed, %d in a row: %s%s", meter.label, failures, error, todo)
    else:
        is_told = failures == meter.settings.offline_after or failures & failures - 1 == 0
        level = logging.INFO if is_told else logging.DEBUG
        log.log(level, "%s: read-out failed, %d in a row: %s", meter.label, failures, error)


def _describe(identity: Identity) -> str:
    maker = identity.manufacturer or "unknown maker"
    return f"{maker} {identity.identification}, {identity.medium_name} ({identity.address})"
