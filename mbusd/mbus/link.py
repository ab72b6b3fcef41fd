"""One request and its answer (EN 13757-2 cl. 5.7): what is said, what counts as an answer, how often it is repeated.

A procedure of the master is a `Conversation`: a generator that yields requests and is sent what came back. Whoever
drives it (the bus, a test with a list of replies) owns the clock; here is none.
"""

from collections.abc import Callable, Generator
from dataclasses import field, replace
from typing import Generic, TypeVar

from mbusd.light import dataclass
from mbusd.mbus.address import SELECTED, TEST
from mbusd.mbus.errors import NoAnswer
from mbusd.mbus.frames import RSP_UD, Ack, Frame, LongFrame, Nack, Noise, ShortFrame, encode
from mbusd.mbus.quirks import Manner

T = TypeVar("T")
F = TypeVar("F", bound=Frame)

ATTEMPTS = 3  # EN 13757-2: at most two repetitions


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing came before the answer window closed."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the master says; whether an answer is due; and which transmission of the same frame it is (1, 2, 3).

    A hasty one is taken for silent as soon as another request does not disturb its answer, an E5, on the wire: what the
    way to the converter adds is not waited for. So the reply to a later probe may be `Doubtful`.
    """

    frame: ShortFrame | LongFrame
    attempt: int = 1
    is_answered: bool = True
    manner: Manner = field(default_factory=Manner)  # what the meter wants different from the bus
    is_probe: bool = False  # one of several that one master sends, who can make good what was missed
    is_hasty: bool = False


@dataclass(frozen=True, slots=True)
class Doubtful(Noise):
    """The reply to a probe, or what came before it, may be the answer to one of so many hasty ones that were silent."""

    silences: int


@dataclass(frozen=True, slots=True)
class Answer(Generic[F]):
    """What answered, and how many transmissions it took."""

    frame: F
    attempts: int


Reply = Frame | Noise | Silence
Conversation = Generator[Request, Reply, T]
Accept = Callable[[Reply, ShortFrame | LongFrame], F | None]
"""Gives the reply back if it is a valid answer to the request, None if not."""


def exchange(frame: ShortFrame | LongFrame, accept: Accept[F], attempts: int = ATTEMPTS) -> Conversation[Answer[F]]:
    """Send a frame until its answer is accepted.

    The only retry loop there is, and it repeats the very same frame, FCB included. Raises NoAnswer at its end.
    """
    reply: Reply = Silence()
    for attempt in range(1, attempts + 1):
        reply = yield Request(frame, attempt)
        accepted = accept(reply, frame)
        if accepted is not None:
            return Answer(accepted, attempt)
    raise NoAnswer(describe(reply))


def in_manner(conversation: Conversation[T], manner: Manner) -> Conversation[T]:
    """The same conversation, each of its requests made in the manner that the meter wants."""
    try:
        request = next(conversation)
        while True:
            reply = yield replace(request, manner=manner)
            request = conversation.send(reply)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        conversation.close()


def as_probe(conversation: Conversation[T], *, is_hasty: bool) -> Conversation[T | Doubtful]:
    """The same conversation as one probe of many; `is_hasty`: its first request is. Ends at a doubtful reply."""
    try:
        request = replace(next(conversation), is_probe=True, is_hasty=is_hasty)
        while True:
            reply = yield request
            if isinstance(reply, Doubtful):
                return reply
            request = replace(conversation.send(reply), is_probe=True)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        conversation.close()


def acknowledgement(reply: Reply, _request: ShortFrame | LongFrame) -> Ack | None:
    """E5 and nothing else. An A2 is no answer: the same frame, repeated, will tell."""
    return reply if isinstance(reply, Ack) else None


def data(reply: Reply, request: ShortFrame | LongFrame) -> LongFrame | None:
    """RSP_UD from the meter that was asked, whatever its ACD and DFC.

    An answer to 253 or 254 bears the meter's own address, so only a primary address can be compared. An E5 where data
    are due says that there are none now, or is the late answer to something else: repeating will tell.
    """
    if not isinstance(reply, LongFrame) or reply.control & 0x4F != RSP_UD:
        return None
    return reply if request.address in (reply.address, SELECTED, TEST) else None


def describe(reply: Reply) -> str:
    """What a reply that was no answer was, in words for a log."""
    match reply:
        case Silence():
            return "no answer"
        case Noise(data):
            return f"unreadable answer ({len(data)} bytes: {data[:16].hex(' ').upper()}{' …' * (len(data) > 16)})"
        case Ack():
            return "only E5 where data are due: the meter has none now"
        case Nack():
            return "the meter refuses (A2)"
        case LongFrame(address=address):
            return f"an answer that was not due, from address {address}"
        case ShortFrame():
            return f"a request of another master ({encode(reply).hex(' ').upper()})"
