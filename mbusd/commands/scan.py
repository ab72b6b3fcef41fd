"""scan: finds the meters of a bus, shows them as they are found; what was found by Ctrl-C is kept.

The exit code says what came of it: 0 the scan was completed and found something, 1 it found nothing or lost the port,
2 wrong usage, 130 it was cut short. What was found is printed in every case.
"""

import asyncio
import signal
import sys
import time
from dataclasses import dataclass, replace
from typing import Literal, Self

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from mbusd import exact_json
from mbusd.commands import found
from mbusd.commands.output import FAILED, WRONG, complain, say
from mbusd.commands.tables import PlainConsole
from mbusd.line.bus import Bus
from mbusd.line.hearing import BusProtocol
from mbusd.line.transport import Port, ProtocolFactory, TransportError, open_port
from mbusd.mbus.address import SecondaryAddress
from mbusd.mbus.diagnosis import diagnose
from mbusd.mbus.frames import LONGEST
from mbusd.mbus.observation import Observation
from mbusd.mbus.probe import anybody
from mbusd.mbus.search import ANY
from mbusd.mbus.verdict import Observations, Verdict
from mbusd.scanning.scanner import Plan, Progress, Scanner, Survey
from mbusd.scanning.survey import at_all_rates

DONE, CUT_SHORT = 0, 130
RATES = (2400, 9600, 300, 4800, 1200, 600, 19200, 38400)  # the usual ones first

_QUIET_SECONDS = 0.2  # without a byte: nobody speaks

_DEAF = "a meter that ignores SND_NKE is not found by primary addresses: --no-nke finds it, and so does --secondary"
_BABBLE = "bytes come all the time, though nobody is asked: noise, another master, or no M-Bus behind this port."
_NOBODY = (
    "nobody answers. Is the bus powered, are the wires on the converter's bus side, is the rate right "
    "({})? Meters that answer late need a longer --timeout, meters that sleep --retries 2."
)
_OF_SILENCE = ("no_answer", "bus_silent")
"""What silence is called; in a scan it is what most addresses have."""


@dataclass(frozen=True, slots=True)
class Question:
    """Where to look for what. Neither `primary` nor `mask`: both, for any meter."""

    port: str
    primary: bool = False
    mask: SecondaryAddress | None = None
    baudrate: int | Literal["auto"] = 2400
    timeout: float | None = None  # seconds
    retries: int = 0  # of each probe that stays silent
    resets: bool = True  # False: ask primary addresses with REQ_UD2 at once
    exhaustive: bool = False

    @property
    def plan(self) -> Plan:
        """What the scanner is to do."""
        both = not self.primary and self.mask is None
        mask = ANY if both else self.mask
        return Plan(self.primary or both, mask, tries=self.retries + 1, resets=self.resets, exhaustive=self.exhaustive)


async def run(question: Question, *, as_json: bool = False, as_yaml: bool = False) -> int:
    """Scan and print. Raises TransportError when the port cannot be opened."""
    if question.baudrate == "auto" and not Port(question.port).sets_rate:
        _say(f"{question.port}: the converter sets the rate of the wire: look it up there, and give it to --baudrate")
        return WRONG
    work = _Work(question, shows=not (as_json or as_yaml))
    is_cut_short = await _unless_interrupted(work)
    if work.port is None:
        _say(f"{question.port}: nobody answers at any rate" + ", cut short" * is_cut_short)
        return CUT_SHORT if is_cut_short else FAILED
    survey, verdict = work.survey, work.verdict
    is_over = work.trouble is None and not is_cut_short
    if is_over and not survey.findings:
        verdict = verdict or _nobody(question)
    _print(work.port, survey, verdict, as_json=as_json, as_yaml=as_yaml)
    for remark in [] if as_json or as_yaml else survey.remarks():
        _say(remark)
    if is_over and question.primary and question.mask is None and question.resets:
        _say(_DEAF)
    if verdict is not None:
        _say(f"{question.port} at {work.port.baudrate} Bd: {verdict}")
    if is_over and survey.findings and sys.stdout.isatty() and not (as_json or as_yaml):
        _say(f"{len(survey.findings)} found; the same with --yaml prints them for the configuration file")
    return _ended(work, is_cut_short=is_cut_short)


def _ended(work: "_Work", *, is_cut_short: bool) -> int:
    """The exit code, and why it is not 0."""
    if work.trouble is not None:
        _say(f"{work.trouble}; the scan is not complete")
        return FAILED
    if is_cut_short:
        _say("cut short: the scan is not complete")
        return CUT_SHORT
    return DONE if work.survey.findings else FAILED


def _nobody(question: Question) -> str:
    """What may be wrong where nobody answers, and nothing unreadable came either."""
    if question.mask in (None, ANY):
        return _NOBODY.format(
            "--baudrate auto" if Port(question.port).sets_rate else "it is set at the converter itself"
        )
    return f"nobody answers to {question.mask}. F in a mask stands for any digit; without a mask all are looked for."


async def _unless_interrupted(work: "_Work") -> bool:
    """Whether Ctrl-C ended it."""
    task = asyncio.create_task(work.do())
    interrupted = False

    def stop() -> None:
        nonlocal interrupted
        interrupted = True
        task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not interrupted:
            task.cancel()
            raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    return interrupted


class _Work:
    """The scan of one port, at one rate or several, and what is known of it at any time."""

    def __init__(self, question: Question, *, shows: bool) -> None:
        self.trouble: TransportError | None = None
        self._question = question
        self._shows = shows
        self._rates: list[int] = []
        self._scans: list[tuple[int, Survey]] = []
        self._ear: BusProtocol | None = None  # of the port that is open
        self._idle = b""
        self._last: tuple[Observation, ...] = ()  # the end of the first scan, byte for byte: echoes, and what was late
        self._babbles = False

    @property
    def port(self) -> Port | None:
        """The port with the rate of most meters, as soon as that is known."""
        return Port(self._question.port, at_all_rates(self._scans)[0]) if self._scans else None

    @property
    def survey(self) -> Survey:
        """What was found by now, at all rates."""
        survey = at_all_rates(self._scans)[1] if self._scans else Survey()
        survey.is_complete = survey.is_complete and len(self._scans) == len(self._rates)
        return survey

    @property
    def verdict(self) -> str | None:
        """What seems to be wrong with the bus, where nobody was found."""
        if any(survey.findings for _, survey in self._scans):
            return None
        heard = tuple(one for _, survey in self._scans for one in survey.observations)
        verdict = self._diagnosed(heard) or self._diagnosed(self._last)
        if verdict is None or verdict.code in _OF_SILENCE:
            return _BABBLE if self._babbles else None
        return str(verdict)

    def _diagnosed(self, asked: tuple[Observation, ...]) -> Verdict | None:
        return diagnose(Observations(asked, self._idle, sets_rate=Port(self._question.port).sets_rate))

    async def do(self) -> None:
        """Find the rates, then the meters. Raises TransportError as long as the port has not been open."""
        wanted = self._question.baudrate
        self._rates = await self._answering() if wanted == "auto" else [wanted]
        for rate in self._rates:
            await self._scan(Port(self._question.port, rate))
            if self.trouble is not None:
                return

    async def _answering(self) -> list[int]:
        """The rates at which anybody answers; the first, where that is all of them."""
        answered = [rate for rate in RATES if await self._answers(rate)]
        if answered == list(RATES):
            _say(f"somebody answers at every rate: this port seems to have none of its own; {RATES[0]} Bd is taken")
            return answered[:1]
        if len(answered) > 1:
            _say(f"somebody answers at {', '.join(map(str, answered))} Bd: one scan at each")
        return answered

    async def _answers(self, rate: int) -> bool:
        bus = Bus(Port(self._question.port, rate), self._question.timeout)
        await bus.open()
        try:
            return await bus.run(anybody())
        finally:
            bus.close()
            await asyncio.sleep(0)  # the transport closes its port in its own next turn

    async def _scan(self, port: Port) -> None:
        bus = Bus(port, self._question.timeout, self._opened)
        try:
            await bus.open()
        except TransportError as error:
            if not self._scans:
                raise
            self.trouble = error
            return
        try:
            with _Show(shows=self._shows) as show:
                scanner = Scanner(bus.run, self._question.plan, lambda progress: show.take(self._fresh(progress)))
                self._scans.append((port.baudrate, scanner.survey))
                self._babbles = await self._is_babble(bus.timing.wire(LONGEST))
                if not self._babbles:
                    await scanner.scan()
        except TransportError as error:
            self.trouble = error
        finally:
            self._idle = self._idle or bus.idle_noise
            self._last = self._last or tuple(bus.recent)
            bus.close()
            await asyncio.sleep(0)

    async def _opened(self, port: Port, factory: ProtocolFactory) -> asyncio.Transport:
        protocol = factory()
        self._ear = protocol if isinstance(protocol, BusProtocol) else None
        return await open_port(port, lambda: protocol)

    async def _is_babble(self, longest: float) -> bool:
        """Whether bytes come without end; for longer than `longest` seconds no answer to somebody else lasts."""
        heard = b""
        last = time.monotonic() + longest + _QUIET_SECONDS
        while self._ear is not None and not self._ear.lost.done():
            now = time.monotonic()
            if now > last:
                self._idle = heard
                return True
            if not await self._ear.more(now + _QUIET_SECONDS):
                break
            heard += self._ear.take().data
        return False

    def _fresh(self, progress: Progress) -> Progress:
        """The same, without a meter that answered at another rate before; a new one with its own rate."""
        one = progress.found
        if one is None or len(self._scans) == 1:
            return progress
        known = (other for _, survey in self._scans[:-1] for other in survey.findings)
        fresh = None if any(map(one.is_same, known)) else replace(one, baudrate=self._scans[-1][0])
        return replace(progress, found=fresh)


class _Show:
    """A bar on a terminal with what is found above it; without a terminal one line for each meter."""

    def __init__(self, *, shows: bool) -> None:
        self._console = PlainConsole(on_stderr=True)
        self._shows = shows
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("begins", total=None)
        self._answered: set[int | None] = set()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def take(self, progress: Progress) -> None:
        """Show one step of the scan."""
        total = progress.done + progress.left
        self._bar.update(self._task, description=progress.probed, completed=progress.done, total=total)
        if progress.found is None:
            return
        text = found.line(progress.found, self._answered)
        self._answered.add(progress.found.primary)
        if self._console.is_terminal:
            self._console.print(f"found {text}", soft_wrap=True)
        if self._shows and not sys.stdout.isatty():
            say(text)


def _print(port: Port, survey: Survey, verdict: str | None, *, as_json: bool, as_yaml: bool) -> None:
    if as_json:
        say(exact_json.dumps(found.document(port, survey, verdict)))
    elif as_yaml:
        for line in found.configuration(port, survey).split("\n"):
            say(line)
    elif survey.findings and sys.stdout.isatty():
        PlainConsole().print(found.table(survey))


def _say(text: str) -> None:
    complain(f"mbusd: {text}")
