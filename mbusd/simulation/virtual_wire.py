"""The wire of a simulated bus at its real pace, pure: bytes and times in, bytes and times out.

What it is strict about is what EN 13757-2 asks of a master: a request must not run into an answer, and after an error
the line must be idle for 33 bit times.
"""

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass

from mbusd.mbus.frames import Frame, FrameReader, Noise
from mbusd.simulation.rests import CHARACTER, SHORTEST_PAUSE
from mbusd.simulation.simulator import Answer, SimulatedBus
from mbusd.simulation.superposition import superpose

IDLE = 33  # bit times of silence after which a meter listens anew
UNPACED_IDLE = 0.05  # seconds that do the same where bytes take no time

_PIECE_PAUSE = 0.005  # seconds between the pieces of a split answer
_LARGEST_BACKLOG = 65536  # bytes that wait for the slow wire


@dataclass(frozen=True, slots=True)
class _Signal:
    """What one meter puts on the wire from `start` on."""

    start: float
    data: bytes
    regular: bool  # within the window of the standard


@dataclass(slots=True)
class _Transmission:
    """What the master receives of the signals, and when each byte has wholly arrived."""

    due: list[float]
    data: bytearray
    regular: bool
    sent: int = 0


class Wire:
    """Half duplex, one byte after the other. Times are seconds on any clock that never goes back.

    `baudrate` 0: bytes take no time, and meters answer at once unless they are late beyond the standard's window.
    """

    def __init__(self, bus: SimulatedBus, baudrate: int) -> None:
        self._bus = bus
        self._baudrate = baudrate
        self._master_rate: int | None = None
        self._pace(baudrate)
        self._reader = FrameReader()
        self._spoilt = False  # the request under way cannot be understood any more
        self._incoming: deque[tuple[float, int]] = deque()
        self._busy_until = float("-inf")
        self._heard_until = float("-inf")
        self._transmissions: list[_Transmission] = []
        self._echo: list[tuple[float, int]] = []
        self._broken_until: float | None = None  # the 00s of a short circuit that were heard

    def tune(self, rate: int | None) -> None:
        """The master speaks at so many Bd from now on; None: nobody knows, as behind a transparent converter."""
        if rate == self._master_rate:
            return
        self._master_rate = self._bus.rate = rate
        if self._baudrate:
            self._pace(rate or self._baudrate)

    def _pace(self, baudrate: int) -> None:
        self._bit = self._bus.bit = 1 / baudrate if baudrate else 0.0
        self._idle = IDLE * self._bit or UNPACED_IDLE
        self._window = 0.05 + 330 * self._bit

    def send(self, data: bytes, now: float) -> None:
        """The master puts bytes on the wire; they take their time, after what it is still sending."""
        end = max(now, self._busy_until)
        for byte in data[: max(_LARGEST_BACKLOG - len(self._incoming), 0)]:
            end += CHARACTER * self._bit
            self._incoming.append((end, byte))
        self._busy_until = end

    def advance(self, now: float) -> bytes:
        """What the master has received since the last call."""
        if self._bus.is_shorted:
            return self._breaks(now)
        self._broken_until = None
        while self._incoming and self._incoming[0][0] <= now:
            end, byte = self._incoming.popleft()
            self._hear(byte, end)
        arrived, self._echo = self._echo, []
        for transmission in self._transmissions:
            first = transmission.sent
            transmission.sent = bisect_right(transmission.due, now)
            arrived += zip(transmission.due[first : transmission.sent], transmission.data[first:], strict=False)
        self._transmissions = [one for one in self._transmissions if one.sent < len(one.data)]
        return bytes(byte for _, byte in sorted(arrived, key=lambda item: item[0]))

    def next_event(self) -> float | None:
        """When `advance` has something to do next; None while the line is idle."""
        if self._broken_until is not None:
            return self._broken_until + (CHARACTER * self._bit or UNPACED_IDLE)
        times = [transmission.due[transmission.sent] for transmission in self._transmissions]
        if self._incoming:
            times.append(self._incoming[0][0])
        return min(times, default=None)

    def _breaks(self, now: float) -> bytes:
        """00s at the pace of the wire; all that was under way is lost."""
        self._incoming.clear()
        self._transmissions.clear()
        self._reader.reset()
        character = CHARACTER * self._bit or UNPACED_IDLE
        if self._broken_until is None:
            self._broken_until = now
        count = int((now - self._broken_until) / character + 1e-6)
        self._broken_until += count * character
        self._heard_until = self._busy_until = now
        return bytes(count)

    def _hear(self, byte: int, end: float) -> None:
        start = end - CHARACTER * self._bit
        if start - self._heard_until > self._idle:
            self._reader.reset()
            self._spoilt = False
        self._heard_until = end
        if self._bus.echo:
            self._echo.append((end, byte))
        disturbed = [one for one in self._transmissions if one.regular and one.due[-1] > start]
        if disturbed:
            self._disturb(disturbed, start)
            return
        for event in self._reader.feed(bytes([byte])):
            if isinstance(event, Noise):
                self._spoilt = True
            elif not self._spoilt:
                self._let_answer(event, end)

    def _disturb(self, transmissions: list[_Transmission], start: float) -> None:
        """The master speaks although an answer is due or under way: both are lost."""
        if not self._spoilt:
            self._bus.early_requests += 1
        self._spoilt = True
        for transmission in transmissions:
            for index in range(transmission.sent, len(transmission.data)):
                if transmission.due[index] > start:
                    transmission.data[index] = 0

    def _let_answer(self, request: Frame, end: float) -> None:
        """Put the meters' answers on the wire; those that overlap, also with a late one, become one jumble."""
        signals = [self._rest(transmission) for transmission in self._transmissions]
        for answer in self._bus.answers(request, end):
            signals += self._signals(answer, end)
        self._transmissions = []
        together: list[_Signal] = []
        for signal in sorted(signals, key=lambda signal: signal.start):
            if together and signal.start > max(self._end(one) for one in together):
                self._transmissions.append(self._transmission(together))
                together = []
            together.append(signal)
        if together:
            self._transmissions.append(self._transmission(together))

    def _signals(self, answer: Answer, end: float) -> list[_Signal]:
        """What a meter puts on the wire after a request that ended then: in two pieces, if it pauses."""
        start = self._start(answer.delay, end)
        if not answer.gap:
            return [_Signal(start, answer.data, regular=start - end <= self._window)]
        half = len(answer.data) // 2
        first = _Signal(start, answer.data[:half], regular=start - end <= self._window)
        return [first, _Signal(self._end(first) + answer.gap, answer.data[half:], regular=first.regular)]

    def _start(self, delay: float, end: float) -> float:
        if not self._bit:
            return end if delay <= self._window else end + delay
        return end + SHORTEST_PAUSE * self._bit + delay

    def _end(self, signal: _Signal) -> float:
        return signal.start + CHARACTER * self._bit * len(signal.data)

    def _rest(self, transmission: _Transmission) -> _Signal:
        sent = transmission.sent
        start = transmission.due[sent] - CHARACTER * self._bit
        return _Signal(start, bytes(transmission.data[sent:]), transmission.regular)

    def _transmission(self, signals: list[_Signal]) -> _Transmission:
        start = signals[0].start
        offsets = [round((signal.start - start) / self._bit) if self._bit else 0 for signal in signals]
        data = superpose(zip(offsets, (signal.data for signal in signals), strict=True))
        split = self._bus.split or len(data)
        due = [
            start + CHARACTER * self._bit * (index + 1) + _PIECE_PAUSE * (index // split) for index in range(len(data))
        ]
        return _Transmission(due, bytearray(data), any(signal.regular for signal in signals))
