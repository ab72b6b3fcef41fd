"""Frames heard on somebody else's bus become exchanges: request, answer, repetition, and whose (EN 13757-2 cl. 5.7).

What a selection has chosen, the FCB of each link and the access numbers are followed as the meters must follow them.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from mbusd.mbus.address import BROADCAST, HIGHEST_PRIMARY, SELECTED, SecondaryAddress
from mbusd.mbus.exchanges import (
    FUNCTION,
    Exchange,
    Heard,
    MeterSeen,
    Outcome,
    access_number_of,
    asks_data,
    decoded,
    identity_of,
    name_of,
    outcome_of,
)
from mbusd.mbus.frames import SND_NKE, Ack, LongFrame, Noise, ShortFrame
from mbusd.mbus.link import describe
from mbusd.mbus.observation import selection
from mbusd.mbus.telegram import Telegram

REPEATED_WITHIN: Final = 10.0  # seconds: later, the same request is the next cycle's; gateways are asked this slowly


class Pairing:
    """Takes what is heard in the order of its begin; gives exchanges as soon as nothing can be added to them."""

    def __init__(self) -> None:
        self.seen: dict[str, MeterSeen] = {}
        self._request: Heard | None = None
        self._answers: list[Heard] = []
        self._before: Exchange | None = None
        self._selected: str | None = None
        self._fcb: dict[int, bool] = {}  # of the last answered request, for each A field
        self._last: dict[str, Telegram] = {}
        self._counting: set[str] = set()  # meters whose access number steps

    def take(self, heard: Heard) -> Iterator[Exchange]:
        """What came next."""
        is_noise = isinstance(heard.event, Noise)
        if heard.sender == "master":
            yield from self._close()
            if is_noise:
                yield Exchange(None, (heard,), "noise")
            else:
                self._request = heard
        elif self._request is None:
            yield self._judged(None, (heard,), "noise" if is_noise else "unasked")
        else:
            self._answers.append(heard)

    def expire(self, now: float, window: float, gap: float) -> Iterator[Exchange]:
        """Nothing else began until now. An answer begins within `window`, what belongs to it within `gap` behind."""
        if self._request is not None:
            last = self._answers[-1].end + gap if self._answers else self._request.end + window
            if now > last:
                yield from self._close()

    def _close(self) -> Iterator[Exchange]:
        request, answers = self._request, tuple(self._answers)
        self._request = None
        self._answers.clear()
        if request is not None and isinstance(request.event, ShortFrame | LongFrame):
            yield self._judged(request, answers, outcome_of(request.event, answers))

    def _judged(self, request: Heard | None, answers: tuple[Heard, ...], outcome: Outcome) -> Exchange:
        telegram, problem = decoded(answers)
        exchange = Exchange(request, answers, outcome, 0, None, telegram, problem)
        exchange = replace(exchange, meter=self._meter(exchange), repetition=self._repetition(exchange))
        exchange = replace(exchange, remarks=tuple(self._remarks(exchange)))
        self._tally(exchange)
        self._remember(exchange)
        return exchange

    def _repetition(self, exchange: Exchange) -> int:
        before = self._before
        if before is None or before.frame != exchange.frame or before.outcome in ("answered", "broadcast"):
            return 0
        return before.repetition + 1 if exchange.begin - before.begin < REPEATED_WITHIN else 0

    def _meter(self, exchange: Exchange) -> str | None:
        """Whose exchange it is; at 253 the header tells, else what was selected."""
        identity = identity_of(exchange)
        frame = exchange.frame or next(
            (one.event for one in exchange.answers if isinstance(one.event, LongFrame)), None
        )
        if frame is None or frame.address == BROADCAST:
            return None
        if frame.address <= HIGHEST_PRIMARY:
            return str(frame.address)
        mask = selection(frame)
        if mask is not None:
            self._selected = self._known(mask)
        elif identity is not None:
            self._selected = identity.digits
        if frame.address == SELECTED:
            return self._selected
        return None if identity is None else identity.digits

    def _known(self, mask: SecondaryAddress) -> str:
        """The whole address of the one meter that a mask means, if it was heard before."""
        found = [
            one.meter
            for one in self.seen.values()
            if one.identity and one.meter == one.identity.digits and mask.matches(one.identity)
        ]
        return found[0] if mask.is_exact and len(found) == 1 else str(mask)

    def _is_again(self, exchange: Exchange) -> bool:
        """A new request whose FCB is that of the last one: the meter must take it for a repetition."""
        frame = exchange.frame
        if frame is None or exchange.fcb is None or exchange.repetition or selection(frame) is not None:
            return False
        return self._fcb.get(frame.address) is exchange.fcb

    def _remarks(self, exchange: Exchange) -> Iterator[str]:
        events = [one.event for one in exchange.answers]
        if self._is_again(exchange):
            yield "the FCB did not toggle: the meter may send its last telegram again"
        if exchange.outcome == "collision":
            behind = sum(len(one.data) for one in exchange.answers[1:])
            yield f"bytes behind the answer: {behind}; do two meters answer?"
        elif exchange.outcome in ("unreadable", "unexpected") or (events == [Ack()] and asks_data(exchange.frame)):
            yield describe(events[0])
        elif exchange.outcome == "unasked":
            yield from self._perhaps_late(exchange)
        telegram = exchange.telegram
        if telegram and exchange.meter in self._counting and self._last[exchange.meter].frame == telegram.frame:
            yield f"the same telegram as before (access number {exchange.access_number}): its values are old"

    def _perhaps_late(self, exchange: Exchange) -> Iterator[str]:
        before = self._before
        if before and before.frame and before.request and before.outcome == "silent":
            seconds = exchange.begin - before.request.end
            if seconds < REPEATED_WITHIN:
                yield f"perhaps the answer to {name_of(before.frame)}, {seconds:.2f} s after it: too late"

    def _remember(self, exchange: Exchange) -> None:
        """What the next exchange is judged by."""
        frame, meter, telegram = exchange.frame, exchange.meter, exchange.telegram
        if frame is not None:
            self._before = exchange
            if frame.control & FUNCTION == SND_NKE:
                self._reset(frame.address)
            elif selection(frame) is not None:
                self._fcb.pop(SELECTED, None)
            elif exchange.fcb is not None and exchange.outcome == "answered":
                self._fcb[frame.address] = exchange.fcb
        if telegram is not None and meter is not None:
            before = self._last.get(meter)
            if before and access_number_of(before) != access_number_of(telegram):
                self._counting.add(meter)
            self._last[meter] = telegram

    def _reset(self, address: int) -> None:
        if address == BROADCAST:
            self._fcb.clear()
        self._fcb.pop(address, None)
        if address in (SELECTED, BROADCAST):
            self._selected = None

    def _tally(self, exchange: Exchange) -> None:
        frame, meter = exchange.frame, exchange.meter
        is_counted = frame is not None and frame.control & FUNCTION != SND_NKE and selection(frame) is None
        exists = exchange.telegram is not None or (
            bool(exchange.answers) and frame is not None and frame.address <= HIGHEST_PRIMARY
        )
        if meter is None or not (is_counted or exists):
            return
        before = self.seen.get(meter, MeterSeen(meter))
        now = replace(before, identity=identity_of(exchange) or before.identity)
        if is_counted:
            now = replace(
                now,
                requests=now.requests + 1,
                repetitions=now.repetitions + bool(exchange.repetition),
                silent=now.silent + (exchange.outcome == "silent"),
                unreadable=now.unreadable + (exchange.outcome in ("unreadable", "collision")),
            )
            if self._ends_read_out(exchange):
                first = now.first if now.read_outs else exchange.begin
                now = replace(now, read_outs=now.read_outs + 1, first=first, last=exchange.begin)
        self.seen[meter] = now

    def _ends_read_out(self, exchange: Exchange) -> bool:
        is_last = exchange.telegram is not None and not exchange.telegram.more_follows
        return is_last and exchange.outcome == "answered" and not self._is_again(exchange)
