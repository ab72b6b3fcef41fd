"""On a wire that damages telegrams each must come twice: the checksum is one byte, and networks lose the parity.

Two inverted bits can cancel out in the checksum: of telegrams that a bad wire has damaged one in fifty is believed.
So the first telegram of all, of a wire that nobody knows, each one as long as unreadable answers were heard lately, and
where any ever were, one that says what its meter was not expected to say are asked for once more, with the same FCB:
the meter sends it again (EN 13757-2 cl. 5.7.5), and it counts where both are the same. Pure.
"""

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from mbusd.mbus.errors import DecodeError
from mbusd.mbus.frames import LongFrame, Noise, ShortFrame, encode
from mbusd.mbus.link import Conversation, Reply, Request, Silence, T, data
from mbusd.mbus.records import Record
from mbusd.mbus.telegram import ACCESS_NUMBERS, decode
from mbusd.trust.surprise import Surprises

REMEMBERED = 64  # answers of one wire
PROOF = 2  # readable answers until a wire is taken for a good one
AGAIN = 2  # times that a good telegram is asked for again
_REFUSAL = 1  # byte of data: an application error (CI 70), no values


class Damage:
    """The last answers of a wire to requests for data: whose they were, and whether they could be read."""

    def __init__(self) -> None:
        self._answers = deque[tuple[int, bool]](maxlen=REMEMBERED)
        self.has_damaged = False  # anything, ever: what it does once a wire does again

    def hears(self, request: Request, reply: Reply) -> None:
        """What came; silence is no damage."""
        if isinstance(request.frame, ShortFrame) and isinstance(reply, Noise | LongFrame):
            self._answers.append((request.frame.address, isinstance(reply, Noise)))
            self.has_damaged |= isinstance(reply, Noise)

    @property
    def is_unknown(self) -> bool:
        """Whether too little was heard to call the wire a good one."""
        return len(self._answers) < PROOF

    def is_suspected(self, address: int) -> bool:
        """Whether the answers of this address may be damaged: some of its own were lately, or those of two others.

        One that was unreadable among many is forgiven.
        """
        damaged = [one for one, is_damaged in self._answers if is_damaged]
        own = damaged.count(address)
        return own > 1 or len(set(damaged)) > 1 or (own == 1 and len(self._answers) < REMEMBERED)


def witnessed(
    conversation: Conversation[T], damage: Damage, surprises: Surprises | None = None, now: float = 0.0
) -> Conversation[T]:
    """The same conversation; as long as the wire is suspected, what nothing confirms is noise to it.

    `surprises`: what is known of the meter that is read, at `now` (seconds of a clock that never jumps).
    """
    seen: list[LongFrame] = []
    surprises = surprises or Surprises()
    try:
        request = next(conversation)
        while True:
            reply = yield request
            damage.hears(request, reply)
            if isinstance(reply, LongFrame) and (
                damage.is_suspected(request.frame.address)
                or (damage.is_unknown and _is_due(reply, request) and len(reply.data) > _REFUSAL)
                or (damage.has_damaged and _is_due(reply, request) and surprises.is_surprising(reply, now))
            ):
                reply = yield from _confirmed(request, reply, seen, damage)
            if isinstance(reply, LongFrame) and _is_due(reply, request):
                surprises.believes(reply, now)
            following = conversation.send(reply)
            if following.frame != request.frame:
                seen.clear()
            request = following
    except StopIteration as end:
        surprises.ends()
        result: T = end.value
        return result
    finally:
        conversation.close()


def _is_due(reply: LongFrame, request: Request) -> bool:
    """Whether the master takes it for the data that it has asked for."""
    return isinstance(request.frame, ShortFrame) and data(reply, request.frame) is not None


def _confirmed(request: Request, reply: Reply, seen: list[LongFrame], damage: Damage) -> Conversation[Reply]:
    """The telegram that agrees with what was seen; at the first answer that is none, or at last, noise.

    Where all could be read, the last: the wire is a good one, and the meter makes each telegram anew.
    """
    for times in range(AGAIN + 1):
        if not isinstance(reply, LongFrame):
            return reply if isinstance(reply, Noise | Silence) else Noise(encode(reply))
        agreed = agreement((*seen, reply))
        if agreed is not None:
            seen[:] = [agreed]  # if the master asks for it once more, one answer will do
            return agreed
        seen.append(reply)
        if times < AGAIN:
            reply = yield Request(request.frame, manner=request.manner)
            damage.hears(request, reply)
    return Noise(encode(seen[-1])) if damage.is_suspected(request.frame.address) else seen[-1]


def agreement(seen: Sequence[LongFrame]) -> LongFrame | None:
    """What can be believed of answers to the same request, oldest first; None: nothing yet.

    The last one, if one before is the same. A meter that counts on and does not repeat itself is believed where of its
    last three telegrams the middle one lies between its neighbours in every value.
    """
    last = seen[-1]
    if any(_anonymous(one) == _anonymous(last) for one in seen[:-1]):
        return last
    if len(seen) > 2 and _lies_between(seen[-3], seen[-2], last):
        return seen[-2]
    return None


def _anonymous(frame: LongFrame) -> tuple[int, int, int, bytes]:
    """The telegram without its access number, which counts on in a meter that makes each one anew."""
    place = ACCESS_NUMBERS.get(frame.ci, len(frame.data))
    return frame.control, frame.address, frame.ci, frame.data[:place] + frame.data[place + 1 :]


def _lies_between(first: LongFrame, middle: LongFrame, last: LongFrame) -> bool:
    try:
        telegrams = [decode(frame) for frame in (first, middle, last)]
    except DecodeError:
        return False
    heads = {(frame.control, frame.address, frame.ci, len(frame.data)) for frame in (first, middle, last)}
    headers = {_anonymous(frame)[3][:11] for frame in (first, middle, last)} if middle.ci == 0x72 else {b""}
    if any(one.error is not None or one.encrypted for one in telegrams):
        return False  # there are bytes that nobody understands
    if len(heads) > 1 or len(headers) > 1 or len({len(one.records) for one in telegrams}) > 1:
        return False
    first_data, middle_data, last_data = (one.manufacturer_data for one in telegrams)
    if middle_data not in (first_data, last_data):
        return False
    return all(_is_between(*records) for records in zip(*(one.records for one in telegrams), strict=True))


def _is_between(first: Record, middle: Record, last: Record) -> bool:
    if len({(one.dib, one.vib, len(one.raw)) for one in (first, middle, last)}) > 1:
        return False
    match first.value, middle.value, last.value:
        case int() | Decimal() as low, int() | Decimal() as value, int() | Decimal() as high:
            return min(low, high) <= value <= max(low, high)
        case datetime() as begin, datetime() as moment, datetime() as end:
            return begin <= moment <= end
    return middle.raw in (first.raw, last.raw)
