"""Two meters at one address that answer by turns: each alone can be read, and neither says that there are two.

A meter that is exchanged never comes back. So a stranger is an exchange once; who is heard again beside another is one
of two, and the address is that of the meter known first. The other is refused until one of them has been silent for
long. A primary address only: a selection says who is meant (EN 13757-3 cl. 11). Pure; seconds that never jump.
"""

from typing import Final, Literal

from mbusd.mbus.address import SecondaryAddress
from mbusd.mbus.errors import MBusError
from mbusd.mbus.verdict import Verdict
from mbusd.model import Identity

DAY: Final = 86400.0  # whoever has not been heard for so long is gone
READ_OUTS: Final = 3  # or for so many intervals, if that is longer
MOST_OTHERS: Final = 8

Whose = Literal["own", "stranger", "other"]


class WrongTurn(MBusError):
    """Another meter than the one that has this address has answered; what it says is not published."""


class Turns:
    """Who is heard at the address of the meter `owner`; whoever is silent for `patience` seconds is forgotten."""

    def __init__(self, owner: Identity, patience: float, now: float) -> None:
        self.owner = owner
        self.is_shared = False
        self._patience = patience
        self._owner_at = now
        self._former: Identity | None = None  # who was exchanged
        self._exchanged_at = now
        self._strangers: dict[str, float] = {}  # since the owner was heard
        self._others: dict[str, float] = {}  # and the owner after them

    def hears(self, who: SecondaryAddress | None, now: float) -> Whose:
        """Whose answer it is; `who` None: it does not say. If the former owner's, then it is the owner again."""
        self.look(now)
        former = self._former
        if who is not None and former is not None and _is(former, who) and not _is(self.owner, who):
            self._others[self.owner.address] = self._owner_at
            self.owner, self._former, self.is_shared = former, None, True
        if who is None or _is(self.owner, who):
            self._owner_at = now
            self._others |= self._strangers
            self._strangers.clear()
            while len(self._others) > MOST_OTHERS:
                del self._others[min(self._others, key=self._others.__getitem__)]
            return "own"
        if who.digits in self._others:
            self._others[who.digits] = now
            self.is_shared = True
            return "other"
        self._strangers[who.digits] = now
        if len(self._strangers) > MOST_OTHERS:
            del self._strangers[next(iter(self._strangers))]
        return "stranger"

    def is_owner(self, identity: Identity) -> bool:
        """Whether it is the meter that has this address."""
        return _is(self.owner, SecondaryAddress(identity.address))

    @property
    def is_over(self) -> bool:
        """Whether nobody but the owner is remembered."""
        return not (self._others or self._strangers or self._former)

    def exchanged(self, owner: Identity, now: float) -> None:
        """A stranger was believed."""
        self._former, self._exchanged_at = self.owner, now
        self.owner, self._owner_at = owner, now
        self._strangers.pop(owner.address, None)

    def look(self, now: float) -> None:
        """Forget who has been silent for long."""
        is_gone = now - self._owner_at > self._patience
        kept = {} if is_gone else {one: at for one, at in self._others.items() if now - at <= self._patience}
        self._others = kept
        self._strangers = {one: at for one, at in self._strangers.items() if now - at <= self._patience}
        self.is_shared = self.is_shared and bool(kept)
        if now - self._exchanged_at > self._patience:
            self._former = None

    def verdict(self, address: str) -> Verdict:
        """What is wrong, and what to do."""
        others = max(self._others, key=self._others.__getitem__, default="")
        return Verdict(
            "several_meters",
            f"several meters answer at one address (address {address}: {self.owner.address} and {others} by turns; "
            "what the second says is not published)",
            "Read them by secondary address or give each its own primary one; a meter that was exchanged is read once "
            "its predecessor has been silent for a day, or at once after a restart",
        )


def patience_of(interval: float | None) -> float:
    """How long two who are read so often (seconds; None: when somebody asks) are taken for neighbours."""
    return max(DAY, READ_OUTS * (interval or 0.0))


def _is(identity: Identity, who: SecondaryAddress) -> bool:
    return SecondaryAddress(identity.address).matches(who)
