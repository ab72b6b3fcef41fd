"""The times of a wire (EN 13757-2 cl. 5.5), in seconds from its rate, and what the way to the converter adds. Pure.

A meter begins its answer between 11 bit times and 330 bit times + 50 ms after the end of the request's last stop bit.
What USB and TCP add cannot be measured alone: an answer tells only the sum. But no meter begins sooner than it may, so
the soonest answer bounds what the way adds; an answer that comes after its window shows that it adds more. `Arrival` is
what the bus saw of one answer, `Timing.after` what that teaches.
"""

from dataclasses import replace

from mbusd.light import dataclass
from mbusd.mbus.frames import LONGEST

QUICK_SECONDS = 0.006  # what the way may add more, or less, from answer to answer: a scheduler, a USB frame
USB_SECONDS = 0.016  # latency timer of USB chips, as shipped
LONGEST_PAUSE = 2.0  # seconds; a longer one inside an answer is an interruption and no habit
PROOFS = 2  # answers that no wire of this rate can bring, until the wire is taken for a quicker one
FORGIVEN_AFTER = 16  # prompt answers in a row make a late one forgotten; twice as many each time that it happens again
MOST_DOUBLINGS = 6
SHORTEST_REST = 0.004  # seconds before a hasty request: a quick wire's idle time is less than what a scheduler needs
SEEN_SECONDS = 0.0015  # how long after its end a byte is seen where no converter or chip collects bytes
BURST = 16  # bytes of an answer that are enough to tell whether it came at the pace of the wire


@dataclass(frozen=True, slots=True)
class Arrival:
    """How the answer to one request came. Times in seconds."""

    lag: float  # from the end of transmission, as computed, to the first byte; negative: before it
    allowed: float  # how long after the end of transmission an answer could begin by what was known
    size: int = 1  # bytes
    span: float = 0.0  # from the first byte to the last
    pause: float = 0.0  # the longest time without a byte inside it
    is_frame: bool = True
    is_due: bool = True  # the frame that this request asks for
    after_good: bool = False  # the exchange before ended well, or is long over: nothing else may come
    after_silence: bool = False  # the exchange before was waited out: its answer may come now


@dataclass(frozen=True, slots=True)
class Timing:
    """All times of a wire at one rate."""

    bit: float
    window: float  # from the end of transmission to the latest first byte of an answer
    caution: float  # what the way may add as long as nothing is known of it
    soonest: float | None = None  # from the end of a request to the beginning of its answer, with what the way adds
    jumbled: float | None = None  # the same of an unreadable answer: two of them are as good as one that can be read
    slowest: float = 0.0  # from the end of a request to the first byte of an E5 that was certainly its answer
    spread: float = 0.0  # from the end of a request to all to the end of the last answer
    is_late: bool = False  # an answer came after its window, and not enough prompt ones since
    is_held: bool = False  # the converter collects an answer to its end before it hands it on
    pause: float | None = None  # the longest inside a good answer
    prompt: int = 0  # answers in a row, since the late one
    lapses: int = 0  # how often the way was taken for quick and was late again
    proofs: int = 0  # answers where they are due, that came before a wire of this rate can bring them
    is_local: bool = (
        False  # no network on the way: a serial port delays an answer by no more than the pauses inside one
    )

    @classmethod
    def of(cls, baudrate: int, caution: float, window: float | None = None, *, is_local: bool = False) -> "Timing":
        """The standard's times; `window` replaces 330 bits + 50 ms for slow meters."""
        bit = 1 / baudrate
        return cls(bit, 330 * bit + 0.05 if window is None else window, caution, is_local=is_local)

    def wire(self, size: int) -> float:
        """How long `size` bytes are on the wire: 8E1 is 11 bits a byte."""
        return 11 * size * self.bit

    @property
    def slack(self) -> float:
        """What the way may add by what has been seen: no meter begins within 11 bit times."""
        if self.is_late or self.soonest is None:
            return self.caution
        if self.is_local:
            return min(self.caution, max(self.jitter, self.pause or 0.0) if self._is_cut else self.jitter)
        return self.slack_of(self.soonest + self.wire(1))

    def slack_of(self, lag: float) -> float:
        """What the way may add if an answer came so long after the end of its request."""
        return min(self.caution, max(0.0, lag - 2 * self.wire(1)) + self.jitter)

    @property
    def _is_cut(self) -> bool:
        """Whether bytes were handed on in pieces, by the timer of a USB chip or the FIFO of a UART."""
        return self.pause is not None and self.pause > 2 * self.wire(1)

    @property
    def jitter(self) -> float:
        """How much more the way may add to one answer than to another: as the pauses inside a long one show."""
        return USB_SECONDS if self.pause is None else max(QUICK_SECONDS, self.pause - self.wire(1))

    def latest(self, window: float) -> float:
        """From the end of a request to the first byte of an answer that begins at the end of its window."""
        return window + self.wire(1) + self.slack

    @property
    def hasty(self) -> float:
        """From the end of a request to the next one that disturbs no answer of one byte, nor its idle time.

        What the way adds is the same for both. Answers that are known to arrive later than that are waited for, too.
        Where each byte is seen as soon as it is there, an answer is seen before the request would disturb it.
        """
        shows_all = self.is_local and self.pause is not None and not self._is_cut
        rested = self.window + self.wire(1) + (SEEN_SECONDS if shows_all else max(self.wire(1), SHORTEST_REST))
        return min(self.latest(self.window), max(rested, self.slowest + QUICK_SECONDS))

    @property
    def is_quicker(self) -> bool:
        """The wire is quicker than the rate that was given: behind a transparent converter nobody checks that."""
        return self.proofs >= PROOFS

    @property
    def idle(self) -> float:
        """Silence before a request that follows a good answer.

        11 bit times are asked for; a second character's time shows whether bytes follow the frame, as they do where two
        meters answer at one address; one millisecond is for our own clock.
        """
        return 22 * self.bit + 0.001

    @property
    def after_crowd(self) -> float:
        """Silence after a telegram that several meters may have sent together, though it looks like one meter's."""
        return 33 * self.bit + 0.001

    @property
    def settle(self) -> float:
        """Silence that ends a disturbed exchange: meters resynchronise after 33 bits."""
        return 33 * self.bit + self.slack / 2

    @property
    def gap(self) -> float:
        """The longest pause inside a frame of which some is missing: with all caution, it may be cut anywhere."""
        return max(33 * self.bit, 0.05) + max(self.caution, 2 * (self.pause or 0.0))

    @property
    def lull(self) -> float:
        """The pause that ends bytes which are no frame: by what was seen inside good answers, if any was seen."""
        if self.pause is None:
            return max(33 * self.bit, 0.05) + self.slack
        return self.pace + max(QUICK_SECONDS, 2 * self.pause)

    @property
    def pace(self) -> float:
        """Bytes that follow each other no later than this come as the wire brings them, through a USB chip or not."""
        return max(33 * self.bit, 2 * USB_SECONDS)

    def held(self, *, data: bool) -> float:
        """How much later the first byte of an answer may come because the converter waits for its last one."""
        return self.wire(LONGEST) if self.is_held and data else 0.0

    def after(self, seen: Arrival) -> "Timing":
        """What an answer teaches.

        One that comes before its request has ended belongs to a request before, if that may still bring something.
        Otherwise the wire is quicker than its rate says, and then such answers say nothing of late ones any more.
        """
        timing = self.after_pause(seen.pause) if seen.is_due and seen.size >= BURST else self
        is_early = self.is_early(seen.lag)
        is_foreign = seen.after_silence and seen.is_frame and not seen.is_due
        is_owed = is_early and not self.is_quicker and (seen.after_silence or (seen.is_frame and not seen.after_good))
        if seen.is_due and seen.size == 1 and not is_early:
            timing = replace(timing, slowest=max(timing.slowest, seen.lag))
        if seen.lag > seen.allowed or is_foreign or is_owed:
            return timing.after_late_answer(seen)
        if is_early and not seen.is_frame:
            return timing  # noise, of whatever
        if is_early and seen.is_due and seen.after_good:
            timing = timing.after_proof()
        if seen.is_due and seen.size >= BURST:
            is_held = self._came_at_once(seen) and seen.lag > self.wire(seen.size) and not timing.is_quicker
            timing = replace(timing, is_held=is_held)
        return timing if is_early and not timing.is_quicker else timing.after_begin(seen)

    def is_early(self, lag: float) -> bool:
        """Whether this is sooner than any meter may answer: its first byte takes 11 bit times, too."""
        return lag < self.wire(1)

    def after_begin(self, seen: Arrival) -> "Timing":
        """An answer began when it may: it bounds what the way adds, but for one behind silence.

        That may be the answer to what was asked before. `begun` is when its first bit left the meter, at the latest.
        """
        is_held = self.is_held and seen.size >= BURST
        begun = seen.lag + seen.span - self.wire(seen.size) if is_held else seen.lag - self.wire(1)
        timing = self
        if seen.is_due and seen.after_good:
            timing = replace(self, soonest=begun if self.soonest is None else min(self.soonest, begun))
        elif not seen.is_frame and not seen.after_silence:
            is_second = self.jumbled is not None and self.soonest is None
            timing = (
                replace(self, soonest=max(self.jumbled or 0.0, begun)) if is_second else replace(self, jumbled=begun)
            )
        return timing.after_prompt_answer() if begun <= self.window / 2 else timing

    def after_late_answer(self, seen: Arrival | None = None) -> "Timing":
        """An answer came when nobody waited for it any more: with all caution, until many have been prompt."""
        is_held = self.is_held or (seen is not None and not self.is_quicker and self._came_at_once(seen))
        lapses = self.lapses + (not self.is_late)
        return replace(self.after_doubt(), is_late=True, is_held=is_held, prompt=0, lapses=lapses)

    def after_hello(self, spread: float) -> "Timing":
        """All were asked at once, and the last byte came so much later: together they answer no later than that."""
        return replace(self, spread=max(self.spread, spread))

    def after_doubt(self) -> "Timing":
        """An answer may have been another's than it was taken for: with all caution, until one is certain."""
        return replace(self, soonest=None, jumbled=None)

    def after_prompt_answer(self) -> "Timing":
        """An answer in the first half of its window: enough of them make late ones forgotten."""
        prompt = self.prompt + 1
        if self.is_late and prompt < FORGIVEN_AFTER << min(self.lapses - 1, MOST_DOUBLINGS):
            return replace(self, prompt=prompt)
        return replace(self, is_late=False, prompt=0)

    def after_pause(self, pause: float) -> "Timing":
        """An answer went on, or was complete, after a pause of so many seconds."""
        return replace(self, pause=max(self.pause or 0.0, min(pause, LONGEST_PAUSE)))

    def after_proof(self) -> "Timing":
        """One more answer was too soon for this rate. What was taken for late before was this."""
        known = replace(self, proofs=self.proofs + 1)
        if not known.is_quicker or self.is_quicker:
            return known
        return replace(known, is_late=False, is_held=False, lapses=0)

    def _came_at_once(self, seen: Arrival) -> bool:
        return seen.size >= BURST and seen.span < self.wire(seen.size) / 2
