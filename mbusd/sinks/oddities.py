"""What is odd about meters: the log hears of it once for each of their names."""

import logging

log = logging.getLogger(__name__)


class Oddities:
    """The names of those that the log has heard of, with what."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def grows(self, meter: str, gone: int, left: int) -> None:
        """It has more keys than any meter has, as a broken one does: some were given up, and so many are left."""
        what = (
            "%s names ever new values, as a meter does that is broken or that several answer for: of %d keys "
            "the %d that were not seen for longest are given up; more may follow, and nothing more is said of it"
        )
        self._tell("grows", what, meter, left + gone, gone)

    def is_double(self, meter: str, other: str, address: str) -> None:
        """It says that it has the secondary address of another one: each is a device of its own."""
        what = (
            "%s says that it is meter %s, as %s does: Home Assistant shows both; if they are one meter, take one "
            "of them out of the configuration; if they are two, give one another number (mbusd set-id)"
        )
        self._tell("is double", what, meter, address, other)

    def _tell(self, oddity: str, what: str, meter: str, *more: object) -> None:
        if (meter, oddity) not in self._told:
            self._told.add((meter, oddity))
            log.warning(what, meter, *more)

    def forget(self, meter: str) -> None:
        """No meter is called so any more."""
        self._told = {told for told in self._told if told[0] != meter}
