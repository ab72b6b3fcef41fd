"""The words of the simulation: what a meter is asked and says, and each way in which it may deviate from the rules."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

RATES = (300, 600, 1200, 2400, 4800, 9600, 19200, 38400)  # Bd, in the order of their CI fields


@dataclass(frozen=True, slots=True)
class Moment:
    """Seconds since the start of the simulation, what a meter's own clock shows then, how long a bit takes."""

    seconds: float
    clock: datetime
    bit: float = 0.0  # seconds; 0 where bytes take no time


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes that a meter sends `delay` seconds after the shortest pause that it must keep (11 bit times).

    `gap`: seconds that it pauses in the middle of them.
    """

    data: bytes
    delay: float
    gap: float = 0.0


Pages = Callable[[Moment], Sequence[bytes]]
"""The records of each telegram of one read-out, without header and without the DIF 1F between telegrams."""

FcbMemory = Literal["shared", "separate", "ignored"]
"""One memory for all addresses, one more for FD, or none: then each REQ_UD2 brings the next telegram."""

AlarmMemory = Literal["shared", "separate"]
"""Whether REQ_UD1 counts in the FCB memory of everything else (IEC 60870-5-2: a link has one), or in its own."""

Writes = Literal["obeyed", "ignored", "silent"]
"""What a meter does about commands: obey, acknowledge and do nothing, or not even acknowledge."""

Renewal = Literal["read-out", "repetition", "reset"]
"""What brings new values: each new read-out, even the repetition of a telegram, or only an application reset."""

Refusal = Literal["error", "status", "acknowledgement", "silence"]
"""What a meter says that does not want to be read now: CI 70 with 09, a header that says busy, E5, or nothing."""


@dataclass(slots=True)
class Behaviour:
    """How a meter deviates from the rules; may be changed while it runs."""

    deaf: bool = False
    answers_nke: bool = True
    endless: bool = False  # the last telegram too says that more follow
    goes_round: bool = True  # after its last telegram it begins again; False: the last comes again, until SND_NKE
    renewal: Renewal = "read-out"
    sleeps_after: float | None = None  # seconds without a request, then the next one only wakes the meter
    starts_slowly: float = 0.0  # seconds that its first answer after a sleep takes longer
    rests_for: float = 0.0  # seconds after each of its answers in which it hears nothing
    late_by: float = 1.0  # seconds, see Fault.LATE
    pauses_inside: float = 0.3  # seconds, see Fault.GAP
    bit_errors: float = 0.0  # the probability that a bit of its answers is inverted
    fcb: FcbMemory = "shared"
    alarm_fcb: AlarmMemory = "shared"
    writes: Writes = "obeyed"
    stores_after: float = 0.0  # seconds from the acknowledgement to the effect of a command
    falls_back_after: float | None = None  # seconds without a good frame at a new rate, then the old one again
    pauses: Mapping[int, float] = field(default_factory=dict)  # application → seconds between two read-outs of it
    read_outs_a_day: int | None = None  # of all its applications
    refusal: Refusal = "error"
