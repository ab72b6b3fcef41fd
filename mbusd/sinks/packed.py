"""Texts that are kept for the day when they must be said again, in little room. Pure.

What is announced of one meter differs from what is announced of the next one in names and numbers only: where several
texts are of one kind, each is kept as that which tells it from another.
"""

import zlib
from collections.abc import Hashable

MOST_KINDS = 32  # of which a whole text is kept
_LEVEL, _RAW, _MEMORY = 6, -15, 5


class Packed:
    """One text."""

    __slots__ = ("_data", "_like")

    def __init__(self, text: str, like: bytes = b"") -> None:
        self._like = like
        press = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW, _MEMORY, zlib.Z_DEFAULT_STRATEGY, like)
        self._data = press.compress(text.encode("utf-8", "surrogatepass")) + press.flush()

    @property
    def text(self) -> str:
        """All of it."""
        return zlib.decompressobj(_RAW, self._like).decompress(self._data).decode("utf-8", "surrogatepass")


class Press:
    """Packs texts, and knows which were like them."""

    def __init__(self) -> None:
        self._likes: dict[Hashable, bytes] = {}  # by kind; empty: there was one only so far

    def pack(self, text: str, kind: Hashable) -> Packed:
        """`kind`: equal for texts that are much alike."""
        like = self._likes.get(kind)
        if like is None and len(self._likes) < MOST_KINDS:
            self._likes[kind] = like = b""
        elif like == b"":
            self._likes[kind] = like = text.encode("utf-8", "surrogatepass")
        return Packed(text, like or b"")
