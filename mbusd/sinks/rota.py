"""Whose turn it is: of several brokers the next when one is lost or refuses, and the first again when it is back. Pure.

All are tried at once, one after the other; only between the rounds is there a pause. Connections that end as soon as
they are made count as failures, or two programs with one client_id would throw each other out as fast as they can.
"""

from collections.abc import Sequence

from mbusd.configuration.settings import BrokerAddress

LONGEST_BACK = 3600.0


class Rota:
    """`pauses`: seconds between the rounds, the last for ever; `back`: until the first is asked whether it is back."""

    def __init__(self, brokers: Sequence[BrokerAddress], pauses: Sequence[float], steady: float, back: float) -> None:
        self._brokers = tuple(brokers)
        self._line = list(brokers)
        self._pauses = tuple(pauses)
        self._steady = steady
        self._shortest_back = self._back = back
        self._left = len(self._brokers)
        self._rounds = 0
        self.short = 0  # connections in a row that did not hold

    @property
    def turn(self) -> BrokerAddress:
        """The broker to connect to."""
        return self._line[0]

    @property
    def first(self) -> BrokerAddress:
        return self._brokers[0]

    @property
    def look_back(self) -> float | None:
        """Seconds after which to ask whether the first is back; None where it is the one in use."""
        return None if self.turn == self.first else self._back

    def failed(self) -> float:
        """The one whose turn it is cannot be had; gives the pause until the next, in seconds."""
        self._line.append(self._line.pop(0))
        self._left -= 1
        if self._left:
            return 0.0
        return self._next_round()

    def holds(self) -> None:
        """The connection is a good one."""
        self._rounds = self.short = 0

    def lost(self, held: float) -> float:
        """The connection is gone that has held for `held` seconds; gives the pause until the next."""
        gone = self.turn
        self._line = [broker for broker in self._brokers if broker != gone] + [gone]
        self._left = len(self._brokers)
        if held >= self._steady:
            self.holds()
        else:
            self.short += 1
        if held >= LONGEST_BACK:
            self._back = self._shortest_back
        if self.short == 0 and len(self._brokers) > 1:
            return 0.0
        return self._next_round()

    def back(self) -> float:
        """The first is back. Should it be lost again, it is waited for twice as long, an hour at the most."""
        self._line = list(self._brokers)
        self._left = len(self._brokers)
        self._back = min(2 * self._back, LONGEST_BACK)
        return 0.0

    def _next_round(self) -> float:
        self._left = len(self._brokers)
        self._rounds += 1
        return self._pauses[min(self._rounds, len(self._pauses)) - 1]
