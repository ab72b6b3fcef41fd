"""The layout of a telegram: the bytes that stay from one answer of a meter to the next, and where its data stand.

DIBs, VIBs, lengths, fillers and the configuration word stay; identification, access number, status, data of records
and the maker's block move. A telegram that fits a layout decodes to the same records with other data.
"""

from functools import lru_cache
from typing import Final

from mbusd.mbus.records import Outline

MOST_KINDS = 512  # of meters whose layouts are remembered
MOST_LAYOUTS = 8  # of one kind: telegrams of one read-out can be of one length
MOST_LESSONS = 64  # of one kind, at first; whoever never says the same twice is learnt from rarely
RARELY = 16  # telegrams a lesson

_HEADERS: Final = {
    0x72: bytes.fromhex("00000000 FFFFFFFF 0000 FFFF"),
    0x76: bytes.fromhex("00000000 FFFFFFFF 0000 FFFF"),
    0x7A: bytes.fromhex("0000 FFFF"),
    0x78: b"",
}
"""By CI field: ones for the bytes of the header that stay; not identification, access number and status."""


class Layout:
    """One layout; two are the same only if they are one object. `outline` None: of encrypted data."""

    __slots__ = ("mask", "outline", "skeleton")

    def __init__(self, ci: int, whole: int, outline: Outline | None) -> None:
        self.outline = outline
        staying = _HEADERS[ci] if outline is None else _HEADERS[ci] + outline.staying
        self.mask = int.from_bytes(staying, "little")
        self.skeleton = whole & self.mask


class Layouts:
    """The layouts of one kind of meter and one length, the latest first."""

    __slots__ = ("_misses", "known")

    def __init__(self) -> None:
        self.known: list[Layout] = []
        self._misses = 0

    def is_tired(self) -> bool:
        """Whether the next telegram that fits no layout is better not learnt from: too many did not last."""
        self._misses += 1
        return self._misses > MOST_LESSONS and self._misses % RARELY != 0

    def learn(self, layout: Layout) -> None:
        """Take note of the layout of a telegram that fits none."""
        self.known.insert(0, layout)
        del self.known[MOST_LAYOUTS:]


@lru_cache(maxsize=MOST_KINDS)
def layouts_of(ci: int, length: int, kind: bytes) -> Layouts:
    """Where the layouts are kept of telegrams of this length; `kind` is maker, version and medium, where they are sent.

    The kinds that were not heard of longest are forgotten.
    """
    del ci, length, kind
    return Layouts()
