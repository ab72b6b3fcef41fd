"""Verdicts on buses that are broken in known ways: simulated bit by bit, by virtual meters, or as facts of the wire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbusd.mbus.address import SecondaryAddress, parse_address
from mbusd.mbus.diagnosis import TABLE, diagnose
from mbusd.mbus.errors import MBusError
from mbusd.mbus.frames import FrameReader, LongFrame, Noise, ShortFrame, encode
from mbusd.mbus.link import Conversation, Reply, Silence
from mbusd.mbus.master import ReadOut, read_out, req_ud2, select, snd_nke
from mbusd.mbus.observation import Observation
from mbusd.mbus.verdict import Observations, Verdict
from mbusd.simulation.meter_file import meter_from
from mbusd.simulation.simulator import SimulatedBus, SimulatedMeter
from mbusd.simulation.superposition import superpose
from mbusd.simulation.virtual_bus import Wire

E5 = b"\xe5"
WINDOW = 0.3  # seconds of the master that listens here: the standard's at 2400 Bd, and slack
TELEGRAM = bytes.fromhex("68 19 19 68 08 01 72 78 56 34 12 2D 2C 08 04 05 00 00 00 04 06 E7 91 00 00 02 5A C2 02 9B 16")
EVEN_LENGTH = encode(  # L = 18h: its parity bit is 0
    LongFrame(0x08, 1, 0x72, bytes.fromhex("78 56 34 12 2D 2C 08 04 05 00 00 00 04 06 E7 91 00 00 01 5A 15"))
)


def meter(address: int, **more: object) -> SimulatedMeter:
    entry: dict[str, object] = {
        "address": address,
        "identification": f"{12345670 + address:08}",
        "manufacturer": "KAM",
        "medium": 4,
        "records": ["04 06 0A 00 00 00", "02 5A C2 02"],
    }
    return meter_from(entry | more)


class Master:
    """Drives conversations over the simulated wire at its own pace and notes every byte, as a bus does."""

    def __init__(self, bus: SimulatedBus, baudrate: int = 2400) -> None:
        self.observations: list[Observation] = []
        self._wire = Wire(bus, baudrate)
        self._now = 0.0

    def reads(self, address: str) -> None:
        """A read-out as the daemon does it; how it ends is not asked here."""
        self._drive(read_out(parse_address(address)))

    def _drive(self, conversation: Conversation[ReadOut]) -> None:
        try:
            request = next(conversation)
            while True:
                heard = self.asks(request.frame)
                request = conversation.send(first_reply(heard, request.frame))
        except (StopIteration, MBusError):
            return

    def asks(self, frame: ShortFrame | LongFrame) -> bytes:
        """Sends and listens until the window is over."""
        self._wire.send(encode(frame), self._now)
        end = self._now + 11 * len(encode(frame)) / 2400 + WINDOW
        heard = bytearray()
        while (due := self._wire.next_event()) is not None and due <= end:
            data = self._wire.advance(due)
            heard += data
            end = max(end, due + 0.05) if data else end
        self._now = end
        self.observations.append(Observation(frame, bytes(heard)))
        return bytes(heard)


def first_reply(heard: bytes, request: ShortFrame | LongFrame) -> Reply:
    reader = FrameReader()
    events = [event for event in (*reader.feed(heard), *reader.flush()) if event != request]
    frames = [event for event in events if not isinstance(event, Noise)]
    return next(iter([*frames, *events]), Silence())


def verdict_of(observations: Observations) -> Verdict:
    verdict = diagnose(observations)
    assert verdict is not None
    return verdict


def read(address: int, acknowledged: bytes, telegram: bytes, attempts: int = 3) -> list[Observation]:
    """What a read-out sees where each request brings the same bytes."""
    asked = [Observation(snd_nke(address), acknowledged)] * 2
    return asked + [Observation(req_ud2(address, fcb=True), telegram)] * attempts


def waveform(data: bytes) -> list[int]:
    """The line, one level a bit time: start, 8 bits low first, even parity, stop."""
    return [
        level
        for byte in data
        for level in (0, *(byte >> bit & 1 for bit in range(8)), sum(byte >> bit & 1 for bit in range(8)) % 2, 1)
    ]


def received(
    data: bytes, *, ratio: float = 1.0, phase: float = 0.0, bits: int = 8, parity: bool = True, resync: bool = False
) -> bytes:
    """What a receiver at `ratio` times the sender's rate makes of 8E1, sampling each bit `phase` bits off its middle.

    `resync`: after a bad stop bit, that bit is taken for a start bit, as 16550s do; else it waits for a mark.
    """
    line = waveform(data)
    time, bit = 0.0, 1 / ratio

    def level(at: float) -> int:
        return line[int(at)] if at < len(line) else 1

    result = bytearray()
    while time < len(line):
        if level(time) == 1:
            time += bit / 16
        elif level(time + bit * (0.5 + phase)) == 1:  # too short for a start bit
            time += bit * (0.5 + phase)
        else:
            result.append(sum(level(time + bit * (1.5 + index + phase)) << index for index in range(bits)))
            time += bit * (bits + parity + 1.5 + phase)
            if level(time) == 0 and resync:
                time -= bit * 0.5
            while level(time) == 0 and not resync:
                time += bit / 16
    return bytes(result)


def test_the_receiver_of_these_tests_is_right_where_rate_and_parity_are() -> None:
    assert received(TELEGRAM) == TELEGRAM
    assert received(E5 + TELEGRAM, phase=0.3) == E5 + TELEGRAM


@pytest.mark.parametrize("resync", [False, True])
@pytest.mark.parametrize("phase", [-0.15, -0.06, 0.06, 0.15])
@pytest.mark.parametrize("ratio", [1 / 8, 1 / 4, 1 / 2, 2, 4, 8])
def test_answers_at_another_rate_are_told_from_collisions(ratio: float, phase: float, *, resync: bool) -> None:
    acknowledged = received(E5, ratio=ratio, phase=phase, resync=resync)
    telegram = received(TELEGRAM, ratio=ratio, phase=phase, resync=resync)
    verdict = verdict_of(Observations(read(1, acknowledged, telegram)))
    assert verdict.code == "wrong_rate"
    assert "--baudrate auto" in verdict.todo


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(1 / 2, "twice the rate"), (2, "half the rate"), (4, "a quarter of the rate"), (8, "an eighth of the rate")],
)
def test_how_e5_arrives_tells_the_right_rate(ratio: float, text: str) -> None:
    asked = [Observation(snd_nke(1), received(E5, ratio=ratio, phase=-0.06))]
    assert text in verdict_of(Observations(asked)).what


@pytest.mark.parametrize("seen", ["FD", "FE", "FC"])
def test_the_strange_bytes_of_the_field_are_no_collision(seen: str) -> None:
    verdict = verdict_of(Observations([Observation(snd_nke(5), bytes.fromhex(seen))]))
    assert verdict.code == "wrong_rate"
    assert f"E5 arrives as {seen}" in verdict.what


@pytest.mark.parametrize(
    ("acknowledged", "telegram"),
    [
        (received(E5, bits=7), received(TELEGRAM, bits=7)),
        (received(E5, parity=False, resync=True), received(EVEN_LENGTH, parity=False, resync=True)),
        (b"\xff\x00\xe5", b"".join(b"\xff\x00" + bytes([byte]) for byte in TELEGRAM)),
    ],
    ids=["7E1", "8N1", "marked by the driver"],
)
def test_another_character_format_is_named(acknowledged: bytes, telegram: bytes) -> None:
    verdict = verdict_of(Observations(read(1, acknowledged, telegram)))
    assert verdict.code == "wrong_format"
    assert "8E1" in verdict.todo


def test_a_driver_that_gives_00_for_wrong_parity_is_told_from_a_short_circuit() -> None:
    replaced = read(1, b"\x00", bytes(len(TELEGRAM)))
    assert verdict_of(Observations(replaced)).code == "wrong_parity"
    assert verdict_of(Observations(replaced, idle=bytes(3))).code == "short_circuit"
    assert verdict_of(Observations(read(1, bytes(4), bytes(4)))).code == "short_circuit"


@pytest.mark.parametrize(
    ("acknowledged", "telegram"),
    [
        (bytes(6) + E5, bytes(6) + TELEGRAM[:-3] + bytes(20)),
        (E5 + bytes(40), TELEGRAM + bytes(40)),
        (bytes(4) + E5 + bytes(4), bytes(4) + TELEGRAM),
    ],
)
def test_a_meter_that_is_heard_through_a_short_circuit_is_not_several(acknowledged: bytes, telegram: bytes) -> None:
    assert verdict_of(Observations(read(1, acknowledged, telegram), expected=1)).code == "short_circuit"


def test_what_is_unreadable_in_another_way_each_time_is_named_too() -> None:
    babble = [Observation(req_ud2(5, fcb=True), bytes.fromhex(text)) for text in ("20 11 22", "93 01", "48 44")]
    verdict = verdict_of(Observations([Observation(snd_nke(5), E5), *babble], expected=1))
    assert verdict.code == "noise"
    assert "different each time" in verdict.what


def test_a_mask_that_is_read_and_means_several_is_named() -> None:
    master = Master(SimulatedBus([meter(1), meter(2, identification="87654321", delay=0.0213)]))
    master.asks(select(SecondaryAddress("F" * 16)))
    master.asks(req_ud2(0xFD, fcb=True))
    assert verdict_of(Observations(master.observations, expected=1)).code == "several_meters"


@pytest.mark.parametrize(
    "why",
    [
        "device reports readiness to read but returned no data (device disconnected or multiple access on port?)",
        "[Errno 5] Input/output error",
    ],
)
def test_a_device_that_is_gone_is_said_to_be_unplugged(why: str) -> None:
    verdict = verdict_of(Observations(port_trouble=f"/dev/ttyUSB0: {why}"))
    assert verdict.code == "port_lost"
    assert verdict.what == "the device was unplugged, or has lost its power"


def test_a_bus_where_all_is_well_has_no_verdict() -> None:
    master = Master(SimulatedBus([meter(1), meter(2)]))
    for address in ("1", "2", "12345671"):
        master.reads(address)
    assert len(master.observations) > 5
    assert diagnose(Observations(master.observations, expected=2)) is None
    assert diagnose(Observations()) is None


@pytest.mark.parametrize("faults", [["garble"], ["drop"], ["cut"], ["noise_before"], ["none", "garble", "garble"]])
def test_what_a_repetition_has_healed_needs_no_verdict(faults: list[str]) -> None:
    master = Master(SimulatedBus([meter(1, faults=faults)]))
    master.reads("1")
    assert diagnose(Observations(master.observations, expected=1)) is None


def test_an_echo_is_named_only_where_nothing_else_comes() -> None:
    answering = Master(SimulatedBus([meter(1)], echo=True))
    answering.reads("1")
    assert diagnose(Observations(answering.observations)) is None
    deaf = Master(SimulatedBus([meter(1, deaf=True)], echo=True))
    deaf.reads("1")
    verdict = verdict_of(Observations(deaf.observations))
    assert verdict.code == "echo"
    assert "supply of the bus" in verdict.todo


def test_an_echo_hides_no_other_fault() -> None:
    both = Master(SimulatedBus([meter(7, delay=0.02), meter(7, identification="87654321", delay=0.023)], echo=True))
    both.reads("7")
    assert verdict_of(Observations(both.observations)).code == "several_meters"


@pytest.mark.parametrize("delay", [0.02, 0.0201, 0.0213, 0.0235, 0.03, 0.05])
def test_two_meters_at_one_address_are_named(delay: float) -> None:
    longer = meter(5, identification="87654321", records=["04 13 39 05 00 00", "04 06 0A 00 00 00"], delay=delay)
    master = Master(SimulatedBus([meter(5), longer, meter(6)]))
    for address in ("5", "6"):
        master.reads(address)
    verdict = verdict_of(Observations(master.observations, expected=2))
    assert verdict.code == "several_meters"
    assert "address 5" in verdict.what
    assert "--secondary" in verdict.todo


@pytest.mark.parametrize(
    ("heard", "text"),
    [
        (E5 + E5, "E5 twice"),
        (E5 + b"\x81", "bytes behind"),
        (superpose([(0, E5), (3, E5)]), "unreadable answer of 1 byte: 21"),
    ],
)
def test_more_than_one_answer_to_snd_nke_is_several_meters(heard: bytes, text: str) -> None:
    verdict = verdict_of(Observations([Observation(snd_nke(9), heard)]))
    assert verdict.code == "several_meters"
    assert text in verdict.what


def test_a_longer_telegram_behind_a_good_one_is_a_second_meter() -> None:
    tail = bytes.fromhex("00 04 13 39 05 00 00 7A 16")
    heard = Observation(req_ud2(1, fcb=True), TELEGRAM + tail)
    behind = Observation(req_ud2(1, fcb=True), TELEGRAM, after=tail)
    for one in (heard, behind):
        verdict = verdict_of(Observations([Observation(snd_nke(1), E5), one]))
        assert verdict.code == "several_meters"
        assert "behind a good answer" in verdict.what


def test_two_identities_at_one_address_are_two_meters_though_each_answer_is_good() -> None:
    other = TELEGRAM.replace(bytes.fromhex("78 56 34 12"), bytes.fromhex("79 56 34 12"))
    other = encode(LongFrame(0x08, 1, 0x72, other[7:-2]))
    asked = [Observation(req_ud2(1, fcb=True), heard) for heard in (TELEGRAM, other)]
    assert verdict_of(Observations(asked)).code == "several_meters"


def test_collisions_in_a_wildcard_search_are_no_fault() -> None:
    master = Master(SimulatedBus([meter(1), meter(2, identification="87654321", delay=0.0213)]))
    master.asks(select(SecondaryAddress("F" * 16)))
    master.asks(req_ud2(0xFD, fcb=True))
    assert any(one.heard not in (b"", E5) for one in master.observations)
    assert diagnose(Observations(master.observations)) is None


telegrams = st.binary(min_size=3, max_size=60).map(lambda data: encode(LongFrame(0x08, data[0], 0x72, data)))


@given(st.lists(st.tuples(st.integers(0, 400), st.one_of(telegrams, st.just(E5))), min_size=2, max_size=4))
def test_no_superposition_of_answers_sets_a_bit_that_was_not_due(answers: list[tuple[int, bytes]]) -> None:
    """By this a wrong rate is told from a collision: the first byte is the first meter's, or fewer bits of it."""
    first = min(answers, key=lambda answer: answer[0])
    together = [data for offset, data in answers if offset == first[0]]
    heard = superpose((offset - first[0], data) for offset, data in answers)
    assert all(heard[0] & ~data[0] == 0 for data in together)


@given(st.lists(st.tuples(st.integers(1, 60), telegrams), min_size=1, max_size=3), telegrams)
def test_colliding_meters_are_never_taken_for_a_wrong_rate(others: list[tuple[int, bytes]], data: bytes) -> None:
    acks = superpose([(0, E5), *((offset, E5) for offset, _ in others)])
    heard = superpose([(0, data), *others])
    verdict = diagnose(Observations(read(1, acks, heard)))
    assert verdict is None or verdict.code in ("several_meters", "short_circuit")


def test_a_steady_wrong_byte_of_a_meter_that_is_alone_is_no_collision() -> None:
    asked = read(1, b"\xa5", TELEGRAM)
    assert verdict_of(Observations(asked)).code == "levels"
    unreadable = read(1, b"\xa5", b"\x68\x09\x19")
    assert verdict_of(Observations(unreadable, expected=1)).code == "levels"
    assert verdict_of(Observations(unreadable)).code == "several_meters"


def test_noise_while_nobody_speaks_is_named() -> None:
    silent = [Observation(snd_nke(1), after=b"\x91\x07")]
    for given_ in (Observations(idle=b"\x91\x07\x55"), Observations(silent)):
        verdict = verdict_of(given_)
        assert verdict.code == "noise"
        assert "91 07" in verdict.what


@pytest.mark.parametrize("noise", ["91 E5 55 0A", "E5 91 55 0A", "E5 12 E5 55 0A 33"])
def test_an_e5_among_random_bytes_is_noise_as_they_are(noise: str) -> None:
    """Every 256th byte of noise is one."""
    for given_ in (
        Observations(idle=bytes.fromhex(noise)),
        Observations([Observation(snd_nke(1), after=bytes.fromhex(noise))]),
    ):
        assert verdict_of(given_).code == "noise"


def test_an_answer_that_comes_late_is_no_noise_though_a_byte_is_spoilt() -> None:
    for late in (E5, E5 + b"\x91", TELEGRAM, TELEGRAM + b"\x91\x55\x0a"):
        assert verdict_of(Observations([Observation(req_ud2(1, fcb=True), after=late)])).code == "late_answers"
    both = [Observation(snd_nke(1), after=E5), Observation(req_ud2(1, fcb=True), after=b"\x68\x01\x19\x68\x08")]
    assert verdict_of(Observations(both)).code == "late_answers"


# ------------------------------------------------------------------------------------------------ marks of the kernel


def marked(request: ShortFrame, heard: bytes, *places: int) -> Observation:
    """As a port hears it that marks parity errors: at these places, or all."""
    return Observation(request, heard, broken=frozenset(places or range(len(heard))))


def test_what_is_right_but_for_its_parity_is_a_wrong_setting() -> None:
    """A receiver for odd parity reads each bit rightly, and marks each character."""
    asked = [marked(snd_nke(1), E5), marked(snd_nke(1), E5), marked(req_ud2(1, fcb=True), TELEGRAM)]
    verdict = verdict_of(Observations(asked))
    assert verdict.code == "wrong_parity"
    assert "8E1" in verdict.todo
    unmarked = [Observation(one.request, one.heard) for one in asked]
    assert diagnose(Observations(unmarked)) is None


def test_a_frame_with_a_broken_byte_is_no_answer() -> None:
    spoilt = marked(req_ud2(1, fcb=True), TELEGRAM, 20)
    assert verdict_of(Observations([Observation(snd_nke(1), E5), spoilt])).code != "wrong_parity"
    echoed = Observation(snd_nke(1), encode(snd_nke(1)) + E5, broken=frozenset({5}))
    assert verdict_of(Observations([echoed, echoed])).code == "wrong_parity"


def test_parity_errors_in_most_answers_of_several_meters_are_named() -> None:
    """A wrong rate, or bad wiring: nobody but the kernel sees it, and two meters at one address make them, too."""
    spoilt = [marked(req_ud2(number, fcb=True), TELEGRAM[:12] + b"\x91" + TELEGRAM[13:], 12) for number in (1, 2, 3)]
    verdict = verdict_of(Observations(spoilt))
    assert verdict.code == "parity_errors"
    assert "3 of 3 answers" in verdict.what
    assert "--baudrate auto" in verdict.todo
    assert "loose contacts" in verdict.todo
    there = verdict_of(Observations(spoilt, sets_rate=False)).todo
    assert "--baudrate" not in there
    assert "loose contacts" in there
    good = [Observation(req_ud2(7, fcb=True), encode(LongFrame(0x08, 7, 0x72, TELEGRAM[7:-2])))] * 4
    healed = diagnose(Observations([*spoilt, *good]))
    assert healed is None or healed.code != "parity_errors"


def test_parity_errors_at_one_address_are_two_meters_unless_there_is_only_one() -> None:
    spoilt = [marked(req_ud2(5, fcb=True), TELEGRAM[:12] + b"\x91" + TELEGRAM[13:], 12)] * 3
    assert verdict_of(Observations([Observation(snd_nke(5), E5), *spoilt], expected=1)).code == "several_meters"
    alone = Observations([Observation(snd_nke(5), E5), *spoilt], expected=1, is_all=True)
    assert verdict_of(alone).code == "parity_errors"


def test_a_search_collides_and_so_has_parity_errors() -> None:
    mask = Observation(select(SecondaryAddress("F" * 16)), E5)
    spoilt = [marked(req_ud2(0xFD, fcb=True), b"\x68\x00\x11\x68", 1)] * 4
    assert diagnose(Observations([mask, *spoilt])) is None


# ------------------------------------------------------------------------------------------------


def test_one_stray_byte_on_a_bus_that_works_is_nothing() -> None:
    assert diagnose(Observations([Observation(snd_nke(1), E5)], idle=b"\xff")) is None


def test_a_meter_that_answers_too_late_is_named() -> None:
    late = meter(5, faults=["late"] * 12, late_by=0.45)
    master = Master(SimulatedBus([late, meter(6)]))
    for address in ("5", "6"):
        master.reads(address)
    verdict = verdict_of(Observations(master.observations, expected=2))
    assert verdict.code == "late_answers"
    assert "timeout" in verdict.todo


@pytest.mark.parametrize(
    "asked",
    [
        [Observation(req_ud2(1, fcb=True)), Observation(req_ud2(2, fcb=True), TELEGRAM)],
        [Observation(req_ud2(1, fcb=True)), Observation(snd_nke(1), TELEGRAM)],
        [Observation(snd_nke(1)), Observation(req_ud2(1, fcb=True), E5)],
        [Observation(req_ud2(1, fcb=True), after=TELEGRAM)],
    ],
    ids=["another meter's", "data for SND_NKE", "E5 for data", "between two requests"],
)
def test_the_answer_to_the_request_before_is_recognised(asked: list[Observation]) -> None:
    assert verdict_of(Observations(asked)).code == "late_answers"


def test_nobody_at_one_address_and_nobody_at_all_are_different() -> None:
    master = Master(SimulatedBus([]))
    master.reads("5")
    alone = verdict_of(Observations(master.observations, expected=1))
    assert (alone.code, "address 5" in alone.what) == ("no_answer", True)
    for address in range(6, 11):
        master.reads(str(address))
    everybody = verdict_of(Observations(master.observations, expected=6))
    assert (everybody.code, "none of 6" in everybody.what) == ("bus_silent", True)


def test_an_only_meter_may_be_the_bus_and_the_bus_the_meter() -> None:
    asked = [Observation(snd_nke(5)), Observation(req_ud2(5, fcb=True))]
    verdict = verdict_of(Observations(asked, expected=1, is_all=True))
    assert verdict.code == "bus_silent"
    assert "address 5" in verdict.what
    assert "it is the bus or the meter" in verdict.what
    assert verdict_of(Observations(asked, expected=2, is_all=True)).code == "no_answer", "the other was not asked"


@pytest.mark.parametrize(
    "asked",
    [
        [Observation(snd_nke(5))],
        [Observation(snd_nke(5)), Observation(snd_nke(6))],
        [Observation(snd_nke(5), b"\xfd")],
        [Observation(req_ud2(5, fcb=True), bytes.fromhex(text)) for text in ("20 11 22", "93 01", "48 44")],
    ],
    ids=["no_answer", "bus_silent", "wrong_rate", "noise"],
)
def test_nobody_is_told_to_change_the_rate_of_a_port_that_has_none(asked: list[Observation]) -> None:
    """The rate of a transparent converter is set at the converter."""
    for is_all in (False, True):
        here = verdict_of(Observations(asked, expected=1, is_all=is_all))
        there = verdict_of(Observations(asked, expected=1, is_all=is_all, sets_rate=False))
        assert here.code == there.code
        assert "--baudrate auto" in here.todo
        assert "--baudrate" not in there.todo
        assert "converter" in there.todo


def test_no_row_speaks_of_the_rate_in_one_way_only() -> None:
    assert all(row.there for row in TABLE if "--baudrate" in row.todo)
    assert not [row for row in TABLE if "--baudrate" in row.there]


@pytest.mark.parametrize("heard", ["10 00 00 00 16", "10 05 07 0C 16"])
def test_a_short_frame_that_no_master_says_is_a_jumble(heard: str) -> None:
    verdict = diagnose(Observations([Observation(req_ud2(1, fcb=True), bytes.fromhex(heard))]))
    assert verdict is None or verdict.code != "another_master"


def test_one_silent_meter_among_good_ones_is_the_meters_own_trouble() -> None:
    master = Master(SimulatedBus([meter(1), meter(2, deaf=True), meter(3)]))
    for address in ("1", "2", "3", "12345671"):
        master.reads(address)
    verdict = verdict_of(Observations(master.observations, expected=4))
    assert verdict.code == "meter_silent"
    assert "address 2" in verdict.what
    assert diagnose(Observations(master.observations)) is None, "in a scan silence is what most addresses have"


def test_a_selected_meter_is_named_by_its_secondary_address() -> None:
    master = Master(SimulatedBus([meter(1)]))
    for address in ("1", "99999999"):
        master.reads(address)
    assert "99999999" in verdict_of(Observations(master.observations, expected=2)).what


def test_requests_of_another_master_are_named() -> None:
    foreign = encode(req_ud2(12, fcb=False))
    for one in (
        Observations([Observation(snd_nke(1), foreign)]),
        Observations([Observation(snd_nke(1), E5, after=foreign + TELEGRAM)]),
        Observations(idle=encode(select(SecondaryAddress("F" * 16)))),
    ):
        assert verdict_of(one).code == "another_master"


def test_ones_own_echo_is_no_other_master_though_it_comes_late() -> None:
    late = Observation(snd_nke(1), after=encode(snd_nke(1)))
    assert verdict_of(Observations([late])).code == "echo"


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        ("another program has this port open", "port_in_use"),
        ("there is no such device; is the converter plugged in? (ls -l /dev/serial/by-id)", "port_missing"),
        ("permission denied; the user must be in the group of the device (usually dialout)", "port_forbidden"),
        ("the connection was closed", "port_in_use"),
        ("this is a folder, no device: name that of the converter (/dev/serial/by-id/usb-…)", "port_missing"),
        ("connection refused; is the converter's TCP server on, and is this its port?", "port"),
    ],
)
def test_a_port_that_cannot_be_opened_is_not_the_meters_fault(trouble: str, code: str) -> None:
    verdict = verdict_of(Observations([Observation(snd_nke(1))], port_trouble=trouble))
    assert verdict.code == code
    assert trouble in verdict.what


def test_a_reply_alone_is_an_observation_too() -> None:
    replies: list[Reply] = [Silence(), Noise(b"\xfc"), LongFrame(0x08, 1, 0x72, TELEGRAM[7:-2])]
    heard = [Observation.of(snd_nke(1), reply).heard for reply in replies]
    assert heard == [b"", b"\xfc", TELEGRAM]


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=30), st.binary(max_size=9))), st.binary(max_size=9))
def test_any_bytes_at_all_have_a_verdict_or_none(asked: list[tuple[int, bytes, bytes]], idle: bytes) -> None:
    observations = [Observation(snd_nke(address), heard, after) for address, heard, after in asked]
    verdict = diagnose(Observations(observations, idle, expected=len(asked)))
    assert verdict is None or verdict.code in {row.code for row in TABLE}


def test_a_verdict_reads_as_two_sentences() -> None:
    said = str(verdict_of(Observations([Observation(snd_nke(5))])))
    assert said.startswith("nothing answers at address 5. Check that")
    assert said.endswith(".")


def test_a_question_needs_no_full_stop() -> None:
    said = str(diagnose(Observations(port_trouble="tcp://here:1: connection refused; is this its port?")))
    assert "is this its port? Look at the converter" in said
    assert said.endswith(".")
