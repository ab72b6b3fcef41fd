"""The times of a wire (EN 13757-2 cl. 5.5), in seconds from its rate, and what the way to the converter adds. Pure.

A meter begins its answer between 11 bit times and 330 bit times + 50 ms after the end of the request's last stop bit.
What USB and TCP add cannot be measured alone: an answer tells only the sum. An answer within half of the window shows
that the way is quick, and leaves the other half to slower meters; an answer that comes after its window shows that it
is not.
"""

from dataclasses import dataclass, replace

QUICK_SECONDS = 0.006  # what a way that was seen to be quick may still add: a scheduler, a USB frame


@dataclass(frozen=True, slots=True)
class Timing:
    """All times of a wire at one rate."""

    bit: float
    window: float  # from the end of transmission to the latest first byte of an answer
    caution: float  # what the way may add as long as nothing is known of it
    slack: float  # what it may add by what has been seen
    is_late: bool = False  # an answer came after its window

    @classmethod
    def of(cls, baudrate: int, caution: float, window: float | None = None) -> "Timing":
        """The standard's times; `window` replaces 330 bits + 50 ms for slow meters."""
        bit = 1 / baudrate
        return cls(bit, 330 * bit + 0.05 if window is None else window, caution, caution)

    def wire(self, size: int) -> float:
        """How long `size` bytes are on the wire: 8E1 is 11 bits a byte."""
        return 11 * size * self.bit

    @property
    def idle(self) -> float:
        """Silence before a request that follows a good answer.

        11 bit times are asked for; a second character's time shows whether bytes follow the frame, as they do where two
        meters answer at one address; one millisecond is for our own clock.
        """
        return 22 * self.bit + 0.001

    @property
    def settle(self) -> float:
        """Silence that ends a disturbed exchange: meters resynchronise after 33 bits."""
        return 33 * self.bit + self.slack / 2

    @property
    def gap(self) -> float:
        """The longest pause inside an answer; converters may cut it anywhere."""
        return max(33 * self.bit, 0.05) + self.caution

    def after_answer(self, lag: float) -> "Timing":
        """What an answer teaches that began `lag` seconds after the end of transmission."""
        if self.is_late or lag > self.window / 2:
            return self
        return replace(self, slack=min(self.caution, QUICK_SECONDS))

    def after_late_answer(self) -> "Timing":
        """An answer came when nobody waited for it any more: from now on with all caution."""
        return replace(self, slack=self.caution, is_late=True)
