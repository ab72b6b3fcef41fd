"""Drives conversations without an event loop: with a list of replies, or with somebody who answers."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from mbusd.mbus.frames import Frame, LongFrame, ShortFrame, encode, parse
from mbusd.mbus.link import Conversation, Reply, Request

T = TypeVar("T")


def reply(text: str) -> Frame:
    """The frame that these hex digits are."""
    return parse(bytes.fromhex(text))


def telegram_of(reply_to_req_ud2: Reply) -> LongFrame:
    """The same reply, known to be a long frame."""
    assert isinstance(reply_to_req_ud2, LongFrame)
    return reply_to_req_ud2


def talk(conversation: Conversation[T], answer: Callable[[Request], Reply]) -> T:
    """Carry on a conversation to its end."""
    try:
        request = next(conversation)
        while True:
            request = conversation.send(answer(request))
    except StopIteration as end:
        result: T = end.value
        return result


class Script:
    """Replies one by one, and what was asked for them; fails where a reply is missing."""

    def __init__(self, replies: Iterable[Reply]) -> None:
        self.left = list(replies)
        self.asked: list[ShortFrame | LongFrame] = []

    def __call__(self, request: Request) -> Reply:
        self.asked.append(request.frame)
        assert self.left, f"one request too many: {encode(request.frame).hex(' ')}"
        return self.left.pop(0)

    @property
    def hex(self) -> list[str]:
        """The requests as bytes of the wire."""
        return [encode(frame).hex(" ").upper() for frame in self.asked]
