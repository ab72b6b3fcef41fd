"""What a tap makes of somebody else's bus: pairs, repetitions, selections, FCB, and who is read how often."""

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbusd.mbus.address import SecondaryAddress
from mbusd.mbus.exchanges import Exchange, MeterSeen, name_of
from mbusd.mbus.frames import Ack, LongFrame, Noise, ShortFrame, encode
from mbusd.mbus.master import req_ud2, select, snd_nke
from mbusd.mbus.tap import Pace, Tap

CHARACTER = 11 / 2400
PACE = Pace(CHARACTER, window=0.3, gap=0.1)
E5 = b"\xe5"
KAM = "78 56 34 12 2D 2C 08 04"
KAM_ADDRESS = "123456782D2C0804"
ENERGY = "04 06 E7 91 00 00"


def answer(address: int = 1, number: int = 5, records: str = ENERGY, identity: str = KAM) -> bytes:
    """A RSP_UD with a long header and this access number."""
    header = bytes.fromhex(identity) + bytes([number, 0, 0, 0])
    return encode(LongFrame(0x08, address, 0x72, header + bytes.fromhex(records)))


def request(address: int = 1, *, fcb: bool = True) -> bytes:
    return encode(req_ud2(address, fcb=fcb))


NKE = encode(snd_nke(1))
SELECT = encode(select(SecondaryAddress(KAM_ADDRESS)))
SELECTED = encode(snd_nke(0xFD))


class Bus:
    """Says things in time order on one tap that hears both directions, 20 ms behind one another."""

    def __init__(self, pace: Pace = PACE) -> None:
        self.tap = Tap(pace)
        self.now = 100.0
        self.exchanges: list[Exchange] = []

    def says(self, *pieces: bytes, pause: float = 0.02) -> "Bus":
        for piece in pieces:
            self.now += pause + CHARACTER * len(piece)
            self.exchanges += self.tap.feed(piece, self.now)
        return self

    def waits(self, seconds: float) -> "Bus":
        self.now += seconds
        self.exchanges += self.tap.pause(self.now)
        return self

    def done(self) -> list[Exchange]:
        self.exchanges += self.tap.end()
        return self.exchanges

    def meter(self, name: str) -> MeterSeen:
        return {meter.meter: meter for meter in self.tap.meters()}[name]


def outcomes(exchanges: Iterable[Exchange]) -> list[str]:
    return [exchange.outcome for exchange in exchanges]


def test_a_read_out_is_two_exchanges_with_their_answers() -> None:
    reset, data = Bus().says(NKE, E5, request(), answer()).done()
    assert (reset.frame, [one.event for one in reset.answers], reset.outcome) == (snd_nke(1), [Ack()], "answered")
    assert (data.meter, data.fcb, data.access_number, data.repetition) == ("1", True, 5, 0)
    assert data.telegram is not None
    assert [(record.quantity, record.value) for record in data.telegram.records] == [("energy", 37351000)]
    assert data.latency == pytest.approx(0.02)
    assert data.begin == pytest.approx(100 + 3 * 0.02 + 6 * CHARACTER + 0.02 - 0.02)


def test_an_exchange_is_given_as_soon_as_nothing_can_belong_to_it_any_more() -> None:
    bus = Bus().says(request(), answer())
    assert bus.exchanges == []
    assert outcomes(bus.waits(0.09).exchanges) == []
    assert outcomes(bus.waits(0.02).exchanges) == ["answered"]
    bus.says(request(2))
    assert outcomes(bus.waits(0.29).exchanges) == ["answered"]
    assert outcomes(bus.waits(0.02).exchanges) == ["answered", "silent"]


@given(st.lists(st.integers(1, 60)))
def test_the_cuts_of_the_stream_change_nothing(cuts: list[int]) -> None:
    whole = NKE + E5 + request() + answer() + encode(snd_nke(2)) + request(3) + answer(3, number=9)
    expected = [(one.frame, [heard.event for heard in one.answers]) for one in Bus().says(whole, pause=0).done()]
    bus, rest = Bus(), whole
    for cut in cuts:
        bus.says(rest[:cut], pause=0)
        rest = rest[cut:]
    found = [(one.frame, [heard.event for heard in one.answers]) for one in bus.says(rest, pause=0).done()]
    assert found == expected
    assert len(found) == 4


def test_the_time_of_a_frame_is_that_of_the_wire_though_its_bytes_come_in_one_piece() -> None:
    bus = Bus()
    (exchange,) = bus.says(request() + answer(), pause=0).done()
    assert exchange.request is not None
    assert exchange.request.begin == pytest.approx(100)
    assert exchange.request.end == pytest.approx(100 + 5 * CHARACTER)
    assert exchange.answers[0].end == pytest.approx(bus.now)


def test_a_frame_that_breaks_off_does_not_swallow_the_next_request() -> None:
    bus = Bus().says(request(), answer()[:9])
    bus.waits(0.2).says(request(), answer())
    first, second = bus.done()
    assert (first.outcome, second.outcome, second.repetition) == ("unreadable", "answered", 1)
    assert first.answers[0].event == Noise(answer()[:9])


def test_the_same_frame_again_after_no_answer_is_a_repetition() -> None:
    bus = Bus()
    for heard in (b"", b"\xfc\x81", answer()):
        bus.says(request(), *([heard] if heard else [])).waits(0.4)
    exchanges = bus.done()
    assert outcomes(exchanges) == ["silent", "unreadable", "answered"]
    assert [exchange.repetition for exchange in exchanges] == [0, 1, 2]
    assert [list(exchange.remarks) for exchange in exchanges] == [[], ["unreadable answer (2 bytes: FC 81)"], []]
    meter = bus.meter("1")
    assert (meter.requests, meter.repetitions, meter.silent, meter.unreadable, meter.read_outs) == (3, 2, 1, 1, 1)


def test_the_same_request_a_cycle_later_is_no_repetition() -> None:
    first, second = Bus().says(NKE).waits(60).says(NKE).done()
    assert (first.repetition, second.repetition) == (0, 0)


def test_bytes_behind_an_answer_and_two_answers_are_collisions() -> None:
    for pieces in ((request(), answer() + b"\x04\x13\x7a\x16"), (NKE, E5 + E5), (NKE, E5, answer())):
        (exchange,) = Bus().says(*pieces).done()
        assert exchange.outcome == "collision"
        assert "two meters" in exchange.remarks[0]


def test_noise_before_a_good_answer_costs_nothing() -> None:
    (exchange,) = Bus().says(request(), b"\x00\xff" + answer()).done()
    assert (exchange.outcome, exchange.access_number) == ("answered", 5)


def test_an_exchange_at_253_belongs_to_the_meter_that_was_selected() -> None:
    bus = Bus().says(SELECT, E5, request(0xFD), answer(), SELECTED, E5, request(0xFD))
    exchanges = bus.done()
    assert [exchange.meter for exchange in exchanges] == [KAM_ADDRESS, KAM_ADDRESS, KAM_ADDRESS, None]
    assert name_of(select(SecondaryAddress(KAM_ADDRESS))) == f"select {KAM_ADDRESS}"
    assert bus.meter(KAM_ADDRESS).read_outs == 1
    assert bus.meter(KAM_ADDRESS).requests == 1, "selections and SND_NKE are not asked for data"


def test_a_selection_with_wildcards_belongs_to_whoever_answers_it() -> None:
    probe = encode(select(SecondaryAddress("12FFFFFF" + "FFFFFFFF")))
    bus = Bus().says(probe, E5, request(0xFD), answer(), request(0xFD, fcb=False), answer(number=6))
    assert [exchange.meter for exchange in bus.done()] == ["12FFFFFF", KAM_ADDRESS, KAM_ADDRESS]


def test_a_meter_that_is_selected_by_its_identification_is_known_the_next_time() -> None:
    short = encode(select(SecondaryAddress("12345678" + "FFFFFFFF")))
    bus = Bus().says(short, E5, request(0xFD), answer(), short, E5, request(0xFD)).waits(0.5)
    assert [exchange.meter for exchange in bus.done()] == ["12345678", *[KAM_ADDRESS] * 3]
    assert bus.meter(KAM_ADDRESS).silent == 1


def test_the_answer_of_another_meter_is_not_taken_for_the_one_that_was_asked() -> None:
    (exchange,) = Bus().says(request(2), answer(1)).done()
    assert exchange.outcome == "unexpected"
    assert exchange.remarks == ("an answer that was not due, from address 1",)


def test_data_for_snd_nke_are_not_due_and_e5_for_data_means_none() -> None:
    reset, data = Bus().says(NKE, answer(), request(), E5).done()
    assert reset.outcome == "unexpected"
    assert (data.outcome, data.remarks) == ("answered", ("only E5 where data are due: the meter has none now",))


def test_a_late_answer_is_told_with_its_request() -> None:
    bus = Bus().says(request()).waits(0.5).says(answer())
    silent, late = bus.done()
    assert (silent.outcome, late.outcome, late.meter) == ("silent", "unasked", "1")
    assert "REQ_UD2 to 1" in late.remarks[0]
    assert "0.52 s" in late.remarks[0]


def test_an_answer_long_after_any_request_is_linked_to_none() -> None:
    exchanges = Bus().says(request()).waits(60).says(answer()).done()
    assert [(one.outcome, one.remarks) for one in exchanges] == [("silent", ()), ("unasked", ())]


def test_noise_that_nobody_asked_for_is_nobodys() -> None:
    (noise,) = Bus().says(b"\x00\x91").done()
    assert (noise.outcome, noise.meter, noise.frame) == ("noise", None, None)


def test_nobody_answers_a_broadcast() -> None:
    (exchange,) = Bus().says(encode(snd_nke(0xFF))).done()
    assert (exchange.outcome, exchange.meter) == ("broadcast", None)


def test_whoever_answers_at_254_is_named_by_its_header() -> None:
    silent, told = Bus().says(request(0xFE)).waits(1).says(request(0xFE, fcb=False), answer(7)).done()
    assert (silent.meter, told.meter) == (None, KAM_ADDRESS)


def remarks(*pieces: bytes) -> list[str]:
    return [remark for exchange in Bus().says(*pieces).done() for remark in exchange.remarks]


def test_an_fcb_that_does_not_toggle_is_seen() -> None:
    assert "FCB did not toggle" in remarks(request(), answer(), request(), answer(number=6))[0]
    assert remarks(request(), answer(), request(fcb=False), answer(number=6)) == []
    assert remarks(request(), answer(), NKE, E5, request(), answer(number=6)) == [], "SND_NKE clears the memory"
    assert remarks(request(), answer(), encode(snd_nke(0xFF)), request(), answer(number=6)) == []
    again = (SELECT, E5, request(0xFD), answer())
    assert remarks(*again, SELECT, E5, request(0xFD), answer(number=6)) == [], "so does a selection"
    unnumbered = encode(ShortFrame(0x4B, 1))
    assert remarks(unnumbered, answer(), unnumbered, answer(number=6)) == [], "FCV=0: nothing counts"


def test_old_values_are_known_by_the_access_number_of_a_meter_that_counts() -> None:
    toggling = [request(), answer(number=5), request(fcb=False), answer(number=6), request(), answer(number=6)]
    assert remarks(*toggling) == ["the same telegram as before (access number 6): its values are old"]
    still = [request(), answer(number=0), request(fcb=False), answer(number=0)]
    assert remarks(*still) == [], "a meter that never counts may say the same for hours"


def test_a_read_out_of_several_telegrams_counts_once_and_the_interval_is_between_read_outs() -> None:
    bus = Bus()
    for _ in range(3):
        begun = bus.now
        bus.says(NKE, E5, request(), answer(records=f"{ENERGY} 1F"), request(fcb=False), answer(number=6))
        bus.waits(60 - (bus.now - begun))
    bus.done()
    meter = bus.meter("1")
    assert (meter.read_outs, meter.requests) == (3, 6)
    assert meter.interval == pytest.approx(60)
    assert meter.identity == SecondaryAddress(KAM_ADDRESS)
    assert Bus().says(request(), answer()).tap.meters() == (), "nothing is counted before it is over"


def test_an_error_report_of_a_meter_is_an_answer_but_no_read_out() -> None:
    bus = Bus().says(request(), bytes.fromhex("68 04 04 68 08 01 70 08 81 16"))
    (exchange,) = bus.done()
    assert exchange.outcome == "answered"
    assert exchange.problem is not None
    assert exchange.problem.code == "application_error"
    assert bus.meter("1").read_outs == 0


def test_empty_addresses_of_a_scan_are_no_meters() -> None:
    bus = Bus()
    for address in range(10):
        bus.says(encode(snd_nke(address)), *([E5] if address == 7 else [])).waits(0.4)
    bus.done()
    assert [meter.meter for meter in bus.tap.meters()] == ["7"]


def test_a_meter_that_is_asked_at_several_addresses_is_one() -> None:
    bus = Bus().says(NKE, E5, request(), answer())
    part = encode(select(SecondaryAddress("12345678FFFFFFFF")))
    silent = encode(req_ud2(0xFD, fcb=True))
    bus.says(SELECT, E5, silent, answer(), part, E5, silent).waits(1).says(
        request(2), answer(2, identity=KAM[:-2] + "06")
    )
    bus.done()
    first, second = bus.tap.meters()
    assert (first.meter, first.identity, first.requests, first.read_outs) == ("1", SecondaryAddress(KAM_ADDRESS), 3, 2)
    assert first.silent == 1
    assert (second.meter, second.requests) == ("2", 1)


def test_two_primary_addresses_are_two_places_whoever_answers_there() -> None:
    bus = Bus().says(request(1), answer(1), request(2), answer(2))
    bus.done()
    assert [meter.meter for meter in bus.tap.meters()] == ["1", "2"]


@pytest.mark.parametrize("garbled", [request()[:3] + b"\x00\x16", b"\x10\x7b", SELECT[:-3] + b"\x00\x16"])
def test_a_garbled_request_is_no_answer(garbled: bytes) -> None:
    broken = Bus().says(NKE, E5, garbled).waits(0.5).done()
    assert outcomes(broken) == ["answered", "noise"]
    assert broken[1].answers[0].sender == "master"
    unanswered = Bus().says(request(2), garbled).waits(0.5).done()
    assert outcomes(unanswered) == ["silent", "noise"]


class TwoAdapters:
    """Two taps, one for each direction, that hand over their bytes some time after they were on the wire."""

    def __init__(self, hold: float) -> None:
        self.tap = Tap(Pace(CHARACTER, 0.3, 0.1, hold), ("master", "meter"))

    def hears(self, arrivals: Sequence[tuple[float, int, bytes]]) -> list[Exchange]:
        found: list[Exchange] = []
        for at, source, data in arrivals:
            found += self.tap.feed(data, at, source)
        return [*found, *self.tap.end()]


def arrivals_of(
    frames: Sequence[bytes], delays: Sequence[float], sources: Sequence[int]
) -> list[tuple[float, int, bytes]]:
    """When each frame is handed over; 11 bit times between them on the wire."""
    now, arrivals = 0.0, []
    for data, delay, source in zip(frames, delays, sources, strict=True):
        now += CHARACTER * (len(data) + 1)
        arrivals.append((now + delay, source, data))
    return sorted(arrivals)


FRAMES = [NKE, E5, request(), answer(), encode(snd_nke(2)), E5]


@given(st.floats(0, 3.9 * CHARACTER), st.integers(0, 1))
def test_two_adapters_of_different_speed_give_what_one_would(delay: float, slower: int) -> None:
    """A slow adapter hands over a request after its E5, or an E5 after the next request."""
    delays = [delay * (source == slower) for source in (0, 1) * 3]
    found = TwoAdapters(hold=0.05).hears(arrivals_of(FRAMES, delays, (0, 1) * 3))
    assert [(encode(one.frame) if one.frame else b"", one.outcome) for one in found] == [
        (FRAMES[0], "answered"),
        (FRAMES[2], "answered"),
        (FRAMES[4], "answered"),
    ]


def test_two_adapters_tell_whose_noise_it_is() -> None:
    mine, theirs = TwoAdapters(0.0), TwoAdapters(0.0)
    spoilt = [(1.0, 0, b"\x10\x7b\x01\x7c\x17")]
    assert outcomes(mine.hears(spoilt)) == ["noise"]
    asked = [(1.0, 0, request()), (1.1, 1, b"\x68\x09")]
    assert outcomes(theirs.hears(asked)) == ["unreadable"]


def test_noise_from_the_master_ends_the_exchange_before_it() -> None:
    found = TwoAdapters(0.0).hears([(1.0, 0, request()), (1.2, 0, b"\x10\x7b\x02\x7c\x17"), (1.4, 1, answer(2))])
    assert outcomes(found) == ["silent", "noise", "unasked"]


def test_swapped_adapters_are_noticed_and_do_no_harm() -> None:
    right, swapped = TwoAdapters(0.05), TwoAdapters(0.05)
    delays = [0.0] * 6
    expected = right.hears(arrivals_of(FRAMES, delays, (0, 1) * 3))
    found = swapped.hears(arrivals_of(FRAMES, delays, (1, 0) * 3))
    assert outcomes(found) == outcomes(expected) == ["answered"] * 3
    assert (right.tap.crossed, swapped.tap.crossed) == (0, 6)


@given(st.lists(st.tuples(st.binary(max_size=20), st.floats(0, 1), st.integers(0, 1)), max_size=20))
def test_every_byte_is_told_whatever_it_is(heard: list[tuple[bytes, float, int]]) -> None:
    adapters, now, arrivals = TwoAdapters(0.05), 0.0, []
    for data, pause, source in heard:
        now += pause
        arrivals.append((now, source, data))
    told = adapters.hears(arrivals)
    size = sum(len(one.data) for exchange in told for one in (exchange.request, *exchange.answers) if one)
    assert size == sum(len(data) for data, _, _ in heard)


@pytest.mark.parametrize(
    ("frame", "name"),
    [
        (ShortFrame(0x5B, 7), "REQ_UD2 to 7, FCB 0"),
        (ShortFrame(0x4A, 7), "REQ_UD1 to 7"),
        (LongFrame(0x73, 7, 0x51, b"\x01\x7a\x08"), "SND_UD to 7, CI 51, FCB 1"),
        (ShortFrame(0x40, 0xFF), "SND_NKE to all meters (255)"),
        (ShortFrame(0x49, 7), "C 49 to 7"),
    ],
)
def test_requests_have_the_names_of_the_standard(frame: ShortFrame | LongFrame, name: str) -> None:
    assert name_of(frame) == name
