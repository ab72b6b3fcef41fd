"""The layout of a telegram: the bytes that stay from one answer of a meter to the next, and where its data stand.

DIBs, VIBs, lengths, fillers and the configuration word stay; identification, access number, status, data of records
and the maker's block move. A layout is learnt from a telegram that was decoded record by record, so a telegram that
fits one decodes to the same records with other data.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from mbusd.mbus.records import DataBlock

Span = tuple[int, int]
"""From a byte of the frame's data to another, which is behind its end."""

MOST_KINDS = 1024  # of meters whose layouts are remembered
MOST_LAYOUTS = 8  # of one kind: telegrams of one read-out can be of one length
MOST_LESSONS = 64  # of one kind, at first; whoever never says the same twice is learnt from rarely
RARELY = 16  # telegrams a lesson

_MOVING: Final[dict[int, tuple[Span, ...]]] = {
    0x72: ((0, 4), (8, 10)),
    0x76: ((0, 4), (8, 10)),
    0x7A: ((0, 2),),
    0x78: (),
}
"""The bytes of the headers that move, by CI field: identification, access number, status."""


class Layout:
    """One layout; two are the same only if they are one object."""

    __slots__ = ("encrypted", "mask", "more_follows", "skeleton", "spans")

    def __init__(self, ci: int, data: bytes, block: DataBlock | None, offset: int) -> None:
        self.encrypted = block is None
        block = DataBlock((), manufacturer_data=data[offset:]) if block is None else block
        ends = [offset + end for end in block.ends]
        self.spans: Sequence[Span] = tuple(
            (end - len(record.raw), end) for end, record in zip(ends, block.records, strict=True)
        )
        self.more_follows = block.more_follows
        maker = len(data) - len(block.manufacturer_data or b"")
        staying = bytearray(b"\xff") * len(data)
        for start, end in (*_MOVING[ci], *self.spans, (maker, len(data))):
            staying[start:end] = bytes(end - start)
        self.mask = int.from_bytes(staying, "little")
        self.skeleton = int.from_bytes(data, "little") & self.mask


class Layouts:
    """The layouts of one kind of meter and one length; the second telegram that fits none makes a new one."""

    __slots__ = ("_misses", "known")

    def __init__(self) -> None:
        self.known: list[Layout] = []
        self._misses = 0

    def learn(self, ci: int, data: bytes, block: DataBlock | None, offset: int) -> Layout | None:
        """Take note of a telegram that fits no layout, `block` None: an encrypted one, whose data can be anything.

        The first costs nothing: it may be the only one.
        """
        self._misses += 1
        is_tired = self._misses > MOST_LESSONS and self._misses % RARELY
        if self._misses == 1 or is_tired or (block and block.error):
            return None
        layout = Layout(ci, data, block, offset)
        self.known.insert(0, layout)
        del self.known[MOST_LAYOUTS:]
        return layout


@lru_cache(maxsize=MOST_KINDS)
def layouts_of(ci: int, length: int, kind: bytes) -> Layouts:
    """Where the layouts are kept of telegrams of this length; `kind` is maker, version and medium, where they are sent.

    The kinds that were not heard of longest are forgotten.
    """
    del ci, length, kind
    return Layouts()
