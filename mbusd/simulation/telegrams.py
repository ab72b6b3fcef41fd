"""Where a simulated meter stands in its telegrams, and what it shows there (EN 13757-3 cl. 6: DIF 1F). Pure."""

from collections.abc import Container, Sequence
from dataclasses import dataclass

from mbusd.simulation.behaviour import Behaviour

LARGEST_PAGE = 239  # bytes of records: L = 255 less C, A, CI, the long header and a DIF 1F

_MORE_FOLLOWS = b"\x1f"


@dataclass(slots=True)
class Telegrams:
    """The pointer of one meter, the picture of its values that all telegrams of a read-out share, its application."""

    application: int = 0
    _page: int | None = None  # the telegram that was sent last
    _snapshot: Sequence[bytes] = ()

    @property
    def has_begun(self) -> bool:
        """Whether there is a telegram that could be repeated."""
        return self._page is not None

    def rewind(self) -> None:
        """The next telegram is the first."""
        self._page = None

    def choose(self, application: int, known: Container[int]) -> None:
        """An application reset or select: new values from the first telegram; what is not known is not selected."""
        self._page, self._snapshot = None, ()
        if application == 0 or application in known:
            self.application = application

    def page_after(self, behaviour: Behaviour, *, has_fcv: bool, is_first: bool) -> int:
        """The telegram that a request brings which is no repetition: the first, the next or (FCV 0) the same."""
        if self._page is None:
            return 0
        if behaviour.fcb != "ignored":
            if not has_fcv:
                return self._page
            if is_first:
                return 0
        if self._page < len(self._snapshot) - 1:
            return self._page + 1
        return 0 if behaviour.goes_round else self._page

    def turn_to(self, page: int) -> None:
        self._page = page

    def is_renewed(self, behaviour: Behaviour, *, is_repeated: bool) -> bool:
        """Whether the telegram that is to be sent wants new values."""
        match behaviour.renewal:
            case "read-out":
                return self._page == 0 and not is_repeated
            case "repetition":
                return self._page == 0 or is_repeated
            case "reset":
                return not self._snapshot

    def show(self, telegrams: Sequence[bytes]) -> None:
        """New values."""
        self._snapshot = telegrams

    def records(self, *, is_endless: bool) -> bytes:
        """The records of the telegram, with the DIF that says whether more follow."""
        page = self._page or 0
        more = page < len(self._snapshot) - 1 or is_endless
        return self._snapshot[page] + (_MORE_FOLLOWS if more else b"")
