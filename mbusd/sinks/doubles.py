"""Meters that say that they are one and the same: each is a device of its own, and the log hears of it once."""

import logging

log = logging.getLogger(__name__)


class Doubles:
    """The names of those that the log has heard of."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, meter: str, other: str, address: str) -> None:
        """A meter says that it has the secondary address of another one."""
        if meter not in self._told:
            self._told.add(meter)
            what = (
                "%s says that it is meter %s, as %s does: Home Assistant shows both; if they are one meter, take one "
                "of them out of the configuration; if they are two, give one another number (mbusd set-id)"
            )
            log.warning(what, meter, address, other)

    def forget(self, meter: str) -> None:
        """No meter is called so any more."""
        self._told.discard(meter)
