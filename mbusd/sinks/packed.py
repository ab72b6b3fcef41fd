"""Texts that are kept for the day when they must be said again, in little room. Pure.

What is announced of one meter differs from what is announced of the next one in names and numbers only: where several
texts are of one kind, each is kept as that which tells it from another. The names themselves are kept once.
"""

import zlib
from collections.abc import Hashable

MOST_KINDS = 32  # of which a whole text is kept
_LEVEL, _RAW, _MEMORY = 6, -15, 5
_MARKS = "\x00\x01\x02\x03"  # stand for the names; JSON has none of these
_SHORTEST = 3  # letters: a shorter name stands in half of all words


class Packed:
    """One text. `own`: names that stand in it again and again, four at the most."""

    __slots__ = ("_data", "_like", "_own")

    def __init__(self, text: str, like: bytes = b"", own: tuple[str, ...] = ()) -> None:
        self._like = like
        self._own = own if own and _is_plain(text, own) else ()
        self._data = _pressed(_marked(text, self._own), like)

    @property
    def text(self) -> str:
        """All of it."""
        text = zlib.decompressobj(_RAW, self._like).decompress(self._data).decode("utf-8", "surrogatepass")
        for mark, name in reversed(tuple(zip(_MARKS, self._own, strict=False))):
            text = text.replace(mark, name)
        return text


def _is_plain(text: str, own: tuple[str, ...]) -> bool:
    """Whether no mark stands in it by itself, and no name in half of all words."""
    return min(map(len, own)) >= _SHORTEST and not any(mark in one for one in (text, *own) for mark in _MARKS)


def _marked(text: str, own: tuple[str, ...]) -> str:
    for mark, name in zip(_MARKS, own, strict=False):
        text = text.replace(name, mark)
    return text


def _pressed(text: str, like: bytes) -> bytes:
    press = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW, _MEMORY, zlib.Z_DEFAULT_STRATEGY, like)
    return press.compress(text.encode("utf-8", "surrogatepass")) + press.flush()


class Press:
    """Packs texts, and knows which were like them."""

    def __init__(self) -> None:
        self._likes: dict[Hashable, bytes] = {}  # by kind; empty: there was one only so far

    def pack(self, text: str, kind: Hashable, own: tuple[str, ...] = ()) -> Packed:
        """`kind`: equal for texts that are much alike but for their `own` names."""
        like = self._likes.get(kind)
        if like is None and len(self._likes) < MOST_KINDS:
            self._likes[kind] = like = b""
        elif like == b"":
            own = own if own and _is_plain(text, own) else ()
            self._likes[kind] = like = _marked(text, own).encode("utf-8", "surrogatepass")
        return Packed(text, like or b"", own)
