"""An open port: one request and what comes back, the silence before it, and the deadlines of both.

Deadlines rest on EN 13757-2 cl. 5.5: a meter begins its answer between 11 bit times and 330 bit times + 50 ms after
the end of the request's last stop bit. `write` returns when the kernel has the bytes, so the end of transmission is
computed: 11 bits a byte. A complete frame ends the waiting at once, if it began when a meter can answer; nothing waits
for silence after a good frame. Where all meters answer, each at its time, the whole window is waited.
"""

import asyncio
import time
from collections.abc import Iterable

from mbusd.line.hearing import MOST_BYTES, BusProtocol, CheckedReader, Heard
from mbusd.line.journal import Journal
from mbusd.line.timing import LONGEST_PAUSE, Timing
from mbusd.line.transport import Port, TransportError, added_seconds, has_bytes, set_baudrate, unacknowledged
from mbusd.line.way import Asked, Way
from mbusd.mbus.frames import LONGEST, SND_NKE, Ack, Frame, LongFrame, Noise, encode
from mbusd.mbus.link import Reply, Request, Silence
from mbusd.mbus.observation import selection
from mbusd.mbus.quirks import Manner

WAKE = 0x55
STALLED_SECONDS = 10.0  # a network that loses packets delivers them within a few


class Wire:
    """The wire behind an open port, from its opening to its loss; what is learnt of it is kept as long, rate by rate.

    `window`: instead of the standard's, at the rate of the port.
    """

    def __init__(
        self,
        port: Port,
        opened: tuple[asyncio.Transport, BusProtocol],
        journal: Journal,
        *,
        window: float | None,
        skips_echo: bool,
    ) -> None:
        self.port = port
        self._transport, self._protocol = opened
        self._journal = journal
        self._skips_echo = skips_echo
        self._way = Way(port, port.slack_seconds + added_seconds(self._transport), window)
        self._reader = CheckedReader()
        self._is_settled = False  # the exchange before ended well: nothing more will come
        self._owes_nothing = True  # so does one that was waited to its end, or that there was none
        self._last: Asked | None = None  # the exchange before, if it was not cancelled
        self._longest_cut = 0.0  # it ended in noise: bytes that go on after no longer pause may be the same answer's
        self._sent_until = 0.0  # when the last byte of ours was on the wire
        self._stalled_since: float | None = None  # bytes of ours that nobody acknowledges
        self._heard_until = self._protocol.last_byte_at = time.monotonic()  # the last byte that was looked at came
        self._open_until = self._heard_until + port.warm_up_seconds  # what nobody waits for may still come

    @property
    def is_open(self) -> bool:
        """Whether it can be spoken on."""
        return not self._protocol.lost.done()

    @property
    def baudrate(self) -> int:
        """The rate that the port has now, in Bd."""
        return self._way.baudrate

    @property
    def timing(self) -> Timing:
        """The times at this rate."""
        return self._way.timing

    def close(self) -> None:
        """Close the port; who waits for an answer gets TransportError."""
        if self._transport.get_write_buffer_size():  # nobody takes it: a polite end would wait for that, for ever
            self._transport.abort()
        else:
            self._transport.close()

    def hang_up(self, why: str) -> None:
        """Give the connection up, for this reason; whoever keeps the port open makes a new one."""
        self._protocol.end(why)
        self._transport.abort()

    def unsettle(self) -> None:
        """Whatever came last was no good end of its conversation."""
        self._is_settled = self._owes_nothing = False

    async def ask(self, request: Request) -> Reply:
        """One transmission of a request, and what it brought. Raises TransportError."""
        self._check()
        after_good = self._is_settled and request.attempt == 1
        pause = max(request.manner.pause, self._pause_after(self._last))
        await self._tune(request.manner.baudrate or self.port.baudrate, pause, after_good=after_good)
        asked_before, owes_nothing = self._last, self._owes_nothing and (after_good or not self._is_settled)
        self._last, self._is_settled, self._owes_nothing = None, False, False  # until the exchange has ended so
        self._longest_cut = 0.0
        await self._wake(request.manner)
        after_silence = asked_before is not None and asked_before.is_silent
        asked = self._say(request, after_good=owes_nothing, after_silence=after_silence)
        heard, broken = bytearray(), set[int]()
        try:
            await self._listen(asked, heard, broken)
        finally:
            self._open_until = asked.waited_until
            self._journal.hears(request, bytes(heard), broken)
        self._last = asked
        self._judge(asked)
        self._way.learn(asked, self._heard_until)
        if isinstance(asked.reply, Silence):
            self._look_for_a_stall()
        else:
            self._stalled_since = None
        return asked.reply

    def _say(self, request: Request, *, after_good: bool, after_silence: bool) -> Asked:
        data, timing, manner = encode(request.frame), self.timing, request.manner
        self._journal.asks(request, data)
        sent = self._journal.last_request_at + timing.wire(len(data))
        self._transport.write(data)
        wants_data = request.frame.control != SND_NKE and selection(request.frame) is None
        window = max(manner.window or timing.window, manner.shortest_window) + timing.held(data=wants_data)
        expected_by = sent + timing.latest(window)
        latest = expected_by + timing.caution - timing.slack
        waited_until = expected_by if request.attempt == 1 else latest
        self._sent_until, self._open_until = sent, waited_until
        asked = Asked(request, sent, expected_by, waited_until, latest, 0.0, after_good, after_silence)
        if asked.is_hello:
            asked.others_until = waited_until
        elif asked.is_for_several and timing.spread:
            asked.others_until = sent + timing.spread + timing.jitter
        return asked

    def _pause_after(self, asked: Asked | None) -> float:
        """How long the line must be silent after this exchange, beyond what is always asked for."""
        is_crowd_s = asked is not None and asked.request.is_probe and isinstance(asked.answer, LongFrame)
        return self.timing.after_crowd if is_crowd_s else 0.0

    async def _wake(self, manner: Manner) -> None:
        """The preamble that rouses an interface which sleeps; nobody answers it."""
        if manner.wake is None:
            return
        self._transport.write(bytes([WAKE]) * manner.wake.count)
        await asyncio.sleep(self.timing.wire(manner.wake.count) + manner.wake.pause)
        self._check()
        self._take()

    async def _tune(self, baudrate: int, pause: float, *, after_good: bool) -> None:
        """Wait for silence, and give the port the rate of the meter that is to be asked: never while bytes arrive.

        What was said before is no frame to that meter, whatever it was to others. Raises TransportError.
        """
        if baudrate != self.baudrate:
            there = self._way.timing_at(baudrate)
            pause = max(pause, self.timing.settle, there.settle)
            await self._wait_for_silence(pause, there.wire(LONGEST), after_good=after_good)
            await set_baudrate(self.port, self._transport, baudrate)
            self._way.baudrate = baudrate
        await self._wait_for_silence(pause, 0.0, after_good=after_good)

    def _check(self) -> None:
        if not self.is_open:
            raise TransportError(self.port.name, "the port is not open")

    async def _wait_for_silence(self, pause: float, patience: float, *, after_good: bool) -> None:
        """Wait until the line was silent as long as the standard, or the meter, asks; drop what belongs to nobody.

        After a reply that was refused, or an exchange that was cancelled, the answer proper may still be on its way.
        `patience`: with a line that does not become silent, if that is more than the longest frame.
        """
        protocol, timing = self._protocol, self.timing
        open_until = 0.0 if after_good else self._open_until
        give_up = max(open_until, time.monotonic()) + max(patience, timing.wire(LONGEST)) + timing.slack
        rested_at = self._sent_until + pause if pause else 0.0
        heard_until, began = self._heard_until, protocol.first_byte_at
        stray = self._take().data
        quiet_for = max(pause, timing.idle if after_good and not stray else timing.settle)
        while (now := time.monotonic()) < give_up:
            until = max(open_until, rested_at, protocol.last_byte_at + quiet_for)
            is_over = until <= now and not has_bytes(self._transport)  # each turn of a busy loop costs milliseconds
            if is_over or not await protocol.more(until):
                break
            self._check()
            began = began if stray else protocol.first_byte_at
            stray = (stray + self._take().data)[:LONGEST]
            quiet_for = max(pause, timing.settle)
        if stray:
            self._journal.hears_stray(stray)
            if self._last is not None:
                self._way.learn_of_stray(self._last, stray, began, self._heard_until)
            if began - heard_until <= self._longest_cut:
                self._way.learn_of_cut(began - heard_until)

    def _take(self) -> Heard:
        self._heard_until = self._protocol.last_byte_at
        return self._protocol.take()

    async def _listen(self, asked: Asked, heard: bytearray, broken: set[int]) -> None:
        """Until the answer is there, else until its window is over; one that has begun is given time to end."""
        protocol, reader, timing = self._protocol, self._reader, self.timing
        reader.reset()
        deadline, paused = asked.waited_until, 0.0
        while len(heard) < MOST_BYTES and await protocol.more(deadline):
            if protocol.lost.done():
                raise TransportError(self.port.name, protocol.lost.result())
            paused += asked.begins_or_goes_on(reader, protocol.first_byte_at, self._heard_until, timing)
            arrived = self._take()
            broken.update(len(heard) + place for place in arrived.broken)
            heard += arrived.data
            if self._hears(asked, reader.hear(arrived)):
                return
            deadline = asked.deadline
            if not reader.is_idle:
                patience = timing.gap if reader.is_waiting else timing.lull
                patience = timing.settle if reader.is_whole else patience
                last_end = asked.latest + timing.wire(LONGEST) + paused
                deadline = min(last_end, max(deadline, protocol.last_byte_at + patience))
        longest_cut = LONGEST_PAUSE if reader.is_waiting else timing.caution
        self._hears(asked, reader.end())
        if asked.answer is None and asked.noise is not None:
            self._longest_cut = longest_cut

    def _hears(self, asked: Asked, events: Iterable[Frame | Noise]) -> bool:
        """Whether one of these ends the exchange."""
        is_over = False
        for event in events:
            if isinstance(event, Noise) or not self._is_echo(event, asked.request):
                is_over |= asked.hears(event, self._heard_until, self.timing)
        return is_over

    def _is_echo(self, event: Reply, request: Request) -> bool:
        """A frame that equals the request comes from the converter: no meter speaks like a master."""
        return self._skips_echo and event == request.frame

    def _judge(self, asked: Asked) -> None:
        """Count the reply, and tell whether the line is at rest: not while anything else may still be on its way.

        The answer to a repetition may be the late one to the first transmission; then the second answer is yet to come.
        A telegram that comes for SND_NKE is not the E5 that is due.
        """
        request, reply = asked.request, asked.reply
        self._owes_nothing = asked.is_waited_out
        if isinstance(reply, Silence):
            self._journal.count(timeouts=int(request.is_answered))
        elif (
            isinstance(reply, Noise) or asked.frames > 1 or not self._reader.is_idle
        ):  # bytes behind a frame: perhaps a second meter's
            self._journal.count(noise=1)
        else:
            is_due = isinstance(reply, Ack) or request.frame.control != SND_NKE
            self._is_settled = is_due and request.attempt == 1
            self._owes_nothing |= self._is_settled and not asked.is_for_several

    def _look_for_a_stall(self) -> None:
        """Hang up on a converter that takes no bytes: behind a dead connection all meters would be silent for long.

        Raises TransportError.
        """
        if not unacknowledged(self._transport):
            self._stalled_since = None
            return
        if self._stalled_since is None:
            self._stalled_since = self._journal.last_request_at
        seconds = time.monotonic() - self._stalled_since
        if seconds < STALLED_SECONDS:
            return
        why = f"the converter has acknowledged nothing for {seconds:.0f} s; has it power, and is it in the network?"
        self.hang_up(why)
        raise TransportError(self.port.name, why)
