"""The way to the meters of one open port: its times at each rate, and what the answers on it teach about them."""

from dataclasses import dataclass

from mbusd.hearing import CheckedReader
from mbusd.mbus.frames import REQ_UD2, Ack, Frame, Noise, encode
from mbusd.mbus.link import Request
from mbusd.mbus.observation import is_due
from mbusd.timing import Arrival, Timing
from mbusd.transport import Port

_FUNCTION = 0x0F


@dataclass(slots=True)
class Asked:
    """A request under way. Times of the monotonic clock."""

    request: Request
    sent: float  # the end of its transmission
    expected_by: float  # an answer that begins later shows that the way is slow
    waited_until: float
    after_good: bool
    after_silence: bool
    began: float = 0.0  # the first byte of the frame that is arriving
    pause: float = 0.0  # the longest inside that frame

    def begins_or_goes_on(self, reader: CheckedReader, came: float, before: float, timing: Timing) -> float:
        """Note bytes that came after those from `before`; give how much longer the answer may take for that."""
        if reader.is_idle:
            self.began, self.pause = came, 0.0
            return 0.0
        self.pause = max(self.pause, came - before)
        return came - before if came - before > timing.pace else 0.0


class Way:
    """What is known of it is kept while the port is open, however often the rate is changed.

    `caution`: seconds that it may add as long as nothing is known. `window`: for meters at the rate of the port.
    """

    def __init__(self, port: Port, caution: float, window: float | None) -> None:
        self.baudrate = port.baudrate  # that the port has now
        self._timings = {port.baudrate: Timing.of(port.baudrate, caution, window)}
        self._caution = caution

    @property
    def timing(self) -> Timing:
        """The times at the present rate."""
        return self._timings.get(self.baudrate) or Timing.of(self.baudrate, self._caution)

    def learn(self, asked: Asked, reply: Frame | Noise, heard_until: float) -> None:
        """Something was heard, until this moment of the monotonic clock."""
        seen = Arrival(
            lag=asked.began - asked.sent,
            allowed=asked.expected_by - asked.sent,
            size=len(reply.data) if isinstance(reply, Noise) else len(encode(reply)),
            span=heard_until - asked.began,
            pause=asked.pause,
            is_frame=not isinstance(reply, Noise),
            is_due=_is_wanted(reply, asked.request),
            after_good=asked.after_good,
            after_silence=asked.after_silence,
        )
        self._timings[self.baudrate] = self.timing.after(seen)

    def learn_of_late(self, size: int, span: float) -> None:
        """So many bytes came within `span` seconds, after their exchange had ended in silence."""
        late = Arrival(lag=0.0, allowed=0.0, size=size, span=span)
        self._timings[self.baudrate] = self.timing.after_late_answer(late)

    def learn_of_cut(self, pause: float) -> None:
        """An answer went on so many seconds after it had been given up."""
        self._timings[self.baudrate] = self.timing.after_pause(pause)


def _is_wanted(reply: Frame | Noise, request: Request) -> bool:
    """Whether this frame is the answer that the request asks for; an E5 for data is an answer to something else."""
    if isinstance(reply, Noise):
        return False
    asks_data = request.frame.control & _FUNCTION == REQ_UD2 & _FUNCTION
    return is_due(reply, request.frame) and not (isinstance(reply, Ack) and asks_data)
