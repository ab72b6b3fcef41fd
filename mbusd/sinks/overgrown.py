"""The names of meters that have more keys than any meter has, as a broken one does: the log hears of each once."""

import logging

log = logging.getLogger(__name__)


class Overgrown:
    """Whom the log has heard of."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, meter: str, gone: int, left: int) -> None:
        """Some of its keys were given up, and so many are left."""
        if meter not in self._told:
            self._told.add(meter)
            what = (
                "%s names ever new values, as a meter does that is broken or that several answer for: of %d keys "
                "the %d that were not seen for longest are given up; more may follow, and nothing more is said of it"
            )
            log.warning(what, meter, left + gone, gone)

    def forget(self, meter: str) -> None:
        """No meter is called so any more."""
        self._told.discard(meter)
