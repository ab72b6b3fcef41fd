"""Hasty requests: a probe that stays silent costs no more than the standard's window, however long the way is.

A constant delay of the way moves requests and answers alike: on the wire they are as far apart as they are sent. Only
whose answer it is that arrives is in doubt: it may be that of a hasty request before. Whoever sends probes is told so,
and asks again; everybody else waits until all that may still come has come.
"""

import asyncio
import time
from collections import deque

from mbusd.light import dataclass
from mbusd.line.hearing import BusProtocol
from mbusd.line.journal import Journal
from mbusd.line.transport import Port
from mbusd.line.way import Asked
from mbusd.line.wire import Wire
from mbusd.mbus.frames import Noise, encode
from mbusd.mbus.link import Doubtful, Reply, Request, Silence

MOST_DEBTS = 16


@dataclass(frozen=True, slots=True)
class Debt:
    """A hasty request that nothing had come for when the next one went out. Times of the monotonic clock."""

    expected_by: float  # by what is known of the way
    latest: float  # with all caution


class Debts:
    """The last of them since the last answer that was certain, oldest first."""

    def __init__(self) -> None:
        self._open = deque[Debt](maxlen=MOST_DEBTS)

    @property
    def until(self) -> float:
        """Until when one of them may be answered; 0: there are none."""
        return max((debt.expected_by for debt in self._open), default=0.0)

    def add(self, asked: Asked) -> None:
        """One more that may still be answered."""
        self._open.append(Debt(asked.expected_by, asked.latest))

    def clear(self) -> None:
        """Nothing is to come any more."""
        self._open.clear()

    def open_at(self, moment: float, *, cautiously: bool = False) -> int:
        """How many may still be answered then."""
        return sum((debt.latest if cautiously else debt.expected_by) >= moment for debt in self._open)


class HastyWire(Wire):
    """A wire that knows what hasty requests may still bring."""

    def __init__(
        self,
        port: Port,
        opened: tuple[asyncio.Transport, BusProtocol],
        journal: Journal,
        *,
        window: float | None,
        skips_echo: bool,
    ) -> None:
        super().__init__(port, opened, journal, window=window, skips_echo=skips_echo)
        self._debts = Debts()
        self._doubted = 0  # hasty requests whose answers may have been strays
        self._is_probe = False  # the request under way
        self._asked: Asked | None = None
        self._ended = 0.0  # the exchange before, of the monotonic clock

    async def ask(self, request: Request) -> Reply:
        """As of any wire; the reply to a probe may be doubtful. Raises TransportError."""
        self._is_probe, self._asked = request.is_probe, None
        if not request.is_probe:
            self._open_until = max(self._open_until, self._debts.until)
        reply: Reply | None = None
        try:
            reply = await super().ask(request)
        finally:
            is_owed = request.is_hasty and request.is_answered and (reply is None or isinstance(reply, Silence))
            if is_owed and self._asked is not None:
                self._debts.add(self._asked)
            self._ended = time.monotonic()
        return self._judged(request, reply)

    def _judged(self, request: Request, reply: Reply) -> Reply:
        """The reply, if it is nobody else's."""
        asked = self._asked
        if asked is None or not asked.first:
            doubted = self._doubted
        elif asked.is_doubtful or asked.early is not None:
            doubted = max(self._doubted, self._debts.open_at(asked.first, cautiously=not asked.is_doubtful))
        else:
            doubted = self._doubted
            self._debts.clear()
        self._doubted = doubted
        if not doubted or not request.is_probe or asked is None:
            return reply
        self.unsettle()
        self._open_until = max(self._debts.until, asked.expected_by, asked.waited_until)
        self._debts.clear()
        self._doubted = 0
        return Doubtful(_heard(reply), doubted)

    def _say(self, request: Request, *, after_good: bool, after_silence: bool) -> Asked:
        asked = super()._say(request, after_good=after_good, after_silence=after_silence)
        asked.owed_until = self._debts.until
        if request.is_hasty:
            overslept = max(0.0, time.monotonic() - self._journal.last_request_at)  # until the port had the bytes
            over = asked.sent + overslept + self.timing.hasty
            asked.waited_until = self._open_until = min(asked.waited_until, over)
        self._asked = asked
        return asked

    async def _wait_for_silence(self, pause: float, patience: float, *, after_good: bool) -> None:
        """As of any wire; what belongs to nobody may belong to a hasty request."""
        heard_until = self._heard_until
        await super()._wait_for_silence(pause, patience, after_good=after_good)
        if self._heard_until > heard_until:
            self._doubted = max(self._doubted, self._debts.open_at(self._ended, cautiously=True))
        if not self._is_probe:
            self._debts.clear()


def _heard(reply: Reply) -> bytes:
    if isinstance(reply, Silence):
        return b""
    return reply.data if isinstance(reply, Noise) else encode(reply)
