"""A meter with several telegrams loses its power in the middle: none of before are published with those of after.

After a power cut a meter begins with its first telegram, whatever FCB it is asked with. That is noticed where it comes
in the middle; but on a line that delays answers it may never be heard, and the next request brings the second one.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random

from mbusd.mbus.address import PrimaryAddress
from mbusd.mbus.errors import MBusError
from mbusd.mbus.frames import LongFrame, ShortFrame
from mbusd.mbus.link import Conversation, Reply, Request, Silence, acknowledgement, exchange
from mbusd.mbus.master import LinkState, ReadOut, read_out, snd_nke
from tests.mbus.driving import Script, talk
from tests.mbus.test_master import ADDRESS, E5, SILENCE, StrictMeter, frames, page, without_reset

READ_OUTS = 8  # one after the other
CUTS, LATE = 0.05, 0.05  # of all requests, of all answers


def telegrams(first: int, values: str = "0A") -> list[LongFrame]:
    """All of one round, with access numbers from this one on."""
    said = (f"04 06 {values} 00 00 00 1F", f"04 13 {values} 00 00 00 1F", f"02 5A {values} 00")
    return [page(records, first + place) for place, records in enumerate(said)]


LINK = talk(read_out(ADDRESS), Script([E5, *telegrams(1)])).link
A, B = telegrams(10, "0B"), telegrams(20, "0C")


def test_what_had_to_be_asked_for_twice_is_said_once_more_and_the_newest_counts() -> None:
    """The late answer to the first request; the power is cut; the meter's next telegram goes on from its newest."""
    assert frames(talk(read_out(ADDRESS, link=LINK), Script([SILENCE, A[0], *B]))) == B


def test_where_a_repetition_was_needed_the_access_numbers_tell_of_a_telegram_that_was_never_heard() -> None:
    """The power was cut between the two, and the meter's answers are late by one."""
    script = Script([SILENCE, A[0], A[0], *B[1:], E5, *telegrams(30)])
    assert frames(talk(read_out(ADDRESS, link=LINK), script)) == telegrams(30)


def test_a_meter_whose_access_number_stands_still_is_not_read_again_for_it() -> None:
    still = [page_with(one, 7) for one in B]
    assert frames(talk(read_out(ADDRESS, link=LINK), Script([SILENCE, still[0], *still]))) == still


def test_a_meter_that_never_counts_one_by_one_is_believed_in_the_end() -> None:
    odd = [page_with(one, number) for one, number in zip(B, (5, 9, 7), strict=True)]
    passes: list[Reply] = [SILENCE, odd[0], *odd]
    assert frames(talk(read_out(ADDRESS, link=LINK), Script([*passes, E5, *passes, E5, *passes]))) == odd
    assert frames(talk(read_out(ADDRESS, link=LINK), Script(odd))) == odd  # where nothing was repeated nothing is odd


def page_with(frame: LongFrame, number: int) -> LongFrame:
    """The same telegram with another access number."""
    return replace(frame, data=frame.data[:8] + bytes([number]) + frame.data[9:])


def test_a_meter_that_begins_in_the_middle_is_read_again_from_its_first() -> None:
    """Its power was cut after the last read-out, and whoever else is on the bus asked it since."""
    assert frames(talk(read_out(ADDRESS, link=LINK), Script([*A[1:], E5, *B]))) == B


class CutMeter(StrictMeter):
    """Its power is cut now and then."""

    def __init__(self, chance: Random) -> None:
        super().__init__(chance)
        self._chance = chance

    def answer(self, frame: ShortFrame | LongFrame) -> Reply:
        if self._chance.random() < CUTS:
            self._last = None
        return super().answer(frame)


def late_wire(meter: CutMeter, chance: Random) -> Callable[[Request], Reply]:
    """Some answers come only when the next request was sent, and perhaps the next one's own answer after it."""
    waiting: list[Reply] = []

    def transmitted(request: Request) -> Reply:
        said = meter.answer(request.frame)
        heard = [waiting.pop(0)] if waiting else []
        if not isinstance(said, Silence):
            (waiting if chance.random() < LATE else heard).append(said)
        if len(heard) > 1 and chance.random() < 0.5:
            waiting[:0] = heard[1:]
        return heard[0] if heard else SILENCE

    return transmitted


def naive(address: PrimaryAddress, _recipe: None, _link: LinkState) -> Conversation[ReadOut]:
    """After a reset each telegram is repeated until it was heard, and the next one fetched."""
    yield from exchange(snd_nke(address.number), acknowledgement)
    return (yield from without_reset(address))


Procedure = Callable[[PrimaryAddress, None, LinkState], Conversation[ReadOut]]


def rounds_heard(procedure: Procedure, meters: int) -> Counter[int]:
    """How many read-outs brought telegrams of so many rounds; 0: they failed."""
    heard: Counter[int] = Counter()
    for seed in range(meters):
        chance = Random(seed)  # noqa: S311 - cuts power, keeps no secret
        meter, link = CutMeter(chance), LinkState()
        for _ in range(READ_OUTS):
            try:
                result = talk(procedure(ADDRESS, None, link), late_wire(meter, chance))
            except MBusError:
                link = link.forgotten()
                heard[0] += 1
                continue
            link = result.link
            heard[len({telegram.frame.data[14] for telegram in result.telegrams})] += 1
    return heard


def test_of_ten_thousand_read_outs_none_is_torn_where_every_twentieth_request_cuts_the_power() -> None:
    heard, before = rounds_heard(read_out, 1500), rounds_heard(naive, 1500)
    assert sum(count for rounds, count in heard.items() if rounds > 1) == 0
    assert heard[1] > 0.8 * 1500 * READ_OUTS
    assert sum(count for rounds, count in before.items() if rounds > 1) > 300  # so this experiment finds them
