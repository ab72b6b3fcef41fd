"""scan: finds the meters of a bus, shows them as they are found; what was found by Ctrl-C is kept.

The exit code says what came of it: 0 the scan was completed and found something, 1 it found nothing or lost the port,
2 wrong usage, 130 it was cut short. What was found is printed in every case.
"""

import asyncio
import signal
import sys
from dataclasses import dataclass
from typing import Literal, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from mbusd import exact_json
from mbusd.bus import Bus
from mbusd.commands import found
from mbusd.mbus.address import SecondaryAddress
from mbusd.mbus.diagnosis import Observations, diagnose
from mbusd.mbus.probe import anybody
from mbusd.mbus.search import ANY
from mbusd.scanner import Plan, Progress, Scanner, Survey
from mbusd.transport import Port, TransportError

DONE, FAILED, WRONG, CUT_SHORT = 0, 1, 2, 130
RATES = (2400, 9600, 300, 4800, 1200, 600, 19200, 38400)  # the usual ones first

_NOBODY = (
    "nobody answers. Is the bus powered, are the wires on the converter's bus side, is the rate right "
    "(--baudrate auto)? Meters that answer late need a longer --timeout, meters that sleep --retries 2."
)


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
    if question.baudrate == "auto" and Port(question.port).scheme == "tcp":
        _say(f"{question.port}: the converter sets the rate of the wire: look it up there, and give it to --baudrate")
        return WRONG
    work = _Work(question, shows=not (as_json or as_yaml))
    is_cut_short = await _unless_interrupted(work)
    if work.port is None:
        _say(f"{question.port}: nobody answers at any rate" + ", cut short" * is_cut_short)
        return CUT_SHORT if is_cut_short else FAILED
    nobody = None if work.survey.findings or not work.survey.is_complete else work.verdict or _nobody(question)
    _print(work.port, work.survey, nobody or work.verdict, as_json=as_json, as_yaml=as_yaml)
    for remark in [] if as_json or as_yaml else work.survey.remarks():
        _say(remark)
    if work.trouble is not None:
        _say(f"{work.trouble}; the scan is not complete")
        return FAILED
    if is_cut_short:
        _say("cut short: the scan is not complete")
        return CUT_SHORT
    if nobody is not None:
        _say(f"{question.port} at {work.port.baudrate} Bd: {nobody}")
        return FAILED
    if sys.stdout.isatty() and not (as_json or as_yaml):
        _say(f"{len(work.survey.findings)} found; the same with --yaml prints them for the configuration file")
    return DONE


def _nobody(question: Question) -> str:
    """What may be wrong where nobody answers, and nothing unreadable came either."""
    if question.mask in (None, ANY):
        return _NOBODY
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
    """One scan of one port, and what is known of it at any time."""

    def __init__(self, question: Question, *, shows: bool) -> None:
        self.survey = Survey()
        self.port: Port | None = None  # with its rate, as soon as that is known
        self.trouble: TransportError | None = None
        self._question = question
        self._shows = shows
        self._idle = b""

    @property
    def verdict(self) -> str | None:
        """What seems to be wrong with the bus, where nobody was found."""
        if self.survey.findings:
            return None
        verdict = diagnose(Observations(tuple(self.survey.observations), self._idle))
        return None if verdict is None else str(verdict)

    async def do(self) -> None:
        """Find the rate, then the meters. Raises TransportError as long as the port has not been open."""
        wanted = self._question.baudrate
        rate = await self._rate() if wanted == "auto" else wanted
        if rate is not None:
            self.port = Port(self._question.port, rate)
            await self._scan(self.port)

    async def _rate(self) -> int | None:
        """The first rate at which anybody answers; others are told."""
        answered = [rate for rate in RATES if await self._answers(rate)]
        for rate in answered[1:]:
            _say(f"somebody answers at {rate} Bd, too: see --baudrate {rate}")
        return answered[0] if answered else None

    async def _answers(self, rate: int) -> bool:
        bus = Bus(Port(self._question.port, rate), self._question.timeout)
        await bus.open()
        try:
            return await bus.run(anybody())
        finally:
            bus.close()
            await asyncio.sleep(0)  # the transport closes its port in its own next turn

    async def _scan(self, port: Port) -> None:
        bus = Bus(port, self._question.timeout)
        await bus.open()
        try:
            with _Show(shows=self._shows) as show:
                scanner = Scanner(bus.run, self._question.plan, show.take)
                self.survey = scanner.survey
                await scanner.scan()
        except TransportError as error:
            self.trouble = error
        finally:
            self._idle = bus.idle_noise
            bus.close()
            await asyncio.sleep(0)


class _Show:
    """A bar on a terminal with what is found above it; without a terminal one line for each meter."""

    def __init__(self, *, shows: bool) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._shows = shows
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("begins", total=None)

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
        text = found.line(progress.found)
        if self._console.is_terminal:
            self._console.print(f"found {text}", markup=False, soft_wrap=True)
        if self._shows and not sys.stdout.isatty():
            print(text, flush=True)


def _print(port: Port, survey: Survey, verdict: str | None, *, as_json: bool, as_yaml: bool) -> None:
    if as_json:
        print(exact_json.dumps(found.document(port, survey, verdict)))
    elif as_yaml:
        print(found.configuration(port, survey))
    elif survey.findings and sys.stdout.isatty():
        Console(highlight=False).print(found.table(survey.findings))


def _say(text: str) -> None:
    print(f"mbusd: {text}", file=sys.stderr)
