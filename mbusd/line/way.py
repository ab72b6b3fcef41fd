"""The way to the meters of one open port: its times at each rate, and what the answers on it teach about them."""

from mbusd.light import dataclass
from mbusd.line.hearing import CheckedReader
from mbusd.line.timing import Arrival, Timing
from mbusd.line.transport import Port
from mbusd.mbus.address import TEST
from mbusd.mbus.frames import REQ_UD2, SND_NKE, Ack, Frame, FrameReader, Noise, encode
from mbusd.mbus.link import Reply, Request, Silence
from mbusd.mbus.observation import is_due, selection

_FUNCTION = 0x0F


@dataclass(slots=True)
class Asked:
    """A request under way. Times of the monotonic clock."""

    request: Request
    sent: float  # the end of its transmission
    expected_by: float  # an answer that begins later shows that the way is slow
    waited_until: float
    latest: float  # with all caution
    others_until: float  # others may answer, too
    after_good: bool  # nothing that was asked before can be answered now
    after_silence: bool
    owed_until: float = 0.0  # hasty requests before it may still be answered
    first: float = 0.0  # the first byte of the first frame, or noise, that is no echo
    began: float = 0.0  # the first byte of the frame that is arriving, or of the answer
    ended: float = 0.0  # the last one
    pause: float = 0.0  # the longest inside that frame
    answer: Frame | None = None
    noise: Noise | None = None
    early: Frame | None = None  # the answer to something else
    frames: int = 0  # that began in time

    @property
    def lag(self) -> float:
        """From the end of the request to the first byte that came."""
        return self.first - self.sent

    @property
    def is_hello(self) -> bool:
        """All meters answer the test address, each at its time: nothing that comes ends it."""
        frame = self.request.frame
        return frame.control == SND_NKE and frame.address == TEST

    @property
    def is_for_several(self) -> bool:
        """Whether it is a selection with wildcards."""
        selected = selection(self.request.frame)
        return selected is not None and not selected.is_exact

    @property
    def is_waited_out(self) -> bool:
        """Whether whoever answered has done so: all came, or nothing good did, and all time has passed."""
        if self.answer is None and (self.noise or self.early):
            return self.waited_until >= self.latest
        return not self.request.is_answered or self.is_hello

    @property
    def deadline(self) -> float:
        """Until when a frame may begin."""
        return self.waited_until if self.answer is None else min(self.waited_until, self.others_until)

    def begins_or_goes_on(self, reader: CheckedReader, came: float, before: float, timing: Timing) -> float:
        """Note bytes that came after those from `before`; give how much longer the answer may take for that."""
        if self.answer is not None:
            return 0.0
        if reader.is_idle:
            self.began, self.pause = came, 0.0
            return 0.0
        self.pause = max(self.pause, came - before)
        return came - before if came - before > timing.pace else 0.0

    def hears(self, event: Frame | Noise, until: float, timing: Timing) -> bool:
        """Take what came until now; tell whether the exchange is over.

        A frame that began before a meter can answer is taken for the answer only where nothing else is still to come,
        or where the wire is known to be quicker than its rate.
        """
        self.first = self.first or self.began
        if isinstance(event, Noise):
            self.noise = event
        elif not self.request.is_answered or (
            timing.is_early(self.began - self.sent) and not (self.after_good or timing.is_quicker)
        ):
            self.early, self.waited_until = event, max(self.waited_until, self.latest)
        else:
            self.answer = self.answer or event
            self.frames += 1
        if self.answer is None or self.frames == 1:
            self.ended = until
        if self.is_hello:
            self.waited_until = min(self.waited_until, self.expected_by - timing.slack + timing.slack_of(self.lag))
        if self.request.is_hasty:  # somebody is there
            self.waited_until = max(self.waited_until, self.expected_by)
        return self.answer is not None and until >= self.deadline

    @property
    def is_doubtful(self) -> bool:
        """Whether what came may be the answer to a hasty request before."""
        return 0.0 < self.first <= self.owed_until

    @property
    def is_silent(self) -> bool:
        """Whether the answer that is due is still to come."""
        return isinstance(self.reply, Silence) and self.request.is_answered

    @property
    def reply(self) -> Reply:
        """What it brought.

        A frame that came too early is noise: whoever asks again will know. So are several, where one meter is looked
        for: what they send next would be a jumble, with pauses that end no answer.
        """
        if not self.request.is_answered:
            return Silence()
        early = None if self.early is None else Noise(encode(self.early))
        answer = self.answer
        if answer is not None and self.is_for_several and (self.noise or self.frames > 1):
            return self.noise or Noise(encode(answer) * self.frames)
        return answer or self.noise or early or Silence()


class Way:
    """What is known of it is kept while the port is open, however often the rate is changed.

    `caution`: seconds that it may add as long as nothing is known. `window`: for meters at the rate of the port.
    """

    def __init__(self, port: Port, caution: float, window: float | None) -> None:
        self.baudrate = port.baudrate  # that the port has now
        self._is_local = port.scheme == "serial"
        self._timings = {port.baudrate: Timing.of(port.baudrate, caution, window, is_local=self._is_local)}
        self._caution = caution

    @property
    def timing(self) -> Timing:
        """The times at the present rate."""
        return self.timing_at(self.baudrate)

    def timing_at(self, baudrate: int) -> Timing:
        """The times at a rate."""
        return self._timings.get(baudrate) or Timing.of(baudrate, self._caution, is_local=self._is_local)

    def learn(self, asked: Asked, heard_until: float) -> None:
        """What an exchange teaches that is over; its last byte came at this moment of the monotonic clock."""
        if asked.is_doubtful:
            return
        if asked.is_hello and heard_until > asked.sent:
            self._timings[self.baudrate] = self.timing.after_hello(heard_until - asked.sent)
        if asked.early is not None:
            self.learn_of_late(len(encode(asked.early)), asked.ended - asked.began)
        reply = asked.answer or (asked.noise if asked.early is None and asked.request.is_answered else None)
        if reply is None:
            return
        seen = Arrival(
            lag=asked.began - asked.sent,
            allowed=asked.expected_by - asked.sent,
            size=len(reply.data) if isinstance(reply, Noise) else len(encode(reply)),
            span=asked.ended - asked.began,
            pause=asked.pause,
            is_frame=not isinstance(reply, Noise),
            is_due=_is_wanted(reply, asked.request),
            after_good=asked.after_good,
            after_silence=asked.after_silence,
        )
        self._timings[self.baudrate] = self.timing.after(seen)

    def learn_of_stray(self, asked: Asked, data: bytes, began: float, ended: float) -> None:
        """These bytes came when the exchange was over.

        A second frame may be another meter's at the same address; but where something was still to come before, or the
        request was a repetition, the first one may have been the answer to that. Nobody waits for that of a hasty one.
        """
        if asked.is_doubtful or (asked.request.is_hasty and began <= asked.expected_by):
            return
        is_frame = any(not isinstance(event, Noise) for event in FrameReader().feed(data))
        if asked.is_silent or (is_frame and began > asked.expected_by):
            self.learn_of_late(len(data), ended - began)
        elif is_frame and not (asked.after_good and asked.request.attempt == 1):
            self._timings[self.baudrate] = self.timing.after_doubt()

    def learn_of_late(self, size: int, span: float) -> None:
        """So many bytes came within `span` seconds, after their exchange had ended."""
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
